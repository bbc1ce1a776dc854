"""Text that others wrote, made safe to show: names in files, reasons, what an executor says of itself."""

import html
import unicodedata


def printable(text: str) -> str:
    r"""Return `text` with every character that has no picture of its own as its escape, such as `\x1b` or `\u202e`.

    A terminal obeys control characters, an XML document must not hold them, and the invisible ones that turn the
    direction of writing show another text than there is. Line ends, tabs and spaces stay.
    """
    if text.isprintable():
        return text
    return "".join(char if _has_picture(char) else char.encode("unicode_escape").decode() for char in text)


def markup(text: str) -> str:
    """Return `text` as the content of an HTML or SVG element, or of a quoted attribute."""
    return html.escape(printable(text))


def _has_picture(char: str) -> bool:
    return char.isprintable() or char in "\n\t" or unicodedata.category(char) == "Zs"
