"""Pages as files: no script, nothing fetched, readable from a mail or a disk."""

import math
from collections.abc import Sequence

from mei_pipeline.svg import FONT, GREEN, INK, LINE, RED, SOFT
from mei_pipeline.text import markup

_STYLE = f"""
:root {{ color-scheme: light; }}
* {{ box-sizing: border-box; }}
body {{ margin: 0; background: #f4f5f7; color: {INK}; font: 14px/1.45 {FONT}; }}
main {{ max-width: 1180px; margin: 0 auto; padding: 28px 20px 60px; }}
h1 {{ font-size: 22px; margin: 0 0 4px; font-weight: 650; }}
h2 {{ font-size: 15px; margin: 0 0 10px; font-weight: 650; }}
h3 {{ font-size: 13px; margin: 14px 0 4px; font-weight: 600; }}
p, .soft {{ color: {SOFT}; }} p {{ margin: 2px 0 8px; }}
code {{ font: 12px ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }}
section {{ background: #fff; border: 1px solid #e2e5e9; border-radius: 10px; padding: 16px 18px; margin-top: 16px; }}
.tiles {{ display: grid; grid-template-columns: repeat(6, 1fr); gap: 10px; margin-top: 18px; }}
.tile {{ background: #fff; border: 1px solid #e2e5e9; border-radius: 10px; padding: 11px 14px; }}
.tile b {{ display: block; font-size: 20px; font-weight: 650; font-variant-numeric: tabular-nums; }}
.tile span {{ color: {SOFT}; font-size: 12px; }}
.two {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(430px, 1fr)); gap: 6px 34px; }}
.notes li {{ margin: 3px 0; }}
table {{ border-collapse: collapse; width: 100%; font-size: 12.5px; font-variant-numeric: tabular-nums; }}
th {{ text-align: left; color: {SOFT}; font-weight: 500; border-bottom: 1px solid #d5d9de; padding: 4px 8px; }}
td {{ padding: 3.5px 8px; border-bottom: 1px solid {LINE}; }}
td.n, th.n {{ text-align: right; }}
@media (max-width: 800px) {{ .tiles {{ grid-template-columns: repeat(3, 1fr); }} }}
td.good {{ color: {GREEN}; }} td.bad {{ color: {RED}; }}
.months td {{ text-align: center; border: 2px solid #fff; border-radius: 4px; }}
.months th {{ text-align: center; border: 0; }}
.scroll {{ max-height: 460px; overflow: auto; }}
.wide {{ overflow-x: auto; }}
.scroll th {{ position: sticky; top: 0; background: #fff; }}
.share {{ display: inline-block; height: 8px; background: #c9d6e6; border-radius: 2px; vertical-align: middle; }}
td:has(.share) {{ white-space: nowrap; }}
svg {{ display: block; width: 100%; height: auto; }}
summary {{ cursor: pointer; font-weight: 600; }}
"""


def page(title: str, parts: Sequence[str]) -> str:
    """A whole page of parts that are HTML already."""
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{markup(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{_STYLE}</style></head><body><main>{''.join(parts)}</main></body></html>\n"
    )


class Share(float):
    """A share in percent, shown as a bar."""


class Money(float):
    """USD, shown green or red."""


class Good(str):
    """Words, shown green."""

    __slots__ = ()


class Bad(str):
    """Words, shown red."""

    __slots__ = ()


def figure(value: object) -> str:
    """What a cell says: a figure with as many digits as say something, a dash for what there is not."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "-"
    if isinstance(value, float):
        return _number(value)
    return f"{value:,}" if isinstance(value, int) else str(value)


def figures(rows: Sequence[Sequence[object]], columns: int) -> list[bool]:
    """Which columns of a table hold figures alone."""
    return [bool(rows) and all(_is_figure(row[index]) for row in rows) for index in range(columns)]


def table(heading: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table; columns of figures are right-aligned, None is a dash."""
    head = "".join(
        f"<th{' class=n' if n else ''}>{markup(text)}</th>"
        for text, n in zip(heading, figures(rows, len(heading)), strict=True)
    )
    lines = ["".join(map(_cell, row)) for row in rows]
    return (
        f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(f'<tr>{line}</tr>' for line in lines)}</tbody></table>"
    )


def _is_figure(value: object) -> bool:
    return value is None or isinstance(value, int | float)


def _cell(value: object) -> str:
    if isinstance(value, Share):
        return f'<td class=n><span class=share style="width:{value * 0.7:.0f}px"></span> {value:.1f} %</td>'
    if isinstance(value, Money):
        return f"<td class='n {'good' if value > 0.0 else 'bad'}'>{value:,.2f}</td>"
    if isinstance(value, Good | Bad):
        return f"<td class={'good' if isinstance(value, Good) else 'bad'}>{markup(value)}</td>"
    return f"<td{' class=n' if _is_figure(value) else ''}>{markup(figure(value))}</td>"


def _number(value: float) -> str:
    if value.is_integer() and abs(value) < 1e12:  # noqa: PLR2004 - beyond it the digits say nothing
        return f"{value:,.0f}"
    return f"{value:,.2f}" if abs(value) >= 100.0 else f"{value:.4g}"  # noqa: PLR2004 - two digits behind the point do


def section(title: str, body: str) -> str:
    """A box of the page, with a heading where there is one."""
    return f"<section>{f'<h2>{markup(title)}</h2>' if title else ''}{body}</section>"


def notes_section(notes: Sequence[str]) -> str:
    """Return the section of notes on a report; nothing without notes."""
    lines = "".join(f"<li>{markup(note)}</li>" for note in notes)
    return section("Before believing it", f"<ul class=notes>{lines}</ul>") if notes else ""
