"""Makes the embedded synthetic benchmark: `python tools/make_benchmark.py --help`."""

import argparse
import os
from pathlib import Path

from mmplugins.datasets.crops import CropOptions, make_crops
from mmplugins.datasets.generate import BenchmarkOptions, make_benchmark
from mmplugins.datasets.preview import save_preview

DESCRIPTION = """
Makes the synthetic benchmark, the same pictures in two forms:

  OUT/coco  train2017/ val2017/ annotations/instances_{train,val}2017.json
  OUT/ade   images/{training,validation}/ annotations/{training,validation}/*.png

and with --crops single objects of 64 x 96 pixels in ImageNet's form, to pretrain backbones on:

  OUT/classification  {train,val}/CLASS/*.png   classes of appearance and arrangement

Its classes come in families, each of which asks one thing of a position encoding:

  appearance   disk or triangle           look alone: needs no position
  arrangement  hexagon above or below,    where the diamond of its colour lies:
               left or right, near or far needs relative position
  location     star left or right         half of the frame: needs absolute position
  repetition   cross in a pair or array   how many look-alikes are beside it

A second call with equal options finds the benchmark made and returns at once.
A killed run goes on where it stopped.
"""
EPILOG = """
examples:
  python tools/make_benchmark.py --preview preview.png
  python tools/make_benchmark.py --out data/large --train 20000 --val 2000 --jobs 16
  MMPLUGINS_SYNTHETIC=data/large python tools/train.py configs/...   # train on it
  python tools/make_benchmark.py --crops                             # and for configs/pretrain
"""


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    default = BenchmarkOptions()
    add = parser.add_argument
    add("--out", type=Path, default=Path("data/synthetic"), help="folder to make (%(default)s)")
    add("--train", type=int, default=default.train, help="training scenes (%(default)s)")
    add("--val", type=int, default=default.val, help="validation scenes (%(default)s)")
    add(
        "--size",
        type=int,
        nargs=2,
        metavar=("HEIGHT", "WIDTH"),
        default=[default.height, default.width],
        help=f"pixels ({default.height} {default.width}); objects keep their size",
    )
    add("--seed", type=int, default=default.seed, help="another seed, other scenes (%(default)s)")
    add("--jobs", type=int, default=os.cpu_count(), help="processes (%(default)s, all cores)")
    add("--overwrite", action="store_true", help="replace another benchmark, its crops too")
    add(
        "--crops",
        type=int,
        nargs="?",
        const=CropOptions().train,
        metavar="COUNT",
        help=f"also draw COUNT ({CropOptions().train}) training crops of each class, and a fourth "
        "as many to validate",
    )
    add("--preview", type=Path, metavar="PNG", help="also draw the families and some scenes")
    return parser.parse_args()


def crop_options(args: argparse.Namespace) -> CropOptions | None:
    """What `--crops` asks for; None without it."""
    if args.crops is None:
        return None
    return CropOptions(train=args.crops, val=max(args.crops // 4, 1), seed=args.seed)


def main() -> None:
    """Parse, make, report."""
    args = parse_args()
    height, width = args.size
    try:
        options = BenchmarkOptions(
            train=args.train, val=args.val, height=height, width=width, seed=args.seed
        )
        crops = crop_options(args)
        how = dict(jobs=args.jobs, overwrite=args.overwrite)
        out = make_benchmark(args.out, options, **how)
        if crops:
            make_crops(out / "classification", crops, **how)
    except (ValueError, FileExistsError) as error:
        raise SystemExit(f"make_benchmark: {error}") from None
    print(f"{out}: {args.train} training and {args.val} validation scenes")
    if crops:
        print(f"{out / 'classification'}: {crops.train} and {crops.val} crops of each class")
    if args.preview:
        save_preview(out, args.preview)
        print(f"{args.preview}: a picture of the families")


if __name__ == "__main__":
    main()
