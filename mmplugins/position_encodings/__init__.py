"""Every position encoding, one idea a file."""

from mmplugins.position_encodings.base import (
    AttentionEncoding,
    Dims,
    PositionEncoding,
    TokenEncoding,
)
from mmplugins.position_encodings.cope import CoPE
from mmplugins.position_encodings.irpe import IRPE
from mmplugins.position_encodings.learned import LearnedAPE
from mmplugins.position_encodings.log_cpb import LogCPB
from mmplugins.position_encodings.peg import PEG, QKPEG
from mmplugins.position_encodings.relative_bias import RelativePositionBias
from mmplugins.position_encodings.rope import RoPE
from mmplugins.position_encodings.sape2 import SaPE2
from mmplugins.position_encodings.sincos import DetrSine, SinCos2D

__all__ = [
    "IRPE",
    "PEG",
    "QKPEG",
    "AttentionEncoding",
    "CoPE",
    "DetrSine",
    "Dims",
    "LearnedAPE",
    "LogCPB",
    "PositionEncoding",
    "RelativePositionBias",
    "RoPE",
    "SaPE2",
    "SinCos2D",
    "TokenEncoding",
]
