"""All measures of the views of pictures at other sizes, and their figures."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmplugins.evaluation.inference.pictures import Pictures
from mmplugins.evaluation.measures import Measure
from mmplugins.evaluation.outcome import FIGURES
from mmplugins.evaluation.progress import Bars
from mmplugins.evaluation.results import figures
from mmplugins.evaluation.results.rows import Row
from mmplugins.evaluation.results.size_curves import size_curves
from mmplugins.evaluation.runs import Run
from mmplugins.evaluation.tasks.resolution import (
    accuracy_sums,
    detection_measures,
    segmentation_measures,
)

CURVES = ("AP", "mIoU", "slide-gap")


@dataclass(frozen=True)
class SizeSuite:
    """AP or mIoU over sizes."""

    @property
    def facts(self) -> dict[str, Any]:
        """Nothing beside the plan."""
        return {}

    @property
    def nothing(self) -> str:
        """What to say where there are no measures."""
        return "the truth about some image is not known"

    def measures(self, run: Run, images: Sequence[str], bars: Bars) -> list[Measure]:
        """See `Suite`."""
        plan, classes = run.key.plan, len(run.key.classes)
        each = bars.track(images, "reading", "image")
        if run.key.detection:
            return detection_measures([run.cache[image] for image in each], plan)
        sums = [
            run.reduced(image, lambda record: accuracy_sums(record, plan, classes)).sums
            for image in each
        ]
        return segmentation_measures(sums, plan)

    def origin(self, run: Run, images: Sequence[str]) -> dict[str, Any]:
        """How many pixels the views of the image in the middle have, by mode and size."""
        plan, sizes = run.key.plan, sorted(run.cache[image].scene.view for image in images)
        middle = sizes[len(sizes) // 2]
        pixels = {
            group.mode: {p: list(plan.window(group.mode, p, middle).size) for p in group.points}
            for group in plan.sets
        }
        return {"pixels": pixels}

    def draw(
        self,
        folder: Path,
        name: str,
        found: Sequence[Row],
        run: Run,
        images: Sequence[str],
        pictures: Pictures,
    ) -> None:
        """The metric over sizes, a panel for each mode."""
        folder = folder / FIGURES
        folder.mkdir(exist_ok=True)
        for metric in CURVES:
            if own := [row for row in found if row.metric == metric]:
                figures.save(size_curves(own, name), folder / f"{metric}-sizes.png")
