"""Layout of a table in a terminal: which columns are shown, how wide each is, and where its text is folded.

Widths are in terminal cells, of which a wide character takes two.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from rich.cells import cell_len, chop_cells

GAP = 3
"""Cells that a table needs per column besides its text."""
_VALUE = 24  # cells of the longest text that counts as one value, such as two dates, and is never folded
_ALWAYS_SHOWN = 2  # columns; a name without its value says nothing


class Layout(NamedTuple):
    """The columns that are shown, in the order of the table, and the width of each."""

    columns: tuple[int, ...]
    widths: tuple[int, ...]


def fit(headings: Sequence[str], rows: Sequence[Sequence[str]], important: Sequence[int], room: int | None) -> Layout:
    """Choose columns and widths so that no value and no word is broken.

    Columns are taken by importance; one that does not fit beside those before it is left out. Sentences and paths are
    folded. The two most important columns are always shown; a word of theirs is broken only if the room is narrower.

    Args:
        headings: One heading per column.
        rows: The text of each cell, one per column.
        important: Every column, the most important first.
        room: Width of the terminal; None for no limit, where all columns are shown and nothing is folded.
    """
    texts = [[heading, *cells] for heading, *cells in zip(headings, *rows, strict=True)]
    full_widths = [max(map(cell_len, column)) for column in texts]
    if room is None:
        return Layout(tuple(range(len(texts))), tuple(full_widths))
    least = [max(_least(heading, 0), *(_least(cell, _VALUE) for cell in cells), 1) for heading, *cells in texts]
    chosen: list[int] = []
    for column in important:
        needed = sum(least[each] + GAP for each in (*chosen, column))
        if len(chosen) < _ALWAYS_SHOWN or needed <= room:
            chosen.append(column)
    chosen.sort()
    room -= GAP * len(chosen)
    needs = [least[column] for column in chosen]
    if sum(needs) > room:
        return Layout(tuple(chosen), tuple(max(1, width) for width in _share(room, needs)))
    more = _share(room - sum(needs), [full_widths[column] - least[column] for column in chosen])
    return Layout(tuple(chosen), tuple(map(sum, zip(needs, more, strict=True))))


def fold(text: str, width: int) -> str:
    """Fold text between words, and within paths after a slash; a word that is wider than a line is broken."""
    return "\n".join(line for paragraph in text.split("\n") for line in _lines(paragraph, width))


def _lines(text: str, width: int) -> list[str]:
    if cell_len(text) <= width:
        return [text]
    lines = [""]
    for piece in _pieces(text):
        if cell_len(lines[-1]) + cell_len(piece.rstrip()) > width:
            *broken, last = chop_cells(piece, width) if cell_len(piece.rstrip()) > width else [piece]
            lines += [*broken, last]
        else:
            lines[-1] += piece
    return [line.rstrip() for line in lines if line.strip()]


def _pieces(text: str) -> list[str]:
    """Split text where it may be folded; the space between two words belongs to the first."""
    words = re.findall(r"\S+\s*", text.strip())
    return [piece for word in words for piece in (re.findall(r"[^/]*/+|[^/]+", word) if _is_path(word) else [word])]


def _is_path(word: str) -> bool:
    return "/" in word and cell_len(word.rstrip()) > _VALUE


def _least(text: str, value: int) -> int:
    """Width below which a word would be broken, or a text of at most `value` cells folded."""
    width = cell_len(text)
    if width <= value:
        return width
    return max(min(width, value), *(cell_len(piece.rstrip()) for piece in _pieces(text)), 0)


def _share(room: int, wanted: Sequence[int]) -> list[int]:
    """Divide the room: columns that want little get all of it, the others share the rest equally."""
    shares = [0] * len(wanted)
    by_size = sorted(range(len(wanted)), key=wanted.__getitem__)
    for left, index in zip(range(len(wanted), 0, -1), by_size, strict=True):
        shares[index] = min(wanted[index], room // left)
        room -= shares[index]
    return shares
