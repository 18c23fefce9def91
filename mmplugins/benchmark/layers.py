"""One attention layer to be measured: from q, k and v to the output before its projection.

What is timed are the encoding's terms and the attention itself, by `attend` as in every model of
ours. The geometry is made anew in each step, though in a model all layers of a pass share it;
straightforward forms have it made beforehand. Modules are in training mode, without dropout.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from mmplugins.attention import Terms, attend
from mmplugins.benchmark.cases import PLAIN, STRAIGHTFORWARD, Row, Shape
from mmplugins.benchmark.straightforward import FORMS, Core, plain
from mmplugins.bias import LogitBias
from mmplugins.grid import TokenGrid
from mmplugins.position_encodings.base import Dims
from mmplugins.position_encodings.builder import build_attention_encodings

DTYPES = ("float32", "bfloat16", "float16", "float64")


class Layer:
    """The layer of `row` at `shape`, with the same numbers for all rows of an encoding.

    Parameters are drawn so that none is zero. In half precision q, k and v are such, and parameters
    are not, as under autocast, which it runs under.
    """

    def __init__(self, shape: Shape, row: Row, *, device: str = "cpu", dtype: str = "float32"):
        torch.manual_seed(0)
        self.device, self.dtype = device, getattr(torch, dtype)
        tokens, channels = shape.height * shape.width, shape.heads * shape.head_dims
        dims = Dims(channels, shape.heads, 1, (shape.height, shape.width))
        with torch.device(device):
            qkv = torch.randn(shape.batch, tokens, 3 * channels).to(self.dtype)
            self.upstream = torch.randn(shape.batch, tokens, channels)
            encodings = build_attention_encodings(shape.cfgs(row.encoding), dims)
            for parameter in encodings.parameters():
                nn.init.normal_(parameter, std=0.1)
        self.encodings = encodings.to(torch.promote_types(self.dtype, torch.float32))
        # Views as a projection gives them, and leaves whose gradients are asked for.
        q, k, v = (
            t.unflatten(-1, (shape.heads, -1)).transpose(1, 2).requires_grad_()
            for t in qkv.chunk(3, -1)
        )
        self.leaves = {"q": q, "k": k, "v": v, **dict(self.encodings.named_parameters())}
        self.core = _core(shape, row, self.encodings)

    def forward(self) -> Tensor:
        """The output, without keeping anything for gradients."""
        with torch.no_grad():
            return self._run()

    def forward_backward(self) -> dict[str, Tensor]:
        """The output, and the gradients of q, k, v and all parameters."""
        out = self._run()
        gradients = torch.autograd.grad(out, self.leaves.values(), self.upstream.to(out.dtype))
        return {"output": out.detach(), **dict(zip(self.leaves, gradients, strict=True))}

    def _run(self) -> Tensor:
        half = self.dtype in (torch.bfloat16, torch.float16)
        with torch.autocast(self.device, self.dtype if half else None, enabled=half):
            return self.core(*(self.leaves[name] for name in "qkv"))


STEPS: dict[str, Callable[[Layer], object]] = {
    "forward": Layer.forward,
    "forward + backward": Layer.forward_backward,
}


def _core(shape: Shape, row: Row, encodings: nn.ModuleDict) -> Core:
    if row == PLAIN:
        return plain
    if row.form == STRAIGHTFORWARD:
        (encoding,), (cfg,) = encodings.values(), shape.cfgs(row.encoding)
        return FORMS[cfg["type"]](encoding, height=shape.height, width=shape.width)

    def ours(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        grid = TokenGrid(height=shape.height, width=shape.width, device=q.device)
        acting = list(encodings.values())
        bias = LogitBias.sum([encoding.logit_bias(q, k, v, grid) for encoding in acting])
        for encoding in acting:
            q, k = encoding.rotate(q, k, grid)
        return attend(Terms(q, k, v, bias), grid, acting, kernel=row.form)

    return ours
