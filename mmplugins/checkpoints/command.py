"""Command line of tools/convert_checkpoint.py."""

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config
from rich.console import Console
from rich.markup import escape
from rich.table import Table

import mmplugins
from mmplugins.checkpoints import files
from mmplugins.checkpoints.convert import LAYOUTS, OURS, convert, find
from mmplugins.checkpoints.layout import Converted, Options
from mmplugins.checkpoints.moves import LayoutError
from mmplugins.checkpoints.vit_config import check_vit, plain, vit_config
from mmplugins.checkpoints.wrappers import within
from mmplugins.disk import file_hash
from mmplugins.engine.inputs import InputError
from mmplugins.engine.launch import plain_errors
from mmplugins.models.vit import ARCHS

EPILOG = """
The source's layout is found out from its names; --list tells all. Nothing is dropped in silence:
what has no place is an error that lists it, what is not needed (a classification head) is told.
Files are read as data: code in them is refused unless you say --trust-checkpoint.

  python tools/convert_checkpoint.py deit_small_patch16_224.pth deit-s.pth
  python tools/convert_checkpoint.py deit_small_patch16_224_ctx_product_50_shared_k.pth irpe.pth --no-cls-token
  python tools/convert_checkpoint.py rpe-2.0-product-ctx-1-k.pth detr-irpe.pth
  python tools/convert_checkpoint.py work_dirs/mine/epoch_12.pth timm.safetensors --to timm
  python tools/convert_checkpoint.py rope.pth ours.pth --source rope-vit-axial --num-heads 6

A learned table keeps its own grid: our models stretch it to theirs when they load it.
"""  # noqa: E501


def main(argv: Sequence[str] | None = None) -> None:
    """Convert a checkpoint from the names of one project to those of another, strictly."""
    with plain_errors():
        args = parser().parse_args(argv)
        console = Console(highlight=False, soft_wrap=True)
        if args.list:
            console.print(layouts())
        elif args.dst is None:
            raise InputError("name two files, SRC and DST, or --list")
        else:
            run(args, Path(args.dst).expanduser(), console)


def run(args: argparse.Namespace, target: Path, console: Console) -> None:
    """Convert `args.src` to `target`, and tell what became of it."""
    files.check_suffix(target)
    if target.exists() and not args.overwrite:
        raise InputError(f"`{target}` exists: name another file, or --overwrite it")
    weights = files.read(args.src, trust=args.trust_checkpoint, entry=args.entry)
    state, known = within(weights.state, args.prefix), known_backbone(weights.meta)
    ours = args.to.startswith(OURS)
    if known.get("window_size") and not ours:
        raise InputError(f"{args.src} is of a ViT with windows, which {args.to} has not")
    options = _options(args, known_encodings(args.src, weights.meta), known)
    source = args.source or known_layout(weights.meta)
    try:
        made = convert(state, source=source, to=args.to, options=options)
        model = fitting(made, options, known) if ours else {}
    except LayoutError as error:
        raise InputError(f"{args.src}: {error}") from error
    meta = dict(
        converted_from=made.source,
        layout=written_layout(made, args.to),
        position_encodings=made.encodings,
        mmplugins=mmplugins.__version__,
        backbone=model.get("backbone"),
    )
    files.write(target, made.state, meta=meta, entry=find(args.to).entry)

    told = f"{made.source}, entry `{weights.entry}`" if weights.entry else made.source
    console.print(f"read     {escape(args.src)}: {told}, {_size(state)}")
    for why, names in _by_reason(made.left).items():
        console.print(f"left     {why}: {escape(names)}")
    digest = file_hash(str(target))[:8]
    console.print(f"written  {escape(str(target))}: {_size(made.state)}, sha256 {digest}")
    for line in untold(made, args.to, options):
        console.print(f"untold   {line}")
    if model:
        console.print(f"\nIts lines of a config:\n\n{escape(config_lines(model, target))}")


def parser() -> argparse.ArgumentParser:
    """Options with their explanations."""
    result = argparse.ArgumentParser(
        description=main.__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = result.add_argument
    add("src", nargs="?", metavar="SRC", help="file of torch or safetensors, or its URL")
    add("dst", nargs="?", metavar="DST", help="file to write: .pth or .safetensors")
    add("--list", action="store_true", help="tell all layouts and what they can express")
    add("--source", metavar="NAME", help="layout of SRC [found out]")
    add("--to", metavar="NAME", default=OURS, help="layout of DST [%(default)s]")
    add("--entry", metavar="NAME", help="which weights of SRC, such as model_ema [the usual]")
    add("--prefix", default="", help="of the weights, if not a usual one, with its dot: net.")
    add("--grid", nargs=2, type=_count, metavar=("HEIGHT", "WIDTH"), help="of SRC's table [square]")
    add("--num-heads", type=_count, help="of the model [C / 64, and 16 of ViT-H, g, G, So400m]")
    add(
        "--no-cls-token",
        dest="cls_token",
        action="store_false",
        help="leave class token and registers behind, as dense models with windows need",
    )
    add("--method", choices=["euclidean", "quantisation"], help="of iRPE, if not told by shapes")
    add("--ratio", type=float, help="of iRPE, if not the published one of so many buckets")
    add("--classes", type=_count, help="of a detector; 91 keeps the rows that no class of COCO has")
    add("--operand", choices=["k", "q"], default="k", help="of SaPE2 in cope-vit [%(default)s]")
    add("--overwrite", action="store_true", help="replace DST")
    add("--trust-checkpoint", "--trust", action="store_true", help="run code that SRC brings")
    return result


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text} is not a number from 1 on")
    return int(text)


def _options(
    args: argparse.Namespace, encodings: list[dict] | None, known: dict[str, Any]
) -> Options:
    arch = known.get("arch")
    arch = ARCHS.get(arch) if isinstance(arch, str) else arch
    heads = arch.get("num_heads") if isinstance(arch, dict) else None
    return Options(
        grid=tuple(args.grid) if args.grid else None,
        num_heads=args.num_heads or (heads if isinstance(heads, int) and heads > 0 else None),
        cls_token=args.cls_token,
        method=args.method,
        ratio=args.ratio,
        classes=args.classes,
        operand=args.operand,
        encodings=encodings,
    )


def layouts() -> Table:
    """All of them, as a table."""
    table = Table("layout", "models", "whose", "encodings", box=None, pad_edge=False)
    for layout in LAYOUTS.values():
        known = "all" if layout.encodings is None else ", ".join(sorted(layout.encodings)) or "-"
        table.add_row(layout.name, layout.family, escape(layout.about), known)
    return table


def fitting(made: Converted, options: Options, known: dict[str, Any]) -> dict[str, Any]:
    """Entries of a config's `model` that fit what was `made`, where ours are made for its family.

    Args:
        made: what was converted.
        options: what neither names nor shapes tell.
        known: the config of the backbone, if the file told it.

    Raises:
        LayoutError: no ViT has exactly these weights.
    """
    family = find(made.source).family
    unknown = options.encodings is None and made.source.startswith(OURS)
    if unknown or family == "twins":
        return {}
    if family == "detr":
        return dict(type="mmplugins.DETR", encoder=dict(position_encodings=made.encodings))
    backbone = known or vit_config(made.state, made.encodings, options)
    check_vit(made.state, backbone)
    return dict(backbone=backbone)


def config_lines(model: dict[str, Any], checkpoint: Path) -> str:
    """Lines of a config that start `model` from `checkpoint`, its backbone alone if it is one."""
    lines: dict[str, Any] = dict(
        custom_imports=dict(imports=["mmplugins"], allow_failed_imports=False)
    )
    if "backbone" in model:
        init_cfg = dict(type="Pretrained", checkpoint=str(checkpoint))
        backbone = dict(_delete_=True, **model["backbone"], init_cfg=init_cfg)
        lines.update(model=dict(backbone=backbone))
    else:
        lines.update(model=model, load_from=str(checkpoint))
    return Config(lines).pretty_text


def untold(made: Converted, to: str, options: Options) -> list[str]:
    """What was taken for granted, since no weights tell it."""
    if to != OURS and made.source == OURS:
        parts = "windows" if options.encodings else "windows and encodings without weights"
        return [
            f"{parts}: if the model has any, they are lost; tools/export_backbone.py sees them "
            "in its config"
        ]
    if to == OURS and find(made.source).family == "vit" and options.num_heads is None:
        width = len(made.state["patch_embed.proj.weight"])
        return [f"{options.heads(width)} heads: if the model has others, give --num-heads"]
    return []


def known_backbone(meta: dict[str, Any]) -> dict[str, Any]:
    """The config that tools/export_backbone.py wrote into a file; empty if it did not."""
    known = meta.get("backbone")
    try:
        known = json.loads(known) if isinstance(known, str) else known
    except ValueError:
        return {}
    return known if isinstance(known, dict) and known.get("type") == "mmplugins.ViT" else {}


def known_encodings(path: str, meta: dict[str, Any]) -> list[dict] | None:
    """What a file that we wrote says of its encodings; safetensors says it as text.

    Raises:
        InputError: it says of some that do not exist.
    """
    known = meta.get("position_encodings")
    try:
        known = json.loads(known) if isinstance(known, str) else known
        return None if known is None else plain(known)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} names position encodings that are none: {error}") from error


def written_layout(made: Converted, to: str) -> str:
    """What `to` is for this family: ours are two, and Twins' common form is found out again."""
    family = find(made.source).family if to == OURS else "vit"
    return {"vit": to, "detr": f"{OURS}-detr", "twins": ""}[family]


def known_layout(meta: dict[str, Any]) -> str | None:
    """What a file that we wrote says of its layout."""
    known = meta.get("layout")
    return known if isinstance(known, str) and known in LAYOUTS else None


def _size(state: files.State) -> str:
    count = sum(tensor.numel() for tensor in state.values())
    return f"{len(state)} tensors of {count:,} numbers"


def _by_reason(left: dict[str, str]) -> dict[str, str]:
    """Few names, or their number, by why they were left."""
    counts = Counter(left.values())
    return {
        why: ", ".join(name for name, reason in left.items() if reason == why)
        if count <= 4
        else f"{count} tensors"
        for why, count in counts.items()
    }
