"""What all plots share: the look of each model, and the parts of which plots are made.

Figures say nothing of their text's and grid's colours: the page gives them one of two templates,
for light and for dark. A model has a colour of Okabe and Ito's, a dash, a marker and a hatching of
its own; the baseline is grey.
"""

import html
from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go
from plotly.colors import sample_colorscale, unlabel_rgb

from mmplugins.evaluation.results.figures import COLOURS
from mmplugins.evaluation.results.readings import reading
from mmplugins.evaluation.results.rows import Row
from mmplugins.report.cards import Card
from mmplugins.report.names import names

GREY = "#808692"  # seen on white and on black
DASHES = ("solid", "dash", "dot", "dashdot", "longdash")  # five: no dash keeps to one colour
MARKERS = ("circle", "square", "diamond", "triangle-up", "triangle-down", "cross", "x", "star")
HATCHES = ("", "/", "\\", "x", "-", "|", "+", ".")
HEIGHT = 380
CIVIDIS = sample_colorscale("Cividis", 64)  # even to the eye, for colour-blind people too


@dataclass(frozen=True)
class Panel:
    """One figure, and what it is of where there are several."""

    figure: go.Figure
    title: str = ""


@dataclass(frozen=True)
class Choice:
    """Panels of one metric, which the reader may choose."""

    label: str
    panels: Sequence[Panel]


@dataclass(frozen=True)
class Plot:
    """One plot of the page.

    Attributes:
        name: for links.
        title: what it shows.
        says: how to read it, one sentence.
        missing: what would make it, where there are no choices.
        choices: at least one where there is something to show.
    """

    name: str
    title: str
    says: str
    missing: str
    choices: Sequence[Choice]


@dataclass(frozen=True)
class Look:
    """Of a model in all plots; `text` is its label as plotly is to be given it."""

    label: str
    colour: str
    dash: str
    marker: str
    hatch: str

    @property
    def text(self) -> str:
        """Not to be read as HTML."""
        return plain(self.label)

    @property
    def pale(self) -> str:
        """For areas that others may cross."""
        red, green, blue = (int(self.colour[at : at + 2], 16) for at in (1, 3, 5))
        return f"rgba({red},{green},{blue},0.1)"

    @property
    def line(self) -> dict:
        """Of a trace."""
        return dict(color=self.colour, dash=self.dash, width=2)

    @property
    def points(self) -> dict:
        """Likewise."""
        return dict(color=self.colour, symbol=self.marker, size=8)


def looks(card: Card) -> dict[str, Look]:
    """Of each model, by its name."""
    label, colours = names(card.models), [colour for colour in COLOURS if colour != "#000000"]
    result, first = {}, 0 if card.baseline else 1
    for number, model in enumerate(card.models, first):
        result[model.name] = Look(
            label[model.name],
            colours[(number - 1) % len(colours)] if number else GREY,
            DASHES[number % len(DASHES)],
            MARKERS[number % len(MARKERS)],
            HATCHES[number % len(HATCHES)],
        )
    return result


def plain(text: str) -> str:
    """A text of the results, which plotly would else read as HTML."""
    return html.escape(text, quote=False)


def axis(metric: str) -> str:
    """The title of an axis of values."""
    read = reading(metric)
    return plain(" ".join(part for part in (metric, "[%]" * read.percent, read.arrow) if part))


def scaled(rows: Sequence[Row], metric: str, field: str = "value") -> list[float]:
    """Numbers of rows as they are printed."""
    return [getattr(row, field) * reading(metric).scale for row in rows]


def bars_of(rows: Sequence[Row], metric: str) -> dict:
    """Intervals as error bars."""
    values, low, high = (scaled(rows, metric, field) for field in ("value", "low", "high"))
    return dict(
        type="data",
        symmetric=False,
        array=[top - value for top, value in zip(high, values, strict=True)],
        arrayminus=[value - bottom for bottom, value in zip(low, values, strict=True)],
        thickness=1.2,
        width=3,
    )


def area(x: Sequence[float], low: Sequence[float], high: Sequence[float], look: Look) -> go.Scatter:
    """Between two curves; belongs to a model's line."""
    return go.Scatter(
        x=[*x, *reversed(x)],
        y=[*high, *reversed(low)],
        fill="toself",
        fillcolor=look.pale,
        line=dict(width=0),
        mode="lines",
        hoverinfo="skip",
        showlegend=False,
        legendgroup=look.text,
    )


def figure(x: str, y: str, *, height: int = HEIGHT, **layout) -> go.Figure:
    """An empty one, its legend above."""
    return go.Figure(
        layout=dict(
            height=height,
            margin=dict(l=56, r=12, t=12, b=48),
            legend=dict(orientation="h", x=0, y=1.02, xanchor="left", yanchor="bottom"),
            xaxis=dict(title=dict(text=x), automargin=True),
            yaxis=dict(title=dict(text=y), automargin=True),
            hovermode="closest",
            **layout,
        )
    )


def mark(drawn: go.Figure, at: float) -> None:
    """A thin upright line."""
    drawn.add_vline(at, line=dict(color=GREY, width=1, dash="dot"))


def cells(
    drawn: go.Figure,
    xs: Sequence[str],
    ys: Sequence[str],
    values: Sequence[Sequence[float | None]],
    texts: Sequence[Sequence[str]],
    says: Sequence[Sequence[str]],
    *,
    low: float,
    high: float,
    colours: Sequence[str],
    **options,
) -> None:
    """Cells in steps of `colours`, with texts that can be read on them; None: no cell."""
    edges = [number / len(colours) for number in range(len(colours) + 1)]
    scale = [
        [edge, c] for c, *both in zip(colours, edges, edges[1:], strict=False) for edge in both
    ]
    drawn.add_heatmap(
        **dict(x=xs, y=ys, z=values, zmin=low, zmax=high, colorscale=scale, customdata=says),
        **dict(xgap=1, ygap=1, hovertemplate="%{customdata}<extra></extra>"),
        **options,
    )
    full = [
        (x, y, text, (value - low) / (high - low) if high > low else 0.5)
        for y, line, words in zip(ys, values, texts, strict=True)
        for x, value, text in zip(xs, line, words, strict=True)
        if value is not None
    ]
    x, y, text, shares = zip(*full, strict=True)
    inks = [ink(colours[min(int(share * len(colours)), len(colours) - 1)]) for share in shares]
    drawn.add_scatter(
        **dict(x=x, y=y, text=text, mode="text", textfont=dict(color=inks, size=12)),
        **dict(hoverinfo="skip", showlegend=False),
    )
    drawn.update_xaxes(type="category", categoryarray=xs, showgrid=False)
    drawn.update_yaxes(type="category", categoryarray=ys, showgrid=False, autorange="reversed")


def ink(colour: str) -> str:
    """Black or white, whichever stands out more from a colour (WCAG's relative luminance).

    >>> ink("rgb(0,32,77)"), ink("rgb(255,234,70)")
    ('#ffffff', '#000000')
    """
    parts = [c / 255 for c in unlabel_rgb(colour)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    red, green, blue = linear
    luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    return "#ffffff" if 1.05 / (luminance + 0.05) > (luminance + 0.05) / 0.05 else "#000000"
