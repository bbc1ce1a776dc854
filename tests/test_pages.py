"""Tables of a page: figures stand right, short texts stay in one line, long ones have a least width."""

import re

from page_kit import read_page

from mei_pipeline.pages import Bad, Money, Section, Table, numeric_columns, page


def cells(*rows):
    """Class and text of each cell of a table, by row."""
    heading = tuple(f"column {index}" for index in range(len(rows[0])))
    text = page("Page", (Section("Table", (Table("", heading, rows),)),))
    read_page(text)
    body = text.partition("<tbody>")[2]
    return [re.findall(r'<td(?: class="([\w ]*)")?>([^<]*)</td>', row) for row in body.split("<tr>")[1:]]


def test_a_dash_stands_with_the_figures_of_its_column_and_left_among_words():
    assert cells((None, None, "a", None), (1.5, "x", None, None)) == [
        [("n", "-"), ("", "-"), ("", "a"), ("", "-")],
        [("n", "1.5"), ("", "x"), ("", "-"), ("", "-")],
    ]


def test_a_column_of_nothing_but_dashes_holds_no_figures():
    assert numeric_columns([(None, 1, "a"), (None, None, None)], 3) == [False, True, False]
    assert numeric_columns([], 2) == [False, False]
    assert numeric_columns([(Money(1.0), Bad("x"))], 2) == [True, False]


def test_only_long_texts_are_wrapped():
    stamp, sentence = "2025-01-01 00:00Z", "Net profit in percent of the initial balance."
    assert cells((stamp, sentence)) == [[("", stamp), ("words", sentence)]]
    rules = dict(re.findall(r"^(td[.\w]*) \{([^}]*)\}", page("Page", ()), flags=re.MULTILINE))
    assert "white-space: nowrap" in rules["td"]
    assert "white-space: normal; min-width" in rules["td.words"]


def test_control_characters_and_markup_of_a_cell_are_escaped():
    ((cell,),) = cells(("<b>\x1b[31m&",))
    assert cell == ("", "&lt;b&gt;\\x1b[31m&amp;")
