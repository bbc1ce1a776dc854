"""HTML pages: blocks of text, tiles, tables and plots, rendered by the templates of this package.

A page has no script and fetches nothing, so that it can be read from a mail or a disk. Templates escape all text; only
plots are markup already (`svg.document`).
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from mei_pipeline import svg
from mei_pipeline.text import printable

LONG = 4
"""Number of sections from which a page has a table of contents."""
SHORT = 24
"""Most characters of a cell that stays in one line."""


@dataclass(frozen=True)
class Paragraph:
    """A paragraph."""

    text: str


@dataclass(frozen=True)
class BulletList:
    """A list of sentences."""

    items: tuple[str, ...]


@dataclass(frozen=True)
class Tiles:
    """The most important figures of a page, each with its name."""

    shown: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        title: Heading of the table; empty for none.
        heading: One name per column.
        rows: One cell per column; None is a dash. `Share`, `Money`, `Good`, `Bad`, `RowHead` and `Tint` determine the
            style of a cell.
        layout: "tall" limits the height and lets the rows scroll; "months" is a grid of coloured cells.
    """

    title: str
    heading: tuple[str, ...]
    rows: tuple[tuple[object, ...], ...]
    layout: Literal["", "tall", "months"] = ""


@dataclass(frozen=True)
class Plots:
    """SVG plots side by side; Markdown omits them.

    Attributes:
        svgs: The plots.
        titles: A heading for each plot; empty for none.
    """

    svgs: tuple[Markup, ...]
    titles: tuple[str, ...] = ()

    def titled(self) -> Iterator[tuple[str, Markup]]:
        """Yield each plot with its heading."""
        return zip(self.titles or [""] * len(self.svgs), self.svgs, strict=True)


@dataclass(frozen=True)
class Columns:
    """Blocks in columns; on a narrow screen one below another."""

    columns: tuple[tuple["Block", ...], ...]


@dataclass(frozen=True)
class Details:
    """Blocks that a click on their summary opens."""

    summary: str
    blocks: tuple["Block", ...]


Block = Paragraph | BulletList | Tiles | Table | Plots | Columns | Details


@dataclass(frozen=True)
class Section:
    """Blocks in a box under a title; the table of contents omits a section without one."""

    title: str
    blocks: tuple[Block, ...]


class Share(float):
    """A share in percent, shown as a bar."""


class Money(float):
    """USD, shown green or red."""


class Good(str):
    """Text, shown green."""

    __slots__ = ()


class Bad(str):
    """Text, shown red."""

    __slots__ = ()


class RowHead(str):
    """Name of a row, in its first cell."""

    __slots__ = ()


@dataclass(frozen=True)
class Tint:
    """A figure on a coloured background: green above zero, red below, paler towards zero.

    Attributes:
        value: The figure.
        greatest: The absolute value with the full colour.
    """

    value: float
    greatest: float


@dataclass(frozen=True)
class Cell:
    """A cell as the templates render it.

    Attributes:
        text: Its text.
        style: CSS classes, separated by spaces.
        bar: Length of a bar before the text, px; None for no bar.
        depth: Depth of the background colour, 0 to 1; None for no colour.
        head: True if the cell names its row.
    """

    text: str
    style: str = ""
    bar: int | None = None
    depth: float | None = None
    head: bool = False


def page(
    title: str,
    sections: Sequence[Section],
    *,
    template: str = "base.html",
    top: Sequence[Block] = (),
    **values: object,
) -> str:
    """Return a complete page.

    Args:
        title: Title and first heading.
        sections: Boxes of the page, in order.
        template: Template that extends `base.html`.
        top: Blocks above the first box.
        **values: Names that the template reads.
    """
    long = sum(bool(each.title) for each in sections) >= LONG
    return _templates().get_template(template).render(title=title, sections=sections, top=top, long=long, **values)


def cell_text(value: object) -> str:
    """Return the text of a cell: significant digits of a figure, a dash for a missing one."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "-"
    if isinstance(value, float):
        return _number(value)
    return f"{value:,}" if isinstance(value, int) else str(value)


def numeric_columns(rows: Sequence[Sequence[object]], columns: int) -> list[bool]:
    """Return for each column of a table if it contains only figures, and dashes for missing ones."""
    kinds = ({type(row[index]) for row in rows if row[index] is not None} for index in range(columns))
    return [bool(types) and all(issubclass(kind, int | float) for kind in types) for types in kinds]


def notes_section(notes: Sequence[str]) -> tuple[Section, ...]:
    """Return the section of notes on a report; empty without notes."""
    return (Section("Notes on these figures", (BulletList(tuple(notes)),)),) if notes else ()


def cell(value: object, right: bool = False) -> Cell:
    """Return the rendering of a value; `right` is True in a column of figures, where dashes are right-aligned too."""
    if isinstance(value, RowHead):
        return Cell(value, head=True)
    if isinstance(value, Tint):
        depth = min(1.0, abs(value.value) / value.greatest) if value.greatest > 0.0 else 0.0
        return Cell(f"{value.value:.1f}", "gain" if value.value >= 0.0 else "loss", depth=0.15 + 0.85 * depth)
    if isinstance(value, Share):
        return Cell(f"{value:.1f} %", "n", bar=round(value * 0.7))
    if isinstance(value, Money):
        return Cell(f"{value:,.2f}", "n good" if value > 0.0 else "n bad")
    if isinstance(value, Good | Bad):
        return Cell(value, "good" if isinstance(value, Good) else "bad")
    text = cell_text(value)
    style = "n" if right or isinstance(value, int | float) else "words" if len(text) > SHORT else ""
    return Cell(text, style)


@cache
def _templates() -> Environment:
    environment = Environment(
        loader=PackageLoader("mei_pipeline"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )
    # pyrefly: ignore[bad-argument-type]  # the type is inferred from Jinja's built-in filters
    environment.filters.update(heads=_heads, cells=_cells, kind=lambda block: type(block).__name__)
    environment.globals["svg"] = svg  # pyrefly: ignore[unsupported-operation]  # as with the filters
    return environment


def _shown(value: object) -> object:
    """Replace characters that an HTML document must not contain; Jinja escapes the rest."""
    return value if isinstance(value, Markup) else printable(str(value))


def _heads(table: Table) -> list[tuple[str, bool]]:
    return list(zip(table.heading, numeric_columns(table.rows, len(table.heading)), strict=True))


def _cells(table: Table) -> list[list[Cell]]:
    right = numeric_columns(table.rows, len(table.heading))
    return [[cell(value, right[index]) for index, value in enumerate(row)] for row in table.rows]


def _number(value: float) -> str:
    if value.is_integer() and abs(value) < 1e12:  # noqa: PLR2004 - larger values are shown in short form
        return f"{value:,.0f}"
    return f"{value:,.2f}" if abs(value) >= 100.0 else f"{value:.4g}"  # noqa: PLR2004 - from 100 on, cents are enough
