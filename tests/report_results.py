"""Made-up results of a few models, for the tests of reports: values follow from the model's place.

Each model is `place` points better than the first in all that is told of it; intervals are as wide
as `WIDE`, and a difference from the first is certain from the third model on.
"""

import math

import numpy as np

from mmplugins.evaluation.results.comparison import Difference, Noise
from mmplugins.evaluation.results.files import Results, write_results
from mmplugins.evaluation.results.rows import Row
from mmplugins.evaluation.shifts import below_a_period, kind_of, whole_periods

PERIOD, WIDE, STEP = 16, 0.015, 0.01
RATIOS = ("0.5", "0.75", "1", "1.25", "1.5", "2")
SIZES = {
    "resize": RATIOS,
    "extent": ("1", "1.5", "2"),
    "aspect": ("portrait", "square", "landscape"),
}
IMAGES = [f"{number:03}" for number in range(30)]
SHIFTS = {
    "pgrid": [shift for shift in whole_periods(PERIOD) if max(map(abs, shift)) <= 32],
    "sub": list(below_a_period(PERIOD)),
}
NAMES = ("none", "ape", "rope")


def row(metric, part, axis, point, value, *, level="task", shift=(None, None), alone=False, runs=1):
    """One value with an interval of a fixed width."""
    dy, dx = shift
    return Row(
        **dict(level=level, metric=metric, part=part, axis=axis, point=point, dy=dy, dx=dx),
        kind=kind_of(shift, PERIOD) if any(shift) else None,
        sets=tuple(name for name, shifts in SHIFTS.items() if shift in shifts),
        **dict(value=value, low=value - WIDE, high=value + WIDE, half_width=WIDE),
        band_low=math.nan if alone else value - 2 * WIDE,
        band_high=math.nan if alone else value + 2 * WIDE,
        **dict(images=len(IMAGES), runs=runs, undefined=0),
    )


def by_shifts(place, part):
    """Rows of an equivariance run."""
    accuracy, consistency = ("mIoU", "mASSC") if part == "labels" else ("AP", "PC")
    better = STEP * place
    rows = [row(accuracy, part, "shift", "reference", 0.3 + better)]
    for shift in dict.fromkeys([*SHIFTS["pgrid"], *SHIFTS["sub"]]):
        lost = 0.02 * math.log2(1 + max(map(abs, shift)))
        for metric, level, start in (
            (consistency, "prediction", 0.95),
            (accuracy, "task", 0.3),
            (f"{accuracy} delta", "task", 0.0),
        ):
            rows.append(
                row(metric, part, "shift", None, start + better - lost, level=level, shift=shift)
            )
    for name in SHIFTS:
        rows.append(row(consistency, part, "set", name, 0.9 + better, level="prediction"))
        rows.append(row(f"{accuracy} min/M(0)", part, "set", name, 0.8 + better))
    for number in range(3):
        block, error = f"blocks.{number}", 0.1 * (number + 1) - better
        rows.append(row("FEE", block, "set", "pgrid", error, level="feature"))
        rows.append(row("FES", block, "set", "pgrid", 1 - error, level="feature"))
        rows.append(row("dFEE", "blocks", "block", block, 0.1 - better, level="feature"))
    rows.append(row("FES", "backbone.0", "set", "pgrid", 0.7 + better, level="feature"))
    return rows + [
        row(f"zone {accuracy}", part, "zone", f"{zone}-{zone + 1}", 0.2 + 0.02 * zone + better)
        for zone in range(5)
    ]


def by_sizes(place, part):
    """Rows of a resolution run."""
    accuracy = "mIoU" if part == "labels" else "AP"
    rows = []
    for mode, points in SIZES.items():
        for point in points:
            far = abs(math.log2(float(point))) if point[0].isdigit() else 0.1
            lost = far * (0.08 - STEP * place)
            value = 0.3 + STEP * place - lost
            rows.append(row(accuracy, part, mode, point, value))
            if point not in ("1", "square"):  # where they are known
                rows.append(row(f"{accuracy} delta", part, mode, point, -lost))
            if point not in ("1", *SIZES["aspect"]):
                rows.append(row(f"{accuracy} relative", part, mode, point, value / 0.3))
    area = 0.8 + STEP * place
    return rows + [
        row(f"{accuracy} ResAUC {way}", part, "sizes", "resize", area, alone=True)
        for way in ("down", "up")
    ]


def differences(rows, others, place):
    """From models of earlier places: row by row, certain where two places or more lie between."""
    found = []
    for other, (name, theirs) in enumerate(others.items()):
        p = 0.2 if place - other < 2 else 0.004
        for ours, their in zip(rows, theirs, strict=True):
            less = row(
                *(ours.metric, ours.part, ours.axis, ours.point, ours.value - their.value),
                **dict(level=ours.level, shift=(ours.dy, ours.dx)),
            )
            found.append(Difference(name, less, p / 2, p, 2 * WIDE))
    return found


def origin(name, place, *, training=True):
    """What made the results of a model."""
    found = {
        "tool": "tools/made-up.py",
        "options": {"seed": 0, "name": name},
        "config": {"path": f"{name}.py", "sha256": "c" * 64},
        "checkpoints": [{"name": "epoch_1.pth", "sha256": f"{place:064}"}],
        "position_encodings": {"model.backbone.position_encodings": [{"type": name}] * (place > 0)},
        "versions": {"python": "3.11", "mmplugins": "0.1.0"},
        **dict(device="cpu", started="2026-01-01T00:00:00+00:00", processes=1),
        "model": {"parameters": 5_500_000, "encoding_parameters": 3072 * place},
    }
    if training:
        losses = (3 - 0.1 * place) * np.exp(-np.arange(20) / 8)
        curve = [[50 * number, float(loss)] for number, loss in enumerate(losses, 1)]
        scores = [[500, {"AP": 0.2}], [1000, {"AP": 0.3}]]
        run = dict(iterations=1000, epochs=1, seconds=754.0, loss=curve, scores=scores)
        found["training"] = [run]
    return found


def write_runs(folder, *, names=NAMES, kinds=("shifts", "sizes"), part="box", training=True):
    """Results of all kinds of all models below a folder, each compared with those before it."""
    common = {
        "images": IMAGES,
        "seed": 0,
        "boot": 1000,
        "fill": "mean",
        "truth": "t",
        "divisor": 32,
    }
    protocols = {
        "shifts": {**common, "mode": "canvas", "period": PERIOD, "shifts": SHIFTS},
        "sizes": {**common, "sizes": SIZES},
    }
    for kind in kinds:
        before = {}
        for place, name in enumerate(names):
            rows = {"shifts": by_shifts, "sizes": by_sizes}[kind](place, part)
            results = Results(
                name,
                protocols[kind],
                origin(name, place, training=training),
                rows,
                differences(rows, before, place),
                [Noise("repeat", rows[0], 0.001)],
            )
            path = folder / f"{kind}-{place}" / "results.json"
            path.parent.mkdir(parents=True)
            write_results(path, results)
            before[name] = rows
    return folder
