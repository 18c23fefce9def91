"""The page that lies beside exported files: what they are, and how each is loaded."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmplugins.engine.hosts import HOSTS
from mmplugins.export.backbone import Backbone
from mmplugins.export.snippets import config_lines, timm_lines


def facts(backbone: Backbone) -> dict[str, Any]:
    """What is known of the weights, in the plain types of JSON."""
    return dict(
        name=backbone.name,
        position_encodings=backbone.encodings,
        training_grid=backbone.grid,
        backbone=backbone.config,
        **backbone.facts,
    )


def card(
    backbone: Backbone, written: Mapping[str, Path], arguments: dict[str, Any] | None = None
) -> str:
    """Markdown: facts, files, and for each format the lines that load it.

    Args:
        backbone: what was exported.
        written: file by format.
        arguments: of `timm.create_model`.
    """
    known = facts(backbone)
    encodings = ", ".join(f"`{json.dumps(cfg)}`" for cfg in backbone.encodings) or "none"
    grid = (
        f"{backbone.grid[0]}x{backbone.grid[1]} patches (height x width)" if backbone.grid else "-"
    )
    parts = [
        f"# {backbone.name}",
        f"Backbone `{backbone.config['type']}`, {known['parameters']:,} parameters. Position "
        f"encodings: {encodings}. Training grid: {grid}. Weights: {known['weights']} of "
        f"`{known['checkpoint']['name']}`.{_images(known['images'])}",
        "| format | file |\n|---|---|\n"
        + "\n".join(f"| {name} | `{file.name}` |" for name, file in written.items()),
    ]
    weights = written.get("state_dict") or written.get("safetensors")
    if weights is not None:
        for host in HOSTS if backbone.is_ours else [known["host"]]:
            lines = config_lines(backbone, weights.name, host)
            parts.append(f"## In {host}\n\n```python\n{lines}\n```")
    if arguments is not None:
        lines = timm_lines(arguments, written["timm"].name)
        parts.append(f"## In timm\n\n```python\n{lines}\n```")
    for name, lines in GRAPHS.items():
        if name in written:
            parts.append(f"## {name}\n\n```python\n{lines.format(file=written[name].name)}\n```")
    return "\n\n".join(parts) + "\n"


def _images(images: Mapping[str, Any]) -> str:
    """What must be done to images before they come in."""
    if not images:
        return ""
    known = f" Images: {images['order']}, 0 to 255"
    return (
        f"{known}, less {images['mean']}, over {images['std']}." if images["mean"] else f"{known}."
    )


GRAPHS = {
    "onnx": "import onnxruntime\n\n"
    'session = onnxruntime.InferenceSession("{file}")\n'
    'maps = session.run(None, {{"image": image}})  # numpy, float32, B x 3 x H x W',
    "torch_export": "import torch\n\n"
    'model = torch.export.load("{file}").module()\n'
    "maps = model(image)  # B x 3 x H x W",
}
