"""Position encoding generator of CPVT: a convolution over the tokens.

PEG, after a block:                   x <- x + F(x)       F: depthwise 3 x 3, zero padding, bias
QKPEG, in every attention layer:      q = W_q (x + F(x)), k = W_k (x + F(x)), v = W_v x

Source: https://arxiv.org/abs/2102.10882. PEG acts on the tokens after block 0, or before or after
any others; QKPEG on what q and k are projected from. Both read the tokens of the neighbourhood,
and, with zero padding, where the grid ends. The same kernel serves any grid. One residual goes
around all layers of F, whose forms and paddings are defined in `neighbourhood.py`; the form for
DETR (the paper's algorithm 2) is norm='batch', act='relu'.

Deviations: patches that are not valid count as zeros, so that an image's tokens do not depend on
what it is batched with, and batch norm's statistics are those of valid patches; the initialisation
fan_out is that of Twins (https://arxiv.org/abs/2104.13840), since CPVT's was never published; with
padding_mode='valid' the code alone is missing at the border, while the authors' ablation shrank the
picture and so lost the residual too (https://github.com/Meituan-AutoML/CPVT/issues/3).
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from mmplugins.grid import TokenGrid
from mmplugins.position_encodings.base import AttentionEncoding, Dims, TokenEncoding
from mmplugins.position_encodings.neighbourhood import (
    Act,
    Conv,
    ConvOptions,
    ConvStack,
    Init,
    Norm,
    Padding,
)
from mmplugins.registry import POSITION_ENCODINGS


@POSITION_ENCODINGS.register_module()
class PEG(TokenEncoding):
    """Conditional encoding, with parameters of its own at each of the places `after`.

    Args:
        dims: shape facts.
        kernel_size: k, odd; with 1 it reads no position at all.
        after: blocks after which it acts, -1 before the first. The paper's "0-5" are the five
            places 0 to 4, by the footnote of its table 5.
        conv: depthwise, separable (depthwise, then pointwise) or dense.
        num_layers: convolutions, one after the other.
        padding_mode: what comes beyond the border: zeros, circular, replicate, reflect, or valid,
            nothing, where the code is zero if the kernel sticks out.
        bias: whether the convolutions have one; behind them a norm has it instead.
        norm: none or batch, after each convolution.
        act: none, relu or gelu, after each norm.
        frozen: keep the random convolutions as they are, the paper's control.
        init: fan_out, or zero: at first the model is the one without encoding.

    Raises:
        ValueError: an option of another value, or a combination that never learns.
    """

    source = "https://arxiv.org/abs/2102.10882"
    reads = "neighbouring tokens, and the border"
    cost = "N k^2 C"
    equivariant = frozenset({"canvas"})
    other_grid = "same kernel"
    examples = (
        {},
        {"kernel_size": 1},
        {"kernel_size": 5, "after": (-1, 1), "conv": "separable", "padding_mode": "circular"},
        {"conv": "dense", "padding_mode": "reflect", "norm": "batch", "act": "relu"},
        {"num_layers": 2, "padding_mode": "replicate", "act": "gelu", "bias": False},
        {"padding_mode": "valid", "frozen": True},
    )

    def __init__(
        self,
        dims: Dims,
        *,
        kernel_size: int = 3,
        after: Sequence[int] = (0,),
        conv: Conv = "depthwise",
        num_layers: int = 1,
        padding_mode: Padding = "zeros",
        bias: bool = True,
        norm: Norm = "none",
        act: Act = "none",
        frozen: bool = False,
        init: Init = "fan_out",
    ):
        super().__init__(after=after)
        options = ConvOptions(
            kernel_size, conv, num_layers, padding_mode, bias, norm, act, frozen, init
        )
        self.layers = ConvStack(dims.embed_dims, options)
        self.equivariant = options.equivariant
        self.folded = False

    def reset_parameters(self) -> None:
        """As `init` says."""
        self.layers.reset_parameters()

    def forward(self, x: Float[Tensor, "B N C"], grid: TokenGrid) -> Float[Tensor, "B N C"]:
        """The tokens plus their code; those of the prefix and of padding stay as they are."""
        prefix, patches = grid.split(x)
        # Autocast would round the tokens themselves to half precision.
        folded = self.folded and not torch.is_autocast_enabled(x.device.type)
        code = self.layers(patches, grid, plus_identity=folded)
        if not folded:
            patches = patches + code
        else:
            patches = code if grid.valid is None else code.where(grid.valid[..., None], patches)
        return torch.cat([prefix, patches], dim=1) if grid.prefix else patches

    def fold(self) -> "PEG":
        """Let the kernel add the tokens: one pass over them less, and the same result.

        The 1 is added to the kernel in each forward pass: parameters keep their meaning, so that a
        folded encoding can be trained, saved and loaded like any other.

        Raises:
            ValueError: no single kernel does what the options say.
        """
        options = self.layers.options
        for option, kept in {
            "conv": ("depthwise", "dense"),
            "num_layers": (1,),
            "padding_mode": ("zeros", "circular", "replicate", "reflect"),
            "norm": ("none",),
            "act": ("none",),
        }.items():
            value = getattr(options, option)
            if value not in kept:
                raise ValueError(
                    f"PEG: fold() needs {option} {' or '.join(map(str, kept))}, not {value}"
                )
        self.folded = True
        return self


@POSITION_ENCODINGS.register_module()
class QKPEG(AttentionEncoding):
    """Conditional encoding of queries and keys, the paper's ablation; options are those of PEG.

    In windows its picture is the window, so that borders of windows look like those of the image.

    Raises:
        ValueError: options as in PEG; in the forward pass, a grid whose mask tells regions apart.
    """

    source = "https://arxiv.org/abs/2102.10882"
    reads = "neighbouring tokens, and the border"
    cost = "N k^2 C"
    equivariant = frozenset({"canvas"})
    other_grid = "same kernel"
    examples = ({}, {"conv": "separable", "padding_mode": "circular", "norm": "batch"})

    def __init__(
        self,
        dims: Dims,
        *,
        kernel_size: int = 3,
        conv: Conv = "depthwise",
        num_layers: int = 1,
        padding_mode: Padding = "zeros",
        bias: bool = True,
        norm: Norm = "none",
        act: Act = "none",
        frozen: bool = False,
        init: Init = "fan_out",
    ):
        super().__init__()
        options = ConvOptions(
            kernel_size, conv, num_layers, padding_mode, bias, norm, act, frozen, init
        )
        self.layers = ConvStack(dims.embed_dims, options)
        self.equivariant = options.equivariant

    def reset_parameters(self) -> None:
        """As `init` says."""
        self.layers.reset_parameters()

    def inputs(self, x: Float[Tensor, "B N C"], grid: TokenGrid) -> Float[Tensor, "B N C"]:
        """The code of the patches; zero for prefix tokens and padding."""
        if grid.mask is not None:
            raise ValueError("QKPEG: a convolution cannot keep the regions of a mask apart")
        code = self.layers(grid.split(x)[1], grid)
        return F.pad(code, (0, 0, grid.prefix, 0))
