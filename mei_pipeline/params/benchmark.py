"""The benchmark symbol: the one whose trend gives the others context, found among symbols as venues name it."""

import re
from collections.abc import Iterable, Mapping, Sequence

from kernels.params import Value
from mei_pipeline.errors import ConfigError
from mei_pipeline.params.paths import closest
from mei_pipeline.params.table import Catalog

AUTO = "auto"
"""Setting that looks for the benchmark coin among the symbols."""
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
    """Return the symbols whose base coin is Bitcoin, in any notation of venues, in their order.

    `BTC`, `BTCUSDT`, `BTC/USDT:USDT`, `BTC-USDT-SWAP`, `BTC_USDT`, `BTC-PERP` and `XBTUSD` are found; `BTCDOMUSDT`,
    `BTCB`, `WBTC` and `ETH/BTC` are other coins.
    """
    return tuple(name for name in symbols if _NAMED.fullmatch(name.upper()))


def preferred(symbols: Iterable[str]) -> str:
    """Return the benchmark of a config that names none: BTC, else BTCUSDT, else none (empty)."""
    held = set(symbols)
    return next((name for name in _PREFERRED if name in held), "")


def find_benchmark(wanted: str, symbols: Sequence[str]) -> str:
    """Return the benchmark among `symbols`; empty if `wanted` is `auto` and no symbol is of the coin.

    Args:
        wanted: A symbol, or `auto`: BTC or BTCUSDT if it is there, else the only symbol of Bitcoin.
        symbols: Symbols of the book.

    Raises:
        ConfigError: The symbol is not among them, or `auto` has more than one to choose from.
    """
    if wanted != AUTO:
        if wanted not in symbols:
            text = f"benchmark: {wanted!r} is not among the symbols"
            raise ConfigError(f"{text}; {closest(wanted, symbols)}the symbols are {_listed(symbols)}")
        return wanted
    found = candidates(symbols)
    if len(found) > 1 and not preferred(found):
        raise ConfigError(f"benchmark: auto has several symbols to choose from: {', '.join(found)}; name one of them")
    return preferred(found) or next(iter(found), "")


def switches_on(catalog: Catalog, strategy: str, values: Mapping[str, Iterable[Value]]) -> tuple[str, ...]:
    """Return the switches that make `strategy` read the benchmark for at least one of the values.

    Args:
        catalog: The parameter tables.
        strategy: Name of the strategy.
        values: Values by path; a path may be absent.
    """
    return tuple(path for path in catalog.benchmarks.get(strategy, ()) if any(values.get(path, ())))


def needed_benchmark(wanted: str, symbols: Sequence[str], switches: Sequence[str]) -> str:
    """Return the benchmark that a book needs; empty if no switch is on.

    Args:
        wanted: As for `find_benchmark`.
        symbols: Symbols of the book.
        switches: Switches that are on.

    Raises:
        ConfigError: As `find_benchmark`, or a switch is on and there is no benchmark.
    """
    if not switches and wanted == AUTO:
        return ""
    found = find_benchmark(wanted, symbols)
    if not switches:
        return ""
    if not found:
        raise ConfigError(
            f"benchmark: {switches[0]} is on and reads a benchmark symbol, and no symbol is one of {COIN}: "
            f"{_listed(symbols)}; name one under `benchmark`, ingest {COIN}, or set {switches[0]} to false"
        )
    return found


def _listed(symbols: Sequence[str]) -> str:
    more = f" and {len(symbols) - _SHOWN} more" if len(symbols) > _SHOWN else ""
    return f"{', '.join(symbols[:_SHOWN]) or 'none'}{more}"
