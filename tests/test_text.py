"""Text that others wrote is shown, and never obeyed."""

import re
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from page_kit import read_page

from mei_pipeline import pages, svg
from mei_pipeline.settings import CHECKOUT
from mei_pipeline.text import column_heading, markup, printable

CONTROLS = [chr(code) for code in (*range(9), 11, 12, *range(13, 32), *range(127, 160))]
INVISIBLE = [*CONTROLS, "\u200b", "\u202e", "\u2066", "\u2028", "\ufeff", "\udc80", "\uffff"]
ROOTS = ("mei_pipeline", "assets", "live")
HOSTILE = "".join(INVISIBLE) + "<b onload='x'>&]]>"


@pytest.mark.parametrize("char", INVISIBLE)
def test_a_character_without_a_picture_is_its_escape(char):
    shown = printable(f"a{char}b")
    assert re.fullmatch(r"a\\(r|x[0-9a-f]{2}|u[0-9a-f]{4})b", shown)
    assert char not in shown


@pytest.mark.parametrize("text", ["", "BTC/USDT:USDT", "größer\u00a0als 比特币", "two\n\tlines", "\\x1b"])
def test_other_text_stays_as_it_is(text):
    assert printable(text) == text


def test_only_line_ends_tabs_and_spaces_are_left_of_what_has_no_picture():
    shown = printable("".join(map(chr, range(0x3100))))
    left = {char for char in shown if not char.isprintable()}
    assert left > {"\n", "\t"}
    assert {char for char in left if not char.isspace()} == set()
    assert not left & set(CONTROLS)


def test_a_picture_with_hostile_text_is_well_formed():
    parts = [svg.text(0, 0, HOSTILE, svg.INK), f'<g aria-label="{markup(HOSTILE)}"/>']
    picture = ET.fromstring(svg.document(10, 10, HOSTILE, parts))  # noqa: S314 - made above
    assert picture.get("aria-label") == printable(HOSTILE)
    assert [element.text for element in picture.iter() if element.text] == [printable(HOSTILE)]


def test_a_page_with_hostile_text_has_no_element_of_it():
    table = pages.Table(HOSTILE, (HOSTILE,), ((HOSTILE,), (pages.RowHead(HOSTILE),), (pages.Bad(HOSTILE),)))
    picture = pages.Plots((svg.document(10, 10, HOSTILE, []),), (HOSTILE,))
    blocks = (
        pages.Paragraph(HOSTILE),
        pages.BulletList((HOSTILE,)),
        pages.Tiles(((HOSTILE, HOSTILE),)),
        table,
        picture,
    )
    nested = pages.Columns((blocks, (pages.Details(HOSTILE, blocks),)))
    html = pages.page(HOSTILE, [pages.Section(HOSTILE, (*blocks, nested))] * pages.LONG, top=blocks)
    assert html.count("&lt;b onload=&#39;x&#39;&gt;&amp;]]&gt;") > 60
    assert "<b onload" not in html
    assert not set(INVISIBLE) & set(html)
    read_page(html)


def test_html_is_written_by_templates_and_only_pictures_are_markup():
    paths = [path for root in ROOTS for path in (CHECKOUT / root).rglob("*.py")]
    sources = {path.relative_to(CHECKOUT).as_posix(): path.read_text() for path in paths}
    closed = re.compile(r"</(html|body|main|section|div|p|ul|li|table|t[rdh]|h[1-6]|code|b|span|details|summary)>")
    assert [name for name, text in sources.items() if closed.search(text)] == []
    assert [name for name, text in sources.items() if "Markup(" in text] == ["mei_pipeline/svg.py"]
    templates = sorted((CHECKOUT / "mei_pipeline/templates").iterdir())
    assert len(templates) > 3
    unsafe = re.compile(r"\|\s*safe\b|autoescape|Markup")
    assert {path.name for path in templates if unsafe.search(path.read_text())} == set()


def test_text_is_escaped_in_one_place():
    """`html.escape` lets control characters through, and so does `click.echo` alone."""
    sources = [path for root in ROOTS for path in (CHECKOUT / root).rglob("*.py")]
    using = {
        word: {path.relative_to(CHECKOUT) for path in sources if re.search(word, path.read_text())}
        for word in (r"html import escape|html\.escape", r"click\.s?echo\((?!printable\()", r"(?<![.\w])print\(")
    }
    assert list(using.values()) == [{Path("mei_pipeline/text.py")}, set(), set()]


def test_a_heading_is_words_with_a_unit():
    names = ("return_pct", "max_drawdown_pct", "net_pnl_usd", "exposure_frac", "sharpe", "trades", "entry_price")
    assert [column_heading(name) for name in names] == [
        "return, %",
        "drawdown, %",
        "net profit, USD",
        "exposure, share",
        "Sharpe ratio",
        "trades",
        "entry price",
    ]
