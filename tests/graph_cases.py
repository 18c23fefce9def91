"""Exports three models that have all encodings between them; prints what came of it as JSON.

A process of its own, since torch cannot trace code whose annotations are checked.
"""

import json
import sys
from copy import deepcopy
from functools import partial
from pathlib import Path

import torch
from layers import CASES
from mmseg.models.necks import MultiLevelNeck
from torch import nn

from mmplugins.engine.inputs import InputError
from mmplugins.export import graph
from mmplugins.export.backbone import Backbone, WithNeck
from mmplugins.export.card import GRAPHS
from mmplugins.export.command import export
from mmplugins.models.simple_fpn import SimpleFPN
from mmplugins.models.vit import ViT


def examples(*types, numbers=None):
    """The examples of encodings, those of one type perhaps only some; all before block 0."""
    found = [cfg for cfg in CASES if cfg["type"] in types]
    found = found if numbers is None else [found[number] for number in numbers]
    return [{**cfg, "after": (-1,)} if "after" in cfg else cfg for cfg in found]


ENCODINGS = {
    "class token": [
        *examples("CoPE", "LogCPB"),
        *examples("LearnedAPE", numbers=[0]),
        *examples("RelativePositionBias", numbers=[1]),
        *examples("RoPE", numbers=[1]),
        {"type": "LearnedAPE", "resize": "bicubic_antialias"},
        {"type": "RelativePositionBias", "resize": "bilinear"},
        *examples("IRPE", numbers=[2]),  # on q, k and v
    ],
    "windows": [
        *examples("PEG", numbers=[3, 4, 5]),  # reflect, replicate and valid
        *examples("QKPEG", numbers=[1]),  # circular
        *examples("SinCos2D", numbers=[1]),
        *examples("DetrSine"),
        *examples("SaPE2", numbers=[2]),  # rms, by the length of valid lines
    ],
    "global": [
        *examples("IRPE", numbers=[1]),  # cross, of queries and keys
        *examples("SaPE2", numbers=[1]),
    ],
}
NECKS = {
    "class token": None,
    "windows": partial(SimpleFPN, 16, 8),
    "global": partial(MultiLevelNeck, [16], 8, scales=[4, 2, 1, 0.5]),
}


def model(name):
    torch.manual_seed(0)
    backbone = ViT(
        dict(embed_dims=16, depth=1, num_heads=2),
        img_size=(16, 20),
        patch_size=4,
        position_encodings=ENCODINGS[name],
        out_indices=(0,),
        with_cls_token=name == "class token",
        window_size=3 if name == "windows" else 0,
        global_blocks=(),
    )
    for parameter in backbone.parameters():
        nn.init.normal_(parameter, std=0.3)
    neck = NECKS[name]
    return (WithNeck(backbone, neck()) if neck else backbone).eval()


def least_part(module):
    """By how much the maps change, at least, when one of the encodings is taken away."""
    image = torch.randn(1, 3, *graph.untraced_sizes(module, (40, 56))[0])
    whole = module(image)[0]
    changes = []
    vit = getattr(module, "backbone", module)
    for place, name in [
        *((("pos", place), name) for place, some in vit.pos.items() for name in some),
        *((("attn",), name) for name in vit.blocks[0].attn.pos),
    ]:
        other = deepcopy(module)
        vit = getattr(other, "backbone", other)
        del (vit.pos[place[1]] if place[0] == "pos" else vit.blocks[0].attn.pos)[name]
        changes.append(((other(image)[0] - whole).abs().max() / whole.abs().max()).item())
    return min(changes)


def by_the_page(module, folder, formats):
    """What graphs that the command wrote say, run by the lines of its page, less the model."""
    backbone = Backbone("toy", {"patch_size": 4}, module.backbone, module.neck, {})
    image, worst = torch.randn(3, 3, 45, 83), 0.0
    for name, file in export(backbone, folder, formats, with_neck=True)[0].items():
        assert file.stat().st_size < 2e6, "the traced image alone has 4e6"
        room = {"image": image.numpy() if name == "onnx" else image}
        exec(GRAPHS[name].format(file=file), room)
        for found, wanted in zip(room["maps"], module(image), strict=True):
            difference = (torch.as_tensor(found) - wanted).abs().max() / wanted.abs().max()
            worst = max(worst, difference.item())
    return worst


class Fixed(nn.Conv2d):
    """A module for one height only."""

    def forward(self, x):
        return [super().forward(x[:, :, : int(x.shape[2]) // 2])]


def refusal(act):
    try:
        act()
    except InputError as error:
        return str(error)
    return None


@torch.no_grad()
def main(folder, *, with_onnx):
    results = {}
    for name in ENCODINGS:
        module, result = model(name), {}
        if name == "global":
            formats = ["torch_export", "onnx"] if with_onnx else ["torch_export"]
            results["page"] = by_the_page(module, folder / "page", formats)
            continue
        sizes = graph.untraced_sizes(module, (40, 56))
        program = graph.export_program(module)
        result["program"] = graph.check_program(program, module, sizes)
        result["part"] = least_part(module)
        if with_onnx:
            file = folder / "graph.onnx"
            graph.export_onnx(program, file)
            result["onnx"] = graph.check_onnx(file, module, sizes)
            result["files"] = sorted(path.name for path in folder.iterdir())
        results[name] = result
    other = model("windows")
    nn.init.normal_(other.backbone.patch_embed.proj.weight)
    results["another"] = graph.check_program(program, other, sizes)
    results["small"] = refusal(lambda: graph.check_program(program, other, [(8, 8)]))
    results["fixed"] = refusal(lambda: graph.export_program(Fixed(3, 4, 1)))
    try:
        graph.write_program(program, Path("/dev/full"))
    except OSError as error:
        results["full"] = str(error)
    graph.MOST_BYTES = 1
    if with_onnx:
        results["large"] = refusal(lambda: graph.export_onnx(program, folder / "large.onnx"))
    print(json.dumps(results))


if __name__ == "__main__":
    main(Path(sys.argv[1]), with_onnx=sys.argv[2] == "onnx")
