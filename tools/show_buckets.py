"""Draw which displacements share a bucket of iRPE, and print where each bucket begins."""

import argparse
import re
from pathlib import Path
from typing import get_args, get_type_hints

from mmplugins.grid import TokenGrid
from mmplugins.position_encodings.irpe import SideOptions
from mmplugins.visualise.buckets import bucket_tables, describe, draw_buckets
from mmplugins.visualise.page import save

DESCRIPTION = """
Draws which displacements share a bucket of iRPE, around a query in the middle, as one PNG, and
prints for each table how many buckets it has, how many the grid uses, and where each begins.

Rows are methods and index functions, columns are ratios; cross has two tables, for rows and cols.
"""
EPILOG = """
examples:
  the buckets of the paper's DeiT models: 50, 20, 51 and 28 + 28 of them are used
    python tools/show_buckets.py --method product --ratio 1.9
    python tools/show_buckets.py --method euclidean --ratio 20
    python tools/show_buckets.py --method quantisation --ratio 33
    python tools/show_buckets.py --method cross --ratio 20
  what a larger ratio resolves in DETR, and what clipping does
    python tools/show_buckets.py --grid 25x42 --prefix 0 --ratio 1.9 2 3 --index piecewise clip
"""
CHOICES = {name: get_args(hint) for name, hint in get_type_hints(SideOptions).items()}


def grid_size(text: str) -> tuple[int, int]:
    """(height, width) of `14x14`."""
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if not match or "0" in match.groups():
        raise argparse.ArgumentTypeError(f"a grid is HEIGHTxWIDTH, as in 14x14, not `{text}`")
    return int(match[1]), int(match[2])


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add, methods, indices = parser.add_argument, CHOICES["method"], CHOICES["index"]
    add("--method", nargs="+", choices=methods, default=["product"], help="[product]")
    add("--ratio", nargs="+", type=float, default=[1.9], help="finer with more [1.9]")
    add("--index", nargs="+", choices=indices, default=["piecewise"], help="[piecewise]")
    add("--grid", type=grid_size, default=(14, 14), metavar="HxW", help="in patches [14x14]")
    add("--prefix", type=int, default=1, help="tokens without place, as a class token [1]")
    add("--out", type=Path, default=Path("buckets.png"), metavar="PNG", help="[%(default)s]")
    return parser.parse_args()


def main() -> None:
    """Parse, print, draw."""
    args = parse_args()
    height, width = args.grid
    try:
        grid = TokenGrid(height=height, width=width, prefix=args.prefix)
        rows = [
            [
                table
                for ratio in args.ratio
                for table in bucket_tables(
                    grid, SideOptions(method=method, ratio=ratio, index=index)
                )
            ]
            for method in args.method
            for index in args.index
        ]
        save(draw_buckets(rows, grid), args.out)
    except ValueError as error:
        raise SystemExit(f"error: {error}") from None
    for row in rows:
        for table in row:
            print(describe(table))
    print(f"{args.out}: {height} x {width} patches, {args.prefix} prefix tokens")


if __name__ == "__main__":
    main()
