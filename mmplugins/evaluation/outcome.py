"""What a study comes to: measured, compared, and written as files and figures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmplugins.engine.inputs import InputError
from mmplugins.evaluation.disk import write
from mmplugins.evaluation.plan import Plan
from mmplugins.evaluation.predictions.segmentation import flip_map
from mmplugins.evaluation.progress import Bars
from mmplugins.evaluation.results import figures, maps
from mmplugins.evaluation.results.comparison import (
    Difference,
    Measured,
    Noise,
    differing,
)
from mmplugins.evaluation.results.files import Results, read_results, write_csv, write_results
from mmplugins.evaluation.results.provenance import protocol
from mmplugins.evaluation.results.readings import Reading
from mmplugins.evaluation.results.rows import Row, estimate_all, rows
from mmplugins.evaluation.results.sets import over_sets
from mmplugins.evaluation.results.tables import summary
from mmplugins.evaluation.runs import Run
from mmplugins.evaluation.statistics.resampling import Bootstrap

RESULTS, RECORDS = "results.json", "records"
CURVES = ("PC", "sAP", "mASSC", "self-mIoU", "AP", "mIoU")
BARS = ("FES", "FEE", "FEE_resampled")
FLIPS = Reading("pixels that change their class by a shift: 0 is exact", "down", percent=True)


@dataclass(frozen=True, eq=False)
class Outcome:
    """Of one recipe.

    Attributes:
        measured: all that was found.
        origin: what made it.
        differences: from other recipes.
        noise: of runs of one checkpoint.
    """

    measured: Measured
    origin: Mapping[str, Any]
    differences: Sequence[Difference] = ()
    noise: Sequence[Noise] = ()


def measured(
    name: str,
    runs: Sequence[Run],
    images: Sequence[str],
    levels: Sequence[str],
    bootstrap: Bootstrap,
    bars: Bars,
    *,
    score: float,
) -> Measured:
    """All measures of the training runs of a recipe, estimated.

    Args:
        name: of the recipe.
        runs: of its checkpoints, all of one plan.
        images: ids.
        levels: of the suite.
        bootstrap: of the images.
        bars: show how far it is.
        score: of detections that are compared.

    Raises:
        InputError: there is nothing to measure.
    """
    measures = [run.measures(images, levels, bars, score=score) for run in runs]
    track = lambda keys: bars.track(keys, "resampling", "measure")  # noqa: E731
    if not measures[0]:
        raise InputError(f"{name} and its data have nothing to measure at {', '.join(levels)}")
    key = runs[0].key
    facts = protocol(key.plan, images, bootstrap) | {"score": score, "truth": key.truth}
    findings = estimate_all(measures, bootstrap, track)
    return Measured(name, facts, [*findings, *over_sets(findings, runs[0].key.plan)])


@dataclass(frozen=True)
class Rival:
    """Another recipe's results, and the records that they follow from."""

    folder: Path
    results: Results
    runs: Sequence[Run]

    @classmethod
    def open(cls, folder: Path) -> "Rival":
        """What a folder holds.

        Raises:
            InputError: there are no results, or their records are gone.
        """
        results = read_results(folder / RESULTS)
        runs = [
            Run.open(folder / RECORDS / checkpoint["sha256"][:12])
            for checkpoint in results.origin["checkpoints"]
        ]
        for image in results.protocol["images"]:
            if gone := [run.cache.folder for run in runs if image not in run.cache]:
                raise InputError(f"{gone[0]} has no record of image {image} any more")
        return cls(folder, results, runs)

    def check(self, plan: Plan, images: Sequence[str], truth: str) -> None:
        """Refuse other views, images or annotations; the bootstrap and the score may differ.

        Raises:
            InputError: naming the first difference.
        """
        anew = dict.fromkeys(("seed", "boot", "score"))
        ours = protocol(plan, images, Bootstrap(len(images))) | {"truth": truth} | anew
        for place, here, there in differing(ours, self.results.protocol | anew):
            raise InputError(
                f"--against {self.folder} cannot be compared with: {place} is {there} there, "
                f"but {here} here"
            )

    def measured(
        self, levels: Sequence[str], bootstrap: Bootstrap, bars: Bars, *, score: float
    ) -> Measured:
        """Its results again, with another bootstrap and score; see `measured`."""
        images = self.results.protocol["images"]
        return measured(self.results.name, self.runs, images, levels, bootstrap, bars, score=score)


def write_outcome(folder: Path, outcome: Outcome, runs: Sequence[Run], bars: Bars) -> None:
    """results.json, .csv files, summary.md and figures; what is there is replaced, file by file."""
    this, plan = outcome.measured, runs[0].key.plan
    found = rows(this.findings, plan)
    results = Results(
        this.name,
        dict(this.protocol),
        dict(outcome.origin),
        found,
        outcome.differences,
        outcome.noise,
    )
    write_results(folder / RESULTS, results)
    tables = {"results": found, "differences": outcome.differences, "noise": outcome.noise}
    for name, things in tables.items():
        if things:
            write_csv(folder / f"{name}.csv", this.name, things)
    text = summary(results)
    write(folder / "summary.md", text.encode())
    write_figures(folder / "figures", this, found, runs[0])
    bars.say(f"\n{text}\nall of it: {folder / RESULTS}, .csv; pictures: {folder / 'figures'}")


def write_figures(folder: Path, this: Measured, found: Sequence[Row], run: Run) -> None:
    """Of the metrics that matter: curves over shifts, levels, directions, and where labels flip."""
    folder.mkdir(exist_ok=True)

    def rows_of(axis: str, metric: str) -> list[Row]:
        return [row for row in found if (row.axis, row.metric) == (axis, metric)]

    for metric in CURVES:
        if own := rows_of("shift", metric):
            curve = figures.curves(own, this.name, period=run.key.plan.period)
            figures.save(curve, folder / f"{metric}.png")
            first = [row for row in own if row.part == own[0].part]
            figures.save(maps.shift_map(first, this.name), folder / f"{metric}-directions.png")
    for metric in BARS:
        if own := rows_of("set", metric):
            figures.save(figures.bars(own, this.name), folder / f"{metric}.png")
    if not run.key.detection:
        flips = flip_map([run.reduced(image).sums for image in this.protocol["images"]])
        picture = maps.place_map(flips, this.name, "flips", FLIPS)
        figures.save(picture, folder / "flips.png")
