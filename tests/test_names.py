"""One rule for names of symbols: what is legal fits into a path, a file and a terminal, and comes back from each."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from mei_pipeline import names
from mei_pipeline.config.fields import Symbol
from mei_pipeline.config.writer import yaml_text
from mei_pipeline.config.yaml_marks import parse
from mei_pipeline.errors import DataError

LEGAL = (
    "BTC", "kPEPE", "1000PEPE", "NO", "null", "1e5", "true", "@107", "BTCUSDT.P", "BTC1!", "BTC-USDT-SWAP", "ES=F",
    "NEAR/USDT:USDT", "NEAR_USDT_USDT", "BTC/USD:BTC-241227-100000-C", "BINANCE:BTCUSDT", "币安人生/USDT:USDT",
    "xyz:TSLA", "A..B", "A" * 64,
)  # fmt: skip
ILLEGAL = (
    "", " ", " BTC", "BTC ", "B TC", "BTC\n", "BTC\t", "\x1b[31mBTC", "BTC\x07", "BTC\x9b31m", "..", ".", "/etc", "-x",
    "A*", "A?", "A[1]", "A%2FB", "A\\B", "A'B", 'A"B', "<b>", "A\u202eB", "A\u200bB", "e\u0301", "\u00a0A", "A" * 65,
    "一" * 40, "@", "@!", None, 5,
)  # fmt: skip


@pytest.mark.parametrize("name", LEGAL)
def test_names_of_venues_are_legal_everywhere(name: str) -> None:
    assert names.symbol_problem(name) is None
    assert TypeAdapter(Symbol).validate_python(name) == name
    assert names.symbol_of(names.file_stem(name)) == name


@pytest.mark.parametrize("name", ILLEGAL)
def test_other_names_are_refused_everywhere(name: object) -> None:
    assert names.symbol_problem(name)
    with pytest.raises(ValidationError):
        TypeAdapter(Symbol).validate_python(name)
    with pytest.raises(DataError, match="candles of x: symbol ") as caught:
        names.check_symbols(["BTC", name], "candles of x")
    assert str(caught.value).isascii()


@settings(max_examples=50)
@given(
    st.text(
        st.one_of(st.sampled_from("AZaz09_.:/@+=!$&#- %*\n\x1b"), st.characters(categories=["L", "N", "Cc", "Cf"])),
        max_size=70,
    )
)
def test_a_legal_name_is_read_back_from_a_path_and_a_file(name: str) -> None:
    if names.symbol_problem(name) is not None:
        return
    stem = names.file_stem(name)
    assert names.symbol_of(stem) == name
    assert Path(f"{stem}.parquet").name == f"{stem}.parquet"
    assert stem.isascii()
    assert len(stem) <= names.MAX_STEM
    assert name.isprintable()
    assert parse(yaml_text({"symbols": [name], name: name})) == {"symbols": (name,), name: name}


def test_plain_names_keep_their_files() -> None:
    for name in ("BTC", "BTCUSDT", "kPEPE", "BTC-USDT-SWAP", "BTC_USDT", "BTCUSDT.P"):
        assert names.file_stem(name) == name
