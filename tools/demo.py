"""Draw the synthetic benchmark, train Mask R-CNN with five encodings alike, measure, report.

    make demo                          none, APE, PEG, iRPE and SaPE2
    python tools/demo.py OTHER.yaml    another sweep on the same benchmark

A second call goes on where the first was stopped and repeats nothing.
"""

import argparse
import os
import sys
from pathlib import Path

from mmplugins.datasets.generate import BenchmarkOptions, make_benchmark
from mmplugins.sweep.command import main as sweep
from mmplugins.sweep.spec import read_spec

ROOT = Path(__file__).parents[1]


def main() -> None:
    """Draw, sweep, tell where the report is."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("spec", nargs="?", default="configs/sweeps/demo.yaml", help="[%(default)s]")
    parser.add_argument("--data", type=Path, default=Path("data/synthetic"), help="[%(default)s]")
    args = parser.parse_args()
    os.chdir(ROOT)  # where the paths in the file begin
    try:
        make_benchmark(args.data, BenchmarkOptions(), jobs=os.cpu_count() or 1)
    except FileExistsError as error:
        sys.exit(f"error: {error}")
    os.environ["MMPLUGINS_SYNTHETIC"] = str(args.data.absolute())
    sweep(Path(__file__).parent, [args.spec])
    spec = read_spec(args.spec)
    for pipeline in spec.pipelines:
        report = (spec.out / pipeline / "report.html").absolute()
        print(
            f"\nOne seed and a few epochs each: a demonstration, not evidence.\n{report.as_uri()}"
        )


if __name__ == "__main__":
    main()
