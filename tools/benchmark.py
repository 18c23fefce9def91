"""Measure what each encoding costs, in one attention layer and in whole steps of its pipelines.

python tools/benchmark.py layers
python tools/benchmark.py pipelines
"""

from pathlib import Path

from mmplugins.benchmark.command import main

if __name__ == "__main__":
    main(Path(__file__).parents[1] / "configs")
