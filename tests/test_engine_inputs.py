"""Data are checked before anything is built, and the errors name what is wrong."""

import json
import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from tool_runs import needs_mmpretrain

from mmplugins.engine.inputs import InputError, check_data, check_file, check_model

CONFIGS = Path(__file__).parents[1] / "configs"
CONFIG = """
data_root = "{{$MMPLUGINS_NUCLEI:data/nuclei}}"
default_scope = "mmdet"
train_dataloader = dict(
    dataset=dict(
        type="CocoDataset",
        metainfo=dict(classes=("cat", "dog")),
        data_root=data_root,
        ann_file="annotations.json",
        data_prefix=dict(img="images/"),
    )
)
train_evaluator = [dict(type="CocoMetric", ann_file=data_root + "/annotations.json")]
"""
CLASSES = "train_dataloader.dataset.metainfo.classes"
ANNOTATIONS = dict(
    images=[dict(id=1)],
    categories=[dict(id=3, name="cat"), dict(id=7, name="dog")],
    annotations=[dict(id=10, image_id=1, category_id=3), dict(id=11, image_id=1, category_id=7)],
)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data root without mistakes."""
    monkeypatch.setenv("MMPLUGINS_NUCLEI", str(tmp_path / "data"))
    (tmp_path / "data" / "images").mkdir(parents=True)
    write(tmp_path / "data")
    return tmp_path / "data"


def write(root: Path, **changes) -> None:
    (root / "annotations.json").write_text(json.dumps({**ANNOTATIONS, **changes}))


def config(root: Path, **options) -> Config:
    path = root.parent / "config.py"
    path.write_text(CONFIG)
    cfg = Config.fromfile(path)
    cfg.merge_from_dict(options)
    return cfg


def check(cfg: Config, said: str = "") -> None:
    with pytest.raises(InputError, match=re.escape(said)):
        check_data(cfg, ["train"])


def test_good_data_pass(root: Path) -> None:
    check_data(config(root), ["train", "val"])  # there is no val


def test_dataset_in_a_wrapper_is_found(root: Path) -> None:
    cfg = config(root)
    inner = {**cfg.train_dataloader.dataset, "data_root": "/none"}
    cfg.train_dataloader.dataset = dict(
        type="RepeatDataset", dataset=dict(type="ConcatDataset", datasets=[inner])
    )
    check(cfg, "train_dataloader.dataset.dataset.datasets[0].data_root: `/none` does not exist")


@pytest.mark.parametrize(
    ("missing", "key"),
    [
        ("", "train_dataloader.dataset.data_root"),
        ("annotations.json", "train_dataloader.dataset.ann_file"),
        ("images", "train_dataloader.dataset.data_prefix.img"),
    ],
)
def test_missing_path_names_key_and_variable(root: Path, missing: str, key: str) -> None:
    (root / missing).rename(root.parent / "away")
    path = root / missing
    variable = f"The environment variable MMPLUGINS_NUCLEI is set to `{root}`"
    check(config(root), f"{key}: `{path}` does not exist. {variable}")


def test_unset_variable_is_named(monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    monkeypatch.delenv("MMPLUGINS_NUCLEI")
    check(config(root), "variable MMPLUGINS_NUCLEI is not set, its default is `data/nuclei`")


def test_path_that_no_variable_holds(root: Path) -> None:
    cfg = config(root, **{"train_evaluator.0.ann_file": "/none.json"})
    with pytest.raises(InputError, match=r"train_evaluator.ann_file: `/none.json` does not exist$"):
        check_data(cfg, ["train"])


def test_category_that_the_file_does_not_list(root: Path) -> None:
    write(root, annotations=[*ANNOTATIONS["annotations"], dict(id=12, category_id=4)])
    said = "annotation 12 has category_id 4, which `categories` does not list; it lists [3, 7]"
    check(config(root), f"{root}/annotations.json: {said}")


def test_classes_may_be_some_of_the_file(root: Path) -> None:
    """The hosts' documented way to train on a part of COCO."""
    check_data(config(root, **{CLASSES: ["dog"]}), ["train"])
    names = root / "names.txt"
    names.write_text("dog\n")
    check_data(config(root, **{CLASSES: str(names)}), ["train"])


def test_classes_that_the_file_lacks(root: Path) -> None:
    cfg = config(root, **{CLASSES: ["cow", "dog", "hen"]})
    check(cfg, f"{CLASSES}: cow, hen not among the categories of {root}/annotations.json: cat, dog")


def test_panoptic_annotations_pass(root: Path) -> None:
    segments = [dict(id=5, category_id=3)]
    write(root, annotations=[dict(image_id=1, file_name="1.png", segments_info=segments)])
    check_data(config(root), ["train"])


def test_json_of_a_dataset_in_another_form_passes(root: Path) -> None:
    (root / "annotations.json").write_text("[]")
    check_data(config(root, **{"train_dataloader.dataset.type": "CocoCaptionDataset"}), ["train"])


@pytest.mark.parametrize(
    "options",
    [
        dict(data_root="s3://bucket/coco"),
        dict(ann_file=None),
        dict(ann_file=["a.json", "b.json"]),
        dict(ann_file="https://example.org/a.json", data_prefix=dict(img="s3://bucket/images")),
    ],
)
def test_what_cannot_be_looked_up_passes(root: Path, options: dict) -> None:
    cfg = config(root, **{"train_evaluator.0.ann_file": "s3://bucket/a.json"})
    cfg.train_dataloader.dataset.update(options)
    check_data(cfg, ["train"])


def test_classes_of_the_dataset_type(root: Path) -> None:
    """COCO's own 80 classes where the config names none."""
    cfg = config(root)
    del cfg.train_dataloader.dataset.metainfo
    check_data(cfg, ["train"])
    write(root, categories=[dict(id=3, name="cat"), dict(id=7, name="unicorn")])
    check(cfg, "category_id 7 (`unicorn`), which is not among the classes of")


@pytest.mark.parametrize("text", ["not JSON", "[]", '{"categories": [{"id": 1}]}'])
def test_file_in_another_form(root: Path, text: str) -> None:
    (root / "annotations.json").write_text(text)
    check(config(root), f"dataset.ann_file: `{root}/annotations.json` is not in COCO form")


def classification(root: Path, **dataset: object) -> Config:
    """Two folders of classes, and a model for two; `dataset` changes the config's dataset."""
    for name in ("cat", "dog"):
        (root / "images" / name).mkdir(exist_ok=True)
    dataset = {"type": "CustomDataset", "data_prefix": "images", **dataset, "data_root": str(root)}
    return Config(
        dict(
            default_scope="mmpretrain",
            model=dict(head=dict(num_classes=2)),
            train_dataloader=dict(dataset=dataset),
        )
    )


@needs_mmpretrain
@pytest.mark.parametrize(
    ("dataset", "said"),
    [
        (dict(type="ImageNet"), "2 folders, one for each class, but its dataset has 1000 classes"),
        (dict(metainfo=dict(classes=["cat"])), "but its dataset has 1 classes. For classes of"),
        (dict(data_prefix=dict(img_path="imgs")), "data_prefix.img_path: `"),
        (dict(data_prefix="imgs"), "data_prefix: `"),
    ],
)
def test_folders_of_classes_that_do_not_fit(root: Path, dataset: dict, said: str) -> None:
    check(classification(root, **dataset), said)


@needs_mmpretrain
def test_folders_of_classes_and_the_head(root: Path) -> None:
    cfg = classification(root, metainfo=dict(classes=["cat", "dog"]))
    check_data(cfg, ["train"])
    cfg.model.head.num_classes = 3
    check(cfg, f"`{root}/images` holds 2 folders, one for each class, but model.head.num_classes")
    check_data(classification(root, ann_file="annotations.json"), ["train"])
    check_data(classification(root, with_label=False, type="ImageNet"), ["train"])
    check_data(classification(root, split="train", type="ImageNet"), ["train"])


def test_check_file(tmp_path: Path) -> None:
    check_file("https://example.org/a.pth", "checkpoint")
    check_file(__file__, "checkpoint")
    with pytest.raises(InputError, match=f"checkpoint: no such file `{tmp_path}`"):
        check_file(str(tmp_path), "checkpoint")


@pytest.mark.parametrize(
    ("encoding", "said"),
    [
        (dict(type="SaPE3"), "unknown position encoding `SaPE3`; registered: "),
        (dict(type="SaPE2", num_position=3), "no option `num_position`, did you mean `num_pos"),
        (dict(type="PEG", after=(99,)), "PEG: after=(99,) names block 99, but blocks are 0 to"),
        ('dict(type="PEG")', "position_encodings is a list of dict(type='...', option=...)"),
    ],
)
@pytest.mark.parametrize("leaf", ["detr/detr_r50", "upernet/vit-s16"])
def test_encoding_that_does_not_fit(leaf: str, encoding: dict | str, said: str) -> None:
    (file,) = CONFIGS.glob(f"{leaf}-nope_*.py")
    cfg = Config.fromfile(file)
    check_model(cfg)
    (cfg.model.get("encoder") or cfg.model.backbone).position_encodings = [encoding]
    with pytest.raises(InputError, match=f"^model: .*{re.escape(said)}.*$"):
        check_model(cfg)


@MODELS.register_module()
class Foreign(BaseModel):
    """A model that needs numbers while it is built; `wrong` is a mistake of its own."""

    def __init__(self, *, wrong: bool):
        super().__init__()
        if wrong:
            raise ValueError("wrong")
        self.steps = torch.linspace(0, 1, 3).tolist()

    def forward(self) -> None: ...


@pytest.mark.parametrize("wrong", [True, False])
def test_model_of_others_is_left_to_the_runner(wrong: bool) -> None:
    check_model(Config(dict(default_scope="mmdet", model=dict(type="Foreign", wrong=wrong))))
