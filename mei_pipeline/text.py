"""Text that others wrote, made safe to show: names in files, reasons, what an executor says of itself."""

import html
import unicodedata

_UNITS = {"_pct": "%", "_usd": "USD", "_frac": "share"}
_WORDS = {
    "sharpe": "Sharpe ratio",
    "max_drawdown": "drawdown",
    "net_pnl": "net profit",
    "pnl": "net profit",
    "average": "mean profit",
    "trades": "round trips",
    "win_rate": "win rate, share",
}


def printable(text: str) -> str:
    r"""Return `text` with every character that has no picture of its own as its escape, such as `\x1b` or `\u202e`.

    A terminal obeys control characters, an XML document must not hold them, and the invisible ones that turn the
    direction of writing show another text than there is. Line ends, tabs and spaces stay.
    """
    if text.isprintable():
        return text
    return "".join(char if _has_picture(char) else char.encode("unicode_escape").decode() for char in text)


def markup(text: str) -> str:
    """Return `text` as the content of an HTML or SVG element, or of a quoted attribute."""
    return html.escape(printable(text))


def column_heading(name: str) -> str:
    """Return the name of a figure as the heading of a column: words, and its unit behind a comma.

    `max_drawdown_pct` becomes `drawdown, %`.
    """
    for suffix, unit in _UNITS.items():
        if name.endswith(suffix):
            return f"{column_heading(name.removesuffix(suffix))}, {unit}"
    return _WORDS.get(name) or name.replace("_", " ")


def _has_picture(char: str) -> bool:
    return char.isprintable() or char in "\n\t" or unicodedata.category(char) == "Zs"
