"""The page on adding a kind of feature quotes the sources as they are, and the table of kinds knows each of them."""

import re

import pytest

from kernels.features import KINDS
from mei_pipeline.settings import CHECKOUT

PAGE = CHECKOUT / "docs" / "how-to" / "add-a-kind-of-feature.md"
SEMANTICS = CHECKOUT / "docs" / "explanation" / "semantics.md"
QUOTES = re.findall(r"^ *```python\n *# (\S+)\n(.*?)^ *```", PAGE.read_text(), flags=re.MULTILINE | re.DOTALL)


def test_the_page_quotes_each_file_that_a_kind_needs():
    assert {file for file, _ in QUOTES} == {
        "kernels/features.py",
        "kernels/indicators.py",
        "tests/naive_features.py",
        "tests/kernels/test_kernels_features.py",
    }


def stripped(code):
    """Code without its indentation: the page shows parts of functions."""
    return "\n".join(line.strip() for line in code.splitlines())


@pytest.mark.parametrize(("file", "quote"), QUOTES, ids=[file for file, _ in QUOTES])
def test_a_quote_is_what_the_file_says(file, quote):
    assert stripped(quote) in stripped((CHECKOUT / file).read_text())


@pytest.mark.parametrize("kind", KINDS)
def test_semantics_defines_each_kind_with_its_windows_and_an_example(kind):
    text = SEMANTICS.read_text()
    rows = [row for row in text.splitlines() if row.startswith("| `")]
    (row,) = (row for row in rows if f"`{kind}`" in row.split("|")[1])
    windows = re.findall(rf"`{kind}`(?:, `\w+`)* ?(?:\((.*?)\))?", row)[0]
    assert len([name for name in windows.split(", ") if name]) == len(KINDS[kind].windows)
    assert not KINDS[kind].windows or any(cell.startswith(f"| `{kind}(") for cell in rows)
