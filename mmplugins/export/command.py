"""Command line of tools/export_backbone.py."""

import argparse
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

from rich.console import Console
from rich.markup import escape

from mmplugins.checkpoints import files
from mmplugins.checkpoints.convert import OURS
from mmplugins.disk import file_hash, write
from mmplugins.engine.inputs import InputError
from mmplugins.engine.launch import add_model_options, plain_errors, read_config
from mmplugins.export.backbone import Backbone, WithNeck, load
from mmplugins.export.card import card, facts
from mmplugins.export.graph import GRAPHS
from mmplugins.export.timm_model import timm_model

FORMATS = ("state_dict", "safetensors", "timm", *GRAPHS)
EPILOG = """
  state_dict     NAME-SHA256.pth, for init_cfg=dict(type="Pretrained", ...) of any OpenMMLab host
  safetensors    the same without pickle
  timm           timm's names, where timm has the encoding, as .safetensors
  onnx           a graph for onnxruntime, for batches and images of any size from one window on,
                 or with a neck from four patches on
  torch_export   a graph for torch.export.load, likewise

Beside them lie README.md with the lines that load each, and NAME.json: the encodings and their
options, the training grid, the config, where the weights come from. Before a graph gets its name it
is compared with the model at two sizes for which it was not traced.

  python tools/export_backbone.py CONFIG work_dirs/pretrain/epoch_300.pth --out exported
  python tools/export_backbone.py CONFIG CHECKPOINT --out exported --format onnx --with-neck
"""


def main(argv: Sequence[str] | None = None) -> None:
    """Export the backbone of a trained model: its weights for other projects, or as a graph."""
    with plain_errors():
        args = parser().parse_args(argv)
        cfg = read_config(args.config, args.cfg_options)
        backbone = load(
            cfg,
            args.checkpoint,
            name=args.name or Path(args.config).stem,
            entry=args.entry,
            trust=args.trust_checkpoint,
        )
        folder = Path(args.out).expanduser()
        try:
            written, arguments = export(backbone, folder, args.format, with_neck=args.with_neck)
            text = json.dumps(facts(backbone), indent=2)
            write(folder / f"{backbone.name}.json", f"{text}\n".encode())
            write(folder / "README.md", card(backbone, written, arguments).encode())
        except OSError as error:
            raise InputError(f"could not write into `{folder}`: {error}") from error
        console = Console(highlight=False, soft_wrap=True)
        for name, file in written.items():
            console.print(f"{name:13} {escape(str(file))}  {file.stat().st_size / 2**20:.1f} MiB")
        console.print(f"how to load them: {escape(str(folder / 'README.md'))}")


def parser() -> argparse.ArgumentParser:
    """Options with their explanations."""
    result = argparse.ArgumentParser(
        description=main.__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = result.add_argument
    add_model_options(result)
    add("checkpoint", help="of the model, or of the backbone alone")
    add("--out", required=True, help="folder of the files")
    add(
        "--format",
        type=_formats,
        default=["state_dict", "safetensors"],
        help=f"any of {', '.join(FORMATS)}, with commas between [state_dict,safetensors]",
    )
    add(
        "--entry",
        metavar="NAME",
        help="which weights of the checkpoint: ema_state_dict for those of the last iteration "
        "where EMAHook averaged, state_dict_ema for timm's averages [those it is tested with]",
    )
    add("--name", type=_name, help="of the files [that of the config]")
    add("--with-neck", action="store_true", help="graphs go on through the neck")
    return result


def export(
    backbone: Backbone, folder: Path, formats: Sequence[str], *, with_neck: bool = False
) -> tuple[dict[str, Path], dict[str, Any] | None]:
    """Files by format, and the arguments of timm's model if it is among them.

    Raises:
        InputError: a format that cannot express the backbone; timm's before anything is written.
    """
    timm_state, arguments = timm_model(backbone) if "timm" in formats else (None, None)
    folder.mkdir(parents=True, exist_ok=True)
    written = {}
    for name in formats:
        if name in GRAPHS:
            written[name] = _graph(backbone, folder, name, with_neck=with_neck)
            continue
        state, stem, layout = backbone.state, backbone.name, OURS
        if name == "timm":
            state, stem, layout = timm_state, f"{backbone.name}-timm", "timm"
        suffix = ".pth" if name == "state_dict" else ".safetensors"
        meta = dict(facts(backbone), layout=layout)
        written[name] = _hashed(folder, stem, suffix, partial(files.write, state=state, meta=meta))
    return written, arguments


def _graph(backbone: Backbone, folder: Path, name: str, *, with_neck: bool) -> Path:
    """A graph, checked before it gets its name."""
    if with_neck and backbone.neck is None:
        raise InputError("--with-neck: the model, or the checkpoint, has no neck")
    module = WithNeck(backbone.module, backbone.neck) if with_neck else backbone.module
    stem = f"{backbone.name}-neck" if with_neck else backbone.name
    suffix, save = GRAPHS[name]
    return _hashed(folder, stem, suffix, lambda path: save(module, backbone.image_size, path))


def _hashed(folder: Path, stem: str, suffix: str, save: Callable[[Path], None]) -> Path:
    """What `save` makes, under a name that ends in the first eight digits of its SHA-256."""
    draft = folder / f".{stem}.{uuid4().hex}{suffix}"
    try:
        save(draft)
        return draft.replace(folder / f"{stem}-{file_hash(str(draft))[:8]}{suffix}")
    finally:
        draft.unlink(missing_ok=True)


def _name(text: str) -> str:
    if Path(text).name != text:
        raise argparse.ArgumentTypeError(f"`{text}` is no name of a file; name folders by --out")
    return text


def _formats(text: str) -> list[str]:
    formats = text.split(",")
    if unknown := [name for name in formats if name not in FORMATS]:
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: formats are {', '.join(FORMATS)}")
    return formats
