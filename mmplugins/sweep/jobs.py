"""The jobs of a spec: what each runs, what it makes, and which others it needs.

    OUT/PIPELINE/ENCODING/seed-N        training: logs and checkpoints; test: subfolder test
    OUT/PIPELINE/ENCODING/equivariance  of the checkpoints of all seeds; likewise resolution
    OUT/PIPELINE/comparison             of all encodings with one another, by either
    OUT/PIPELINE/report.html            of all these results

Nothing here touches OUT, and no job knows where it lies: a folder that moves stays as done as it
was.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from mmengine.config import Config

from mmplugins.engine.launch import read_config, training_parser
from mmplugins.evaluation.results.provenance import config_hash
from mmplugins.sweep.spec import Encoding, Spec

LAST = "last_checkpoint"  # where mmengine writes the name of the newest checkpoint
TESTS = ("test_", "tta_")  # keys of a config that trainings do not look at; they do at val_


@dataclass(frozen=True)
class Place:
    """A file or folder inside OUT."""

    path: str

    def __str__(self) -> str:
        return f"OUT/{self.path}"

    def find(self, out: Path) -> Path:
        """Where it is, or will be."""
        return out / self.path


@dataclass(frozen=True)
class Checkpoint(Place):
    """The newest checkpoint in a folder inside OUT, whatever its name."""

    def __str__(self) -> str:
        return f"OUT/{self.path}/{LAST}"

    def find(self, out: Path) -> Path:
        """The file; the one that will hold its name where there is none yet."""
        pointer = out / self.path / LAST
        # mmengine writes the whole path, which is stale once the folder has moved; a power cut may
        # leave nothing of it.
        name = Path(pointer.read_text()).name if pointer.is_file() else ""
        return pointer.with_name(name or LAST)


@dataclass(frozen=True)
class Job:
    """One call of a tool: tools/KIND.py ARGUMENTS.

    Args:
        kind: of spec.KINDS.
        folder: inside OUT, where the job's log and stamps lie.
        arguments: of the tool.
        config: hash of the resolved config, as far as it matters; empty where there is none.
        needs: jobs that must be done before.
        product: what is there when the job is done, and what those that need it depend on.
    """

    kind: str
    folder: str
    arguments: tuple[str | Place, ...]
    config: str
    needs: tuple["Job", ...] = ()
    product: Place | None = None

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.kind} {self.folder}"

    @cached_property
    def key(self) -> str:
        """Hash of what is asked for, however it is started and wherever OUT lies.

        A config counts by its content, not its path. What the job is asked of, its needs' products,
        is known only when they are there.
        """
        rest = self.arguments[1:] if self.config else self.arguments
        text = json.dumps([self.kind, self.config, *map(str, rest)])
        return hashlib.sha256(text.encode()).hexdigest()


def plan_jobs(spec: Spec) -> list[Job]:
    """All jobs of `spec`, each after those it needs: first all trainings, then all tests, ...

    Raises:
        InputError: a config cannot be read.
    """
    jobs = [job for pipeline in spec.pipelines for job in _of_pipeline(spec, pipeline)]
    order = list(spec.options)
    return sorted(jobs, key=lambda job: order.index(job.kind))


def _of_pipeline(spec: Spec, pipeline: str) -> Iterator[Job]:
    recipes = [_Recipe.read(spec, pipeline, encoding) for encoding in spec.encodings]
    trained = [[recipe.training(seed) for seed in spec.seeds] for recipe in recipes]
    measured: list[Job] = []
    compared: list[Job] = []
    for kind in ("equivariance", "resolution"):
        if kind in spec.options:
            pairs = zip(recipes, trained, strict=True)
            same = [recipe.measurement(kind, own) for recipe, own in pairs]
            measured += same
            if "compare" in spec.options:
                folder = f"{pipeline}/comparison/{kind}"
                words = (*map(_folder, same), "--out", Place(folder), *spec.options["compare"])
                product = Place(f"{folder}/comparison.json")
                compared.append(Job("compare", folder, words, "", tuple(same), product))
    for recipe, trainings in zip(recipes, trained, strict=True):
        yield from trainings
        if "test" in spec.options:
            yield from map(recipe.test, trainings)
    yield from (*measured, *compared)
    if "report" in spec.options:
        page = Place(f"{pipeline}/report.html")
        needs, base = (*measured, *compared), spec.encodings[0].name
        runs = map(_folder, needs)
        arguments = (*runs, "--out", page, "--baseline", base, *spec.options["report"])
        yield Job("report", pipeline, arguments, "", needs, page)


def _folder(job: Job) -> Place:
    """That its product lies in."""
    return Place(job.product.path.rpartition("/")[0])


@dataclass(frozen=True)
class _Recipe:
    """One encoding in one pipeline."""

    spec: Spec
    folder: str
    encoding: Encoding
    path: str
    config: str
    trained: str  # hash of what of the config a training knows

    @classmethod
    def read(cls, spec: Spec, pipeline: str, encoding: Encoding) -> "_Recipe":
        path = spec.config(pipeline, encoding)
        changes = [*spec.cfg_options, *encoding.cfg_options]
        # By the parser of the tools, so that values are what they will be there.
        words = [path, "--cfg-options", *changes] if changes else [path]
        cfg = read_config(path, training_parser().parse_args(words).cfg_options)
        of_training = {key: value for key, value in cfg.items() if not key.startswith(TESTS)}
        hashes = config_hash(cfg), config_hash(Config(of_training))
        return cls(spec, f"{pipeline}/{encoding.name}", encoding, path, *hashes)

    def changes(self, *more: str) -> list[str]:
        changes = [*self.spec.cfg_options, *self.encoding.cfg_options, *more]
        return ["--cfg-options", *changes] if changes else []

    def training(self, seed: int) -> Job:
        folder = f"{self.folder}/seed-{seed}"
        arguments = (
            *(self.path, "--work-dir", Place(folder), "--resume"),
            *self.changes(f"randomness.seed={seed}"),
            *self.spec.options["train"],
        )
        return Job("train", folder, arguments, self.trained, product=Checkpoint(folder))

    def test(self, training: Job) -> Job:
        arguments = (
            *(self.path, training.product, "--work-dir", Place(f"{training.folder}/test")),
            *self.changes(),
            *self.spec.options["test"],
        )
        return Job("test", training.folder, arguments, self.config, (training,))

    def measurement(self, kind: str, trainings: Sequence[Job]) -> Job:
        out = f"{self.folder}/{kind}"
        arguments = [self.path, *(training.product for training in trainings)]
        arguments += ["--out", Place(out), "--name", self.encoding.name]
        arguments += [*self.changes(), *self.spec.options[kind]]
        product = Place(f"{out}/results.json")
        return Job(kind, self.folder, tuple(arguments), self.config, tuple(trainings), product)
