"""Tell the paired differences between runs of tools/equivariance.py or tools/resolution.py.

python tools/compare.py runs/sape2 runs/none
"""

from mmplugins.evaluation.commands.compare import main

if __name__ == "__main__":
    main()
