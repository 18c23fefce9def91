"""Command line of tools/benchmark.py: what encodings cost, in a layer and in whole steps."""

import argparse
import json
import os
import platform
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path
from typing import NoReturn

import torch
from mmengine.logging import MMLogger

import mmplugins
from mmplugins.benchmark import cases, pipelines, plot, results
from mmplugins.benchmark.agreement import Disagreement
from mmplugins.benchmark.comparison import Setting, compare
from mmplugins.benchmark.layers import DTYPES
from mmplugins.disk import write
from mmplugins.engine.inputs import InputError
from mmplugins.engine.launch import plain_errors

EPILOG = """examples:
  python tools/benchmark.py layers --rounds 7                  every encoding at every shape
  python tools/benchmark.py layers --shapes detr --encodings irpe-k sape2 --kernels auto eager
  python tools/benchmark.py layers --device cuda --dtype bfloat16 --shapes vit-1024
  python tools/benchmark.py pipelines --pipelines upernet      whole steps of one pipeline

What counts are ratios within one run: the machine's speed drifts, and all take turns. Let nothing
else run beside it. See `layers --help`, `pipelines --help`.
"""
SHAPES = "\n".join(f"  {name:10}{shape}" for name, shape in cases.SHAPES.items())
LAYERS = f"""
One attention layer, from q, k and v to its output: ours by each of the kernels, torch's attention
without encoding (plain), and where there is one the straightforward form, as the paper's authors
compute it. First all forms of an encoding are held to each other, output and gradients; if they are
not the same function, nothing of that shape is written. What would not fit into memory is left out.

Writes OUT.json with every single time, OUT.md and OUT.png, anew after each shape.

shapes:
{SHAPES}
  or your own, as in 25x38/2/8/32: H x W / B / h / d
"""
PIPELINES = """
Training steps and inference of whole models at their real size, as ratios to the one without
encoding. Writes OUT.json with every single time, and OUT.md, anew after each pipeline.
"""


def main(configs: Path, argv: Sequence[str] | None = None) -> None:
    """Measure what encodings cost: in one attention layer, and in whole steps of the pipelines.

    Args:
        configs: folder of the configs.
        argv: what is asked for, by default on the command line.
    """
    with plain_errors():
        args = parser().parse_args(argv)
        if args.device != "cpu" and not torch.cuda.is_available():
            raise InputError("--device cuda: there is none here")
        if not args.out.parent.is_dir():
            raise InputError(f"--out {args.out}: a name in a folder that is there")
        if args.rounds < 1:
            raise InputError(f"--rounds {args.rounds}: at least one")
        for name in ("threads", "memory", "batch_size", "scale"):
            value = getattr(args, name, None)
            if value is not None and not value > 0:
                raise InputError(f"--{name.replace('_', '-')} {value}: must be positive")
        if args.threads:
            torch.set_num_threads(args.threads)
        MMLogger.get_instance("benchmark", log_level="WARNING")
        args.run(args, configs)


def parser() -> argparse.ArgumentParser:
    """Options with their explanations."""
    result = _Parser(
        description=main.__doc__.partition("\n")[0], epilog=EPILOG, formatter_class=_AsWritten
    )
    parts = result.add_subparsers(required=True, metavar="layers | pipelines")
    layers = parts.add_parser(
        "layers", help="one attention layer", description=LAYERS, formatter_class=_AsWritten
    )
    add = layers.add_argument
    add("--shapes", nargs="+", default=list(cases.SHAPES), metavar="SHAPE", help="[all]")
    add(
        "--encodings",
        nargs="+",
        default=list(cases.ENCODINGS)[1:],
        metavar="NAME",
        help=f"as in configs: {', '.join(cases.ENCODINGS)}; or a registered class [all named]",
    )
    add("--kernels", nargs="+", choices=cases.KERNELS, default=["auto"], help="[auto]")
    add("--dtype", choices=DTYPES, default="float32", help="of q, k, v [%(default)s]")
    add(
        "--memory",
        type=float,
        metavar="GB",
        help="leave out steps that take more [most of what is free]",
    )
    add("--resume", action="store_true", help="keep the shapes that OUT.json has, else begin anew")
    _add_shared(layers, rounds=5, out="benchmark-layers")
    layers.set_defaults(run=measure_layers)

    whole = parts.add_parser(
        "pipelines", help="whole steps", description=PIPELINES, formatter_class=_AsWritten
    )
    add = whole.add_argument
    names = list(pipelines.PIPELINES)
    add("--pipelines", nargs="+", choices=names, default=names, help="[all]")
    add(
        "--encodings",
        nargs="+",
        default=["nope", "ape", "peg", "irpe-k", "sape2"],
        metavar="NAME",
        help="as in the names of the config files [%(default)s]",
    )
    add("--batch-size", type=int, metavar="N", help="images a step [1, UperNet 2]")
    add("--scale", type=float, default=1.0, help="of the image's sides [%(default)s]")
    _add_shared(whole, rounds=3, out="benchmark-pipelines")
    whole.set_defaults(run=measure_pipelines)
    return result


def measure_layers(args: argparse.Namespace, _: Path) -> None:
    """Shape after shape."""
    try:
        shapes = {name: cases.shape(name) for name in dict.fromkeys(args.shapes)}
        chosen = {name: cases.rows(args.encodings, args.kernels, s) for name, s in shapes.items()}
    except ValueError as error:
        raise InputError(error) from None
    setting = Setting(
        rounds=args.rounds,
        device=args.device,
        dtype=args.dtype,
        threads=torch.get_num_threads(),
        memory=args.memory and int(args.memory * 1e9),
    )
    facts = _facts(args, unlike=("shapes", "resume"))
    rows = _measured(args.out, facts) if args.resume else []

    def publish() -> None:
        _write(args.out, facts, rows, results.markdown(rows))
        plot.save(plot.draw(rows), Path(f"{args.out}.png"))

    for name, shape in shapes.items():
        if any(row["shape"] == name for row in rows):
            _say(name, "was measured")
            continue
        try:
            cells = compare(shape, chosen[name], setting, partial(_say, name))
        except Disagreement as error:
            raise InputError(f"{name}: {error}; nothing of this shape is written") from None
        except BrokenProcessPool as error:
            raise InputError(
                f"{name}: the process that takes times died, most often for want of memory (see "
                f"--memory); nothing of this shape is written"
            ) from error
        rows += results.records(name, shape, cells)
        publish()
    publish()  # an earlier run may have ended between its files
    print(f"\n{results.markdown(rows)}\n\n{args.out}.json, .md, .png")


def measure_pipelines(args: argparse.Namespace, configs: Path) -> None:
    """Pipeline after pipeline."""
    for name in args.encodings:
        _check_configs(name, args.pipelines, configs)
    rows = []
    for name in args.pipelines:
        costs = pipelines.measure(
            pipelines.PIPELINES[name],
            args.encodings,
            configs=configs,
            batch_size=args.batch_size,
            rounds=args.rounds,
            scale=args.scale,
            device=args.device,
            progress=partial(_say, name),
        )
        rows += pipelines.to_rows(name, costs)
        _write(args.out, _facts(args), rows, pipelines.to_markdown(rows))
    print(f"\n{pipelines.to_markdown(rows)}\n\n{args.out}.json, .md")


def _check_configs(encoding: str, names: Sequence[str], configs: Path) -> None:
    """Refuse at once what would fail after an hour."""
    for name in names:
        file = configs / pipelines.PIPELINES[name].configs.format(encoding)
        if not file.exists():
            raise InputError(f"--encodings {encoding}: there is no {file}")


def _add_shared(part: argparse.ArgumentParser, *, rounds: int, out: str) -> None:
    add = part.add_argument
    add(
        "--rounds",
        type=int,
        default=rounds,
        metavar="N",
        help="rounds that count, after one to warm up [%(default)s]",
    )
    add("--device", choices=["cpu", "cuda"], default="cpu", help="[%(default)s]")
    add("--threads", type=int, metavar="N", help="on the CPU [as many as torch takes]")
    add("--out", type=Path, default=Path(out), help="files without their suffix [%(default)s]")


def _facts(args: argparse.Namespace, unlike: Sequence[str] = ()) -> dict:
    """What a figure depends on, but for the options `unlike`."""
    options = {key: value for key, value in vars(args).items() if key not in ("run", *unlike)}
    return dict(
        options={key: str(value) for key, value in options.items()},
        machine=platform.machine(),
        device=torch.cuda.get_device_name() if args.device == "cuda" else "cpu",
        cores=os.cpu_count(),
        threads=torch.get_num_threads(),
        torch=torch.__version__,
        mmplugins=mmplugins.__version__,
    )


def _measured(out: Path, facts: dict) -> list[dict]:
    """What is there already, if it was measured alike."""
    file = Path(f"{out}.json")
    if not file.exists():
        return []
    try:
        there = json.loads(file.read_text())
        there["facts"], there["rows"]
    except (ValueError, KeyError, TypeError):
        raise InputError(f"--resume: {file} is no result of this tool") from None
    if there["facts"] != facts:
        raise InputError(f"--resume: {file} was measured otherwise: {there['facts']}")
    return there["rows"]


def _write(out: Path, facts: dict, rows: Sequence[dict], table: str) -> None:
    write(Path(f"{out}.json"), (json.dumps(dict(facts=facts, rows=rows), indent=1) + "\n").encode())
    write(Path(f"{out}.md"), f"{table}\n".encode())


def _say(name: str, message: str) -> None:
    print(f"{name}: {message}", flush=True)


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as all else here does."""

    def error(self, message: str) -> NoReturn:
        """As any other wrong input."""
        raise InputError(message)


_AsWritten = argparse.RawDescriptionHelpFormatter
