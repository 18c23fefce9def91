"""Traces every second case in three ways; prints those that equal eager mode."""

import sys

import torch
from layers import CASES, HEIGHT, WIDTH, Model, case_id, tokens
from mmengine.analysis import get_model_complexity_info
from torch import nn

from mmplugins.grid import TokenGrid


class OnTheGrid(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.model = Model([cfg], prefix=1)

    def forward(self, x):
        return self.model(x, TokenGrid(HEIGHT, WIDTH, 1))


if __name__ == "__main__":
    x = tokens(prefix=1, dtype=torch.float32)
    for cfg in CASES[int(sys.argv[1]) :: 2]:
        model = OnTheGrid(cfg)
        expected = model(x)
        torch.compiler.reset()
        compiled = torch.compile(model, backend="eager", fullgraph=True)
        torch.testing.assert_close(compiled(x), expected)
        exported = torch.export.export(model, (x,)).module()
        torch.testing.assert_close(exported(x), expected)
        # By a trace of TorchScript: how hosts count operations.
        counted = get_model_complexity_info(model, inputs=(x,), show_table=False, show_arch=False)
        assert counted["flops"] > 0
        print("traced", case_id(cfg))
