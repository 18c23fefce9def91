"""Stand-in for `mmcv._ext`, mmcv's compiled ops: the same calls, answered by torchvision.

Loaded under the name `mmcv._ext` where mmcv was installed without compiled ops. Signatures are
those of mmcv's pybind layer, since mmcv's own autograd functions call them by keyword. Runs
wherever torchvision does: CPU and CUDA.
"""

from collections.abc import Callable
from typing import NoReturn

import torch
import torchvision
from torch import Tensor

REMEDY = (
    "Install mmcv with its ops: `pip install --no-build-isolation --force-reinstall --no-deps "
    "onedl-mmcv` (needs torch, ninja and a compiler), or a prebuilt mmcv wheel for your torch."
)


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Return the indices of the boxes (x1, y1, x2, y2) kept, best score first.

    `offset` = 1 counts the last pixel in, width = x2 - x1 + 1, for areas and overlaps alike. Moving
    x2 and y2 by one says the same to torchvision, whose width is x2 - x1.
    """
    if offset:
        boxes = boxes + boxes.new_tensor([0, 0, offset, offset])
    return torchvision.ops.nms(boxes, scores, iou_threshold)


def _require_avg(pool_mode: int) -> None:
    if pool_mode == 0:
        raise NotImplementedError(f"RoIAlign with pool_mode='max' needs compiled ops. {REMEDY}")


def roi_align_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    *,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Write average-pooled RoI features to `output`; computed in float32 or wider."""
    _require_avg(pool_mode)
    dtype = torch.promote_types(input.dtype, torch.float32)
    output.copy_(
        torch.ops.torchvision.roi_align(
            input.to(dtype),
            rois.to(dtype),
            spatial_scale,
            aligned_height,
            aligned_width,
            sampling_ratio,
            aligned,
        )
    )


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    *,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Write the gradient of `roi_align_forward` with respect to its input to `grad_input`."""
    _require_avg(pool_mode)
    dtype = torch.promote_types(grad_output.dtype, torch.float32)
    grad_input.copy_(
        torch.ops.torchvision._roi_align_backward(
            grad_output.to(dtype),
            rois.to(dtype),
            spatial_scale,
            aligned_height,
            aligned_width,
            *grad_input.shape,
            sampling_ratio,
            aligned,
        )
    )


def get_compiler_version() -> str:
    """Answer mmcv's report of the environment."""
    return f"none (ops of torchvision {torchvision.__version__})"


def get_compiling_cuda_version() -> str:
    """Answer mmcv's report of the environment."""
    return get_compiler_version()


def __getattr__(name: str) -> Callable[..., NoReturn]:
    # mmcv asserts at import time that every op exists, so the error waits for the call.
    if name.startswith("__"):
        raise AttributeError(name)

    def missing(*_args: object, **_options: object) -> NoReturn:
        raise NotImplementedError(f"The op '{name}' of mmcv needs compiled ops. {REMEDY}")

    return missing
