"""Draw the synthetic benchmark, train Mask R-CNN with encodings and without, and compare them.

    make demo                                      SaPE2 against none
    python tools/demo.py --encodings peg irpe-k    others against none

A second call goes on where the first was stopped and repeats nothing.
"""

import argparse
import os
import subprocess
import sys
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rich.console import Console
from rich.table import Table

from mmplugins.datasets.generate import BenchmarkOptions, make_benchmark
from mmplugins.engine.scores import read_scores

ROOT = Path(__file__).parents[1]
CONFIG = "configs/mask_rcnn/mask-rcnn_vit-mini16-{}_sfpn_1xb8-6e_synthetic-160x224.py"


def main() -> None:
    """Parse, make, train, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--encodings", nargs="+", default=["sape2"], help="[%(default)s]")
    parser.add_argument("--data", type=Path, default=Path("data/synthetic"), help="[%(default)s]")
    parser.add_argument(
        "--work-dir", type=Path, default=Path("work_dirs/demo"), help="[%(default)s]"
    )
    args = parser.parse_args()

    try:
        make_benchmark(args.data, BenchmarkOptions(), jobs=os.cpu_count() or 1)
    except FileExistsError as error:
        sys.exit(f"error: {error}")
    names = ["nope", *(name for name in args.encodings if name != "nope")]
    # Small models gain little from many threads: side by side they finish sooner.
    jobs = min(len(names), os.cpu_count() or 1)
    os.environ["OMP_NUM_THREADS"] = str((os.cpu_count() or 1) // jobs)
    os.environ["MMPLUGINS_SYNTHETIC"] = str(args.data.absolute())
    with ThreadPoolExecutor(jobs) as pool:
        scores = pool.map(train, names, [args.work_dir / name for name in names])
        Console().print(compare(dict(zip(names, scores, strict=True))))
    print("One seed and a few epochs each: a demonstration, not evidence.")


def train(name: str, work_dir: Path) -> dict[str, float]:
    """Scores of a trained model; trained now unless it has been, from where it was stopped."""
    try:
        scores = read_scores(work_dir)
        say(f"{name}: trained before; remove {work_dir} to train again")
        return scores
    except FileNotFoundError:
        say(f"{name}: training; all it says goes to {work_dir}")
    process = subprocess.Popen(
        [
            *(sys.executable, ROOT / "tools/train.py", ROOT / CONFIG.format(name)),
            *("--work-dir", work_dir, "--resume"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    last: deque[str] = deque(maxlen=30)
    for line in process.stdout:
        last.append(line)
        if "Epoch(" in line:
            say(f"{name}: {line.partition('INFO - ')[2].strip()}")
    if process.wait():
        raise SystemExit("".join(last))
    return read_scores(work_dir)


def say(text: str) -> None:
    """One whole line at once, whichever thread says it."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def compare(scores: dict[str, dict[str, float]]) -> Table:
    """One row a score, with what each encoding gains over none."""
    base, *others = scores
    table = Table(title="Mask R-CNN on the synthetic benchmark: COCO AP in per cent")
    table.add_column("score")
    for name in scores:
        table.add_column(name, justify="right")
    for name in others:
        table.add_column(f"{name} - {base}", justify="right")
    for key in scores[base]:
        if "mAP" not in key:
            continue
        values = [100 * run[key] for run in scores.values()]
        gains = [f"{value - values[0]:+.1f}" for value in values[1:]]
        table.add_row(key.removeprefix("coco/"), *(f"{value:.1f}" for value in values), *gains)
    return table


if __name__ == "__main__":
    main()
