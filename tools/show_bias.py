"""Draw what an encoding adds to the logits, and what attention makes of it, on a picture."""

import argparse
from pathlib import Path

from mmengine.logging import MMLogger

from mmplugins.engine.launch import add_model_options, plain_errors, read_config
from mmplugins.visualise.page import save
from mmplugins.visualise.show import MOST, Choice, show

DESCRIPTION = """
Draws the logit bias and the attention of chosen patches, by layer and head, as one PNG.

Any config of mmdet or mmseg whose model has attention of mmplugins: the encoder of DETR and
Conditional DETR, the ViT of Mask R-CNN and UperNet. The picture goes through the config's own
test pipeline and the whole model; without a checkpoint the weights are random.

Each map is scaled to its own range, which is printed below it. Patches that the query cannot
read, all outside of its window and padding where the model masks it, are grey. Patches are
counted from 0, height first, as beside the drawn picture.
"""
EPILOG = """
examples:
  three patches, first, middle and last layer, mean of the heads and each head
    python tools/show_bias.py CONFIG CHECKPOINT photo.jpg
  two patches of your own, one layer, some heads
    python tools/show_bias.py CONFIG CHECKPOINT photo.jpg --queries 3,10 12,8 --layers 5
        --heads mean 0 3
  figure 4 of the SaPE2 paper: the bias of every patch, where white is near
    python tools/show_bias.py CONFIG CHECKPOINT photo.jpg --queries all --what bias --invert
  the same layers with another option, random weights
    python tools/show_bias.py CONFIG photo.jpg
        --cfg-options model.backbone.position_encodings.0.gate=v
"""


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_model_options(parser)
    add = parser.add_argument
    add("checkpoint", nargs="?", help="its weights; random if left out")
    add("image", help="a picture file")
    add(
        "--queries",
        nargs="+",
        default=(),
        metavar="Y,X",
        help=f"patches, or `all` for a mosaic of maps, at most {MOST} beside each other: of larger "
        "grids every second or third patch [the middle and two more]",
    )
    add(
        "--layers",
        nargs="+",
        type=int,
        default=(),
        metavar="N",
        help="attention layers, from 0 [first, middle, last]",
    )
    add(
        "--heads",
        nargs="+",
        default=(),
        metavar="N",
        help="numbers from 0, `mean` over the heads, or `all` [mean all; of a mosaic: mean]",
    )
    add("--what", choices=["bias", "attention", "both"], default="both", help="[%(default)s]")
    add("--invert", action="store_true", help="draw small biases white, as distances look near")
    add("--device", default="cpu", help="cpu or cuda [%(default)s]")
    add("--out", type=Path, default=Path("bias.png"), metavar="PNG", help="[%(default)s]")
    return parser.parse_args()


def main() -> None:
    """Parse, look, draw."""
    with plain_errors():
        args = parse_args()
        MMLogger.get_instance("show_bias", log_level="ERROR")
        choice = Choice(args.queries, args.layers, args.heads, args.what, args.invert)
        figure, words = show(
            read_config(args.config, args.cfg_options),
            args.image,
            choice,
            checkpoint=args.checkpoint,
            device=args.device,
            trust=args.trust_checkpoint,
        )
        save(figure, args.out)
    print(f"{args.out}: {words[0]}", *words[1:], sep="\n  ")


if __name__ == "__main__":
    main()
