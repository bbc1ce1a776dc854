"""Heat map of coverage as SVG: one panel per interval, one row per symbol, one column per month."""

from dataclasses import dataclass

import polars as pl
from markupsafe import Markup

from mei_pipeline.candles.store import interval_rank
from mei_pipeline.svg import BLANK, BLUE, CHARACTER, GREY, INK, SOFT, document, shade, text
from mei_pipeline.text import markup

# Least share of the expected bars (percent), fill, legend. The fills get darker on both sides of the middle, so that
# colour-blind readers can distinguish them.
CLASSES = (
    (100.0, shade(1.0, 1.0), "complete"),
    (98.0, shade(0.45, 1.0), "98 to 100 %"),
    (90.0, shade(-0.35, 1.0), "90 to 98 %"),
    (50.0, shade(-0.65, 1.0), "50 to 90 %"),
    (0.0, shade(-1.0, 1.0), "under 50 %"),
)
NOT_EXPECTED = f'fill="{BLANK}"'
DOT = BLUE
ROW, HEAD, FOOT, PAD, GAP = 18, 58, 44, 20, 16
WIDE, NARROW, MANY_MONTHS = 40, 24, 30
MIN_WIDTH = 850.0  # width of the legend
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


@dataclass(frozen=True)
class _Grid:
    """Geometry that all panels share, in pixels."""

    left: float
    cell: int
    months: tuple[str, ...]

    @property
    def right(self) -> float:
        return self.left + self.cell * len(self.months)


def coverage_svg(frame: pl.DataFrame) -> Markup:
    """Draw the frame that `coverage` returns.

    Args:
        frame: Coverage of one venue.

    Returns:
        A self-contained SVG on a white background; the tooltip of a cell has its figures.
    """
    if frame.is_empty():
        return document(
            360, 60, "Coverage: the lake has no bars yet", [text(PAD, 36, "The lake has no bars yet.", SOFT)]
        )
    months = tuple(sorted(frame["month"].unique().to_list()))
    longest = max(len(symbol) for symbol in frame["symbol"].unique().to_list())
    left = PAD + max(40.0, CHARACTER * longest + 10)
    grid = _Grid(left, WIDE if len(months) <= MANY_MONTHS else NARROW, months)
    body: list[str] = []
    top = PAD
    titles = []
    for (interval,), panel in sorted(
        frame.group_by("interval", maintain_order=True), key=lambda item: interval_rank(str(item[0][0]))
    ):
        symbols = sorted(panel["symbol"].unique().to_list())
        title = f"{panel['venue'][0]} {interval}"
        titles.append(title)
        body += _panel(panel, symbols, title, grid, top)
        top += HEAD + ROW * len(symbols) + GAP
    body += _legend(top + 6)
    width = max(grid.right + 80, MIN_WIDTH)
    return document(width, top + FOOT, f"Coverage: {', '.join(titles)}", body)


def _panel(panel: pl.DataFrame, symbols: list[str], title: str, grid: _Grid, top: float) -> list[str]:
    bars, expected = int(panel["bars"].sum()), int(panel["expected"].sum())
    unknown, no_trade = int(panel["unknown"].sum()), int(panel["no_trade"].sum())
    share = f"{_percent(bars + no_trade, expected):.1f} % known"
    facts = f"{len(symbols)} symbols · {bars:,} bars · {share} · {unknown:,} unknown · {no_trade:,} no trade"
    heading = (
        f'<text x="{PAD}" y="{top + 14}" fill="{INK}" font-size="14" font-weight="600">{markup(title)}'
        f'<tspan dx="10" fill="{SOFT}" font-size="12" font-weight="400">{facts}</tspan></text>'
    )
    out = [heading]
    for column, month in enumerate(grid.months):
        x = grid.left + column * grid.cell + grid.cell / 2
        year, number = month.split("-")
        if column == 0 or number == "01":
            out.append(text(x - grid.cell / 2 + 2, top + 34, year, INK, size=11))
        out.append(text(x, top + 50, MONTHS[int(number) - 1], SOFT, size=10, anchor="middle"))
    out.append(text(grid.right + 12, top + 50, "unknown", SOFT, size=10))
    rows = {(row["symbol"], row["month"]): row for row in panel.iter_rows(named=True)}
    for index, symbol in enumerate(symbols):
        y = top + HEAD + index * ROW
        out.append(text(grid.left - 8, y + 13, symbol, INK, size=11, anchor="end"))
        unknown_bars = 0
        for column, month in enumerate(grid.months):
            row = rows.get((symbol, month))
            unknown_bars += row["unknown"] if row else 0
            out.append(_cell(row, symbol, month, grid, (grid.left + column * grid.cell, y)))
        out.append(text(grid.right + 12, y + 13, f"{unknown_bars:,}", SOFT, size=10))
    return out


def _cell(row: dict[str, int] | None, symbol: str, month: str, grid: _Grid, corner: tuple[float, float]) -> str:
    x, y = corner
    box = f'x="{x + 1:g}" y="{y + 1:g}" width="{grid.cell - 2}" height="{ROW - 2}" rx="2"'
    name = markup(symbol)
    if row is None or not row["expected"]:
        return f"<rect {box} {NOT_EXPECTED}><title>{name} {month}: no bars expected</title></rect>"
    share = _percent(row["bars"] + row["no_trade"], row["expected"])
    tooltip = (
        f"{name} {month}: {row['bars']:,} of {row['expected']:,} bars, "
        f"{row['no_trade']:,} no trade, {row['unknown']:,} unknown"
    )
    out = f"<rect {box} {_fill(share)}><title>{tooltip}</title></rect>"
    if row["unknown"] and grid.cell == WIDE:
        # Rounded down, so that a cell with a missing bar never shows 100.
        rounded = f"{int(share * 10) / 10:g}"
        out += text(x + grid.cell / 2, y + 13, rounded, INK, size=9, anchor="middle")
    if row["no_trade"]:
        out += f'<circle cx="{x + grid.cell - 6:g}" cy="{y + 6:g}" r="2" fill="{DOT}"/>'
    return out


def _legend(top: float) -> list[str]:
    out: list[str] = []
    x = float(PAD)
    for _, fill, label in CLASSES:
        out.append(f'<rect x="{x:g}" y="{top:g}" width="14" height="14" rx="2" {fill}/>')
        out.append(text(x + 19, top + 11, label, SOFT, size=11))
        x += 19 + CHARACTER * len(label) + 14
    out.append(f'<rect x="{x:g}" y="{top:g}" width="14" height="14" rx="2" {NOT_EXPECTED} stroke="{GREY}"/>')
    out.append(text(x + 19, top + 11, "not expected", SOFT, size=11))
    x += 19 + CHARACTER * len("not expected") + 14
    out.append(f'<circle cx="{x + 4:g}" cy="{top + 7:g}" r="2.5" fill="{DOT}"/>')
    out.append(text(x + 12, top + 11, "bars without a trade", SOFT, size=11))
    return out


def _fill(share_pct: float) -> str:
    return next(fill for least, fill, _ in CLASSES if share_pct >= least)


def _percent(part: int, total: int) -> float:
    return 100.0 * part / total if total else 100.0
