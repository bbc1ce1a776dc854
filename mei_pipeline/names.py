"""The rule for names of symbols and venues, and how a symbol becomes the name of a file.

Every entrance holds names to this rule: ingest, configuration files, promoted configs and the command line. What is
stored therefore fits into a path, a YAML file, a page and a terminal.
"""

import re
import unicodedata
from collections.abc import Iterable
from urllib.parse import quote, unquote

from mei_pipeline.errors import DataError

MAX_SYMBOL = 64
"""Most characters of a symbol; the longest of ccxt, an option on a futures contract, has about 40."""
MAX_STEM = 200
"""Most bytes of a file name that is made from a symbol; file systems allow 255, and endings need some."""

VENUE = r"[a-z][a-z0-9_-]{0,31}"
"""Pattern of a venue; a folder of the lake has the same name."""

_PUNCTUATION = "_.:/@+=!$&#-"
_OTHER = "\u00c0-\ufffd"  # letters outside ASCII; `symbol_problem` refuses what else lies there
SYMBOL = rf"[@0-9A-Za-z{_OTHER}][{_PUNCTUATION[:-1]}0-9A-Za-z{_OTHER}-]{{0,{MAX_SYMBOL - 1}}}"
"""Pattern that every symbol matches, for JSON schemas; `symbol_problem` is stricter."""

RULE = f"letters, digits and {' '.join(_PUNCTUATION)}, at most {MAX_SYMBOL} characters, a letter, a digit or @ first"
"""What a symbol may be, in words."""

_SYMBOL = re.compile(SYMBOL)


def symbol_problem(name: object) -> str | None:
    """Return what is wrong with a symbol, or None.

    A symbol is written as its venue writes it: `BTC`, `BTC/USDT:USDT`, `BTC-USDT-SWAP`. Letters and digits may be of
    any script, in Unicode's composed form (NFC). Spaces, quotes, control characters and invisible ones are refused.
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
    """Refuse names that break the rule.

    Args:
        names: The symbols.
        where: Where they come from, for the message.

    Raises:
        DataError: A name is not allowed; the message shows it with control characters escaped.
    """
    for name in names:
        if problem := symbol_problem(name):
            raise DataError(f"{where}: symbol {name!a} is not allowed: {problem}; rename it, allowed are {RULE}")


def file_stem(symbol: str) -> str:
    """Return the name of a symbol's file without its ending: reversible, and without a separator of folders.

    Plain names stay as they are: `BTC` becomes `BTC`, `BTC/USDT:USDT` becomes `BTC%2FUSDT%3AUSDT`.
    """
    return quote(symbol, safe="")


def symbol_of(stem: str) -> str:
    """Return the symbol that `file_stem` made the name of a file from."""
    return unquote(stem)
