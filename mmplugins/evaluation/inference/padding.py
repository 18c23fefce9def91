"""Tell a DETR where the content lies in a canvas: what mode masked_canvas needs.

mmdet's DETR takes what is beyond `img_shape`, counted from the top left corner, for padding: it
makes a mask of it, which attention, in the encoder and to its memory, and the positions go by.
Content elsewhere on a canvas needs another mask, which is put into their places here.

Boxes. The detector is told the content's own size as `img_shape`, [h, w]. The mask's positions make
the boxes that it predicts relative to the content, and its head scales them by `img_shape` and
clips them to it: (left, top, right, bottom) in pixels from the content's corner, the same in every
view if the model is equivariant. In the coordinates of a view they lie at + (x, y) of the content
there, which is the origin of the canvas plus the shift; `batch_input_shape` is the view, and
`scale_factor` is (1, 1), as boxes stay in the network's pixels.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch
import torch.nn.functional as F
from jaxtyping import Bool
from torch import Tensor, nn

from mmplugins.engine.inputs import InputError


def check_told(model: nn.Module) -> None:
    """Refuse a model that cannot be told where the content lies.

    Raises:
        InputError: it is no DETR, Conditional DETR or DAB-DETR, mmdet's or ours.
    """
    if not any(_name(base) == "mmdet.models.detectors.detr.DETR" for base in type(model).__mro__):
        raise InputError(
            f"mode masked_canvas is for DETR-like detectors that take a padding mask, such as DETR "
            f"and ConditionalDETR; {type(model).__name__} is none: use --mode canvas or window"
        )


@contextmanager
def padding_told(model: nn.Module, valid: Sequence[Bool[Tensor, "H W"]]) -> Iterator[None]:
    """While it lasts, a batch of views has content where `valid` is True, and padding elsewhere.

    Args:
        model: a detector with the `pre_transformer` of mmdet's DETR: DETR, Conditional DETR and
            DAB-DETR, mmdet's or ours.
        valid: of each view of the batch.

    Raises:
        InputError: any other model; in the pass, a batch of another number of views.
    """
    check_told(model)
    padded: Tensor | None = None  # [B, h, w]
    original = model.pre_transformer

    def pre_transformer(img_feats: tuple[Tensor, ...], batch_data_samples: Sequence | None = None):
        nonlocal padded
        feat = img_feats[-1]
        if len(feat) != len(valid):
            raise InputError(f"a batch of {len(feat)} views, but {len(valid)} masks of padding")
        outside = ~torch.stack(list(valid)).to(feat.device)
        # A cell is what its first pixel is, as in mmdet.
        padded = F.interpolate(outside[:, None].float(), feat.shape[-2:])[:, 0].bool()
        encoder, decoder = original(img_feats, batch_data_samples)
        tokens = padded.flatten(1)
        if "grid" in encoder:  # ours
            encoder["grid"] = replace(encoder["grid"], valid=~tokens, _shared={})
        else:
            encoder["feat_mask"] = tokens
        return encoder, decoder | dict(memory_mask=tokens)

    # `original` asks for positions with its own mask, or with none, and gets those of ours.
    hook = model.positional_encoding.register_forward_pre_hook(
        lambda module, args, kwargs: ((padded,), {}), with_kwargs=True
    )
    model.pre_transformer = pre_transformer
    try:
        yield
    finally:
        del model.pre_transformer
        hook.remove()


def _name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"
