"""What tools/train.py and tools/test.py do: the hosts' options, checks, then mmengine's Runner."""

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError

import torch
from mmengine.config import Config, ConfigDict, DictAction
from mmengine.runner import Runner

from mmplugins.compat import allow_mmseg_bases, secure_checkpoints
from mmplugins.engine.hosts import check_host, keep, paint
from mmplugins.engine.inputs import InputError, check_data, check_file, check_model
from mmplugins.engine.runner import StrictRunner


def main_train(argv: Sequence[str] | None = None) -> None:
    """Command line of tools/train.py."""
    with plain_errors():
        args = training_parser().parse_args(argv)
        cfg = configure_training(args)
        runner = Runner if args.partial_checkpoint else StrictRunner
        with secure_checkpoints(args.trust_checkpoint):
            build_runner(cfg, runner).train()


def main_test(argv: Sequence[str] | None = None) -> None:
    """Command line of tools/test.py."""
    with plain_errors():
        args = testing_parser().parse_args(argv)
        cfg = configure_testing(args)
        with secure_checkpoints(args.trust_checkpoint):
            build_runner(cfg, StrictRunner).test()


def training_parser() -> argparse.ArgumentParser:
    """The options of the hosts' train.py, and our own two about checkpoints."""
    parser = _parser("Train a detector, segmentor or classifier of any OpenMMLab config.")
    parser.add_argument("--amp", action="store_true", help="automatic mixed precision")
    parser.add_argument(
        "--auto-scale-lr", action="store_true", help="scale the learning rate to the batch size"
    )
    parser.add_argument(
        "--resume",
        nargs="?",
        const="auto",
        help="continue from this checkpoint; without a value from the last one in the work dir",
    )
    parser.add_argument(
        "--partial-checkpoint",
        action="store_true",
        help="let load_from and --resume take what fits of a checkpoint instead of refusing it",
    )
    return parser


def testing_parser() -> argparse.ArgumentParser:
    """The options of the hosts' test.py."""
    parser = _parser("Test and score a checkpoint of any OpenMMLab config.")
    parser.add_argument("checkpoint", help="checkpoint file")
    parser.add_argument(
        "--out",
        help="keep predictions: a .pkl file for mmdet and mmpretrain, a folder of label images "
        "for mmseg",
    )
    parser.add_argument("--show", action="store_true", help="show predictions in a window")
    parser.add_argument(
        "--show-dir",
        help="paint predictions into this folder; a relative one of mmdet lies in the work dir",
    )
    parser.add_argument("--wait-time", type=float, default=2, help="seconds each is shown")
    parser.add_argument("--tta", action="store_true", help="test time augmentation")
    return parser


def configure_training(args: argparse.Namespace) -> Config:
    """The config to train with, its inputs checked."""
    cfg = load_config(args)
    if args.amp:
        if cfg.optim_wrapper.type not in ("OptimWrapper", "AmpOptimWrapper"):
            raise InputError(f"--amp needs OptimWrapper, not {cfg.optim_wrapper.type}")
        cfg.optim_wrapper.update(type="AmpOptimWrapper", loss_scale="dynamic")
    if args.auto_scale_lr:
        if "base_batch_size" not in cfg.get("auto_scale_lr", {}):
            key = "auto_scale_lr.base_batch_size"
            raise InputError(f"--auto-scale-lr needs {key} in {args.config}")
        cfg.auto_scale_lr.enable = True
    if args.resume:
        cfg.resume = True
        cfg.load_from = None if args.resume == "auto" else args.resume
    if _is_first():
        if cfg.get("load_from"):
            check_file(cfg.load_from, "--resume" if args.resume else "load_from")
        check_data(cfg, ["train", "val"])
        check_model(cfg)
    return cfg


def configure_testing(args: argparse.Namespace) -> Config:
    """The config to test with, its inputs checked."""
    cfg = load_config(args)
    cfg.load_from = args.checkpoint
    if args.show or args.show_dir:
        paint(cfg, args)
    if args.tta:
        if "tta_model" not in cfg or "tta_pipeline" not in cfg:
            raise InputError(f"--tta needs tta_model and tta_pipeline in {args.config}")
        cfg.model = ConfigDict(**cfg.tta_model, module=cfg.model)
        cfg.test_dataloader.dataset.pipeline = cfg.tta_pipeline
    if args.out:
        keep(cfg, args.out)
    if _is_first():
        check_file(args.checkpoint, "checkpoint")
        check_data(cfg, ["test"])
        check_model(cfg)
    return cfg


def load_config(args: argparse.Namespace) -> Config:
    """The config of the command line, its bases and options merged."""
    os.environ.setdefault("LOCAL_RANK", str(args.local_rank))
    cfg = read_config(args.config, args.cfg_options)
    cfg.launcher = args.launcher
    cfg.work_dir = args.work_dir or cfg.get("work_dir") or f"work_dirs/{Path(args.config).stem}"
    return cfg


def read_config(path: str, options: dict | None = None) -> Config:
    """The config of a file, its bases and `options` merged."""
    check_file(path, "config")
    allow_mmseg_bases()
    cfg = Config.fromfile(path)
    cfg.merge_from_dict(options or {})
    check_host(cfg.get("default_scope"), path)
    return cfg


def build_runner(cfg: Config, runner: type[Runner]) -> Runner:
    """The runner; processes of torchrun also get together where there are no GPUs."""
    if cfg.launcher in ("slurm", "mpi") and not torch.cuda.is_available():
        raise InputError(f"--launcher {cfg.launcher} needs GPUs, pytorch (torchrun) does not")
    if cfg.launcher == "pytorch" and not torch.cuda.is_available():
        # mmengine would ask for a GPU twice: to join the group, and to wrap the model.
        torch.distributed.init_process_group("gloo")
        wrapper = dict(
            type="MMDistributedDataParallel",
            broadcast_buffers=False,
            find_unused_parameters=cfg.get("find_unused_parameters", False),
        )
        cfg.model_wrapper_cfg = {**wrapper, **cfg.get("model_wrapper_cfg", {}), "device_ids": None}
    return runner.from_cfg(cfg)


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """What every tool asks that runs a model: its config, changes of it, trust in checkpoints."""
    parser.add_argument("config", help="config file")
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action=_Options,
        metavar="KEY=VALUE",
        help="change the config: key.of.it=value, lists as key='[a,b]'",
    )
    parser.add_argument(
        "--trust-checkpoint",
        action="store_true",
        help="let checkpoint files run code: only for files whose origin you trust",
    )


@contextmanager
def plain_errors() -> Iterator[None]:
    """A wrong input ends with one line instead of a traceback."""
    try:
        yield
    except (InputError, UnpicklingError) as error:
        sys.exit(f"error: {error}")


def _parser(description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description)
    add_model_options(parser)
    parser.add_argument("--work-dir", help="folder of logs and checkpoints [work_dirs/CONFIG]")
    parser.add_argument("--launcher", choices=["none", "pytorch", "slurm", "mpi"], default="none")
    parser.add_argument("--local_rank", "--local-rank", type=int, default=0, help="by launchers")
    return parser


class _Options(DictAction):
    """mmengine's, which recurses without end into what it cannot read, such as two dict(...)."""

    def __call__(self, parser, namespace, values, option_string=None):
        try:
            super().__call__(parser, namespace, values, option_string)
        except (RecursionError, AssertionError, ValueError) as error:
            raise InputError(
                f"{option_string} takes numbers, words and lists of them, not "
                f"{' '.join(values)}: name each key, as in a.list.0.type=PEG"
            ) from error


def _is_first() -> bool:
    """Whether this process, the first of torchrun's, MPI's or Slurm's, checks and speaks."""
    ranks = map(os.environ.get, ("RANK", "OMPI_COMM_WORLD_RANK", "SLURM_PROCID"))
    return next(filter(None, ranks), "0") == "0"
