"""A report of sections and blocks, as Markdown and as one HTML page."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from mei_pipeline import pages
from mei_pipeline.pages import Block, BulletList, Columns, Details, Paragraph, Plots, Section, Table, Tiles
from mei_pipeline.text import printable

__all__ = ["Block", "Paragraph", "Plots", "Report", "Section", "Table", "Tiles", "escaped", "html_of", "markdown_of"]

_PADDED = 64  # longest cell that is padded, so that a table also reads well in a terminal
_MARKS = re.compile(r"[\\|`*<>\[\]~&]|(?<![^\W_])_|_(?![^\W_])")


@dataclass(frozen=True)
class Report:
    """A report.

    Attributes:
        title: Title.
        outcome: The result, in a sentence or two.
        sections: Sections in order.
    """

    title: str
    outcome: str
    sections: tuple[Section, ...]


def markdown_of(report: Report) -> str:
    """Return the report as Markdown, without plots."""
    parts = [f"# {escaped(report.title)}", escaped(report.outcome)]
    for section in report.sections:
        parts.append(f"## {escaped(section.title)}")
        parts += [text for block in section.blocks if (text := _markdown(block))]
    return "\n\n".join(parts) + "\n"


def html_of(report: Report) -> str:
    """Return the report as one HTML page with its plots."""
    return pages.page(report.title, report.sections, template="report.html", outcome=report.outcome)


def escaped(text: str) -> str:
    """Return a text that Markdown shows unchanged, on one line."""
    return _MARKS.sub(lambda match: f"\\{match[0]}", " ".join(printable(text).split()))


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
    """Return a Markdown table that is padded to read well as plain text."""
    right = pages.numeric_columns(rows, len(heading))
    lines = [list(map(escaped, heading)), *([escaped(pages.cell_text(cell)) for cell in row] for row in rows)]
    wide = [max(3, min(_PADDED, max(len(line[place]) for line in lines))) for place in range(len(heading))]
    rule = [f"{'-' * (width - 1)}{':' if numeric else '-'}" for width, numeric in zip(wide, right, strict=True)]
    return "\n".join(_line(line, wide, right) for line in (lines[0], rule, *lines[1:]))


def _line(cells: Sequence[str], wide: Sequence[int], right: Sequence[bool]) -> str:
    padded = [
        cell.rjust(width) if numeric else cell.ljust(width)
        for cell, width, numeric in zip(cells, wide, right, strict=True)
    ]
    return f"| {' | '.join(padded).rstrip()} |"
