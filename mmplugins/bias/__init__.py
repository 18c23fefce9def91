"""What encodings add inside attention, so that kernels and not encodings decide how to run it."""

from mmplugins.bias.bucketed import BucketedContent, BucketedTable, BucketedValues
from mmplugins.bias.distance import PairwiseDistance
from mmplugins.bias.term import Context, DenseBias, LogitBias, SumBias, SumContext, Term

__all__ = [
    "BucketedContent",
    "BucketedTable",
    "BucketedValues",
    "Context",
    "DenseBias",
    "LogitBias",
    "PairwiseDistance",
    "SumBias",
    "SumContext",
    "Term",
]
