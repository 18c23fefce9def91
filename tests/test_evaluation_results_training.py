"""Costs and scores of training runs: real runs of mmengine, and logs as it writes them."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.logging import HistoryBuffer
from mmengine.model import BaseModel
from mmengine.runner import Runner
from mmengine.visualization import LocalVisBackend

from mmplugins.compat.checkpoints import secure_checkpoints
from mmplugins.evaluation.results.training import sizes_of, training
from mmplugins.models.vit import ViT


class Line(BaseModel):
    """One weight."""

    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(2, 1)

    def forward(self, inputs, mode="tensor"):
        out = self.linear(torch.stack(inputs))
        return {"loss": out.square().mean()} if mode == "loss" else out


class Points(torch.utils.data.Dataset):
    def __len__(self):
        return 8

    def __getitem__(self, index):
        return {"inputs": torch.full((2,), float(index))}


class Score(BaseMetric):
    def process(self, data_batch, data_samples):
        self.results += [0.25 * len(data_samples)] * len(data_samples)

    def compute_metrics(self, results):
        return {"mIoU": float(np.mean(results)), "none": -1.0}


def runner(work_dir, train_cfg, name, **options):
    loader = dict(dataset=Points(), batch_size=2, sampler=dict(type="DefaultSampler"))
    by_epoch = train_cfg["by_epoch"]
    return Runner(
        model=Line(),
        work_dir=str(work_dir),
        experiment_name=f"{work_dir.name}-{name}",
        train_dataloader=loader,
        train_cfg=train_cfg,
        val_dataloader=loader,
        val_cfg={},
        val_evaluator=Evaluator([Score()]),
        optim_wrapper=dict(optimizer=dict(type="SGD", lr=0.001)),
        default_hooks=dict(
            checkpoint=dict(type="CheckpointHook", interval=2, by_epoch=by_epoch),
            logger=dict(type="LoggerHook", interval=3, log_metric_by_epoch=by_epoch),
        ),
        log_processor=dict(by_epoch=by_epoch),
        default_scope="mmengine",
        **options,
    )


def test_a_run_by_epochs(tmp_path):
    """Of 4 iterations each, of which each third of the run is logged; loss and time of all are."""
    runner(tmp_path, dict(by_epoch=True, max_epochs=3), "run").train()
    found = training(str(tmp_path / "epoch_2.pth"))
    assert (found["iterations"], found["epochs"]) == (8, 2)
    assert [at for at, _ in found["loss"]] == list(range(1, 9))
    logged = _records(tmp_path, "iter")
    (third,) = (r for r in logged if r["step"] == 3)
    assert np.mean([loss for _, loss in found["loss"]][:3]) == pytest.approx(third["loss"])
    assert 0 < found["seconds"] < 60
    assert found["scores"] == [[4, {"mIoU": 0.5}], [8, {"mIoU": 0.5}]]
    assert json.loads(json.dumps(found)) == found


def test_a_run_by_iterations_that_is_resumed(tmp_path):
    schedule = dict(by_epoch=False, max_iters=4, val_interval=2)
    runner(tmp_path, schedule, "first").train()
    before = training(str(tmp_path / "iter_4.pth"))
    with secure_checkpoints():
        runner(tmp_path, schedule | {"max_iters": 6}, "second", resume=True).train()
    found = training(str(tmp_path / "iter_6.pth"))
    assert (found["iterations"], found["epochs"]) == (6, None)
    assert [at for at, _ in found["loss"]] == list(range(1, 7))
    assert found["loss"][:4] == before["loss"]
    assert found["seconds"] > before["seconds"]
    assert found["scores"] == [[at, {"mIoU": 0.5}] for at in (2, 4, 6)]
    assert training(str(tmp_path / "iter_4.pth"))["scores"] == found["scores"][:2]


def _records(work_dir, key):
    lines = (f.read_text().splitlines() for f in work_dir.glob("*/vis_data/scalars.json"))
    return [record for file in lines for record in map(json.loads, file) if key in record]


def save(path: Path, *, iterations=8, epochs=2, time="20260101_120000", loss=None, times=None):
    """A checkpoint with what mmengine's has of its run."""
    histories = {"train/loss": loss, "train/time": times}
    logged = {name: HistoryBuffer(h, [1] * len(h)) for name, h in histories.items() if h}
    meta = dict(iter=iterations, epoch=epochs, time=time)
    state = {"weight": torch.zeros(3)}
    torch.save({"meta": meta, "message_hub": {"log_scalars": logged}, "state_dict": state}, path)
    return str(path)


def log(work_dir, began, *records):
    """As the hosts do: training by iterations, evaluations as given."""
    backend = LocalVisBackend(str(work_dir / began / "vis_data"))
    for record in records:
        if isinstance(record, int):
            record = dict(lr=0.1, loss=1.0, time=1.0, epoch=1, iter=record, step=record)
        backend.add_scalars(record, file_path=f"{began}.json")


def score(step, value):
    return dict(mAP=value, data_time=0.1, time=0.1, step=step)


class TestLoss:
    def test_thinned_to_means_of_all(self, tmp_path):
        loss = np.random.default_rng(0).random(999).tolist()
        found = training(save(tmp_path / "a.pth", iterations=999, loss=loss))["loss"]
        assert len(found) == 200
        assert found[-1][0] == 999
        start = 0
        for at, value in found:
            assert value == pytest.approx(np.mean(loss[start:at]))
            assert 4 <= at - start <= 6
            start = at

    def test_forgotten_and_not_finite_losses(self, tmp_path):
        loss, times = [3.0, math.nan, math.inf], [2.0, 4.0, 3.0]
        found = training(save(tmp_path / "a.pth", iterations=6, loss=loss, times=times))
        assert found["loss"] == [[4, 3.0], [5, None], [6, None]]
        assert found["seconds"] == 18  # the mean of those that are known

    def test_nothing_logged(self, tmp_path):
        assert training(save(tmp_path / "a.pth")) == {
            **dict(iterations=8, epochs=2, seconds=None),
            **dict(loss=[], scores=[]),
        }


class TestScores:
    def test_epochs_count_as_many_iterations_as_the_run_had(self, tmp_path):
        log(tmp_path, "20260101_110000", 3, score(1, 0.1), 7, score(2, 0.2))
        assert training(save(tmp_path / "a.pth"))["scores"] == [
            [4, {"mAP": 0.1}],
            [8, {"mAP": 0.2}],
        ]

    def test_what_was_lost_and_done_again_counts_once(self, tmp_path):
        log(tmp_path, "20260101_100000", 3, score(4, 0.1), 7, score(8, 0.2), 9)
        log(tmp_path, "20260101_110000", 6, score(8, 0.3))  # from iteration 4 on
        found = training(save(tmp_path / "a.pth", epochs=0))
        assert found["scores"] == [[4, {"mAP": 0.1}], [8, {"mAP": 0.3}]]

    def test_a_run_that_began_anew_takes_the_place_of_the_one_before(self, tmp_path):
        log(tmp_path, "20260101_100000", 1, score(2, 0.1), 3, score(4, 0.2))
        log(tmp_path, "20260101_110000", 1, 2, score(3, 0.3))
        assert training(save(tmp_path / "a.pth", epochs=0))["scores"] == [[3, {"mAP": 0.3}]]

    def test_runs_that_began_after_it_was_saved_are_others(self, tmp_path):
        log(tmp_path, "20260101_110000", 4, score(4, 0.1))
        log(tmp_path, "20260101_130000", 1, score(4, 0.9))
        assert training(save(tmp_path / "a.pth", epochs=0))["scores"] == [[4, {"mAP": 0.1}]]

    def test_what_came_after_it_is_not_its_own(self, tmp_path):
        log(tmp_path, "20260101_110000", 4, score(4, 0.1), 8, score(8, 0.2), 12, score(12, 0.3))
        found = training(save(tmp_path / "a.pth", iterations=8, epochs=0))
        assert [at for at, _ in found["scores"]] == [4, 8]

    def test_lines_that_are_cut_off_or_of_others(self, tmp_path):
        log(tmp_path, "20260101_110000", 4, score(4, 0.1))
        with (tmp_path / "20260101_110000/vis_data/scalars.json").open("a") as file:
            file.write('[1]\n{"mAP": 0.3}\n{"mAP": 0.')
        assert training(save(tmp_path / "a.pth", epochs=0))["scores"] == [[4, {"mAP": 0.1}]]

    def test_numbers_alone(self, tmp_path):
        record = score(4, math.nan) | {"AP": 0.5, "APl": -1.0, "says": "well"}
        log(tmp_path, "20260101_110000", 4, record)
        assert training(save(tmp_path / "a.pth", epochs=0))["scores"] == [[4, {"AP": 0.5}]]


def test_weights_alone_and_addresses_say_nothing(tmp_path):
    torch.save({"state_dict": {"weight": torch.zeros(3)}}, tmp_path / "weights.pth")
    assert training(str(tmp_path / "weights.pth")) is None
    assert training("https://example.org/epoch_12.pth") is None


def test_code_in_a_checkpoint_does_not_run(tmp_path):
    class Trap:
        def __reduce__(self):
            return (tmp_path / "sprung").touch, ()

    torch.save({"meta": {"iter": 1}, "trap": Trap()}, tmp_path / "a.pth")
    with pytest.raises(Exception, match="holds more than weights"):
        training(str(tmp_path / "a.pth"))
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("encodings", [[], ["PEG"], ["LearnedAPE", "SaPE2"]])
def test_parameters_are_those_that_the_encodings_add(encodings):
    def build(names):
        with torch.device("meta"):
            return ViT("tiny", position_encodings=[dict(type=name) for name in names])

    plain, model = sizes_of(build([])), sizes_of(build(encodings))
    assert plain["encoding_parameters"] == 0
    assert model["parameters"] == plain["parameters"] + model["encoding_parameters"]
    own = sum(p.numel() for n, p in build(encodings).named_parameters() if "pos." in n)
    assert model["encoding_parameters"] == own
    assert (own > 0) == bool(encodings)
