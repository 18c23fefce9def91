"""mmdet's COCO metric with scores by family."""

from pathlib import Path
from tempfile import TemporaryDirectory

from mmdet.evaluation.metrics import CocoMetric
from mmengine.fileio import load
from pycocotools.cocoeval import COCOeval

from mmplugins.datasets.families import coco_families, family_ap
from mmplugins.registry import METRICS


@METRICS.register_module()
class FamilyCocoMetric(CocoMetric):
    """Adds `bbox_mAP_<family>` and `segm_mAP_<family>`: AP averaged over a family's classes.

    The families are the categories' `supercategory` in the annotation file. Where nothing at all
    was detected, every AP is 0, while mmdet's metric would report nothing. NaN for a family
    without ground truth.
    """

    def compute_metrics(self, results: list) -> dict[str, float]:
        """The host's scores, and those by family."""
        scores = super().compute_metrics(results)
        if self.format_only:
            return scores
        with TemporaryDirectory() as folder:
            files = self.results2json([found for _, found in results], str(Path(folder, "found")))
            for metric in self.metrics:
                if metric in ("bbox", "segm"):
                    scores |= self.by_family(load(files[metric]), metric)
        return scores

    def by_family(self, detections: list[dict], iou_type: str) -> dict[str, float]:
        """One evaluation by pycocotools, split into families."""
        if not detections:
            families = coco_families(self._coco_api.loadCats(self.cat_ids)).values()
            names = ["mAP", *(f"mAP_{family}" for family in dict.fromkeys(families))]
            return {f"{iou_type}_{name}": 0.0 for name in names}
        if iou_type == "segm":  # with boxes, pycocotools would take the boxes' areas
            detections = [{k: v for k, v in entry.items() if k != "bbox"} for entry in detections]
        evaluation = COCOeval(self._coco_api, self._coco_api.loadRes(detections), iou_type)
        evaluation.params.catIds = self.cat_ids
        evaluation.params.imgIds = self.img_ids
        evaluation.params.maxDets = self.proposal_nums
        evaluation.params.iouThrs = self.iou_thrs
        evaluation.evaluate()
        evaluation.accumulate()
        return {
            f"{iou_type}_mAP_{family}": round(ap, 3) for family, ap in family_ap(evaluation).items()
        }
