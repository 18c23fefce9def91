"""One HTML file with everything in it: text, tables, plotly.js, figures and pictures.

A policy in the page forbids its browser any request, and all text is escaped.
"""

import base64
import io
import json
from collections.abc import Sequence
from importlib import resources

import plotly
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from PIL import Image
from plotly.offline import get_plotlyjs

from mmplugins import __version__
from mmplugins.report import across, over_shifts, over_sizes
from mmplugins.report.cards import Card
from mmplugins.report.drawing import Plot, looks
from mmplugins.report.facts import limits, provenance
from mmplugins.report.names import names
from mmplugins.report.runs import samples
from mmplugins.report.tables import LEGEND, difference_table, score_table
from mmplugins.report.verdict import Verdict

PLOTS = (
    over_shifts.by_distance,
    over_shifts.directions,
    over_shifts.places,
    over_sizes.by_size,
    over_sizes.did,
    across.blocks,
    across.pareto,
    across.significance,
    across.training,
)
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', sans-serif"


def page(title: str, verdict: Verdict, card: Card) -> str:
    """The whole file."""
    plots = [draw(card) for draw in PLOTS]
    label, look = names(card.models), looks(card)
    pictures = [
        {**each, "model": label[model.name], "content": _small(each["content"])}
        for model in card.models
        for each in samples(model)
    ]
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.lstrip_blocks = True
    return environment.from_string(_part("page.html")).render(
        title=title,
        verdict=verdict,
        scores=score_table(card),
        differences=difference_table(card),
        base=label[card.baseline.name] if card.baseline else None,
        legend=LEGEND,
        long=[name for name, short in label.items() if name != short],
        plots=plots,
        figures=_json(plots),
        pictures=pictures,
        facts=[(label[model.name], model.name, provenance(model)) for model in card.models],
        limits=limits(card),
        look={name: each.colour for name, each in look.items()},
        version=__version__,
        plotly_version=plotly.__version__,
        # parts of this package and a library, no text of others
        style=Markup(_part("page.css")),
        script=Markup(_part("page.js")),
        plotly=Markup(get_plotlyjs()),
    )


def _small(picture: bytes) -> str:
    """As WebP, a fifth of the PNG, in base64; photographs need no exact pixels here."""
    content = io.BytesIO()
    with Image.open(io.BytesIO(picture)) as image:
        image.convert("RGB").save(content, "webp", quality=80)
    return base64.b64encode(content.getvalue()).decode()


def _part(name: str) -> str:
    return (resources.files(__package__) / name).read_text(encoding="utf-8")


def _json(plots: Sequence[Plot]) -> Markup:
    """Figures by plot, choice and panel, and both templates; nothing in it can end a script."""
    content = {
        "templates": {
            "light": _template("#1b2129", "#e2e6ea"),
            "dark": _template("#e6e9ed", "#353c45"),
        },
        "plots": {
            plot.name: [
                [{"title": panel.title, **_figure(panel.figure)} for panel in choice.panels]
                for choice in plot.choices
            ]
            for plot in plots
        },
    }
    text = json.dumps(content, allow_nan=False)
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def _figure(figure) -> dict:
    """As plotly.js reads it, without the template of plotly.py."""
    plain = json.loads(figure.to_json())
    plain["layout"].pop("template", None)
    return {"data": plain["data"], "layout": plain["layout"]}


def _template(text: str, grid: str) -> dict:
    clear, line = (
        "rgba(0,0,0,0)",
        dict(gridcolor=grid, linecolor=grid, zerolinecolor=grid, title=dict(font=dict(size=13))),
    )
    return {
        "layout": {
            "font": {"family": FONT, "size": 13, "color": text},
            "paper_bgcolor": clear,
            "plot_bgcolor": clear,
            "xaxis": line,
            "yaxis": line,
            "modebar": {"bgcolor": clear, "color": "#808692", "activecolor": text},
        },
        "data": {"bar": [{"error_x": {"color": text}, "error_y": {"color": text}}]},
    }
