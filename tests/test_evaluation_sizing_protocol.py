"""Sizes as users give them, and the plan that follows from them and a model."""

from types import SimpleNamespace

import pytest

pytest.importorskip("mmdet")
pytest.importorskip("mmseg")
from evaluation_engines import config, make_data
from rectangle_scenes import HEIGHT, WIDTH, pictures, segmenter

from mmplugins.engine.inputs import InputError
from mmplugins.evaluation.inference.pictures import Pictures
from mmplugins.evaluation.sizes import SHAPES
from mmplugins.evaluation.sizing.protocol import RATIOS, SizeProtocol, divisor_of, parsed
from mmplugins.visualise.look import build_model


@pytest.mark.parametrize(
    ("text", "short_side", "ratios"),
    [
        ("0.5:2", None, RATIOS),
        ("0.75:1.25", None, (0.75, 0.875, 1, 1.25)),
        ("1:9", 800, (1, 1.25, 1.5, 1.75, 2)),
        ("2,1,0.5,1", None, (0.5, 1, 2)),
        ("400,800,1200", 800, (0.5, 1, 1.5)),
        ("1200,800", 800.0, (1, 1.5)),
        ("600:1200", 800, (0.75, 0.875, 1, 1.25, 1.5)),
        ("800,1", 800, (1 / 800, 1)),  # one pixel
        ("1", None, (1,)),
    ],
)
def test_sizes(text, short_side, ratios):
    assert parsed(text, short_side) == list(ratios)


@pytest.mark.parametrize(
    ("text", "short_side", "said"),
    [
        ("0.5,2", 800, "--sizes 0.5,2: the training size, 1, is missing, which all others are"),
        ("1.25:2", 800, "--sizes 1.25:2: the training size, 1, is missing"),
        ("900:1600", 800, "the training size, a short side of 800 pixels, is missing"),
        ("400,1200", 800, "the training size, a short side of 800 pixels, is missing"),
        ("400,800", None, "are pixels, but the test pipeline names no size in pixels: give ratios"),
        ("", 800, "--sizes: `` is neither like 0.5:2 nor like 0.5,1,2"),
        ("1,", 800, "neither like"),
        ("large", 800, "neither like"),
        ("0.5:1:2", 800, "neither like"),
        ("0.5:", 800, "neither like"),
        ("0,1", 800, "--sizes: `0,1` has a size that is none"),
        ("-1,1", 800, "has a size that is none"),
        ("nan,1", 800, "has a size that is none"),
        ("1,inf", 800, "has a size that is none"),
    ],
)
def test_no_sizes(text, short_side, said):
    with pytest.raises(InputError) as refused:
        parsed(text, short_side)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (dict(modes=()), "--mode: name one at least"),
        (dict(modes=("resize", "warp")), "--mode: no `warp`; there are resize, extent, crop, slid"),
        (dict(modes=("slide",)), "--mode slide is told against resize: name that, too"),
        (dict(sizes="0.5,2"), "the training size, 1, is missing"),
        (dict(sizes="some"), "neither like"),
    ],
)
def test_options_that_do_not_go_together(options, said):
    with pytest.raises(InputError, match=said):
        SizeProtocol(**options)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MMPLUGINS_SYNTHETIC", "set by `config`")
        yield make_data(tmp_path_factory.mktemp("protocol"), images=1)


class TestPlan:
    def test_modes_take_the_sizes_that_they_have(self, tmp_path):
        found = pictures(tmp_path / "some", "mmseg")
        modes = ("resize", "extent", "crop", "slide", "aspect")
        plan = SizeProtocol("0.75:1.5", modes, fill="reflect", divisor=8).plan(segmenter(), found)
        assert plan.facts == {
            "sizes": {
                "resize": ["0.75", "0.875", "1", "1.25", "1.5"],
                "extent": ["1", "1.25", "1.5"],
                "crop": ["0.75", "0.875", "1"],
                "slide": ["1.25", "1.5"],
                "aspect": [*SHAPES],
            },
            "divisor": 8,
            "fill": "reflect",
        }

    @pytest.mark.parametrize("scale", [(300, 200), (200, 300), 200, (float("inf"), 200)])
    def test_pixels_are_of_the_short_side(self, scale, tmp_path):
        found = pictures(tmp_path / "some", "mmseg", dict(scale_factor=1.0, keep_ratio=True))
        (step,) = found._resizing
        step["scale"] = scale
        protocol = SizeProtocol("100,200,300", ("resize",), divisor=16)
        plan = protocol.plan(segmenter(), found)
        assert plan.sets[0].points == ("0.5", "1", "1.5")
        with pytest.raises(InputError, match="a short side of 200 pixels, is missing"):
            SizeProtocol("100,300", divisor=16).plan(segmenter(), found)

    def test_pixels_where_the_pipeline_names_none(self, tmp_path):
        for number, resize in enumerate((None, dict(scale_factor=2.0))):
            found = pictures(tmp_path / str(number), "mmseg", resize)
            with pytest.raises(InputError, match="the test pipeline names no size in pixels"):
                SizeProtocol(f"{HEIGHT},{WIDTH}").plan(segmenter(), found)

    @pytest.mark.parametrize(
        ("sizes", "mode", "said"),
        [
            ("0.5,1", "extent", "--mode extent needs a size above the training size"),
            ("1,2", "crop", "--mode crop needs a size below the training size"),
            ("1", "resize", "--mode resize needs a size beside the training size"),
            ("0.5,1", "slide", "--mode slide needs a size above the training size"),
        ],
    )
    def test_modes_without_a_size(self, sizes, mode, said, tmp_path):
        modes = ("resize", "slide") if mode == "slide" else (mode,)
        found = pictures(tmp_path / "some", "mmseg")
        with pytest.raises(InputError, match=said):
            SizeProtocol(sizes, modes, divisor=16).plan(segmenter(), found)

    def test_detectors_do_not_slide(self):
        protocol = SizeProtocol(modes=("resize", "slide"))
        with pytest.raises(InputError, match="slide is how segmenters look at crops; detectors do"):
            protocol.check(SimpleNamespace(detection=True))
        protocol.check(SimpleNamespace(detection=False))


class TestDivisor:
    @pytest.mark.parametrize("host", ["mask_rcnn", "upernet"])
    def test_is_of_tokens_and_not_of_the_neck(self, host, folder):
        cfg = config(folder, host, [])
        model, found = build_model(cfg), Pictures(cfg)
        assert divisor_of(model, found) == 16
        assert SizeProtocol().plan(model, found).divisor == 16
        assert SizeProtocol(divisor=48).plan(model, found).divisor == 48

    def test_is_of_the_hosts_padding_too(self, folder):
        cfg = config(folder, "mask_rcnn", [])
        model, found = build_model(cfg), Pictures(cfg)
        model.data_preprocessor.pad_size_divisor = 128
        assert divisor_of(model, found) == 128
        model.data_preprocessor.pad_size_divisor = 8
        assert divisor_of(model, found) == 16
        cfg = config(folder, "upernet", [])
        model, found = build_model(cfg), Pictures(cfg)
        model.data_preprocessor.test_cfg = dict(size_divisor=64)
        assert divisor_of(model, found) == 64

    def test_is_asked_for_where_tokens_cannot_be_counted(self, folder):
        cfg = config(folder, "mask_rcnn", [])
        model, found = build_model(cfg), Pictures(cfg)
        model.data_preprocessor.pad_size_divisor = 48  # no multiple of it is read from
        with pytest.raises(InputError, match="how many pixels a token covers is not"):
            SizeProtocol().plan(model, found)
        assert SizeProtocol(divisor=48).plan(model, found).divisor == 48

    def test_of_a_config_that_slides(self, folder):
        cfg = config(folder, "upernet", [])
        cfg.model.test_cfg = dict(mode="slide", crop_size=(64, 64), stride=(48, 48))
        model = build_model(cfg)
        own = model.test_cfg
        assert divisor_of(model, Pictures(cfg)) == 16
        assert model.test_cfg is own
