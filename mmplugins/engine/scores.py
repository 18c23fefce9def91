"""Scores of finished runs, read from what mmengine wrote into their work dirs."""

import json
from pathlib import Path


def read_scores(work_dir: Path | str) -> dict[str, float]:
    """The last evaluation of the newest run in `work_dir`: {"coco/bbox_mAP": ..., ...}.

    Raises:
        FileNotFoundError: there is no evaluation.
    """
    for path in sorted(Path(work_dir).glob("*/vis_data/scalars.json"), reverse=True):
        records = [json.loads(line) for line in path.read_text().splitlines()]
        evaluations = [r for r in records if any("mAP" in key or "mIoU" in key for key in r)]
        if evaluations:
            return {k: v for k, v in evaluations[-1].items() if isinstance(v, int | float)}
    raise FileNotFoundError(f"no evaluation under {work_dir}: train or test there first")
