"""Records as named arrays, and back: detections of all views in one array, masks as bytes."""

import itertools
from collections.abc import Sequence

import numpy as np

from mmplugins.evaluation.plan import Scene
from mmplugins.evaluation.predictions.detections import Detections
from mmplugins.evaluation.record import Objects, Record


def arrays_of(record: Record) -> dict[str, np.ndarray]:
    """All of a record, by name."""
    arrays = {
        "image": np.array(record.image),
        "scale": np.array(record.scale),
        "view": np.array(record.scene.view),
        "content": np.array(record.scene.content),
        "core": np.array(record.scene.core),
        **{f"sums/{name}": np.asarray(values) for name, values in record.sums.items()},
    }
    if isinstance(record.views, np.ndarray):
        arrays["labels"] = record.views
    else:
        arrays |= _flat_detections("views", record.views)
    if isinstance(record.truth, np.ndarray):
        arrays["true_labels"] = record.truth
    elif record.truth is not None:
        arrays |= _flat_detections("truth", [record.truth.found])
        arrays |= {"truth/crowd": record.truth.crowd, "truth/area": record.truth.area}
    return arrays


def record_of(arrays: dict[str, np.ndarray]) -> Record:
    """The record that `arrays_of` took apart."""
    truth = arrays.get("true_labels")
    if "truth/crowd" in arrays:
        found = _detections("truth", arrays)[0]
        truth = Objects(found, arrays["truth/crowd"], arrays["truth/area"])
    scene = Scene(*(tuple(arrays[name].tolist()) for name in ("view", "content", "core")))
    return Record(
        image=str(arrays["image"]),
        scene=scene,
        scale=tuple(arrays["scale"].tolist()),
        views=arrays["labels"] if "labels" in arrays else _detections("views", arrays),
        truth=truth,
        sums={
            name.removeprefix("sums/"): values
            for name, values in arrays.items()
            if name.startswith("sums/")
        },
    )


def _flat_detections(name: str, views: Sequence[Detections]) -> dict[str, np.ndarray]:
    """Those of all views behind one another; run lengths as bytes, with their lengths."""
    arrays = {
        f"{name}/count": np.array([len(view) for view in views]),
        f"{name}/boxes": np.concatenate([view.boxes for view in views]),
        f"{name}/scores": np.concatenate([view.scores for view in views]),
        f"{name}/labels": np.concatenate([view.labels for view in views]),
    }
    if all(view.masks is not None for view in views):
        masks = [mask for view in views for mask in view.masks]
        codes = [
            m["counts"] if isinstance(m["counts"], bytes) else m["counts"].encode() for m in masks
        ]
        arrays[f"{name}/size"] = np.array(masks[0]["size"] if masks else (0, 0))
        arrays[f"{name}/lengths"] = np.array([len(code) for code in codes], int)
        arrays[f"{name}/codes"] = np.frombuffer(b"".join(codes), np.uint8)
    return arrays


def _detections(name: str, arrays: dict[str, np.ndarray]) -> list[Detections]:
    def parts(field: str) -> list[np.ndarray]:
        return np.split(arrays[f"{name}/{field}"], ends)

    ends = np.cumsum(arrays[f"{name}/count"])[:-1]
    masks = [None] * len(arrays[f"{name}/count"])
    if f"{name}/codes" in arrays:
        size, codes = arrays[f"{name}/size"].tolist(), arrays[f"{name}/codes"].tobytes()
        lengths = np.cumsum(arrays[f"{name}/lengths"]).tolist()
        each = [
            {"size": size, "counts": codes[start:end]}
            for start, end in itertools.pairwise([0, *lengths])
        ]
        stops = [0, *ends.tolist(), len(each)]
        masks = [each[start:end] for start, end in itertools.pairwise(stops)]
    return [
        Detections(*of_view)
        for of_view in zip(parts("boxes"), parts("scores"), parts("labels"), masks, strict=True)
    ]
