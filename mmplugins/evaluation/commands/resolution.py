"""Command line of tools/resolution.py."""

import argparse
from collections.abc import Sequence

from mmplugins.engine.launch import plain_errors
from mmplugins.evaluation.commands.common import (
    common_parser,
    evaluate,
    names,
    positive,
    subset,
)
from mmplugins.evaluation.sizes import MODES
from mmplugins.evaluation.sizing.protocol import RATIOS, SizeProtocol
from mmplugins.evaluation.sizing.suite import SizeSuite

TOOL = "tools/resolution.py"
EPILOG = f"""
sizes     ratios to the size that the test pipeline makes, which is taken for the training size:
          0.5,1,2 or, for all of {", ".join(map(str, RATIOS))} within,
          0.5:2; or short sides in pixels: 400,800,1200. The training size must be among them
modes     resize: the picture larger or smaller, objects and all; extent: the picture as it is, on a
          larger canvas, from 1 up: the grid alone grows; crop: its middle, from 1 down: the grid
          and the context shrink; slide: resized, but looked at in crops of the training size, and
          how much that gains (segmenters); aspect: upright, square and lying, of equally many cells
canvases  are the picture mirrored, as a plain colour is foreign to a model that was trained without
          (box AP of a nuclei model at twice the extent: 14 mirrored, 0.3 on grey). A detector finds
          mirrored objects, too, which count neither way, but are among the most that it may find

With --against the results of the model without encodings, differences in `AP delta` (or `mIoU
delta`) at a size R are DiD(R): what the encoding costs there beyond what the size itself costs.

  python tools/resolution.py CONFIG none.pth --out runs/none
  python tools/resolution.py CONFIG ape.pth --out runs/ape --against runs/none
  torchrun --nproc_per_node 8 tools/resolution.py CONFIG seed0.pth seed1.pth seed2.pth \\
      --launcher pytorch --mode resize,extent,aspect --out runs/sape2 --against runs/none runs/ape
"""


def main(argv: Sequence[str] | None = None) -> None:
    """Measure a detector or segmenter at other sizes than it was trained at."""
    with plain_errors():
        args = parser().parse_args(argv)
        protocol = SizeProtocol(
            sizes=args.sizes,
            modes=args.mode,
            subset=subset(args.subset),
            seed=args.seed,
            divisor=args.divisor,
            fill=args.fill,
            amp=args.amp,
        )
        evaluate(args, TOOL, protocol, SizeSuite(), originals=True)


def parser() -> argparse.ArgumentParser:
    """Options with their explanations."""
    result = common_parser(main.__doc__, EPILOG, out="runs/resolution", fill="reflect")
    add = result.add_argument
    add("--sizes", default="0.5:2", help="to test at [%(default)s]")
    modes = f"ways to a size: {', '.join(MODES)} [%(default)s]"
    add("--mode", type=names, default="resize,extent", help=modes)
    divisor = "sides are multiples of it [of the strides of tokens and of the model's own padding]"
    add("--divisor", type=positive, metavar="PIXELS", help=divisor)
    return result
