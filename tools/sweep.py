"""Train, test and measure encodings x pipelines x seeds, as one YAML file says.

python tools/sweep.py configs/sweeps/synthetic.yaml --jobs 2
"""

from pathlib import Path

from mmplugins.sweep.command import main

if __name__ == "__main__":
    main(Path(__file__).parent)
