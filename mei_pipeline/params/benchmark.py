"""The benchmark symbol, whose trend gives the other symbols context, in the notations of venues."""

import re
from collections.abc import Iterable, Mapping, Sequence

from kernels.params import Value
from mei_pipeline.errors import ConfigError
from mei_pipeline.params.paths import closest
from mei_pipeline.params.table import Catalog

AUTO = "auto"
"""Setting that chooses the benchmark coin among the symbols."""
COIN = "BTC"
"""The benchmark coin."""

_PREFERRED = ("BTC", "BTCUSDT")
_SHOWN = 8
_QUOTES = "USDT|USDC|USDE|USD1|USD|FDUSD|TUSD|BUSD|DAI|EUR|GBP|JPY|KRW|TRY|BRL|AUD"
_CONTRACTS = "PERPETUAL|PERP|SWAP"
# TradingView writes the exchange before the pair, and Kraken the kind of contract.
_NAMED = re.compile(
    rf"(?:[A-Z0-9]+:(?=[A-Z]+(?:{_QUOTES}))|[PF][IF]_)?(?:BTC|XBT)(?:[-/_:.]?(?:{_QUOTES}|{_CONTRACTS})M?(?:[-/_:.].*)?)?"
)


def candidates(symbols: Iterable[str]) -> tuple[str, ...]:
    """Return the symbols with base coin Bitcoin, in any notation of venues and in their order.

    The function accepts `BTC`, `BTCUSDT`, `BTC/USDT:USDT`, `BTC-USDT-SWAP`, `BTC_USDT`, `BTC-PERP` and `XBTUSD`. It
    rejects `BTCDOMUSDT`, `BTCB`, `WBTC` and `ETH/BTC`, which are other coins.
    """
    return tuple(name for name in symbols if _NAMED.fullmatch(name.upper()))


def preferred(symbols: Iterable[str]) -> str:
    """Return the benchmark symbol of a config that names none: BTC, else BTCUSDT, else an empty string."""
    present = set(symbols)
    return next((name for name in _PREFERRED if name in present), "")


def find_benchmark(setting: str, symbols: Sequence[str]) -> str:
    """Return the benchmark symbol among `symbols`; empty if `setting` is `auto` and no symbol is of the coin.

    Args:
        setting: A symbol, or `auto`: BTC or BTCUSDT if present, else the only symbol of Bitcoin.
        symbols: Symbols of the book.

    Raises:
        ConfigError: The symbol is not among them, or `auto` finds more than one.
    """
    if setting != AUTO:
        if setting not in symbols:
            problem = f"benchmark: {setting!r} is not among the symbols"
            raise ConfigError(f"{problem}; {closest(setting, symbols)}the symbols are {_listed(symbols)}")
        return setting
    bitcoin_symbols = candidates(symbols)
    if len(bitcoin_symbols) > 1 and not preferred(bitcoin_symbols):
        raise ConfigError(f"benchmark: auto matches several symbols: {', '.join(bitcoin_symbols)}; name one of them")
    return preferred(bitcoin_symbols) or next(iter(bitcoin_symbols), "")


def switches_on(catalog: Catalog, strategy: str, values: Mapping[str, Iterable[Value]]) -> tuple[str, ...]:
    """Return the switches that make `strategy` read the benchmark symbol for at least one of the values.

    Args:
        catalog: The parameter tables.
        strategy: Name of the strategy.
        values: Values by path; a path may be absent.
    """
    return tuple(path for path in catalog.benchmarks.get(strategy, ()) if any(values.get(path, ())))


def needed_benchmark(setting: str, symbols: Sequence[str], switches: Sequence[str]) -> str:
    """Return the benchmark symbol that a book needs; empty if no switch is on.

    Args:
        setting: As for `find_benchmark`.
        symbols: Symbols of the book.
        switches: Paths of the switches that are on.

    Raises:
        ConfigError: As for `find_benchmark`, or a switch is on and there is no benchmark symbol.
    """
    if not switches and setting == AUTO:
        return ""
    symbol = find_benchmark(setting, symbols)
    if not switches:
        return ""
    if not symbol:
        raise ConfigError(
            f"benchmark: {switches[0]} is on and reads a benchmark symbol, but no symbol is one of {COIN}: "
            f"{_listed(symbols)}; name one under `benchmark`, ingest {COIN}, or set {switches[0]} to false"
        )
    return symbol


def _listed(symbols: Sequence[str]) -> str:
    more = f" and {len(symbols) - _SHOWN} more" if len(symbols) > _SHOWN else ""
    return f"{', '.join(symbols[:_SHOWN]) or 'none'}{more}"
