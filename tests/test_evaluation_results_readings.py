import pytest

from mmplugins.evaluation.results.readings import reading


@pytest.mark.parametrize(
    ("metric", "value", "text", "arrow", "headline"),
    [
        ("AP ResAUC down", 0.834, "83.4", "↑", True),
        ("mIoU ResAUC up", 0.911, "91.1", "↑", True),
        ("AP50 ResAUC up", 0.911, "91.1", "↑", False),
        ("mIoU peak", 1.25, "1.25", "", True),
        ("AP peak/M(1)", 1.034, "103.4", "", True),
        ("AP RR90", 1.333333, "1.33", "↑", True),
        ("AP relative", 0.5, "50.0", "↑", False),
        ("AP_S input", 0.123, "12.3", "↑", False),
        ("AP_S input delta", -0.123, "-12.3", "↑", False),
        ("AP delta", -0.02, "-2.0", "↑", False),
        ("slide-gap", -0.013, "-1.3", "↑", True),
    ],
)
def test_numbers_over_sizes(metric, value, text, arrow, headline):
    read = reading(metric)
    assert (read.text(value), read.arrow, read.headline) == (text, arrow, headline)
    assert read.says
