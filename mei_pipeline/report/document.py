"""A report as blocks of a page, and the same as Markdown and as one HTML page."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from mei_pipeline import pages
from mei_pipeline.pages import Block, BulletList, Columns, Details, Paragraph, Pictures, Section, Table, Tiles
from mei_pipeline.text import printable

__all__ = ["Block", "Paragraph", "Pictures", "Report", "Section", "Table", "Tiles", "escaped", "html_of", "markdown_of"]

_PADDED = 64  # characters of a column up to which cells are padded, so that a terminal shows a table as one
_MARKS = re.compile(r"[\\|`*<>\[\]~&]|(?<![^\W_])_|_(?![^\W_])")


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
    return pages.page(report.title, report.sections, template="report.html", outcome=report.outcome)


def escaped(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    return _MARKS.sub(lambda found: f"\\{found[0]}", " ".join(printable(text).split()))


def _markdown(block: Block) -> str:
    if isinstance(block, Paragraph):
        return escaped(block.text)
    if isinstance(block, Tiles):
        return "\n".join(f"- {escaped(name)}: {escaped(value)}" for name, value in block.shown)
    if isinstance(block, Table):
        title = f"**{escaped(block.title)}**\n\n" if block.title else ""
        return title + _table(block.heading, block.rows)
    if isinstance(block, BulletList):
        return "\n".join(f"- {escaped(item)}" for item in block.items)
    if isinstance(block, Columns | Details):
        inside = block.blocks if isinstance(block, Details) else [each for column in block.columns for each in column]
        return "\n\n".join(filter(None, map(_markdown, inside)))
    return ""


def _table(heading: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table, padded so that it can be read as it is."""
    right = pages.numeric_columns(rows, len(heading))
    lines = [list(map(escaped, heading)), *([escaped(pages.cell_text(cell)) for cell in row] for row in rows)]
    wide = [max(3, min(_PADDED, max(len(line[place]) for line in lines))) for place in range(len(heading))]
    rule = [f"{'-' * (width - 1)}{':' if figures else '-'}" for width, figures in zip(wide, right, strict=True)]
    return "\n".join(_line(line, wide, right) for line in (lines[0], rule, *lines[1:]))


def _line(cells: Sequence[str], wide: Sequence[int], right: Sequence[bool]) -> str:
    padded = [
        cell.rjust(width) if figures else cell.ljust(width)
        for cell, width, figures in zip(cells, wide, right, strict=True)
    ]
    return f"| {' | '.join(padded).rstrip()} |"
