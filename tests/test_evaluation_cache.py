"""Records on disk: what comes back is what was kept; what is half, damaged or another's is not."""

import multiprocessing
import os
import pickle
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from detection_scenes import with_masks
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as numpy_of

from mmplugins.disk import write
from mmplugins.engine.inputs import InputError
from mmplugins.evaluation.inference.archive import arrays_of, record_of
from mmplugins.evaluation.inference.cache import Cache
from mmplugins.evaluation.plan import Plan, Scene, ShiftSet
from mmplugins.evaluation.predictions.detections import Detections
from mmplugins.evaluation.record import Objects, Record
from mmplugins.evaluation.runs import Run, RunKey

SCENE = Scene((24, 32), (-4, -4, 28, 36), (0, 1, 20, 30))
PLAN = Plan("window", (ShiftSet("pgrid", ((4, 0), (0, -4))), ShiftSet("sub", ((1, 0),))), 4, 8)
KEY = RunKey("m", "d", "c", PLAN, ("a", "b"), True, ("feat",))


def detections(count, masked, generator):
    corner = generator.integers(0, 12, (count, 2))
    boxes = np.concatenate([corner, corner + generator.integers(0, 12, (count, 2))], 1)
    found = Detections(boxes, generator.random(count), generator.integers(0, 99, count))
    return with_masks(found, (0, 0, *SCENE.view)) if masked else found


@st.composite
def records(draw):
    """All forms that views, truth and sums take, empty ones too."""
    generator = np.random.default_rng(draw(st.integers(0, 99)))
    counts, masked = st.integers(0, 4), draw(st.booleans())
    if draw(st.booleans()):
        size = (draw(st.integers(1, 3)), *SCENE.view)
        views = generator.integers(0, 200, size).astype(draw(st.sampled_from(["u1", "i8"])))
        truth = draw(st.sampled_from([None, views[0] + 1]))
    else:
        views = [detections(n, masked, generator) for n in draw(st.lists(counts, min_size=1))]
        count = draw(counts)
        found = detections(count, draw(st.booleans()), generator)
        truth = Objects(found, generator.random(count) < 0.5, generator.random(count) * 9)
        truth = draw(st.sampled_from([None, truth]))
    shapes = numpy_of.array_shapes(min_dims=0, min_side=0, max_dims=3)
    kinds = st.sampled_from([np.float64, np.float32, np.int64, bool])
    values = kinds.flatmap(lambda kind: numpy_of.arrays(kind, shapes))
    names = st.sampled_from(["feature/blocks.0", "probe/neck.1", "total_variation", "file"])
    sums = draw(st.dictionaries(names, values, max_size=3))
    image = draw(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
    return Record(image, SCENE, (0.5, 1 / 3), views, truth, sums)


def same(first, second):
    """Equal, and of the same types, through all that records are made of."""
    assert type(first) is type(second)
    if isinstance(first, np.ndarray):
        assert first.dtype == second.dtype
        np.testing.assert_array_equal(first, second)
    elif isinstance(first, Record | Objects | Detections):
        for name in first.__dataclass_fields__:
            same(getattr(first, name), getattr(second, name))
    elif isinstance(first, list):
        assert len(first) == len(second)
        for pair in zip(first, second, strict=True):
            same(*pair)
    elif isinstance(first, dict):
        assert first.keys() == second.keys()
        for name in first:
            same(first[name], second[name])
    else:
        assert first == second


@given(records())
def test_what_comes_back_is_what_was_taken_apart(record):
    same(record_of(arrays_of(record)), record)


@given(record=records())
def test_what_comes_back_from_disk_is_what_was_kept(record, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache")
    Cache(folder, {})[record.image] = record
    cache = Cache(folder, {})
    assert record.image in cache
    assert "another" not in cache
    same(cache[record.image], record)


def test_ids_that_look_alike_have_files_of_their_own(tmp_path):
    cache, ids = Cache(tmp_path, {}), ["a/b", "a-b", "a b", "A/b", "x" * 300, "x" * 299, "..", ""]
    for image in ids:
        assert image not in cache
        cache[image] = record(image)
    assert [cache[image].image for image in ids] == ids
    with pytest.raises(InputError, match="has no record of image a_b: run it to its end"):
        cache["a_b"]


def record(image="one", views=3):
    generator = np.random.default_rng(0)
    found = [detections(3, True, generator) for _ in range(views)]
    return Record(image, SCENE, (1.0, 1.0), found, None, {"some": np.arange(5.0)})


def files_of(folder: Path) -> dict:
    """All that there is below a folder, with contents and times."""
    return {
        path: (path.read_bytes() if path.is_file() else None, path.stat().st_mtime_ns)
        for path in folder.rglob("*")
    }


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"checkpoint": "e"}, 'records of another checkpoint: checkpoint was "c" and is "e"'),
        ({"plan": replace(PLAN, edge=3)}, "another plan.edge: plan.edge was 0 and is 3"),
        ({"plan": replace(PLAN, sets=PLAN.sets[:1])}, 'another plan.sets: plan.sets was [{"name"'),
        ({"model": "n", "amp": True}, "another amp, model: amp was false and is true"),
    ],
)
def test_records_of_something_else_are_refused_and_left(other, said, tmp_path):
    run = Run.of(tmp_path, KEY)
    run.cache["one"] = record()
    before = files_of(tmp_path)
    with pytest.raises(InputError) as refused:
        Run.of(tmp_path, replace(KEY, **other))
    assert said in str(refused.value)
    assert files_of(tmp_path) == before
    assert Run.open(tmp_path).key == KEY
    same(Run.of(tmp_path, KEY).cache["one"], record())


@pytest.mark.parametrize(
    ("key", "said"),
    [
        (None, "holds no records"),
        ('{"mode": ', "key.json is damaged"),
        ('{"some": 1}', "was written by another version"),
    ],
)
def test_folders_that_hold_no_run(key, said, tmp_path):
    if key:
        (tmp_path / "key.json").write_text(key)
    before = files_of(tmp_path)
    with pytest.raises(InputError, match=said):
        Run.open(tmp_path)
    assert files_of(tmp_path) == before


def test_a_damaged_file_is_refused_or_says_the_same(tmp_path):
    """Wherever it is cut off, and whichever byte is another."""
    cache = Cache(tmp_path, {})
    cache["one"] = record(views=1)
    cache.arrays("shared", lambda: {"a": np.arange(3)})
    for file, read in (
        (cache._file("one"), lambda: arrays_of(cache["one"])),
        (tmp_path / "shared.npz", lambda: cache.arrays("shared")),
    ):
        whole, known, refused = file.read_bytes(), read(), 0
        table = whole.index(b"PK\1\2")  # of contents, which has no checksum
        places = [*range(0, table, 9), *range(table, len(whole))]
        cut = [whole[:place] for place in places[::9]]
        flipped = [
            whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :] for place in places
        ]
        for damaged in cut + flipped:
            file.write_bytes(damaged)
            try:
                same(read(), known)
            except InputError as error:
                assert f"{file} is damaged" in str(error)  # noqa: PT017  counted, not expected
                refused += 1
        assert refused > len(cut)


class Malice:
    """Writes a file when it is unpickled."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return Path.touch, (self.file,)


def test_nothing_is_ever_unpickled(tmp_path):
    cache, touched = Cache(tmp_path / "cache", {}), tmp_path / "touched"
    pickle.loads(pickle.dumps(Malice(touched)))
    touched.unlink()  # it does
    arrays = arrays_of(record()) | {"sums/some": np.array([Malice(touched)], object)}
    for file in (cache._file("one"), tmp_path / "cache" / "shared.npz"):
        np.savez_compressed(file, **arrays)
    cache._file("two").write_bytes(pickle.dumps(Malice(touched)))
    for read in (cache.__getitem__, lambda name: cache.arrays("shared")):
        with pytest.raises(InputError, match="is damaged"):
            read("one")
    with pytest.raises(InputError, match="is damaged"):
        cache["two"]
    assert not touched.exists()


def test_shared_arrays_are_made_once(tmp_path):
    made = []

    def make():
        made.append(1)
        return {"mean/blocks.0": np.arange(3.0)}

    for _ in range(2):
        same(Cache(tmp_path, {}).arrays("shared", make), {"mean/blocks.0": np.arange(3.0)})
    assert made == [1]


def test_reading_makes_no_shared_arrays(tmp_path):
    """An empty file would be taken for the real one by the next run."""
    cache = Cache(tmp_path, {})
    before = files_of(tmp_path)
    with pytest.raises(InputError, match="is missing: run again"):
        cache.arrays("shared")
    assert files_of(tmp_path) == before


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_write_that_fails_leaves_what_was_there(step, tmp_path, monkeypatch):
    def fail(*_: object) -> None:
        raise OSError("no space left on device")

    file = tmp_path / "file"
    write(file, b"before")
    monkeypatch.setattr(*((os, "fsync") if step == "fsync" else (Path, "replace")), fail)
    with pytest.raises(OSError, match="no space"):
        write(file, b"after")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"before"]


def _killed_at(step: str, number: int, folder: Path) -> None:
    """In a process of its own: keep records, and be killed in the middle of one."""
    place = os if step == "fsync" else Path
    original, calls = getattr(place, step), iter(range(number))

    def kill(*args: object) -> object:
        if next(calls, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*args)

    setattr(place, step, kill)
    cache = Cache(folder, {})
    for image in "abcdef":
        cache[image] = record(image)


@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_killed_process_leaves_whole_records_alone(step, number, tmp_path):
    process = multiprocessing.get_context("fork").Process(
        target=_killed_at, args=(step, number, tmp_path)
    )
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    cache = Cache(tmp_path, {})
    there = [image for image in "abcdef" if image in cache]
    assert len(there) == max(number - 1, 0)  # the key is written first
    for image in there:
        same(cache[image], record(image))
    for image in set("abcdef") - set(there):
        cache[image] = record(image)
    assert len([*tmp_path.glob("images/[!.]*")]) == 6
