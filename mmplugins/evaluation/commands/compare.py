"""Command line of tools/compare.py."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from mmplugins.disk import write
from mmplugins.engine.inputs import InputError
from mmplugins.engine.launch import plain_errors
from mmplugins.evaluation.commands.common import Parser, check_names, check_out, positive
from mmplugins.evaluation.outcome import Rival, Suite
from mmplugins.evaluation.progress import Bars
from mmplugins.evaluation.results.comparison import Difference, Measured, compare
from mmplugins.evaluation.results.files import Comparison, Results, write_comparison, write_csv
from mmplugins.evaluation.results.tables import differences_table
from mmplugins.evaluation.shifting.suite import LEVELS, ShiftSuite
from mmplugins.evaluation.sizing.suite import SizeSuite
from mmplugins.evaluation.statistics.resampling import Bootstrap

EPILOG = """
Differences are paired: formed within each resample of the same images, from the records that the
runs left; no model is needed. p values are adjusted (Holm) for all runs that one is compared with,
and `detectable` is the least difference that would have been found four times in five. Differences
of `AP delta` or `mIoU delta` at a size are DiD, see tools/resolution.py.

  python tools/compare.py runs/sape2 runs/none
  python tools/compare.py runs/*/resolution --out runs/comparison    # all pairs, for a report
"""


def main(argv: Sequence[str] | None = None) -> None:
    """Tell the differences between runs that looked at the same images, with intervals."""
    with plain_errors():
        args = parser().parse_args(argv)
        if len(args.runs) < 2:
            raise InputError("name two runs at least: folders of results")
        check_out(Path(args.out))
        rivals = [Rival.open(Path(folder)) for folder in args.runs]
        check_names(rivals)
        bars = Bars()
        found = differences(rivals, bars, boot=args.boot)
        folder = Path(args.out)
        folder.mkdir(parents=True, exist_ok=True)
        lines = [(name, each) for name, own in found.items() for each in own]
        write_csv(folder / "comparison.csv", lines)
        texts = [differences_table(name, own) for name, own in found.items()]
        text = "\n\n".join(texts[:1] if len(rivals) == 2 else texts)
        write(folder / "comparison.md", f"{text}\n".encode())
        checkpoints = {rival.results.name: rival.checkpoints for rival in rivals}
        comparison = Comparison(rivals[0].results.protocol, checkpoints, found)
        write_comparison(folder / "comparison.json", comparison)
        bars.say(f"\n{text}\n\nall {len(lines)} differences: {folder}, .csv, .md and .json")


def parser() -> argparse.ArgumentParser:
    """Options with their explanations."""
    result = Parser(
        description=main.__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = result.add_argument
    add("runs", nargs="+", metavar="RUN", help="folders of results, of one tool")
    add("--out", default="comparison", help="folder of tables [%(default)s]")
    add("--boot", type=positive, help="resamples of the images [as of the first run]")
    return result


def differences(
    rivals: Sequence[Rival], bars: Bars, *, boot: int | None = None
) -> dict[str, list[Difference]]:
    """Each run less all others, by name.

    Raises:
        InputError: two of one name, or runs that cannot be compared.
    """
    first = rivals[0].results
    images, seed = first.protocol["images"], first.protocol["seed"]
    bootstrap = Bootstrap(len(images), boot or first.protocol["boot"], seed)
    suite = _suite_of(first)
    for rival in rivals[1:]:
        rival.check(rivals[0].runs[0].key.plan, images, rivals[0].runs[0].key.truth)
    every = [rival.measured(suite, bootstrap, bars) for rival in rivals]
    plan = rivals[0].runs[0].key.plan

    def others(this: Measured) -> list[Measured]:
        return [other for other in every if other is not this]

    return {this.name: compare(this, others(this), plan) for this in every}


def _suite_of(results: Results) -> Suite:
    """What the run measured."""
    if "sizes" in results.protocol:
        return SizeSuite()
    known = {row.level for row in results.rows}
    levels = [name for name, level in LEVELS.items() if level in known and name != "lie"]
    return ShiftSuite(levels, results.protocol["score"])
