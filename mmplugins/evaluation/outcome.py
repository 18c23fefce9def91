"""What a study comes to: measured, compared, and written as files and figures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from mmplugins.disk import write
from mmplugins.engine.inputs import InputError
from mmplugins.evaluation.inference.pictures import Pictures
from mmplugins.evaluation.measures import Measure
from mmplugins.evaluation.progress import Bars
from mmplugins.evaluation.results.comparison import (
    Difference,
    Measured,
    Noise,
    differing,
)
from mmplugins.evaluation.results.files import Results, read_results, write_csv, write_results
from mmplugins.evaluation.results.provenance import protocol
from mmplugins.evaluation.results.rows import Row, estimate_all, rows
from mmplugins.evaluation.results.sets import over_sets
from mmplugins.evaluation.results.tables import summary
from mmplugins.evaluation.runs import Run
from mmplugins.evaluation.sizes import AnyPlan
from mmplugins.evaluation.statistics.resampling import Bootstrap

RESULTS, RECORDS, FIGURES = "results.json", "records", "figures"


class Suite(Protocol):
    """What is measured of a run's records: `ShiftSuite` or `SizeSuite`."""

    @property
    def facts(self) -> dict[str, Any]:
        """What others must have in common to be compared, beside the plan."""

    @property
    def nothing(self) -> str:
        """What to say where there are no measures."""

    def measures(self, run: Run, images: Sequence[str], bars: Bars) -> list[Measure]:
        """All measures of the records of one checkpoint; weights of images are in this order."""

    def origin(self, run: Run, images: Sequence[str]) -> dict[str, Any]:
        """What is to be told of the views, in the plain types of JSON."""

    def draw(
        self,
        folder: Path,
        name: str,
        found: Sequence[Row],
        run: Run,
        images: Sequence[str],
        pictures: Pictures,
    ) -> None:
        """Figures of what was found of a recipe, into a folder of its results."""


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
    suite: Suite,
    bootstrap: Bootstrap,
    bars: Bars,
) -> Measured:
    """All measures of the training runs of a recipe, estimated.

    Args:
        name: of the recipe.
        runs: of its checkpoints, all of one plan.
        images: ids.
        suite: of what.
        bootstrap: of the images.
        bars: show how far it is.

    Raises:
        InputError: there is nothing to measure.
    """
    measures = [suite.measures(run, images, bars) for run in runs]
    track = lambda keys: bars.track(keys, "resampling", "measure")  # noqa: E731
    if not measures[0]:
        raise InputError(f"{name} and its data have nothing to measure: {suite.nothing}")
    key = runs[0].key
    facts = protocol(key.plan, images, bootstrap) | suite.facts | {"truth": key.truth}
    findings = estimate_all(measures, bootstrap, track)
    return Measured(name, facts, [*findings, *over_sets(findings, key.plan)])


@dataclass(frozen=True)
class Rival:
    """Another recipe's results, and the records that they follow from."""

    folder: Path
    results: Results
    runs: Sequence[Run]

    @property
    def checkpoints(self) -> list[str | None]:
        """Hashes of its training runs."""
        return [checkpoint["sha256"] for checkpoint in self.results.origin["checkpoints"]]

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

    def check(self, plan: AnyPlan, images: Sequence[str], truth: str) -> None:
        """Refuse other views, images or annotations; the bootstrap and the score may differ.

        Raises:
            InputError: naming the first difference.
        """
        anew = dict.fromkeys(("seed", "boot", "score"))
        ours = protocol(plan, images, Bootstrap(len(images))) | {"truth": truth} | anew
        for place, here, there in differing(ours, self.results.protocol | anew):
            raise InputError(
                f"{self.folder} cannot be compared with: {place} is {there} there, but {here} here"
            )

    def measured(self, suite: Suite, bootstrap: Bootstrap, bars: Bars) -> Measured:
        """Its results again, with another bootstrap and score; see `measured`."""
        images = self.results.protocol["images"]
        return measured(self.results.name, self.runs, images, suite, bootstrap, bars)


def write_outcome(
    folder: Path, outcome: Outcome, plan: AnyPlan, encodings: str, bars: Bars
) -> list[Row]:
    """results.json, .csv files and summary.md; what is there is replaced, file by file.

    Args:
        folder: of results.
        outcome: what they are.
        plan: of the views.
        encodings: how the model's encodings meet a new grid.
        bars: say what is found.
    """
    this = outcome.measured
    found = rows(this.findings, plan, encodings)
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
            write_csv(folder / f"{name}.csv", [(this.name, thing) for thing in things])
    text = summary(results)
    write(folder / "summary.md", text.encode())
    bars.say(f"\n{text}")
    return found
