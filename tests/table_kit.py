"""What tests look for in tables that commands print."""

import re

_DRAWN = re.compile("[─ ]+")
_HIDDEN = re.compile(r"(not shown: .*|columns not shown: \d+) \(--wide.*\)")


def words_of(*texts: str) -> set[str]:
    """Return the words of texts, and the parts of paths, which a table may fold after a slash."""
    words = {word for text in texts for word in text.split()}
    return words | {part for word in words for part in _parts(word)}


def check_table_text(shown: str, columns: int, known: set[str]) -> None:
    """Check that no line is wider than the terminal, and that every word shown is one of the `known`."""
    for line in shown.splitlines():
        assert len(line) <= columns, line
        if not _DRAWN.fullmatch(line) and not _HIDDEN.fullmatch(line):
            assert set(line.split()) <= known, line


def _parts(word: str) -> set[str]:
    """Return every run of whole parts of a path."""
    parts = re.findall(r"[^/]*/+|[^/]+", word)
    ends = range(1, len(parts) + 1)
    return {"".join(parts[start:end]) for end in ends for start in range(end)}
