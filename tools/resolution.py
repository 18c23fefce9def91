"""Measure any detector or segmenter of OpenMMLab at other sizes than it was trained at.

python tools/resolution.py CONFIG CHECKPOINT --sizes 0.5:2 --mode resize,extent --out runs/ape
"""

from mmplugins.evaluation.commands.resolution import main

if __name__ == "__main__":
    main()
