"""A report as titles, sentences, figures, tables and pictures, and the same as Markdown and as one HTML page."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from mei_pipeline import pages
from mei_pipeline.text import markup, printable

_PADDED = 64  # characters of a column up to which cells are padded, so that a terminal shows a table as one
_MARKS = re.compile(r"[\\|`*<>\[\]~&]|(?<![^\W_])_|_(?![^\W_])")


@dataclass(frozen=True)
class Words:
    """A paragraph."""

    text: str


@dataclass(frozen=True)
class Figures:
    """What matters most, each with its name: tiles of a page."""

    shown: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        title: What it shows; empty for none.
        heading: One name per column.
        rows: One cell per column; None is a dash.
    """

    title: str
    heading: tuple[str, ...]
    rows: tuple[tuple[object, ...], ...]


@dataclass(frozen=True)
class Pictures:
    """SVGs, several side by side; in Markdown they are left out."""

    svgs: tuple[str, ...]


Block = Words | Figures | Table | Pictures


@dataclass(frozen=True)
class Section:
    """Some blocks under a title."""

    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Report:
    """The whole.

    Attributes:
        title: What it is about.
        outcome: What came of it, in a sentence or two.
        sections: The rest.
    """

    title: str
    outcome: str
    sections: tuple[Section, ...]


def markdown_of(report: Report) -> str:
    """The report as Markdown; pictures are left out."""
    parts = [f"# {escaped(report.title)}", escaped(report.outcome)]
    for section in report.sections:
        parts.append(f"## {escaped(section.title)}")
        parts += [text for block in section.blocks if (text := _markdown(block))]
    return "\n\n".join(parts) + "\n"


def html_of(report: Report) -> str:
    """The report as one HTML page with its pictures."""
    head = f"<h1>{markup(report.title)}</h1><p>{markup(report.outcome)}</p>"
    boxes = [pages.section(each.title, "".join(map(_html, each.blocks))) for each in report.sections]
    return pages.page(report.title, [head, *boxes])


def escaped(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    return _MARKS.sub(lambda found: f"\\{found[0]}", " ".join(printable(text).split()))


def _markdown(block: Block) -> str:
    if isinstance(block, Words):
        return escaped(block.text)
    if isinstance(block, Figures):
        return "\n".join(f"- {escaped(name)}: {escaped(value)}" for name, value in block.shown)
    if isinstance(block, Table):
        title = f"**{escaped(block.title)}**\n\n" if block.title else ""
        return title + _table(block.heading, block.rows)
    return ""


def _html(block: Block) -> str:
    if isinstance(block, Words):
        return f"<p>{markup(block.text)}</p>"
    if isinstance(block, Figures):
        tiles = (
            f"<div class=tile><b>{markup(value)}</b><span>{markup(name)}</span></div>" for name, value in block.shown
        )
        return f"<div class=tiles>{''.join(tiles)}</div>"
    if isinstance(block, Table):
        title = f"<h3>{markup(block.title)}</h3>" if block.title else ""
        return f"{title}<div class=wide>{pages.table(block.heading, block.rows)}</div>"
    return block.svgs[0] if len(block.svgs) == 1 else f"<div class=two>{''.join(block.svgs)}</div>"


def _table(heading: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table, padded so that it can be read as it is."""
    right = pages.figures(rows, len(heading))
    lines = [list(map(escaped, heading)), *([escaped(pages.figure(cell)) for cell in row] for row in rows)]
    wide = [max(3, min(_PADDED, max(len(line[place]) for line in lines))) for place in range(len(heading))]
    rule = [f"{'-' * (width - 1)}{':' if figures else '-'}" for width, figures in zip(wide, right, strict=True)]
    return "\n".join(_line(line, wide, right) for line in (lines[0], rule, *lines[1:]))


def _line(cells: Sequence[str], wide: Sequence[int], right: Sequence[bool]) -> str:
    padded = [
        cell.rjust(width) if figures else cell.ljust(width)
        for cell, width, figures in zip(cells, wide, right, strict=True)
    ]
    return f"| {' | '.join(padded).rstrip()} |"
