"""Measure the translation equivariance of any detector or segmenter of OpenMMLab.

python tools/equivariance.py CONFIG CHECKPOINT --subset 32 --out runs/ape
"""

from mmplugins.evaluation.commands.equivariance import main

if __name__ == "__main__":
    main()
