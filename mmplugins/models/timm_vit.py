r"""Our ViT as a classifier of timm, whose train.py can then pretrain it.

Importing this module registers `mmplugins_vit`. timm's train.py imports nothing of ours by itself:

    python -c "import runpy, mmplugins.models.timm_vit
    runpy.run_path('train.py', run_name='__main__')" --data-dir data/imagenet \
        --model mmplugins_vit --model-kwargs arch=small 'position_encodings=[{"type":"SaPE2"}]' ...

Weights of the backbone are saved below `backbone.`, as mmpretrain's are.
"""

from collections.abc import Sequence

import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models import register_model
from torch import Tensor, nn

from mmplugins.models.vit import ARCHS, ViT


class ViTClassifier(nn.Module):
    """`ViT`, the mean of its last map, one linear layer; options as of `ViT` and of timm."""

    def __init__(
        self,
        *,
        arch: str | dict = "small",
        img_size: int | tuple[int, int] = 224,
        in_chans: int = 3,
        num_classes: int = 1000,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        position_encodings: Sequence[dict] = (),
    ):
        super().__init__()
        known = arch if isinstance(arch, dict) else ARCHS.get(arch, {})
        self.backbone = ViT(
            arch,
            out_indices=(known.get("depth", 1) - 1,),  # without one, ViT tells what it needs
            img_size=img_size,
            in_channels=in_chans,
            drop_path_rate=drop_path_rate,
            position_encodings=position_encodings,
        )
        self.backbone.init_weights()
        self.drop = nn.Dropout(drop_rate)
        self.head = nn.Linear(self.backbone.dims.embed_dims, num_classes)
        nn.init.trunc_normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)
        self.num_classes = num_classes
        height, width = (img_size, img_size) if isinstance(img_size, int) else img_size
        self.pretrained_cfg = dict(  # where timm's scripts look for the size and form of the data
            input_size=(in_chans, height, width),
            interpolation="bicubic",
            mean=IMAGENET_DEFAULT_MEAN,
            std=IMAGENET_DEFAULT_STD,
        )

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, num_classes] of images [B, in_chans, H, W]."""
        return self.head(self.drop(self.backbone(x)[-1].mean(dim=(2, 3))))

    @torch.jit.ignore
    def no_weight_decay(self) -> set[str]:
        """Encodings, beside the norms and biases that timm itself exempts."""
        return {name for name, _ in self.named_parameters() if ".pos." in name}

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute blocks in the backward pass."""
        self.backbone.with_cp = enable


@register_model
def mmplugins_vit(
    pretrained: bool = False,
    pretrained_cfg: object = None,
    pretrained_cfg_overlay: object = None,
    cache_dir: object = None,
    **options: object,
) -> ViTClassifier:
    """What `timm.create_model` calls, which also passes on where weights might be.

    Raises:
        ValueError: `pretrained`, since there are none.
    """
    if pretrained:
        raise ValueError("mmplugins_vit has no public weights: leave out --pretrained")
    return ViTClassifier(**options)
