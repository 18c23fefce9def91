"""The convolutions of PEG, for any padding, aware of each image's valid region.

A layer is act(norm(W * x + b)): W is depthwise (C x k x k), dense (C x C x k x k), or depthwise and
then pointwise (C x C), which alone has the bias. Tokens that are not valid count as zeros before
every convolution, and beyond the bounding rectangle of the valid ones, or the border, come
    zeros:       zeros
    circular:    the opposite end: place y stands for y mod n, n rows or columns in the rectangle
    replicate:   the last row or column: min(max(y, 0), n - 1)
    reflect:     the mirror image, without the last row again: of period 2 (n - 1)
    valid:       nothing: the code is zero where a kernel sticks out or touches what is not valid
The first four are defined for any n and any kernel, unlike those of `torch.nn.functional.pad`.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mmplugins.grid import TokenGrid

Conv = Literal["depthwise", "separable", "dense"]
Padding = Literal["zeros", "circular", "replicate", "reflect", "valid"]
Norm = Literal["none", "batch"]
Act = Literal["none", "relu", "gelu"]
Init = Literal["fan_out", "zero"]
ACTS = {"none": nn.Identity, "relu": nn.ReLU, "gelu": nn.GELU}


@dataclass(frozen=True)
class ConvOptions:
    """Options of a stack of convolutions.

    Raises:
        ValueError: a size that no convolution has, or values that would never learn.
    """

    kernel_size: int
    conv: Conv
    num_layers: int
    padding_mode: Padding
    bias: bool
    norm: Norm
    act: Act
    frozen: bool
    init: Init

    def __post_init__(self):
        if self.kernel_size < 1 or self.kernel_size % 2 == 0:
            raise ValueError(f"PEG: kernel_size must be odd, not {self.kernel_size}")
        if self.num_layers < 1:
            raise ValueError(f"PEG: num_layers must be positive, not {self.num_layers}")
        if self.init == "zero" and self.act == "relu":
            raise ValueError(
                "PEG: init='zero' never learns behind act='relu', whose slope at 0 is 0: use 'gelu'"
            )
        if self.init == "zero" and self.frozen:
            raise ValueError("PEG: init='zero' and frozen=True would encode nothing for ever")

    @property
    def radius(self) -> int:
        """How far a kernel reaches."""
        return self.kernel_size // 2

    @property
    def equivariant(self) -> frozenset:
        """The shifts that commute with the convolutions."""
        endless = self.padding_mode == "circular" or not self.radius
        return frozenset({"canvas", "roll"} if endless else {"canvas"})


class ConvStack(nn.ModuleList):
    """F(x) of each patch, zero where it is not valid."""

    def __init__(self, channels: int, options: ConvOptions):
        super().__init__(ConvLayer(channels, options) for _ in range(options.num_layers))
        self.options = options
        self.reset_parameters()
        self.requires_grad_(not options.frozen)

    def reset_parameters(self) -> None:
        """As `init` says; for zero the last affine map is zero, so that all behind it can learn."""
        for layer in self:
            layer.reset_parameters()
        if self.options.init == "zero":
            nn.init.zeros_((self[-1].norm or self[-1].pointwise or self[-1].conv).weight)

    def forward(
        self, x: Float[Tensor, "B HW C"], grid: TokenGrid, *, plus_identity: bool = False
    ) -> Float[Tensor, "B HW C"]:
        """The code of each patch; plus the patch itself if `plus_identity`."""
        radius, valid = self.options.radius, grid.valid
        for number, layer in enumerate(self, 1):
            x = layer.convolve(_masked(x, valid), grid, plus_identity=plus_identity)
            if self.options.padding_mode == "valid":
                reach = number * radius
                valid = grid.once(("inside", reach), lambda reach=reach: _inside(grid, reach))
            x = layer.activate(x, valid)
        return _masked(x, valid)


class ConvLayer(nn.Module):
    """Convolution, norm and activation."""

    def __init__(self, channels: int, options: ConvOptions):
        super().__init__()
        self.radius, self.padding_mode = options.radius, options.padding_mode
        groups = 1 if options.conv == "dense" else channels
        separable = options.conv == "separable"
        bias = options.bias and options.norm == "none"  # a norm brings its own
        self.conv = nn.Conv2d(
            channels, channels, options.kernel_size, groups=groups, bias=bias and not separable
        )
        self.pointwise = nn.Linear(channels, channels, bias=bias) if separable else None
        self.norm = nn.BatchNorm1d(channels) if options.norm == "batch" else None
        self.act = ACTS[options.act]()

    def reset_parameters(self) -> None:
        """Normal with variance 2 / fan_out, zero biases, a fresh norm."""
        for affine in (self.conv, self.pointwise):
            if affine is not None:
                fan_out = affine.weight[:, 0].numel() // getattr(affine, "groups", 1)
                nn.init.normal_(affine.weight, std=math.sqrt(2 / fan_out))
                if affine.bias is not None:
                    nn.init.zeros_(affine.bias)
        if self.norm is not None:
            self.norm.reset_parameters()

    def convolve(
        self, x: Float[Tensor, "B HW C"], grid: TokenGrid, *, plus_identity: bool
    ) -> Float[Tensor, "B HW C"]:
        """W * x + b over `x` as a picture, or (W + 1) * x + b."""
        # Whole tokens are moved, and a convolution that pads nothing itself is fast on a CPU.
        if self.padding_mode in ("circular", "replicate", "reflect"):
            key = ("continued", self.padding_mode, self.radius)
            index = grid.once(key, lambda: _continued(grid, self.padding_mode, self.radius))
            x = x[torch.arange(x.shape[0], device=x.device)[:, None], index]
            x = x.unflatten(1, (grid.height + 2 * self.radius, grid.width + 2 * self.radius))
        else:
            x = F.pad(x.unflatten(1, (grid.height, grid.width)), [0, 0] + [self.radius] * 4)
        weight = self.conv.weight
        if plus_identity:
            one = torch.eye(len(weight), dtype=weight.dtype, device=weight.device)
            one = one if self.conv.groups == 1 else one.diagonal()[:, None]
            weight = weight + F.pad(one[..., None, None], [self.radius] * 4)
        picture = F.conv2d(x.movedim(-1, 1), weight, self.conv.bias, groups=self.conv.groups)
        x = picture.flatten(2).transpose(1, 2)
        return x if self.pointwise is None else self.pointwise(x)

    def activate(
        self, x: Float[Tensor, "B HW C"], valid: Bool[Tensor, "_ HW"] | None
    ) -> Float[Tensor, "B HW C"]:
        """Norm, of which only valid tokens are a part, and activation."""
        if self.norm is not None:
            if self.training and valid is not None:
                valid = valid.expand(len(x), -1)
                x = torch.zeros_like(x).masked_scatter(valid[..., None], self.norm(x[valid]))
            else:
                x = self.norm(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        return self.act(x)


def _masked(x: Tensor, valid: Bool[Tensor, "_ HW"] | None) -> Tensor:
    return x if valid is None else x.where(valid[..., None], 0)


def _valid_map(grid: TokenGrid) -> Bool[Tensor, "_ H W"]:
    if grid.valid is not None:
        return grid.valid_map
    return torch.ones(1, grid.height, grid.width, dtype=torch.bool, device=grid.coords.device)


def _inside(grid: TokenGrid, reach: int) -> Bool[Tensor, "_ HW"]:
    """Whether all within `reach` of a patch is valid."""
    outside = F.pad((~_valid_map(grid)).float(), [reach] * 4, value=1.0)
    return F.max_pool2d(outside, 2 * reach + 1, stride=1).flatten(1) == 0


def _continued(grid: TokenGrid, mode: Padding, radius: int) -> Int[Tensor, "_ M"]:
    """The patch that stands at each place of the grid extended by `radius` on all sides."""
    valid = _valid_map(grid)
    rows, cols = (_line(valid.any(dim), mode, radius) for dim in (2, 1))
    return (rows[:, :, None] * grid.width + cols[:, None, :]).flatten(1)


def _line(valid: Bool[Tensor, "_ n"], mode: Padding, radius: int) -> Int[Tensor, "_ m"]:
    """The row, or column, that stands at each place of a line extended at both ends."""
    length = valid.shape[1]
    index = torch.arange(length, device=valid.device)
    first = index.where(valid, length - 1).amin(1, keepdim=True)
    count = (index.where(valid, 0).amax(1, keepdim=True) - first + 1).clamp(min=1)
    place = torch.arange(-radius, length + radius, device=valid.device) - first
    period = 2 * (count - 1)
    mirrored = place % period.clamp(min=1)
    inside = {
        "circular": place % count,
        "replicate": place.clamp(min=0).minimum(count - 1),
        "reflect": mirrored.minimum(period - mirrored),
    }[mode]
    return first + inside
