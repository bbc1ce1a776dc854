"""What all pictures share: colours, text, round ticks, and the document around them. SVG without script or network."""

import math
from collections.abc import Sequence

from mei_pipeline.text import markup

INK, SOFT, LINE = "#24292f", "#6e7781", "#e8ebee"
BLUE, GREEN, RED = "#2f6fb2", "#3a8f69", "#c8553d"
LOSS, NONE, GAIN = (238, 169, 155), (250, 250, 248), (135, 196, 165)
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, Helvetica, Arial, sans-serif"
CHARACTER = 7.2
"""Pixels that one character of a label takes at most."""


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
    """Words at a place; `turn` is in degrees."""
    turned = f' transform="rotate({turn} {x:g} {y:g})"' if turn else ""
    return (
        f'<text x="{x:g}" y="{y:g}" fill="{fill}" font-size="{size}" font-weight="{weight}" '
        f'text-anchor="{anchor}"{turned}>{markup(words)}</text>'
    )


def document(width: float, height: float, label: str, body: Sequence[str]) -> str:
    """A whole picture on a white ground."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:g}" height="{height:g}" '
        f'viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{markup(label)}" font-family="{FONT}">'
        f'<rect width="100%" height="100%" fill="#ffffff"/>{"".join(body)}</svg>\n'
    )


def step(least: float) -> float:
    """The least round number that is not below `least`, which is above zero."""
    scale = 10.0 ** math.floor(math.log10(least))
    return next(scale * factor for factor in (1.0, 2.0, 2.5, 5.0, 10.0) if scale * factor >= least * (1.0 - 1e-9))


def ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Round values that cover [low, high], about `count` steps of them."""
    size = step((high - low or abs(high) or 1.0) / count)
    first, last = math.floor(low / size), math.ceil(high / size)
    return [index * size for index in range(first, max(last, first + 1) + 1)]


def number(value: object) -> str:
    """A figure with as many digits as say something."""
    return f"{value:,.6g}" if isinstance(value, float) else str(value)


def said(value: object) -> str:
    """A parameter's value for people."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


def short(value: float) -> str:
    """A figure of an axis: thousands and millions by their letter."""
    for limit, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= limit:
            return f"{value / (limit if letter != 'k' else 1e3):.4g}{letter}"
    return f"{value:,.4g}"


def shade(value: float, greatest: float) -> str:
    """Green for gains, red for losses, paler towards zero."""
    share = 0.0 if greatest == 0.0 or not math.isfinite(value) else max(-1.0, min(1.0, value / greatest))
    end = GAIN if share >= 0 else LOSS
    mixed = [round(none + abs(share) * (full - none)) for none, full in zip(NONE, end, strict=True)]
    return "#" + "".join(f"{part:02x}" for part in mixed)
