"""A run is the records of one checkpoint on disk, from which every measure follows."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from mmplugins.engine.inputs import InputError
from mmplugins.evaluation.inference.cache import Cache, read_key
from mmplugins.evaluation.record import Record
from mmplugins.evaluation.sizes import AnyPlan, plan_of

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
    plan: AnyPlan
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
        lists = {name: tuple(key[name]) for name in ("classes", "observed")}
        return cls(**{**key, **lists, "plan": plan_of(key["plan"])})


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

    def reduced(self, image: str, sums: Callable[[Record], Mapping[str, np.ndarray]]) -> Record:
        """A segmenter's record with what its label maps add up to in their place: maps are large.

        Args:
            image: its id.
            sums: what they add up to, read once; the same at every call.
        """
        if image not in self._read:
            record = self.cache[image]
            self._read[image] = replace(
                record, views=(), truth=None, sums={**record.sums, **sums(record)}
            )
        return self._read[image]
