"""Command line of tools/equivariance.py: from a config and checkpoints to files of results."""

import argparse
import os
import time
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import NoReturn

import torch
from mmengine import dist

from mmplugins.engine.inputs import InputError, check_data, check_file
from mmplugins.engine.launch import add_model_options, plain_errors, read_config
from mmplugins.evaluation.inference.passes import join
from mmplugins.evaluation.inference.pictures import Pictures
from mmplugins.evaluation.outcome import RECORDS, Outcome, Rival, measured, write_outcome
from mmplugins.evaluation.predictions.consistency import SCORE
from mmplugins.evaluation.progress import Bars
from mmplugins.evaluation.results.comparison import compare, noise
from mmplugins.evaluation.results.files import read_results
from mmplugins.evaluation.results.provenance import file_hash, origin
from mmplugins.evaluation.runs import LEVELS
from mmplugins.evaluation.statistics.resampling import Bootstrap
from mmplugins.evaluation.study import AGAIN, Protocol, Recipe

TOOL = "tools/equivariance.py"
EPILOG = """
modes     window: real pixels, content enters and leaves; canvas: the picture moves on a larger
          canvas, nothing enters or leaves; masked_canvas: a DETR is also told where it lies;
          roll: around the border, exact for models that know none, and for segmenters alone
shifts    pgrid: whole periods, what position does; sub: less than one, what aliasing does; frac:
          parts of a pixel (roll); published protocols: zhang, lps, ddac, eqt
levels    feat: errors of feature maps; pred: consistency of what is predicted; task: AP or mIoU
          as functions of shift and place; affinity: what tells like from unlike patches;
          lie: the Lie derivative, to compare with publications only

A run that is cut off goes on where it was; one that is done computes all numbers again from its
records, in seconds. Several checkpoints are training runs of one recipe, and intervals cover both.

  python tools/equivariance.py CONFIG work_dirs/ape/epoch_12.pth --subset 100 --out runs/ape
  torchrun --nproc_per_node 8 tools/equivariance.py CONFIG seed0.pth seed1.pth seed2.pth \\
      --launcher pytorch --out runs/sape2 --against runs/none runs/ape
"""


def main(argv: Sequence[str] | None = None) -> None:
    """Measure how far a detector or segmenter is from commuting with translations."""
    with plain_errors():
        args = parser().parse_args(argv)
        started, clock = datetime.now(timezone.utc), time.perf_counter()
        join(args.launcher)
        bars = Bars(quiet=not dist.is_main_process())
        recipe = _recipe(args, bars)
        runs = [recipe.run(checkpoint, recipe.indices) for checkpoint in args.checkpoint]
        few = recipe.indices[: args.noise_floor]
        again = {cause: recipe.run(args.checkpoint[0], few, again=cause) for cause in AGAIN if few}
        if not dist.is_main_process():
            return
        levels, images = recipe.protocol.levels, recipe.ids(recipe.indices)
        bootstrap = Bootstrap(len(images), args.boot, args.seed)
        name, plan = args.name or Path(args.config).stem, runs[0].key.plan
        this = measured(name, runs, images, levels, bootstrap, bars, score=args.score)
        others = [
            rival.measured(levels, bootstrap, bars, score=args.score) for rival in recipe.rivals
        ]
        differences = compare(this, others, plan)
        if again:
            bootstrap = Bootstrap(len(few), args.boot, args.seed)
            first, *rest = (
                measured(cause, [run], recipe.ids(few), levels, bootstrap, bars, score=args.score)
                for cause, run in {"first": runs[0], **again}.items()
            )
        made_by = origin(
            tool=TOOL,
            options=vars(args),
            config=args.config,
            cfg=recipe.cfg,
            checkpoints=args.checkpoint,
            device=torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
            started=started,
            processes=dist.get_world_size(),
        )
        seconds = {"model": recipe.stopwatch.seconds, "all": time.perf_counter() - clock}
        floors = noise(first, rest, plan) if again else ()
        outcome = Outcome(this, made_by | {"seconds": seconds}, differences, floors)
        write_outcome(Path(args.out), outcome, runs, bars)


def parser() -> argparse.ArgumentParser:
    """Options with their explanations."""
    result = _Parser(
        description=main.__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_model_options(result)
    add = result.add_argument
    add("checkpoint", nargs="+", help="checkpoint files: one, or one of each training run")
    add("--out", default="runs/equivariance", help="folder of records and results [%(default)s]")
    add("--name", help="of the recipe in tables [the config's name]")
    modes = ["canvas", "window", "roll", "masked_canvas"]
    add("--mode", choices=modes, default="canvas", help="how pictures are shifted [%(default)s]")
    add("--shifts", type=_names, default="pgrid,sub", help="sets of shifts [%(default)s]")
    levels = f"what to measure: {', '.join(LEVELS)} [%(default)s]"
    add("--levels", type=_names, default="feat,pred,task", help=levels)
    add("--subset", help="so many images, or a file of ids or of results [all]")
    add("--seed", type=_natural, default=0, help="of the subset and the bootstrap [%(default)s]")
    add("--boot", type=_positive, default=1000, help="resamples of the images [%(default)s]")
    add("--period", type=_positive, help="P in pixels [of strides and windows]")
    add("--max-shift", type=float, default=128, help="larger shifts are left out [%(default)s px]")
    add("--count", type=_positive, default=16, help="shifts of zhang, lps and eqt [%(default)s]")
    add("--edge", type=_natural, help="pixels of the border to leave out [16 in windows, else 0]")
    add("--fill", choices=["mean", "reflect"], default="mean", help="of canvases [%(default)s]")
    add("--score", type=float, default=SCORE, help="of detections that pred compares [%(default)s]")
    add("--batch-size", type=_positive, help="views at a time [1 on a CPU, else 8]")
    add("--amp", action="store_true", help="mixed precision")
    noise_help = "images to run twice more, again and in mixed precision; 0: none [%(default)s]"
    add("--noise-floor", type=_natural, default=2, metavar="IMAGES", help=noise_help)
    against = "folders of other recipes' results, to compare with"
    add("--against", nargs="+", default=[], metavar="OUT", help=against)
    add("--launcher", choices=["none", "pytorch", "slurm"], default="none", help="[%(default)s]")
    add("--local_rank", "--local-rank", type=int, default=0, help="by launchers")
    return result


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as all else here does."""

    def error(self, message: str) -> NoReturn:
        raise InputError(message)


def _recipe(args: argparse.Namespace, bars: Bars) -> Recipe:
    _check_checkpoints(args.checkpoint)
    _check_out(Path(args.out))
    cfg = read_config(args.config, args.cfg_options)
    check_data(cfg, ["test"])
    protocol = Protocol(
        mode=args.mode,
        shifts=args.shifts,
        levels=args.levels,
        subset=_subset(args.subset),
        seed=args.seed,
        period=args.period,
        max_shift=args.max_shift,
        count=args.count,
        edge=args.edge,
        fill=args.fill,
        amp=args.amp,
    )
    return Recipe(
        cfg,
        Pictures(cfg),
        protocol,
        Path(args.out) / RECORDS,
        bars,
        trust=args.trust_checkpoint,
        batch_size=args.batch_size,
        rivals=_rivals(args.against, len(args.checkpoint)),
    )


def _check_checkpoints(paths: Sequence[str]) -> None:
    for path in paths:
        if "://" in path:
            raise InputError(f"checkpoint: download {path}: records belong to a file's content")
        check_file(path, "checkpoint")
    if len({file_hash(path) for path in paths}) < len(paths):
        raise InputError("two checkpoints hold the same, and are no two training runs")


def _check_out(folder: Path) -> None:
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not (there.is_dir() and os.access(there, os.W_OK)):
        raise InputError(f"--out {folder}: nothing can be written to `{there}`")


def _rivals(folders: Sequence[str], runs: int) -> list[Rival]:
    """What to compare with, known to be there and of as many runs before hours of work."""
    rivals = [Rival.open(Path(folder)) for folder in folders]
    for rival in rivals:
        if len(rival.runs) != runs:
            raise InputError(
                f"--against {rival.folder}: of {len(rival.runs)} checkpoints, but here are {runs}"
            )
    names = [rival.results.name for rival in rivals]
    if len({*names}) < len(names):
        raise InputError(f"--against: two of one name ({', '.join(names)}): give them a --name")
    return rivals


def _names(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for name in text.split(",") if name))


def _natural(text: str, least: int = 0) -> int:
    if not text.isdecimal() or int(text) < least:
        raise argparse.ArgumentTypeError(f"`{text}` is no whole number of {least} or more")
    return int(text)


def _positive(text: str) -> int:
    return _natural(text, 1)


def _subset(text: str | None) -> int | tuple[str, ...] | None:
    """A number, or the ids in a file: one a line, or the images of a file of results."""
    if text is None or text.isdecimal():
        return text and int(text)
    check_file(text, "--subset")
    if text.endswith(".json"):
        return tuple(read_results(Path(text)).protocol["images"])
    lines = Path(text).read_text(errors="replace").splitlines()
    ids = tuple(line.strip() for line in lines if line.strip())
    if not ids:
        raise InputError(f"--subset: no ids in {text}")
    return ids
