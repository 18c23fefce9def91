"""All measures of the views of shifted pictures, and their figures."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmplugins.evaluation.features.affinity import affinity_measures
from mmplugins.evaluation.features.lie import lie_measures
from mmplugins.evaluation.features.measures import feature_measures
from mmplugins.evaluation.features.probe import content_free_measures, probe_measures
from mmplugins.evaluation.inference.pictures import Pictures
from mmplugins.evaluation.measures import Measure, fixed
from mmplugins.evaluation.outcome import FIGURES
from mmplugins.evaluation.plan import Plan
from mmplugins.evaluation.predictions.coco import Matched
from mmplugins.evaluation.predictions.consistency import SCORE, consistency_measures
from mmplugins.evaluation.predictions.segmentation import flip_map
from mmplugins.evaluation.progress import Bars
from mmplugins.evaluation.record import Record
from mmplugins.evaluation.results import figures, maps
from mmplugins.evaluation.results.readings import Reading
from mmplugins.evaluation.results.rows import Row
from mmplugins.evaluation.runs import CALIBRATION, Run
from mmplugins.evaluation.shifting.samples import write_samples
from mmplugins.evaluation.tasks.average_precision import average_precision, match_views
from mmplugins.evaluation.tasks.bounds import bounds
from mmplugins.evaluation.tasks.curve import curve_numbers
from mmplugins.evaluation.tasks.objects import kinds_of
from mmplugins.evaluation.tasks.segmentation import image_sums, segmentation_measures
from mmplugins.evaluation.tasks.zones import counterfactual_zone_precision, zone_precision

LEVELS = {
    "feat": "feature",
    "pred": "prediction",
    "task": "task",
    "affinity": "affinity",
    "lie": "feature",
}
CURVES = ("PC", "sAP", "mASSC", "self-mIoU", "AP", "mIoU")
BARS = ("FES", "FEE", "FEE_resampled")
FLIPS = Reading("pixels that change their class by a shift: 0 is exact", "down", percent=True)


@dataclass(frozen=True)
class ShiftSuite:
    """Levels of the suite.

    Attributes:
        levels: their names.
        score: of detections that the prediction level compares.
        samples: images to draw.
    """

    levels: Sequence[str]
    score: float = SCORE
    samples: int = 0

    @property
    def facts(self) -> dict:
        """What others must have in common to be compared, beside the plan."""
        return {"score": self.score}

    @property
    def nothing(self) -> str:
        """What to say where there are no measures."""
        return f"no --levels {','.join(self.levels)}"

    def measures(self, run: Run, images: Sequence[str], bars: Bars) -> list[Measure]:
        """All measures of a run.

        Args:
            run: of one checkpoint.
            images: their ids; weights of images are in this order.
            bars: to show how far it is.
        """
        parts = [reduced(run, image) for image in bars.track(images, "reading", "image")]
        sums, plan = [part.sums for part in parts], run.key.plan
        measures = []
        if "feat" in self.levels and "feat" in run.key.observed:
            known = run.cache.arrays(CALIBRATION)
            measures += feature_measures(sums, plan) + probe_measures(sums)
            measures += content_free_measures(known) + lie_measures(sums)
        if "affinity" in self.levels:
            measures += affinity_measures(sums)
        if not run.key.detection:
            measures += segmentation_measures(sums, plan, run.key.classes)
            curves = [m for m in measures if (m.metric, m.axis) == ("mIoU", "shift")]
            measures += [number for curve in curves for number in curve_numbers(curve, plan)]
        elif {"pred", "task"} & {*self.levels}:
            measures += self._of_detections(parts, plan, bars)
        wanted = {LEVELS[level] for level in self.levels}
        return [measure for measure in measures if measure.level in wanted]

    def _of_detections(self, records: Sequence[Record], plan: Plan, bars: Bars) -> list[Measure]:
        def shifts(numbers: Sequence[int]) -> Iterable[int]:
            return bars.track(numbers, "comparing views", "shift")

        measures = []
        if "pred" in self.levels:
            measures += consistency_measures(records, plan, score=self.score, track=shifts)
        if "task" in self.levels:
            measures += task_measures(records, plan)
        return measures

    def origin(self, run: Run, images: Sequence[str]) -> dict[str, Any]:
        """Nothing: the protocol tells all of the views."""
        return {}

    def draw(
        self,
        folder: Path,
        name: str,
        found: Sequence[Row],
        run: Run,
        images: Sequence[str],
        pictures: Pictures,
    ) -> None:
        """Curves over shifts, levels, directions, where labels flip, and sample pictures."""
        if self.samples:
            drawn = dict(score=self.score, count=self.samples)
            write_samples(folder / "samples", run, pictures, images, **drawn)
        folder = folder / FIGURES
        folder.mkdir(exist_ok=True)

        def rows_of(axis: str, metric: str) -> list[Row]:
            return [row for row in found if (row.axis, row.metric) == (axis, metric)]

        for metric in CURVES:
            if own := rows_of("shift", metric):
                curve = figures.curves(own, name, period=run.key.plan.period)
                figures.save(curve, folder / f"{metric}.png")
                first = [row for row in own if row.part == own[0].part]
                figures.save(maps.shift_map(first, name), folder / f"{metric}-directions.png")
        for metric in BARS:
            if own := rows_of("set", metric):
                figures.save(figures.bars(own, name), folder / f"{metric}.png")
        if not run.key.detection:
            flips = flip_map([reduced(run, image).sums for image in images])
            picture = maps.place_map(flips, name, "flips", FLIPS)
            figures.save(picture, folder / "flips.png")


def reduced(run: Run, image: str) -> Record:
    """A record with what its label maps add up to in their place: maps are large."""
    if run.key.detection:
        return run.cache[image]
    return run.reduced(image, lambda each: image_sums(each, run.key.plan, len(run.key.classes)))


def task_measures(records: Sequence[Record], plan: Plan) -> list[Measure]:
    """AP over shifts and zones, and its bounds, of boxes and, where there are any, of masks."""
    measures = []
    for kind in kinds_of(records):
        views = match_views(records, plan, kind)
        curves = average_precision(views, plan, kind)
        measures += [*curves, *_bounds(views, kind)]
        measures += [number for curve in curves for number in curve_numbers(curve, plan)]
        measures += zone_precision(records, plan, kind)
        if plan.mode in ("canvas", "masked_canvas"):
            measures += counterfactual_zone_precision(records, plan, kind)
    return measures


def _bounds(views: Sequence[Matched], kind: str) -> list[Measure]:
    """AP of choices that are made for these images, and say nothing about others."""
    if not any(matches.truths.any() for matches in views[0]["all"].values()):
        return []  # nothing to find
    found = bounds([list(view["all"].values()) for view in views])
    named = {
        "AP-": found.low,
        "AP+": found.high,
        "AP+ - AP-": found.difference,
        "AP min by image": found.minimum,
    }
    return [fixed("task", name, kind, value) for name, value in named.items()]
