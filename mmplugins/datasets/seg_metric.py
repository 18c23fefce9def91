"""mmseg's IoU metric with scores by family."""

from mmseg.evaluation.metrics import IoUMetric

from mmplugins.datasets.families import family_iou
from mmplugins.registry import METRICS


@METRICS.register_module()
class FamilyIoUMetric(IoUMetric):
    """Adds `mIoU_<family>`, percent: IoU averaged over a family's classes.

    The dataset's `metainfo` has `families`, one for each of its `classes`. NaN for a family that
    neither the labels nor the predictions hold.
    """

    def compute_metrics(self, results: list) -> dict[str, float]:
        """The host's scores, and those by family.

        Raises:
            KeyError: the dataset's metainfo has no `families`.
        """
        scores = super().compute_metrics(results)
        if self.format_only:
            return scores
        if "families" not in self.dataset_meta:
            raise KeyError(
                "FamilyIoUMetric needs `families`, one a class, in the dataset's metainfo"
            )
        intersect, union = (sum(areas) for areas in list(zip(*results, strict=True))[:2])
        by_family = family_iou((intersect / union).numpy(), self.dataset_meta["families"])
        return scores | {f"mIoU_{name}": round(100 * iou, 2) for name, iou in by_family.items()}
