"""Pictures of coloured rectangles on disk, and models of both hosts that find exactly these.

Colours lie so far apart that a mixture of two, as bilinear resizing makes of pixels at a border, is
nearest to the one that it has more of. The models know nothing but the colour of a pixel.
"""

import json
from pathlib import Path

import numpy as np
import torch
from mmdet.models.data_preprocessors import DetDataPreprocessor
from mmdet.models.detectors import BaseDetector
from mmengine.config import Config
from mmengine.model import BaseModule
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from mmseg.models import EncoderDecoder
from mmseg.registry import MODELS
from PIL import Image
from scipy import ndimage
from torch.nn import functional as F

from mmplugins.evaluation.inference.pictures import Pictures

HEIGHT, WIDTH = 160, 224
COLOURS = ((0, 0, 0), (255, 0, 0), (0, 255, 0), (0, 0, 255))  # background first; RGB
NAMES = ("ground", "red", "green", "blue")
MEAN = (12.0, 3.0, 9.0)  # of the normalisation, RGB: nearest to the background
# Left, top, width, height in multiples of 4, and colour; the last one lies at the border.
RECTANGLES = (
    (8, 8, 32, 20, 1),
    (88, 56, 48, 40, 2),
    (100, 104, 20, 16, 3),
    (180, 16, 36, 60, 3),
    (20, 100, 40, 48, 2),
    (192, 120, 32, 40, 1),
)


def labels() -> np.ndarray:
    """What is to be said of each pixel."""
    result = np.zeros((HEIGHT, WIDTH), np.uint8)
    for x, y, w, h, colour in RECTANGLES:
        result[y : y + h, x : x + w] = colour
    return result


def noise(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)


def pictures(folder: Path, host: str, resize: dict | None = None, pixels=None) -> Pictures:
    """One picture of rectangles with its truth, or other `pixels` beside that truth.

    Args:
        folder: new.
        host: "mmdet" or "mmseg".
        resize: options of the test pipeline's Resize.
        pixels: [160, 224, 3].
    """
    folder.mkdir()
    shown = np.array(COLOURS, np.uint8)[labels()] if pixels is None else pixels
    Image.fromarray(shown).save(folder / "one.png")
    pipeline = [dict(type="LoadImageFromFile")]
    pipeline += [dict(type="Resize", **resize)] if resize else []
    if host == "mmdet":
        keys = ("img_id", "scale_factor") if resize else ("img_id",)
        pipeline += [dict(type="PackDetInputs", meta_keys=keys)]
        options = _detection(folder)
    else:
        Image.fromarray(labels()).save(folder / "one_labels.png")
        pipeline += [dict(type="LoadAnnotations"), dict(type="PackSegInputs")]
        options = dict(
            type="BaseSegDataset",
            metainfo=dict(classes=NAMES),
            data_root=str(folder),
            img_suffix="one.png",
            seg_map_suffix="one_labels.png",
            data_prefix=dict(img_path="", seg_map_path=""),
        )
    dataset = dict(options, test_mode=True, pipeline=pipeline)
    cfg = Config(dict(default_scope=host, test_dataloader=dict(dataset=dataset)))
    return Pictures(cfg, originals=True)


def _detection(folder: Path) -> dict:
    annotations = [
        dict(
            **dict(id=n + 1, image_id=1, bbox=[x, y, w, h], area=w * h),
            **dict(category_id=colour, iscrowd=0),
            segmentation=[[x, y, x + w, y, x + w, y + h, x, y + h]],
        )
        for n, (x, y, w, h, colour) in enumerate(RECTANGLES)
    ]
    content = dict(
        images=[dict(id=1, file_name="one.png", height=HEIGHT, width=WIDTH)],
        categories=[dict(id=n, name=NAMES[n]) for n in (1, 2, 3)],
        annotations=annotations,
    )
    (folder / "truth.json").write_text(json.dumps(content))
    return dict(
        type="CocoDataset",
        ann_file=str(folder / "truth.json"),
        data_prefix=dict(img=str(folder)),
        metainfo=dict(classes=NAMES[1:]),
    )


NORMALISED = dict(mean=MEAN, std=(1.0, 1.0, 1.0), bgr_to_rgb=True)


def nearest() -> tuple[torch.Tensor, torch.Tensor]:
    """Weights and bias of logits that are largest for the nearest colour."""
    colours = torch.tensor(COLOURS, dtype=torch.float32) - torch.tensor(MEAN)
    return 2 * colours[:, :, None, None] / 255, -colours.square().sum(1) / 255


class Finder(BaseDetector):
    """Finds every rectangle of one colour, and tells the host's size of it."""

    def __init__(self):
        super().__init__(DetDataPreprocessor(**NORMALISED))
        self.nothing = torch.nn.Parameter(torch.zeros(()))

    def predict(self, batch_inputs, batch_data_samples, rescale=True):
        said = F.conv2d(batch_inputs, *nearest()).argmax(1).numpy()
        found = [self._of(*each) for each in zip(said, batch_data_samples, strict=True)]
        return self.add_pred_to_datasample(batch_data_samples, found)

    def _of(self, said, sample) -> InstanceData:
        height, width = sample.img_shape
        factor = np.tile(sample.scale_factor, 2)
        boxes, classes, masks = [], [], []
        for colour in (1, 2, 3):
            for rows, columns in ndimage.find_objects(ndimage.label(said == colour)[0]):
                if rows.stop <= height and columns.stop <= width:
                    box = np.array([columns.start, rows.start, columns.stop, rows.stop]) / factor
                    boxes.append(box)
                    classes.append(colour - 1)
                    masks.append(_filled(box, sample.ori_shape))
        return InstanceData(
            bboxes=torch.tensor(np.reshape(boxes, (-1, 4))),
            scores=torch.linspace(0.5, 1, len(boxes)),
            labels=torch.tensor(classes, dtype=torch.long),
            masks=torch.tensor(np.reshape(masks, (-1, *sample.ori_shape)), dtype=torch.bool),
        )

    def extract_feat(self, batch_inputs):
        return (batch_inputs,)

    def loss(self, batch_inputs, batch_data_samples):
        raise NotImplementedError("it has nothing to learn")

    def _forward(self, batch_inputs, batch_data_samples=None):
        return self.extract_feat(batch_inputs)


def _filled(box, size):
    """Pixels whose middles lie in the box."""
    y, x = np.indices(size) + 0.5
    left, top, right, bottom = box
    return (x > left) & (x < right) & (y > top) & (y < bottom)


@MODELS.register_module()
class Pixels(BaseModule):
    """A backbone that gives the picture itself, and with `context` the mean of it beside."""

    def __init__(self, context: float = 0.0):
        super().__init__()
        self.context = context

    def forward(self, x):
        return (x + self.context * x.mean((2, 3), keepdim=True),)


def segmenter(context: float = 0.0, **test_cfg: object) -> EncoderDecoder:
    """Says of each pixel which colour it is nearest to; with `context` of all the picture's."""
    init_default_scope("mmseg")
    model = EncoderDecoder(
        backbone=dict(type="Pixels", context=context),
        decode_head=dict(
            **dict(type="FCNHead", in_channels=3, channels=3, num_classes=len(COLOURS)),
            **dict(num_convs=0, concat_input=False, in_index=0, dropout_ratio=0),
        ),
        data_preprocessor=dict(type="SegDataPreProcessor", **NORMALISED),
        test_cfg=Config(test_cfg or dict(mode="whole")),
    )
    weight, bias = nearest()
    model.decode_head.conv_seg.weight.data, model.decode_head.conv_seg.bias.data = weight, bias
    return model.eval()
