"""Log-spaced continuous position bias of SwinV2: a small network of the displacement.

    logits[i, j] += 16 sigmoid(M(u(y_i - y_j, H), u(x_i - x_j, W)))
    u(D, S) = sign(D) log2(1 + |8 D / (S - 1)|) / log2(8)
    M(u) = W_2 relu(W_1 u + b_1)                        W_1: F x 2, W_2: h x F, learned

Source: https://arxiv.org/abs/2111.09883, section 3.3. Acts on the logits; reads directed
displacements in patches, in units of the training grid or window, H x W: a displacement has the
same bias at any other grid, where farther ones continue the formula. Deviations: this is the bias
alone, SwinV2's cosine attention is no part of it; pairs with a prefix token, which SwinV2 has not,
share a learned value for each head under the same sigmoid. Computed in fp32 or better.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from mmplugins.bias import BucketedTable
from mmplugins.grid import TokenGrid
from mmplugins.position_encodings.base import AttentionEncoding, Dims
from mmplugins.position_encodings.relative_bias import displacement_bias
from mmplugins.precision import full_precision
from mmplugins.registry import POSITION_ENCODINGS


@POSITION_ENCODINGS.register_module()
class LogCPB(AttentionEncoding):
    """A network for each layer, with `hidden_dims` features F.

    Raises:
        ValueError: a network without features.
    """

    source = "https://arxiv.org/abs/2111.09883"
    reads = "displacements"
    cost = "4 N F h"
    equivariant = frozenset({"canvas"})
    other_grid = "formula"
    examples = ({"hidden_dims": 8},)

    def __init__(self, dims: Dims, *, hidden_dims: int = 512):
        super().__init__()
        if hidden_dims < 1:
            raise ValueError(f"LogCPB: hidden_dims must be positive, not {hidden_dims}")
        self.train_grid = dims.grid
        self.fc1 = nn.Linear(2, hidden_dims)
        self.fc2 = nn.Linear(hidden_dims, dims.num_heads, bias=False)
        self.prefix_logit = nn.Parameter(torch.empty(dims.num_heads)) if dims.prefix else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Weights truncated normal, std 0.02, the rest zero: all biases start near 8."""
        for name, parameter in self.named_parameters():
            if name.endswith("weight"):
                nn.init.trunc_normal_(parameter, std=0.02)
            else:
                nn.init.zeros_(parameter)

    def logit_bias(self, q: Tensor, k: Tensor, v: Tensor, grid: TokenGrid) -> BucketedTable:
        """The network at every displacement of the grid."""
        dtype = torch.promote_types(q.dtype, torch.float32)
        key = ("log_displacements", self.train_grid, dtype)
        u = grid.once(key, lambda: _log_displacements(grid, self.train_grid, dtype))
        with full_precision(q.device):  # half precision is too coarse for logits up to 16
            hidden = F.linear(u, self.fc1.weight.to(dtype), self.fc1.bias.to(dtype)).relu()
            table = 16 * F.linear(hidden, self.fc2.weight.to(dtype)).sigmoid()  # [R, C, h]
        prefix = self.prefix_logit
        prefix = None if prefix is None else 16 * prefix.to(dtype).sigmoid()
        return displacement_bias(table.movedim(-1, 0), prefix, grid)


def _log_displacements(
    grid: TokenGrid, train: tuple[int, int], dtype: torch.dtype
) -> Float[Tensor, "R C 2"]:
    """(u(dy), u(dx)) of every displacement."""
    unit = [max(side - 1, 1) for side in train]  # one patch has no displacement to measure by
    scaled = 8 * grid.displacements.to(dtype) / grid.displacements.new_tensor(unit)
    return scaled.sign() * scaled.abs().log1p() / math.log(8)
