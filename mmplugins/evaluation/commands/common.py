"""What the tools that let a model look at views have in common: options, and the way to results."""

import argparse
import os
import time
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import NoReturn

import torch
from mmengine import dist

from mmplugins.disk import file_hash
from mmplugins.engine.inputs import InputError, check_data, check_file
from mmplugins.engine.launch import add_model_options, read_config
from mmplugins.evaluation.inference.passes import join
from mmplugins.evaluation.inference.pictures import Pictures
from mmplugins.evaluation.outcome import (
    FIGURES,
    RECORDS,
    RESULTS,
    Outcome,
    Rival,
    Suite,
    measured,
    write_outcome,
)
from mmplugins.evaluation.plan import Fill
from mmplugins.evaluation.progress import Bars
from mmplugins.evaluation.results.comparison import compare, noise
from mmplugins.evaluation.results.files import read_results
from mmplugins.evaluation.results.options import grid_options
from mmplugins.evaluation.results.provenance import origin
from mmplugins.evaluation.results.training import sizes_of, training
from mmplugins.evaluation.statistics.resampling import Bootstrap
from mmplugins.evaluation.study import AGAIN, Protocol, Recipe
from mmplugins.visualise.look import build_model


def evaluate(
    args: argparse.Namespace,
    tool: str,
    protocol: Protocol,
    suite: Suite,
    *,
    originals: bool = False,
) -> None:
    """From what a user asks for to files of results; all processes together.

    Args:
        args: `common_options`.
        tool: its name.
        protocol: which views.
        suite: what is measured of them.
        originals: the protocol needs pictures before the test pipeline's resizing.

    Raises:
        InputError: what is asked for cannot be.
    """
    started, clock = datetime.now(timezone.utc), time.perf_counter()
    _check_checkpoints(args.checkpoint)
    check_out(Path(args.out))
    cfg = read_config(args.config, args.cfg_options)
    check_data(cfg, ["test"])
    join(args.launcher)
    bars = Bars(quiet=not dist.is_main_process())
    recipe = Recipe(
        cfg,
        Pictures(cfg, originals=originals),
        protocol,
        Path(args.out) / RECORDS,
        bars,
        trust=args.trust_checkpoint,
        batch_size=args.batch_size,
        rivals=_rivals(args.against, len(args.checkpoint)),
    )
    runs = [recipe.run(checkpoint, recipe.indices) for checkpoint in args.checkpoint]
    few = recipe.indices[: args.noise_floor]
    again = {cause: recipe.run(args.checkpoint[0], few, again=cause) for cause in AGAIN if few}
    if not dist.is_main_process():
        return
    images, plan = recipe.ids(recipe.indices), runs[0].key.plan
    bootstrap = Bootstrap(len(images), args.boot, args.seed)
    this = measured(args.name or Path(args.config).stem, runs, images, suite, bootstrap, bars)
    others = [rival.measured(suite, bootstrap, bars) for rival in recipe.rivals]
    differences, floors = compare(this, others, plan), ()
    if again:
        bootstrap = Bootstrap(len(few), args.boot, args.seed)
        first, *rest = (
            measured(cause, [run], recipe.ids(few), suite, bootstrap, bars)
            for cause, run in {"first": runs[0], **again}.items()
        )
        floors = noise(first, rest, plan)
    made_by = origin(
        tool=tool,
        options=vars(args),
        config=args.config,
        cfg=cfg,
        checkpoints=args.checkpoint,
        device=torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        started=started,
        processes=dist.get_world_size(),
    )
    made_by |= {
        "seconds": {"model": recipe.stopwatch.seconds, "all": time.perf_counter() - clock},
        "model": sizes_of(build_model(cfg)),
        "training": [training(each, trust=args.trust_checkpoint) for each in args.checkpoint],
        "against": {rival.results.name: rival.checkpoints for rival in recipe.rivals},
        **suite.origin(runs[0], images),
    }
    outcome = Outcome(this, made_by, differences, floors)
    folder = Path(args.out)
    found = write_outcome(folder, outcome, plan, grid_options(cfg), bars)
    suite.draw(folder, this.name, found, runs[0], images, recipe.pictures)
    bars.say(f"\nall of it: {folder / RESULTS}, .csv; pictures: {folder / FIGURES}")


def common_parser(
    description: str, epilog: str, *, out: str, fill: Fill
) -> argparse.ArgumentParser:
    """Options of every tool that lets a model look at views, with their explanations.

    Args:
        description: of the tool.
        epilog: likewise, below the options.
        out: where results go, without --out.
        fill: of canvases, without --fill.
    """
    result = Parser(
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_model_options(result)
    add = result.add_argument
    add("checkpoint", nargs="+", help="checkpoint files: one, or one of each training run")
    add("--out", default=out, help="folder of records and results [%(default)s]")
    add("--name", help="of the recipe in tables [the config's name]")
    add("--subset", help="so many images, or a file of ids or of results [all]")
    add("--seed", type=natural, default=0, help="of the subset and the bootstrap [%(default)s]")
    add("--boot", type=positive, default=1000, help="resamples of the images [%(default)s]")
    fills = "of canvases: the mean colour, or the picture mirrored [%(default)s]"
    add("--fill", choices=["mean", "reflect"], default=fill, help=fills)
    add("--batch-size", type=positive, help="views at a time [1 on a CPU, else 8]")
    add("--amp", action="store_true", help="mixed precision")
    noise_help = "images to run twice more, again and in mixed precision; 0: none [%(default)s]"
    add("--noise-floor", type=natural, default=2, metavar="IMAGES", help=noise_help)
    against = "folders of other recipes' results, to compare with"
    add("--against", nargs="+", default=[], metavar="OUT", help=against)
    add("--launcher", choices=["none", "pytorch", "slurm"], default="none", help="[%(default)s]")
    add("--local_rank", "--local-rank", type=int, default=0, help="by launchers")
    return result


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as all else here does."""

    def error(self, message: str) -> NoReturn:
        """End with what is wrong."""
        raise InputError(message)


def _check_checkpoints(paths: Sequence[str]) -> None:
    for path in paths:
        if "://" in path:
            raise InputError(f"checkpoint: download {path}: records belong to a file's content")
        check_file(path, "checkpoint")
    if len({file_hash(path) for path in paths}) < len(paths):
        raise InputError("two checkpoints hold the same, and are no two training runs")


def check_out(folder: Path) -> None:
    """Refuse a folder that nothing can be written to.

    Raises:
        InputError: it is none.
    """
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
    check_names(rivals)
    return rivals


def check_names(rivals: Sequence[Rival]) -> None:
    """Refuse two that could not be told apart.

    Raises:
        InputError: they are of one name.
    """
    names = [rival.results.name for rival in rivals]
    if len({*names}) < len(names):
        raise InputError(f"two of one name ({', '.join(names)}): give them a --name")


def names(text: str) -> tuple[str, ...]:
    """Between commas, each once."""
    return tuple(dict.fromkeys(name for name in text.split(",") if name))


def natural(text: str, least: int = 0) -> int:
    """A whole number."""
    if not text.isdecimal() or int(text) < least:
        raise argparse.ArgumentTypeError(f"`{text}` is no whole number of {least} or more")
    return int(text)


def positive(text: str) -> int:
    """A whole number above 0."""
    return natural(text, 1)


def subset(text: str | None) -> int | tuple[str, ...] | None:
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
