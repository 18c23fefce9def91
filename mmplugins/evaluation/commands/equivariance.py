"""Command line of tools/equivariance.py."""

import argparse
from collections.abc import Sequence

from mmplugins.engine.launch import plain_errors
from mmplugins.evaluation.commands.common import (
    common_parser,
    evaluate,
    names,
    natural,
    positive,
    subset,
)
from mmplugins.evaluation.predictions.consistency import SCORE
from mmplugins.evaluation.shifting.protocol import ShiftProtocol
from mmplugins.evaluation.shifting.suite import LEVELS, ShiftSuite

TOOL = "tools/equivariance.py"
EPILOG = """
modes     window: real pixels, content enters and leaves; canvas: the picture moves on a larger
          canvas, nothing enters or leaves; masked_canvas: a DETR is also told where it lies;
          roll: around the border, exact for models that know none, and for segmenters alone
shifts    pgrid: whole periods, what position does; sub: less than one, what aliasing does; frac:
          parts of a pixel (roll); published protocols: zhang, lps, ddac, eqt
levels    feat: errors of feature maps; pred: consistency of what is predicted; task: AP or mIoU
          as functions of shift and place; affinity: what tells like from unlike patches;
          lie: the Lie derivative, to compare with publications only

A run that is cut off goes on where it was; one that is done computes all numbers again from its
records, in seconds. Several checkpoints are training runs of one recipe, and intervals cover both.

  python tools/equivariance.py CONFIG work_dirs/ape/epoch_12.pth --subset 100 --out runs/ape
  torchrun --nproc_per_node 8 tools/equivariance.py CONFIG seed0.pth seed1.pth seed2.pth \\
      --launcher pytorch --out runs/sape2 --against runs/none runs/ape
"""


def main(argv: Sequence[str] | None = None) -> None:
    """Measure how far a detector or segmenter is from commuting with translations."""
    with plain_errors():
        args = parser().parse_args(argv)
        protocol = ShiftProtocol(
            mode=args.mode,
            shifts=args.shifts,
            levels=args.levels,
            subset=subset(args.subset),
            seed=args.seed,
            period=args.period,
            max_shift=args.max_shift,
            count=args.count,
            edge=args.edge,
            fill=args.fill,
            amp=args.amp,
        )
        evaluate(args, TOOL, protocol, ShiftSuite(args.levels, args.score, args.samples))


def parser() -> argparse.ArgumentParser:
    """Options with their explanations."""
    result = common_parser(main.__doc__, EPILOG, out="runs/equivariance", fill="mean")
    add = result.add_argument
    modes = ["canvas", "window", "roll", "masked_canvas"]
    add("--mode", choices=modes, default="canvas", help="how pictures are shifted [%(default)s]")
    add("--shifts", type=names, default="pgrid,sub", help="sets of shifts [%(default)s]")
    levels = f"what to measure: {', '.join(LEVELS)} [%(default)s]"
    add("--levels", type=names, default="feat,pred,task", help=levels)
    add("--period", type=positive, help="P in pixels [of strides and windows]")
    add("--max-shift", type=float, default=128, help="larger shifts are left out [%(default)s px]")
    add("--count", type=positive, default=16, help="shifts of zhang, lps and eqt [%(default)s]")
    add("--edge", type=natural, help="pixels of the border to leave out [16 in windows, else 0]")
    drawn = "images to draw as they are and under their worst shift; 0: none [%(default)s]"
    add("--samples", type=natural, default=4, metavar="IMAGES", help=drawn)
    add("--score", type=float, default=SCORE, help="of detections that pred compares [%(default)s]")
    return result
