"""The README's table of encodings, made from the classes themselves.

python -m mmplugins.position_encodings.table
"""

from mmplugins.position_encodings.base import AttentionEncoding, Dims, PositionEncoding
from mmplugins.position_encodings.builder import (
    build_attention_encodings,
    build_token_encodings,
)
from mmplugins.registry import POSITION_ENCODINGS

VIT_SMALL = Dims(embed_dims=384, num_heads=6, depth=12, grid=(14, 14))
PLACES = {
    "inputs": "what q and k are projected from",
    "rotate": "q and k",
    "logit_bias": "logits",
    "context": "values",
}


def markdown() -> str:
    """One line for each registered encoding."""
    lines = [
        "| encoding | acts on | exact under shifts of | at another grid | parameters | source |",
        "|---|---|---|---|---|---|",
    ]
    POSITION_ENCODINGS.import_from_location()
    for name, encoding in sorted(POSITION_ENCODINGS.module_dict.items()):
        cells = [
            f"`{name}`",
            place(name, encoding),
            ", ".join(sorted(encoding.equivariant)) or "-",
            encoding.other_grid,
            f"{count_parameters(name):,}",
            encoding.source.removeprefix("https://"),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def place(name: str, encoding: type[PositionEncoding]) -> str:
    """Where it acts: the hooks it overrides, or the blocks it comes after by default."""
    if issubclass(encoding, AttentionEncoding):
        changed = (
            text
            for hook, text in PLACES.items()
            if getattr(encoding, hook) is not getattr(AttentionEncoding, hook)
        )
        return ", ".join(changed)
    after = ", ".join(build_token_encodings([dict(type=name)], VIT_SMALL))
    return f"tokens after block {after}" if after != "-1" else "tokens before block 0"


def count_parameters(name: str) -> int:
    """In a ViT-S/16 for 224 pixels, all layers together."""
    cfgs = [dict(type=name)]
    once = build_token_encodings(cfgs, VIT_SMALL)
    layer = build_attention_encodings(cfgs, VIT_SMALL)
    return sum(p.numel() for p in once.parameters()) + VIT_SMALL.depth * sum(
        p.numel() for p in layer.parameters()
    )


if __name__ == "__main__":
    print(markdown())
