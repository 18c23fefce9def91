"""The encoding that the guide adds passes the contract, and is an encoding like all others."""

import importlib.util
import re
import sys
from pathlib import Path

import pytest
import test_contract as contract
import torch

from mmplugins import catalogue
from mmplugins.grid import TokenGrid
from mmplugins.models.vit import ViT
from mmplugins.position_encodings import Dims
from mmplugins.registry import POSITION_ENCODINGS

GUIDE = Path(contract.__file__).parents[1] / "mmplugins/position_encodings/README.md"
CFG = {"type": "ALiBi2D"}


@pytest.fixture(scope="module", autouse=True)
def alibi(tmp_path_factory):
    """The guide's file, imported for these tests alone."""
    (code,) = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    file = tmp_path_factory.mktemp("guide") / "alibi_of_the_guide.py"
    file.write_text(code)
    spec = importlib.util.spec_from_file_location(file.stem, file)
    module = importlib.util.module_from_spec(spec)
    sys.modules[file.stem] = module
    spec.loader.exec_module(module)
    yield module
    del POSITION_ENCODINGS.module_dict["ALiBi2D"], sys.modules[file.stem]


def test_it_is_what_its_equation_says(alibi):
    encoding = alibi.ALiBi2D(Dims(embed_dims=8, num_heads=2, depth=1, grid=(4, 5), prefix=1))
    grid, q = TokenGrid(3, 4, prefix=1), torch.randn(1, 2, 13, 4)
    bias = encoding.logit_bias(q, q, q, grid).dense()[0]
    for i in range(13):
        for j in range(13):
            (yi, xi), (yj, xj) = divmod(i - 1, 4), divmod(j - 1, 4)
            steps = 0 if 0 in (i, j) else abs(yi - yj) + abs(xi - xj)
            torch.testing.assert_close(bias[:, i, j], -torch.tensor([0.5, 0.25]) * steps)


@pytest.mark.parametrize(
    ("check", "options"),
    [
        (contract.test_keeps_shape_and_dtype, dict(prefix=2, dtype=torch.bfloat16)),
        (contract.test_every_parameter_learns, dict(prefix=1)),
        (contract.test_kernels_agree, dict(prefix=1, masked=True)),
        (contract.test_holds_what_it_claims_of_equivariance, dict(shift=(1, 2))),
        (contract.test_gradients_are_right, {}),
        (contract.test_padding_stays_out, {}),
        (contract.test_one_full_window_is_global, {}),
        (contract.test_windows_do_not_see_each_other_nor_their_filling, {}),
        (contract.test_state_dict_holds_what_is_learned, {}),
        (contract.test_initialises_itself_after_a_hostile_host, {}),
        (contract.test_meta_construction, {}),
    ],
)
def test_it_passes_the_contract(check, options):
    check(CFG, **options)


def test_models_and_the_table_find_it():
    arch = dict(embed_dims=16, depth=2, num_heads=2)
    vit = ViT(arch, position_encodings=[CFG], out_indices=(1,))
    assert vit(torch.rand(1, 3, 64, 48))[0].shape == (1, 16, 4, 3)
    assert "`ALiBi2D` | logits | distances" in catalogue.markdown()
