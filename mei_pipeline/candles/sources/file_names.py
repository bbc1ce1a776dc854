"""Symbol, interval and venue from the names of files and folders.

    BTCUSDT-1h-2024-12.zip                       Binance Vision
    BTCUSDT2024-12-01.csv.gz                     Bybit
    BTCUSDT_60_2024-12-01_2024-12-31.csv         Bybit, minutes
    BTC-USDT-SWAP-candles-2024-12.csv            OKX
    BTC_USDT_USDT-1h-futures.feather             freqtrade: BTC/USDT:USDT
    BINANCE_BTCUSDT.P, 60.csv                    TradingView, minutes
    BTC.csv, BTC-1h.csv, BTC_1h.csv

A symbol is written in capitals, as venues do. A name with an unknown word (`BTC_old.csv`) has no symbol, because a
wrong symbol would join two series. A date of eight digits between quote and interval (`BTC-USDT-20241227-1h.csv`) is
the expiry of a contract and belongs to the symbol. Any other date names the part of a series and is ignored.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mei_pipeline.candles.intervals import parse_interval
from mei_pipeline.candles.sources.formats import FEATHER, kind_of, stem

VENUES = frozenset(
    {
        *("binance", "binancecoinm", "binanceus", "binanceusdm", "bingx", "bitfinex", "bitget", "bithumb", "bitmart"),
        *("bitmex", "bitstamp", "bitvavo", "bybit", "coinbase", "coinex", "cryptocom", "deribit", "dydx", "gate"),
        *("gateio", "gemini", "htx", "huobi", "hyperliquid", "kraken", "krakenfutures", "kucoin", "kucoinfutures"),
        *("mexc", "okex", "okx", "paradex", "phemex", "poloniex", "synthetic", "upbit"),
    }
)
RENAMED = {"gateio": "gate", "huobi": "htx", "okex": "okx"}
"""Former names of venues that files and libraries still use, to the present names."""
_STABLE = frozenset(
    {"AUD", "BRL", "BUSD", "DAI", "EUR", "FDUSD", "GBP", "JPY", "KRW", "TRY", "TUSD", "USD", "USDC", "USDE", "USDT"}
)
_QUOTES = _STABLE | {"BTC", "ETH", "BNB"}
_CONTRACT = re.compile(r"SWAP|PERP|P|PERPETUAL|QUARTER|\d{6}|\d{8}|\d{1,2}[A-Z]{3}\d{2}")
_BASE = re.compile(r"(?=.*[A-Z])(?:k|[0-9]+)?[A-Z0-9]+")
# Words about files and markets; they may stand beside a symbol, but are never one.
_NOISE = re.compile(
    r"(?:candles?(?:ticks?)?|klines?|ohlcv?t?|bars?|prices?|data(?:set)?|hist(?:ory|orical)?|funding(?:_?rates?)?|rates?"
    r"|exports?|exported|downloads?|downloaded|files?|parts?|chunks?|full|all|to|from|crypto|markets?|instruments?|meta"
    r"|symbols|spot|futures?|linear|inverse|perpetual|swap|um|cm|usdm|coinm|monthly|daily)\d*"
)
_FOLDER_NOISE = re.compile(rf"{_NOISE.pattern}|raw|new|old|backup|perps?|[hmd]|min")
_SPOT = frozenset({"spot"})
_FUTURES = frozenset({"um", "usdm", "cm", "coinm", "linear", "inverse", "swap", "perp", "perpetual", "futures"})
_UNTRADED = re.compile(r"(?:mark|index|premium_?index|spot_?index)(?:_?price)?(?:_?klines?)?", re.IGNORECASE)
_DATE = re.compile(
    r"(?:(?:19|20)\d{2}-\d{2}(?:-\d{2})?"  # 2024-12, 2024-12-01
    r"|(?<![0-9A-Za-z])(?:(?:19|20)\d{2}(?:[-_.]?(?:0[1-9]|1[0-2])(?:[-_.]?(?:0[1-9]|[12]\d|3[01]))?)?|\d{10}|\d{13}))"
    r"(?:T\d{2,6}Z?)?$"
)
_TRADINGVIEW = re.compile(
    r"(?:(?P<venue>[A-Z0-9]+)_)?(?P<symbol>[A-Z0-9_.!]+), (?P<label>\d+[SHDWM]?|[DWM])(?:_[0-9a-z]+)?"
)
_FREQTRADE = re.compile(
    r"(?P<base>[A-Za-z0-9]+)_(?P<quote>[A-Z0-9]+)(?:_(?P<settle>[A-Z0-9]+))?-(?P<label>\d+[a-zA-Z]+)"
    r"(?:-(?P<kind>futures|spot|mark|index|premiumIndex|funding_rate))?"
)
_LABEL = re.compile(r"\d+(?:m|min|mins|minute|minutes|h|hr|hour|hours|H|d|D|day|days|w|W|M|s)")
_DATED = re.compile(rf"(?:.+[-_ ])?[A-Z0-9]+([-_])(?:{'|'.join(sorted(_QUOTES))})\1\d{{8}}")
_COPY = re.compile(r"\s*\(\d+\)$")


@dataclass(frozen=True)
class NameParts:
    """Parts of a file name.

    Attributes:
        symbol: The symbol as its venue writes it; None if the name has none or is ambiguous.
        interval: The interval of the bars, as the name writes it; MEI may not know it.
        venue: The venue.
        untraded: Kind of prices that nobody traded at: `mark`, `index`, `premiumIndex`.
        funding: True if the file has funding in columns of candles, as freqtrade writes it.
    """

    symbol: str | None = None
    interval: str | None = None
    venue: str | None = None
    untraded: str | None = None
    funding: bool = False


def read_name(name: str, *, freqtrade: bool = False) -> NameParts:
    """Split a file name into its parts.

    Args:
        name: File name with its ending, without folders.
        freqtrade: Read `BTC_USDT` as freqtrade's `BTC/USDT`.
    """
    text = _COPY.sub("", stem(name)).strip()
    if match := _TRADINGVIEW.fullmatch(text):
        venue = (match["venue"] or "").lower()
        symbol = match["symbol"] if not venue or venue in VENUES else f"{match['venue']}_{match['symbol']}"
        return NameParts(symbol, _minutes(match["label"]), venue if venue in VENUES else None)
    match = _FREQTRADE.fullmatch(text)
    if match and (freqtrade or kind_of(name) is FEATHER or match["kind"]):
        pair = f"{match['base']}/{match['quote']}"
        kind = match["kind"] or ""
        return NameParts(
            f"{pair}:{match['settle']}" if match["settle"] else pair,
            parse_interval(match["label"]) or match["label"],
            untraded=kind if _UNTRADED.fullmatch(kind) else None,
            funding=kind == "funding_rate",
        )
    return _read_fields(text)


def venue_of(path: Path, root: Path, is_coin: Callable[[str], bool]) -> str | None:
    """Return the venue that is named by the nearest of a file's folders; None if no folder names one.

    A folder names a venue if one of its words does (`bybit`, `okx_2024`, `bybit_btcusdt`). The user may not have named
    the folders above `root`, so there only the bare name of a venue counts.

    Args:
        path: The file.
        root: The folder that was searched, or the file itself.
        is_coin: Function that returns True if a venue's name is also the symbol of the file. Such a word is the coin,
            unless it is the whole name of the folder in lower case.
    """
    above = max(len(path.parts) - len(root.parts), 1)
    home = Path("~").expanduser().parts
    for depth, part in enumerate(reversed(path.parts[:-1])):
        folder = path.parts[: len(path.parts) - 1 - depth]
        # The user's home and the folders above it are named after people and systems, not after venues.
        if folder == home[: len(folder)]:
            break
        words = [part] if depth > above else _folder_words(part)
        bare = len(words) == 1
        if not bare and depth >= above:
            continue
        names = [word for word in words if word.lower() in VENUES]
        venues = [word.lower() for word in names if (bare and word.islower()) or not is_coin(word.lower())]
        if len(venues) == 1:
            return venues[0]
    return None


def market_of(path: Path, root: Path) -> str | None:
    """Return the market that a file's name and its folders below `root` name: `spot`, `futures`, or None."""
    words = {word for part in path.parts[len(root.parts) :] for word in re.split(r"[^a-z]+", part.lower())}
    names = (("spot", _SPOT), ("futures", _FUTURES))
    return next((name for name, own in names if words & own), None)


def untraded_of(path: Path, root: Path) -> str | None:
    """Return the folder of prices that nobody traded at, such as `markPriceKlines` of Binance Vision; None if none."""
    return next((part for part in path.parts[len(root.parts) - 1 : -1] if _UNTRADED.fullmatch(part)), None)


def folder_interval(path: Path, root: Path) -> str | None:
    """Return the interval that the nearest folder names, as in Binance Vision's `klines/BTCUSDT/1h/`; None if none."""
    for part in reversed(path.parts[len(root.parts) - 1 : -1]):
        if _LABEL.fullmatch(part):
            return parse_interval(part) or part
    return None


def _read_fields(text: str) -> NameParts:
    """Read a name field by field, from its end; the symbol remains at the beginning."""
    interval = None
    untraded = None
    venue_field = None
    dated = False
    expires = False  # True once a word, not a date, came after: then a date at the end may be an expiry
    while not (expires and _DATED.fullmatch(text)):
        shorter = _DATE.sub("", text)
        if shorter != text:
            text, dated, expires = shorter.rstrip("-_. "), True, False
            continue
        expires = True
        head, field = _last_field(text)
        if field and _UNTRADED.fullmatch(field):
            untraded = field
        elif head and field.lower() in VENUES:
            venue_field = field.lower()
        elif not (field and _is_noise(field)):
            label = _label(field or text, bare=dated and bool(head))
            if label is None or interval is not None:
                break
            interval = label
        text = head
        if not text:
            break
    symbol, venue = _read_symbol(text)
    return NameParts(symbol, interval, venue or venue_field, untraded)


def _last_field(text: str) -> tuple[str, str]:
    for field in ("funding_rate", "premium_index", "spot_index", "mark_price", "index_price"):
        if re.search(rf"[-_. ]{field}$", text, re.IGNORECASE):
            return text[: -len(field) - 1].rstrip("-_. "), field
    match = re.fullmatch(r"(.+?)[-_. ]+([^-_. ]+)", text)
    return (match[1], match[2]) if match else ("", "" if _has_capital(text) else text)


def _has_capital(text: str) -> bool:
    return any(character.isupper() for character in text)


def _label(field: str, *, bare: bool) -> str | None:
    if _LABEL.fullmatch(field):
        return parse_interval(field) or field
    return _minutes(field) if bare and re.fullmatch(r"\d{1,4}|[DWM]", field) else None


def _minutes(label: str) -> str:
    """Return an interval that is written in minutes or with a capital unit, as by TradingView and Bybit."""
    return parse_interval(label) or (f"{label}m" if label.isdecimal() else label)


def _is_noise(word: str) -> bool:
    return _NOISE.fullmatch(word.lower()) is not None and not _CONTRACT.fullmatch(word)


def _read_symbol(text: str) -> tuple[str | None, str | None]:
    venue = None
    while text:
        if _is_symbol(text):
            first, _, rest = text.partition(re.findall(r"[-_. ]|$", text)[0] or "\0")
            # DYDX is a venue and a coin. In DYDX-USDT-SWAP it is the coin: a quote follows it, and no venue's name is
            # directly before a quote.
            if first.lower() in VENUES and _is_symbol(rest) and re.split(r"[-_.]", rest)[0] not in _STABLE:
                return rest, first.lower()
            return text, venue
        word = re.match(r"[^-_. ]+", text)
        if not word or not (word[0].lower() in VENUES or _is_noise(word[0])):
            return None, venue
        venue = word[0].lower() if word[0].lower() in VENUES else venue
        text = text[word.end() :].lstrip("-_. ")
    return None, venue


def _is_symbol(text: str) -> bool:
    base, *others = re.split(r"[-_.]", text)
    if not _BASE.fullmatch(base) or _is_noise(base):
        return False
    return all(word in _QUOTES or _CONTRACT.fullmatch(word) for word in others)


def _folder_words(part: str) -> list[str]:
    words = [word for word in re.split(r"[^A-Za-z]+", part) if word]
    return [word for word in words if not _FOLDER_NOISE.fullmatch(word.lower())]
