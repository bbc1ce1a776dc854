"""The rule for names of symbols and venues, and the file names made from symbols.

Ingest, configuration files, promoted configs and the command line all apply this rule. Stored names are therefore safe
in a path, a YAML file, a page and a terminal.
"""

import re
import unicodedata
from collections.abc import Iterable
from urllib.parse import quote, unquote

from mei_pipeline.errors import DataError

MAX_SYMBOL = 64
"""Greatest number of characters of a symbol; the longest of ccxt, an option on a future, has about 40."""
MAX_STEM = 200
"""Greatest number of bytes of a file name made from a symbol; file systems allow 255 with the ending."""

VENUE = r"[a-z][a-z0-9_-]{0,31}"
"""Pattern of a venue; a folder of the lake has the same name."""

_PUNCTUATION = "_.:/@+=!$&#-"
_OTHER = "\u00c0-\ufffd"  # letters outside ASCII; `symbol_problem` refuses the other characters of this range
SYMBOL = rf"[@0-9A-Za-z{_OTHER}][{_PUNCTUATION[:-1]}0-9A-Za-z{_OTHER}-]{{0,{MAX_SYMBOL - 1}}}"
"""Pattern that every symbol matches, for JSON schemas; `symbol_problem` is stricter."""

RULE = f"letters, digits and {' '.join(_PUNCTUATION)}, at most {MAX_SYMBOL} characters, a letter, a digit or @ first"
"""The rule for symbols in words."""

_SYMBOL = re.compile(SYMBOL)


def symbol_problem(name: object) -> str | None:
    """Return the reason why a symbol is not allowed, or None.

    Symbols keep the spelling of their venue: `BTC`, `BTC/USDT:USDT`, `BTC-USDT-SWAP`. Letters and digits may be of any
    script, in Unicode's composed form (NFC). Spaces, quotes, control characters and invisible characters are refused.
    """
    if not isinstance(name, str) or not name.strip():
        return "it is empty"
    strange = next((char for char in name if not char.isalnum() and char not in _PUNCTUATION), None)
    if strange is not None:
        return f"it holds {'a space' if strange == ' ' else f'the character U+{ord(strange):04X}'}"
    if len(name) > MAX_SYMBOL or len(file_stem(name)) > MAX_STEM:
        return "it is too long"
    if unicodedata.normalize("NFC", name) != name:
        return "it is not in composed form (NFC)"
    if not _SYMBOL.fullmatch(name) or not any(map(str.isalnum, name)):
        return "its first character can't be the first"
    return None


def check_symbols(names: Iterable[object], where: str) -> None:
    """Raise if a symbol is not allowed.

    Args:
        names: The symbols.
        where: Their origin, for the message.

    Raises:
        DataError: A symbol is not allowed; the message shows it with control characters escaped.
    """
    for name in names:
        if problem := symbol_problem(name):
            raise DataError(f"{where}: symbol {name!a} is not allowed: {problem}; rename it, allowed are {RULE}")


def file_stem(symbol: str) -> str:
    """Return the name of a symbol's file without its ending; `symbol_of` reverses it.

    The name has no path separator: `BTC` stays `BTC`, `BTC/USDT:USDT` becomes `BTC%2FUSDT%3AUSDT`.
    """
    return quote(symbol, safe="")


def symbol_of(stem: str) -> str:
    """Return the symbol of a file name that `file_stem` made."""
    return unquote(stem)
