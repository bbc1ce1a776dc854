"""Convert text for display: escape text from files and people, and turn names of figures into column headings."""

import html
import unicodedata
from collections.abc import Sequence

_UNITS = {"_pct": "%", "_usd": "USD", "_frac": "share"}
_WORDS = {
    "sharpe": "Sharpe ratio",
    "max_drawdown": "drawdown",
    "net_pnl": "net profit",
    "pnl": "net profit",
    "average": "mean profit",
    "win_rate": "win rate, share",
}


def printable(text: str) -> str:
    r"""Return `text` with every invisible character replaced by its escape, such as `\x1b` or `\u202e`.

    A terminal executes control characters, an XML document must not contain them, and characters that change the
    direction of writing make a text look different. Line ends, tabs and spaces stay.
    """
    if text.isprintable():
        return text
    return "".join(char if _has_picture(char) else char.encode("unicode_escape").decode() for char in text)


def markup(text: str) -> str:
    """Return `text` as the content of an HTML or SVG element, or of a quoted attribute."""
    return html.escape(printable(text))


def column_heading(name: str) -> str:
    """Return the heading of a column from the name of its figure: words, and the unit after a comma.

    `max_drawdown_pct` becomes `drawdown, %`.
    """
    for suffix, unit in _UNITS.items():
        if name.endswith(suffix):
            return f"{column_heading(name.removesuffix(suffix))}, {unit}"
    return _WORDS.get(name) or name.replace("_", " ")


def column_headings(names: Sequence[str]) -> list[str]:
    """Return the headings of columns: words for figures, the last part of the path for axes of a sweep.

    An axis keeps its whole path if its last part is also the name of another column.
    """
    return [
        column_heading(name) if short == name else short for name, short in zip(names, short_paths(names), strict=True)
    ]


def short_paths(paths: Sequence[str]) -> list[str]:
    """Return the last part of each dotted path; the whole path if the last part is not unique."""
    last = [path.rpartition(".")[2] for path in paths]
    return [part if last.count(part) == 1 else path for path, part in zip(paths, last, strict=True)]


def _has_picture(char: str) -> bool:
    return char.isprintable() or char in "\n\t" or unicodedata.category(char) == "Zs"
