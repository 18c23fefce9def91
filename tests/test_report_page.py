"""The page as a browser shows it: Chromium opens it once, with all that could go wrong in it."""

import json
import os
import shutil
from io import BytesIO

import pytest
from PIL import Image
from playwright.sync_api import sync_playwright
from report_results import write_runs

from mmplugins.report.command import main
from mmplugins.report.drawing import CIVIDIS, ink
from mmplugins.report.page import PLOTS

EVIL = "<img src=x onerror=alert(1)>"
NAMES = ("none", EVIL, "%{x} & $1")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
# The contrast of each text with what lies behind it, by WCAG's formula; least first.
CONTRASTS = """() => {
  const parse = (text) => (text.match(/[\\d.]+/g) || [0, 0, 0, 0]).map(Number);
  const light = ([r, g, b]) => [r, g, b]
    .map((c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, at) => sum + c * [0.2126, 0.7152, 0.0722][at], 0);
  const behind = (element) => {
    for (; element; element = element.parentElement) {
      const colour = parse(getComputedStyle(element).backgroundColor);
      if (colour.length < 4 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const found = [];
  const add = (element, style, colour) => {
    const [a, b] = [light(parse(colour)), light(behind(element))].sort();
    found.push([(b + 0.05) / (a + 0.05), element.textContent.trim().slice(0, 40)]);
  };
  const walker = document.createTreeWalker(document.querySelector("main"), NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || element.closest("noscript, script, style")) continue;
    const style = getComputedStyle(element);
    if (!element.closest("svg")) add(element, style, style.color);
    else if (!element.closest(".heatmap-cells, .textpoint")) add(element, style, style.fill);
  }
  return found.sort((a, b) => a[0] - b[0]);
}"""
CHARTS = """(plot) => [...plot.querySelectorAll(".chart")].map((chart) => ({
  marks: chart.querySelectorAll(
    ".main-svg .scatterlayer .trace, .main-svg .barlayer .point path, .main-svg .heatmaplayer image"
  ).length,
  width: chart.querySelector(".main-svg").getBoundingClientRect().width,
  room: chart.parentElement.clientWidth,
}))"""


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """A report of everything: all plots, a picture, and names that are code elsewhere."""
    folder = tmp_path_factory.mktemp("report")
    runs = write_runs(folder / "runs", names=NAMES)
    samples = runs / "shifts-1" / "samples"
    samples.mkdir()
    content = BytesIO()
    Image.new("RGB", (40, 20), "red").save(content, "png")
    (samples / "0.png").write_bytes(content.getvalue())
    entry = {"file": "0.png", "image": "7", "title": f"Image {EVIL}", "text": "worst of all"}
    (samples / "samples.json").write_text(json.dumps([entry]))
    main([str(runs), "--out", str(folder / "report.html"), "--title", f"Runs {EVIL}"])
    return folder / "report.html"


@pytest.fixture(scope="module")
def browser():
    """Chromium, which CI must have."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        told = "no `chromium` to open the report with"
        pytest.fail(told) if os.environ.get("CI") else pytest.skip(told)
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=found, args=ARGUMENTS)


def opened(browser, report, **options):
    """A page, and everything of which a good page has nothing."""
    page, bad = browser.new_context(**options).new_page(), []
    page.on("console", lambda message: bad.append(message.text))
    page.on("pageerror", lambda error: bad.append(str(error)))
    page.on("dialog", lambda dialog: (bad.append("dialog"), dialog.dismiss()))
    page.on("request", lambda one: one.url.startswith(("file:", "data:")) or bad.append(one.url))
    page.goto(report.as_uri())
    page.wait_for_function("document.querySelectorAll('.js-plotly-plot').length > 0")
    return page, bad


@pytest.fixture(scope="module")
def desk(browser, report):
    page, bad = opened(browser, report, viewport={"width": 1280, "height": 900})
    yield page
    assert bad == []


@pytest.fixture(scope="module")
def phone(browser, report):
    options = dict(is_mobile=True, has_touch=True, color_scheme="dark")
    page, bad = opened(browser, report, viewport={"width": 390, "height": 844}, **options)
    yield page
    assert bad == []


def test_the_page_is_one_file_with_one_plotly(report):
    text = report.read_text(encoding="utf-8")
    assert text.count("* plotly.js v") == 1
    assert "default-src 'none'" in text
    assert {file.name for file in report.parent.iterdir()} == {
        *("report.html", "report.md", "report.csv", "report.json", "runs")
    }


def test_every_choice_of_every_plot_is_drawn(desk):
    plots = desk.query_selector_all(".plot")
    assert len(plots) == len(PLOTS)
    for plot in plots:
        select = plot.query_selector("select")
        options = select.query_selector_all("option") if select else [None]
        for number in range(len(options)):
            if select:
                select.select_option(index=number)
            charts = plot.evaluate(CHARTS)
            assert charts, plot.inner_text()
            for chart in charts:
                assert chart["marks"] > 0, plot.inner_text()
                assert 200 < chart["width"] <= chart["room"] + 1, plot.inner_text()


def column(page, number):
    cells = "rows => rows.map(row => row.cells[{}].innerText.split('\\n')[0])"
    return page.eval_on_selector_all(
        "#scores table:first-of-type >> nth=0 >> tbody tr", cells.format(number)
    )


def heads(page):
    return page.query_selector_all("#scores table >> nth=0 >> thead th")


def test_tables_sort_by_number_and_what_is_missing_comes_last(desk):
    did = [head.inner_text().split()[0] for head in heads(desk)].index("DiD")
    button = heads(desk)[did].query_selector("button")
    button.click()
    assert heads(desk)[did].get_attribute("aria-sort") == "descending"
    down = column(desk, did)
    assert down[-1] == "–"  # noqa: RUF001
    values = [float(text.split()[0]) for text in down[:-1]]
    assert values == sorted(values, reverse=True)
    assert len(set(values)) == 2
    button.focus()
    desk.keyboard.press("Enter")
    assert heads(desk)[did].get_attribute("aria-sort") == "ascending"
    assert column(desk, did) == [*down[:-1][::-1], "–"]  # noqa: RUF001
    desk.keyboard.press("Shift+Tab")  # the head to the left
    desk.keyboard.press("Space")
    sorts = [head.get_attribute("aria-sort") for head in heads(desk)]
    assert sorts[did - 1] == "descending"
    assert sorts.count("none") == len(sorts) - 1


def test_names_sort_as_words(desk):
    heads(desk)[0].query_selector("button").click()
    names = [name.removesuffix("baseline").strip() for name in column(desk, 0)]
    assert sorted(names) == sorted(NAMES)
    assert names[-1] == "none"  # letters after signs


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_all_text_can_be_read(desk, scheme):
    desk.emulate_media(color_scheme=scheme)
    desk.wait_for_timeout(300)
    dark = desk.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (dark == "rgb(255, 255, 255)") == (scheme == "light")
    found = desk.evaluate(CONTRASTS)
    assert len(found) > 250
    assert found[0][0] >= 4.5, found[:5]


def test_texts_on_cells_can_be_read():
    assert {ink(colour) for colour in CIVIDIS} == {"#000000", "#ffffff"}
    assert ink(CIVIDIS[0]) == "#ffffff"
    assert ink(CIVIDIS[-1]) == "#000000"


def test_names_stay_text(desk):
    assert desk.query_selector_all("img[src='x']") == []
    assert desk.title() == f"Runs {EVIL}"
    assert EVIL in desk.inner_text("#scores tbody")
    for plot in ("#distance", "#sizes", "#blocks"):
        legend = desk.eval_on_selector_all(
            f"{plot} .legendtext", "texts => texts.map(text => text.textContent)"
        )
        assert {*NAMES} <= {*legend}, plot
    assert EVIL in desk.inner_text("#directions h4 >> nth=1")


def test_pictures_are_in_the_file(desk):
    size = desk.eval_on_selector("#pictures img", "image => [image.naturalWidth, image.alt]")
    assert size == [40, f"Image {EVIL}"]


def test_a_phone_scrolls_in_one_direction(phone):
    assert phone.evaluate("document.documentElement.scrollWidth") == 390
    assert phone.evaluate("matchMedia('(pointer: coarse)').matches")
    boxes = "boxes => boxes.map(box => box.scrollWidth > box.clientWidth)"
    assert phone.eval_on_selector_all(".scroll", boxes) == [True, True]
    for plot in phone.query_selector_all(".plot"):
        for chart in plot.evaluate(CHARTS):
            assert chart["marks"] > 0
            assert 250 < chart["width"] <= 390, plot.inner_text()
    assert phone.evaluate(CONTRASTS)[0][0] >= 4.5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gone"], "no such file `gone`"),
        (["RUNS", "--out", "report.pdf"], "name a file that ends in .html"),
        (["RUNS", "--out", "gone/report.html"], "a file in a folder that is there"),
        (["RUNS", "--metric", "boxes"], "invalid choice: 'boxes'"),
        (["RUNS", "--baseline", "peg"], "--baseline peg: no such model"),
    ],
)
def test_wrong_input_ends_in_one_line(report, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    runs = str(report.parent / "runs")
    with pytest.raises(SystemExit) as error:
        main([runs if each == "RUNS" else each for each in arguments])
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []
