"""Draw how large the logit bias of encodings is on grids of other sizes, and print it."""

import argparse
import ast
from pathlib import Path
from typing import Any

from mmplugins.position_encodings.base import Dims
from mmplugins.visualise.growth import draw_growth, mean_bias, random_encoding
from mmplugins.visualise.page import save

DESCRIPTION = """
Draws the mean absolute logit bias of encodings against the side of the grid, in logits and relative
to the training grid, as one PNG, and prints the numbers.

Weights are those of the initialisation, or random where that is zero; contents are random too. What
grows here changes all attention at another resolution, without any training.
"""
EPILOG = """
examples:
  SaPE2 grows like the root of a side, unless it is normalised
    python tools/show_growth.py SaPE2 SaPE2:normalize=rms IRPE
  tables for every position that a line can reach
    python tools/show_growth.py SaPE2:num_positions=50 SaPE2:num_positions=50,normalize=rms
"""


def encoding(text: str) -> dict[str, Any]:
    """The config of `SaPE2:normalize=rms,num_positions=50`."""
    name, _, options = text.partition(":")
    cfg: dict[str, Any] = {"type": name}
    for option in options.split(",") if options else ():
        key, equals, value = option.partition("=")
        if not equals:
            raise argparse.ArgumentTypeError(f"`{option}` in `{text}` is not OPTION=VALUE")
        try:
            cfg[key] = ast.literal_eval(value)
        except (SyntaxError, ValueError):  # a word
            cfg[key] = value
    return cfg


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    names = "as NAME or NAME:OPTION=VALUE,..., up to seven"
    add("encodings", nargs="+", metavar="ENCODING", help=names)
    add("--train", type=int, default=14, metavar="N", help="training grid's side [%(default)s]")
    sides = [8, 14, 16, 24, 32, 48]
    add("--sides", nargs="+", type=int, default=sides, metavar="N", help=f"{sides}")
    add("--heads", type=int, default=2, help="[%(default)s]")
    add("--head-dims", type=int, default=64, help="[%(default)s]")
    add("--seed", type=int, default=0, help="of weights and contents [%(default)s]")
    add("--out", type=Path, default=Path("growth.png"), metavar="PNG", help="[%(default)s]")
    return parser.parse_args()


def main() -> None:
    """Parse, measure, print, draw."""
    args = parse_args()
    try:
        cfgs = {text: encoding(text) for text in args.encodings}
        dims = Dims(args.heads * args.head_dims, args.heads, 1, (args.train, args.train))
        curves = {
            text: mean_bias(
                random_encoding(cfg, dims, seed=args.seed), dims, args.sides, seed=args.seed
            )
            for text, cfg in cfgs.items()
        }
        save(draw_growth(curves, args.sides, args.train), args.out)
    except (argparse.ArgumentTypeError, KeyError, TypeError, ValueError) as error:
        raise SystemExit(f"error: {error.args[0]}") from None
    width = max(map(len, curves))
    print(f"{'n':{width}}", *(f"{side:9}" for side in args.sides))
    for text, values in curves.items():
        print(f"{text:{width}}", *(f"{value:9.4f}" for value in values))
    print(f"{args.out}: mean |bias| in logits on n x n patches")


if __name__ == "__main__":
    main()
