"""Common parts of all plots: colours, text, round ticks, and the SVG document. No script and no network."""

import math
from collections.abc import Sequence

from markupsafe import Markup

from mei_pipeline.text import markup

PAPER, INK, SOFT, LINE = "#ffffff", "#24292f", "#6e7781", "#e8ebee"
BLUE, GREEN, RED = "#2f6fb2", "#3a8f69", "#c8553d"
PALE_GREEN, PALE_RED = "#9cc9b3", "#f4d5cc"
PALE_BLUE, GREY, PALE_GREY, BLANK = "#c9d8ea", "#9aa3ad", "#e3e6ea", "#f6f7f8"
LOSS, GAIN = "#eea99b", "#87c4a5"
DARK = {
    PAPER: "#161b22",
    INK: "#e6edf3",
    SOFT: "#9aa4af",
    LINE: "#2a3038",
    BLUE: "#6cb0f5",
    GREEN: "#57b98d",
    RED: "#e5826c",
    PALE_GREEN: "#3b6b56",
    PALE_RED: "#56302a",
    PALE_BLUE: "#2c4563",
    GREY: "#7d8792",
    PALE_GREY: "#3a424c",
    BLANK: "#20262d",
    LOSS: "#97483a",
    GAIN: "#2b6b50",
}
"""Dark colour for each colour of a plot.

A plot has the light colours in its attributes `fill` and `stroke`. The style sheet of a page replaces them for
readers who prefer dark. So a plot in a file of its own needs no style sheet.
"""
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, Helvetica, Arial, sans-serif"
CHARACTER = 7.2
"""Most pixels of one character of a label."""


def text(
    x: float,
    y: float,
    words: str,
    fill: str,
    *,
    size: int = 12,
    anchor: str = "start",
    weight: int = 400,
    turn: int = 0,
) -> str:
    """Return text at a position; `turn` is in degrees."""
    turned = f' transform="rotate({turn} {x:g} {y:g})"' if turn else ""
    return (
        f'<text x="{x:g}" y="{y:g}" fill="{fill}" font-size="{size}" font-weight="{weight}" '
        f'text-anchor="{anchor}"{turned}>{markup(words)}</text>'
    )


def document(width: float, height: float, label: str, body: Sequence[str]) -> Markup:
    """Return a complete plot on a white background, as markup that templates do not escape."""
    return Markup(  # noqa: S704 - parts of a body escape their text with `markup`
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:g}" height="{height:g}" '
        f'viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{markup(label)}" font-family="{FONT}">'
        f'<rect width="100%" height="100%" fill="{PAPER}"/>{"".join(body)}</svg>\n'
    )


def step(least: float) -> float:
    """Return the least round number that is at least `least`, which must be above zero."""
    scale = 10.0 ** math.floor(math.log10(least))
    return next(scale * factor for factor in (1.0, 2.0, 2.5, 5.0, 10.0) if scale * factor >= least * (1.0 - 1e-9))


def ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Return round values that cover [low, high], with about `count` steps."""
    size = step((high - low or abs(high) or 1.0) / count)
    first, last = math.floor(low / size), math.ceil(high / size)
    return [index * size for index in range(first, max(last, first + 1) + 1)]


def number(value: object) -> str:
    """Return a figure with its significant digits."""
    return f"{value:,.6g}" if isinstance(value, float) else str(value)


def value_text(value: object) -> str:
    """Return the value of a parameter as text."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


def short(value: float) -> str:
    """Return a figure of an axis; thousands, millions and billions have a letter."""
    for limit, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= limit:
            return f"{value / (limit if letter != 'k' else 1e3):.4g}{letter}"
    return f"{value:,.4g}"


def shade(value: float, greatest: float) -> str:
    """Return the attributes of a background: green for gains, red for losses, paler towards zero."""
    share = 0.0 if greatest == 0.0 or not math.isfinite(value) else max(-1.0, min(1.0, value / greatest))
    return f'fill="{GAIN if share >= 0 else LOSS}" fill-opacity="{abs(share):.2f}"'
