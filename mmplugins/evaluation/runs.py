"""A run is the records of one checkpoint on disk, from which every measure follows."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from mmplugins.engine.inputs import InputError
from mmplugins.evaluation.features.affinity import affinity_measures
from mmplugins.evaluation.features.lie import lie_measures
from mmplugins.evaluation.features.measures import feature_measures
from mmplugins.evaluation.features.probe import content_free_measures, probe_measures
from mmplugins.evaluation.inference.cache import Cache, read_key
from mmplugins.evaluation.measures import Measure, fixed
from mmplugins.evaluation.plan import Plan, ShiftSet
from mmplugins.evaluation.predictions.coco import Matched
from mmplugins.evaluation.predictions.consistency import SCORE, consistency_measures, has_masks
from mmplugins.evaluation.progress import Bars
from mmplugins.evaluation.record import Record
from mmplugins.evaluation.tasks.average_precision import average_precision, match_views
from mmplugins.evaluation.tasks.bounds import bounds
from mmplugins.evaluation.tasks.curve import curve_numbers
from mmplugins.evaluation.tasks.segmentation import image_sums, segmentation_measures
from mmplugins.evaluation.tasks.zones import counterfactual_zone_precision, zone_precision

LEVELS = {
    "feat": "feature",
    "pred": "prediction",
    "task": "task",
    "affinity": "affinity",
    "lie": "feature",
}
CALIBRATION = "calibration"
RECORDS = 2  # raised whenever the same model and data would leave other records


@dataclass(frozen=True)
class RunKey:
    """What records follow from; those of another key are others.

    Attributes:
        model: hash of the model's config.
        data: hash of the dataset's config.
        checkpoint: hash of the file.
        plan: of the views.
        classes: names, by label.
        detection: whether records are of detections, or of label maps.
        observed: what the pass was asked to add up: features, affinity, lie.
        amp: whether in mixed precision.
        truth: hash of the annotations, or of the images' ids where these are files of their own.
        version: of what is recorded, and how.
    """

    model: str
    data: str
    checkpoint: str | None
    plan: Plan
    classes: tuple[str, ...]
    detection: bool
    observed: tuple[str, ...]
    amp: bool = False
    truth: str = ""
    version: int = RECORDS

    def as_json(self) -> dict[str, Any]:
        """In plain types."""
        return asdict(self)

    @classmethod
    def from_json(cls, key: Mapping[str, Any]) -> "RunKey":
        """What `as_json` gave."""
        sets = tuple(
            ShiftSet(group["name"], tuple(tuple(shift) for shift in group["shifts"]))
            for group in key["plan"]["sets"]
        )
        plan = Plan(**{**key["plan"], "sets": sets})
        lists = {name: tuple(key[name]) for name in ("classes", "observed")}
        return cls(**{**key, **lists, "plan": plan})


@dataclass(frozen=True)
class Run:
    """Records on disk, what they are of, and what of them was read already."""

    cache: Cache
    key: RunKey
    _read: dict[str, Record] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, folder: Path, key: RunKey) -> "Run":
        """Begun, or taken up again.

        Raises:
            InputError: the folder holds records of another key.
        """
        return cls(Cache(folder, key.as_json()), key)

    @classmethod
    def open(cls, folder: Path) -> "Run":
        """One that is there.

        Raises:
            InputError: it is not, or another version of this package has written it.
        """
        written = read_key(folder)
        try:
            key = RunKey.from_json(written)
        except (KeyError, TypeError) as error:
            raise InputError(f"{folder} was written by another version: {error}") from error
        return cls.of(folder, key)

    def measures(
        self,
        images: Sequence[str],
        levels: Sequence[str],
        bars: Bars,
        *,
        score: float = SCORE,
    ) -> list[Measure]:
        """All measures of some levels of the suite.

        Args:
            images: their ids; weights of images are in this order.
            levels: feat, pred, task and affinity.
            bars: to show how far it is.
            score: of detections that the prediction level compares.
        """
        parts = [self.reduced(image) for image in bars.track(images, "reading", "image")]
        sums, plan = [part.sums for part in parts], self.key.plan
        measures = []
        if "feat" in levels and "feat" in self.key.observed:
            known = self.cache.arrays(CALIBRATION)
            measures += feature_measures(sums, plan) + probe_measures(sums)
            measures += content_free_measures(known) + lie_measures(sums)
        if "affinity" in levels:
            measures += affinity_measures(sums)
        if not self.key.detection:
            measures += segmentation_measures(sums, plan, self.key.classes)
            curves = [m for m in measures if (m.metric, m.axis) == ("mIoU", "shift")]
            measures += [number for curve in curves for number in curve_numbers(curve, plan)]
        elif {"pred", "task"} & {*levels}:
            measures += _of_detections(parts, plan, levels, bars, score)
        wanted = {LEVELS[level] for level in levels}
        return [measure for measure in measures if measure.level in wanted]

    def reduced(self, image: str) -> Record:
        """A record with what its label maps add up to in their place: maps are large."""
        if self.key.detection:
            return self.cache[image]
        if image not in self._read:
            record, key = self.cache[image], self.key
            sums = record.sums | image_sums(record, key.plan, len(key.classes))
            self._read[image] = replace(record, views=(), truth=None, sums=sums)
        return self._read[image]


def _of_detections(
    records: Sequence[Record], plan: Plan, levels: Sequence[str], bars: Bars, score: float
) -> list[Measure]:
    def shifts(numbers: Sequence[int]) -> Iterable[int]:
        return bars.track(numbers, "comparing views", "shift")

    measures = []
    if "pred" in levels:
        measures += consistency_measures(records, plan, score=score, track=shifts)
    if "task" in levels:
        measures += task_measures(records, plan)
    return measures


def task_measures(records: Sequence[Record], plan: Plan) -> list[Measure]:
    """AP over shifts and zones, and its bounds, of boxes and, where there are any, of masks."""
    truths = [record.truth for record in records]
    drawn = all(t.found.masks is not None or not len(t.found) for t in truths)
    kinds = ("box", "mask") if drawn and all(map(has_masks, records)) else ("box",)
    measures = []
    for kind in kinds:
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
