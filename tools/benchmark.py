"""Measure what each encoding costs in each pipeline at its real size, as ratios to none at all.

    python tools/benchmark.py --out benchmark            all, as the README's table
    python tools/benchmark.py --pipelines upernet --encodings sape2 irpe-k --rounds 5

Writes OUT.json with every single time, and OUT.md with the ratios of medians of interleaved rounds.
"""

import argparse
import json
import os
import platform
from pathlib import Path

import torch
from mmengine.logging import MMLogger

import mmplugins
from mmplugins.benchmark import PIPELINES, measure, to_markdown, to_rows

CONFIGS = Path(__file__).parents[1] / "configs"


def main() -> None:
    """Parse, measure, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pipelines", nargs="+", choices=PIPELINES, default=list(PIPELINES))
    parser.add_argument(
        "--encodings",
        nargs="+",
        default=["nope", "ape", "peg", "irpe-k", "sape2"],
        help="as in the names of the config files [%(default)s]",
    )
    parser.add_argument("--batch-size", type=int, help="images a step [1, UperNet 2]")
    parser.add_argument("--rounds", type=int, default=3, help="steps that count [%(default)s]")
    parser.add_argument("--scale", type=float, default=1.0, help="of the sides [%(default)s]")
    parser.add_argument("--device", default="cpu", help="cpu or cuda [%(default)s]")
    parser.add_argument("--out", type=Path, default=Path("benchmark"), help="[%(default)s]")
    args = parser.parse_args()
    MMLogger.get_instance("benchmark", log_level="WARNING")

    rows = []
    for name in args.pipelines:
        costs = measure(
            PIPELINES[name],
            args.encodings,
            configs=CONFIGS,
            batch_size=args.batch_size,
            rounds=args.rounds,
            scale=args.scale,
            device=args.device,
            progress=lambda message, name=name: print(f"{name}: {message}", flush=True),
        )
        rows += to_rows(name, costs)
        facts = dict(
            options={key: str(value) for key, value in vars(args).items()},
            machine=platform.machine(),
            cores=os.cpu_count(),
            threads=torch.get_num_threads(),
            torch=torch.__version__,
            mmplugins=mmplugins.__version__,
        )
        for suffix, text in (
            (".json", json.dumps(dict(facts=facts, rows=rows), indent=1)),
            (".md", to_markdown(rows)),
        ):
            temporary = args.out.with_suffix(f"{suffix}.tmp")
            temporary.write_text(text + "\n")
            temporary.replace(args.out.with_suffix(suffix))
    print(to_markdown(rows))


if __name__ == "__main__":
    main()
