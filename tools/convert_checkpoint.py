"""Convert a checkpoint of another project to ours, or back: `--list` tells which.

python tools/convert_checkpoint.py deit_small_patch16_224.pth deit-s.pth
"""

from mmplugins.checkpoints.command import main

if __name__ == "__main__":
    main()
