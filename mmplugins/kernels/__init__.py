"""Ways to run softmax(scale * q k^T + bias) v. `eager` is the specification of all others."""

from mmplugins.kernels.choose import KernelCfg, KernelName, KernelOptions, choose_kernel
from mmplugins.kernels.chunked import chunked
from mmplugins.kernels.eager import eager, probabilities
from mmplugins.kernels.sdpa import sdpa

__all__ = [
    "KernelCfg",
    "KernelName",
    "KernelOptions",
    "choose_kernel",
    "chunked",
    "eager",
    "probabilities",
    "sdpa",
]
