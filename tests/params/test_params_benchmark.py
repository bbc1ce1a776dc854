"""Which symbol is the benchmark, and what it does to the identity of a config."""

from pathlib import Path

import pytest

from mei_pipeline.config.promoted import from_yaml, to_yaml
from mei_pipeline.errors import ConfigError
from mei_pipeline.files import sha256_json
from mei_pipeline.params.benchmark import candidates, find_benchmark, needed_benchmark
from mei_pipeline.params.identity import ResolvedConfig, as_dict, benchmark_of, config_id, resolve_config
from mei_pipeline.params.table import read_catalog

FILTER = "filters.require_btc_alignment"


@pytest.mark.parametrize(
    "name",
    [
        "BTC", "BTCUSDT", "btcusdt", "BTC/USDT", "BTC/USDT:USDT", "BTC-USDT-SWAP", "BTC-USD-SWAP", "BTC_USDT", "BTCUSD",
        "BTC-PERP", "BTCPERP", "XBTUSD", "XBTUSDTM", "PF_XBTUSD", "BTC-PERPETUAL", "BTCUSD_PERP", "BTCUSDT.P",
        "BINANCE:BTCUSDT.P", "BTC/USDC:USDC", "BTC-USD", "BTC/USDT:USDT-241227",
    ],
)  # fmt: skip
def test_bitcoin_is_found_in_every_notation(name: str) -> None:
    assert find_benchmark("auto", ("ETH", name)) == name


@pytest.mark.parametrize(
    "name",
    [
        "BTCDOMUSDT",
        "BTCB",
        "WBTC",
        "ETH/BTC",
        "ETHBTC",
        "ETH_BTC",
        "BTCST/USDT",
        "1000BTC",
        "BTC.D",
        "BTCUPUSDT",
        "XBT1",
    ],
)
def test_other_coins_are_none(name: str) -> None:
    assert candidates([name]) == ()


def test_several_are_refused_by_name_and_one_that_is_named_is_taken() -> None:
    symbols = ("BTC/USDC:USDC", "BTC/USDT:USDT", "ETH")
    with pytest.raises(ConfigError, match="auto matches several symbols: BTC/USDC:USDC, BTC/USDT:USDT"):
        find_benchmark("auto", symbols)
    assert find_benchmark("BTC/USDT:USDT", symbols) == "BTC/USDT:USDT"
    assert find_benchmark("ETH", symbols) == "ETH"
    with pytest.raises(ConfigError, match="'BTC' is not among the symbols"):
        find_benchmark("BTC", symbols)


def test_bare_names_come_first_as_before() -> None:
    assert find_benchmark("auto", ("BTC", "BTC/USDT:USDT", "BTCUSDT")) == "BTC"
    assert find_benchmark("auto", ("BTC/USDT:USDT", "BTCUSDT")) == "BTCUSDT"


def test_one_is_needed_only_where_a_switch_is_on() -> None:
    assert needed_benchmark("auto", ("ETH",), ()) == ""
    with pytest.raises(ConfigError, match=rf"{FILTER} is on and reads a benchmark symbol, but no symbol is one of BTC"):
        needed_benchmark("auto", ("ETH",), (FILTER,))


def alpha(*symbols: str, benchmark: str = "auto", on: bool = True, **more: object) -> ResolvedConfig:
    given = {
        "strategy": "mei_alpha",
        "venue": "binance",
        "interval": "1h",
        "initial_balance_usd": 10_000.0,
        "params": {FILTER: on},
        "market": {},
    }
    return resolve_config(read_catalog(), **{**given, "symbols": symbols, "benchmark": benchmark, **more})


def test_ids_of_configs_with_bare_names_stay() -> None:
    for name in ("BTC", "BTCUSDT"):
        found = alpha(name, "ETH")
        assert found.benchmark == name
        assert "benchmark" not in as_dict(found)
        assert config_id(found) == sha256_json(as_dict(found)) == config_id(alpha(name, "ETH", benchmark=""))


def test_another_benchmark_is_another_config() -> None:
    ids = [
        config_id(alpha("BTC", "ETH")),
        config_id(alpha("BTC", "ETH", benchmark="ETH")),
        config_id(alpha("BTC/USDT:USDT", "ETH")),
        config_id(alpha("BTC/USDT:USDT", "ETH", benchmark="")),
        config_id(alpha("BTC/USDT:USDT", "ETH", benchmark="ETH")),
    ]
    assert len(set(ids)) == len(ids)
    assert alpha("BTC/USDT:USDT", "ETH", on=False).benchmark == ""
    assert alpha("BTC", "ETH", on=False, benchmark="ETH") == alpha("BTC", "ETH", on=False)
    own = alpha("BTC", "ETH", on=False, symbol_params={"ETH": {FILTER: True}})
    assert own.benchmark == "BTC"


@pytest.mark.parametrize("name", ["BTC", "BTC/USDT:USDT"])
def test_a_promoted_file_carries_it(name: str) -> None:
    resolved = alpha(name, "ETH")
    text = to_yaml(resolved, evidence={}, provenance={})
    assert from_yaml(text.encode(), Path("c.yaml"))[0] == resolved
    assert "\n  benchmark: " in text
    other = text.replace("\n  benchmark: ", "\n  benchmark: ETH #")
    with pytest.raises(ConfigError, match="the content has another id"):
        from_yaml(other.encode(), Path("c.yaml"))


def test_a_file_of_an_earlier_version_is_read_and_refused_only_where_it_has_none() -> None:
    catalog = read_catalog()
    for name in ("BTC", "BTC/USDT:USDT"):
        old = to_yaml(alpha(name, "ETH", benchmark=""), evidence={}, provenance={}).replace(
            "\n  benchmark: BTC\n", "\n"
        )
        assert "benchmark" not in old
        found = from_yaml(old.encode(), Path("c.yaml"))[0]
        if name == "BTC":
            assert benchmark_of(catalog, found, found.symbols) == "BTC"
        else:
            with pytest.raises(ConfigError, match="the config names none"):
                benchmark_of(catalog, found, found.symbols)
