"""What the three hosts, mmdet, mmseg and mmpretrain, do in different ways."""

import argparse
from importlib.util import find_spec

from mmengine.config import Config

from mmplugins.engine.inputs import InputError

FAMILIES = "pip install 'mmplugins[onedl]' or pip install 'mmplugins[openmmlab]'"
# Scope of configs -> what installs it.
HOSTS = {
    "mmdet": FAMILIES,
    "mmseg": FAMILIES,
    "mmpretrain": "pip install 'mmplugins[pretrain]'",
}


def check_host(scope: str | None, path: str) -> None:
    """Refuse the config at `path` where its `default_scope` is missing or not installed."""
    if not scope:
        known = " or ".join(f"'{host}'" for host in HOSTS)
        raise InputError(f"{path} does not say its default_scope: {known}")
    if scope in HOSTS and find_spec(scope) is None:
        raise InputError(f"{path} needs {scope}, which is not installed: {HOSTS[scope]}")


def paint(cfg: Config, args: argparse.Namespace) -> None:
    """Let the test show predictions, in windows or painted into the folder `args.show_dir`."""
    hook = cfg.default_hooks.get("visualization")
    if hook is None:
        raise InputError(f"--show and --show-dir need default_hooks.visualization in {args.config}")
    if cfg.default_scope == "mmpretrain":
        hook.update(enable=True, interval=1, out_dir=args.show_dir)
    else:
        hook.update(draw=True, interval=1)
    if args.show:
        hook.update(show=True, wait_time=args.wait_time)
    if args.show_dir and cfg.default_scope == "mmseg":
        cfg.visualizer.save_dir = args.show_dir
    elif args.show_dir and cfg.default_scope == "mmdet":
        hook.test_out_dir = args.show_dir


def keep(cfg: Config, out: str) -> None:
    """As the hosts: label images by the metric for mmseg, else a dump beside the metrics."""
    metrics = cfg.test_evaluator
    metrics = metrics if isinstance(metrics, list) else [metrics]
    if cfg.default_scope == "mmseg":
        metrics[0].update(output_dir=out, keep_results=True)
    elif not out.endswith((".pkl", ".pickle")):
        kind = "detector" if cfg.default_scope == "mmdet" else "classifier"
        raise InputError(f"--out of a {kind} is a .pkl file, not `{out}`")
    else:
        dump = "DumpDetResults" if cfg.default_scope == "mmdet" else "DumpResults"
        metrics = [*metrics, dict(type=dump, out_file_path=out)]
    cfg.test_evaluator = metrics
