"""Learning rates fall with depth, and encodings are not decayed."""

import pytest
from mmengine.optim import OptimWrapper, build_optim_wrapper
from torch import nn

from mmplugins.models.vit import ViT

LR, DECAY, RATE, DEPTH = 1.0, 0.1, 0.5, 3


class Model(nn.Module):
    def __init__(self, **options):
        super().__init__()
        self.backbone = ViT(
            dict(embed_dims=8, depth=DEPTH, num_heads=2),
            img_size=32,
            out_indices=(DEPTH - 1,),
            position_encodings=[
                dict(type="LearnedAPE"),
                dict(type="PEG", after=(1,)),
                dict(type="SaPE2"),
            ],
        )
        self.head = nn.Linear(8, 2)


def wrap(model: nn.Module, **paramwise_cfg) -> OptimWrapper:
    return build_optim_wrapper(
        model,
        dict(
            optimizer=dict(type="AdamW", lr=LR, weight_decay=DECAY),
            constructor="LayerDecayOptimWrapperConstructor",
            paramwise_cfg=paramwise_cfg,
        ),
    )


def rules(model: nn.Module, wrapper: OptimWrapper) -> dict[str, tuple[float, float]]:
    """(learning rate, weight decay) by parameter; each is in one group."""
    groups = {id(p): group for group in wrapper.param_groups for p in group["params"]}
    assert len(groups) == sum(len(group["params"]) for group in wrapper.param_groups)
    return {
        name: (groups[id(p)]["lr"], groups[id(p)]["weight_decay"])
        for name, p in model.named_parameters()
    }


@pytest.mark.family
def test_rates_fall_with_depth_and_encodings_do_not_decay() -> None:
    model = Model()
    found = rules(model, wrap(model, layer_decay_rate=RATE, norm_decay_mult=0.0))
    for name, power, decay in [
        ("head.weight", 0, DECAY),
        ("backbone.norm.weight", 0, 0.0),
        ("backbone.blocks.2.attn.qkv.weight", 1, DECAY),
        ("backbone.blocks.2.attn.pos.sape2.table_x", 1, 0.0),
        ("backbone.pos.1.peg.layers.0.conv.weight", 2, 0.0),
        ("backbone.blocks.0.norm1.weight", 3, 0.0),
        ("backbone.blocks.0.mlp.fc1.weight", 3, DECAY),
        ("backbone.patch_embed.proj.weight", 4, DECAY),
        ("backbone.pos.-1.learnedape.table", 4, 0.0),
    ]:
        assert found[name] == (pytest.approx(LR * RATE**power), decay), name


def test_custom_keys_multiply() -> None:
    model = Model()
    keys = {"blocks.2.mlp": dict(lr_mult=0.1, decay_mult=2.0)}
    found = rules(model, wrap(model, layer_decay_rate=RATE, custom_keys=keys))
    rate, decay = found["backbone.blocks.2.mlp.fc1.weight"]
    assert (rate, decay) == (pytest.approx(LR * RATE * 0.1), pytest.approx(2 * DECAY))
    assert found["backbone.blocks.2.attn.qkv.weight"] == (pytest.approx(LR * RATE), DECAY)


@pytest.mark.parametrize("rate", [None, 0.0, 1.5])
def test_rate_out_of_range_is_refused(rate: float | None) -> None:
    options = {} if rate is None else dict(layer_decay_rate=rate)
    with pytest.raises(ValueError, match=r"layer_decay_rate must be in \(0, 1\], not"):
        wrap(Model(), **options)


def test_backbone_without_depths_is_refused() -> None:
    model = Model()
    model.backbone = nn.Linear(2, 2)
    with pytest.raises(TypeError, match=r"Linear lacks: use mmplugins\.ViT"):
        wrap(model, layer_decay_rate=RATE)
