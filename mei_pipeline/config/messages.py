"""Errors of a config file as lines: file, line, column, path of the key, what is wrong, and what is allowed."""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from mei_pipeline.config.keys import Schema, allowed, schema_at
from mei_pipeline.config.renamed_keys import RENAMED
from mei_pipeline.config.yaml_marks import MAX_WHOLE, Flaw, Plain, Tree, join
from mei_pipeline.params.paths import closest

_MAX_REPORTED = 50
_SHOWN = 60
_DIGITS = re.compile(r"([-+]?)0*([0-9]+(?:\.[0-9]+)?)")


def flaws_of(error: ValidationError, tree: Tree, root: Schema) -> Iterator[Flaw]:
    """Yield the errors that pydantic found in a file, with their places.

    Args:
        error: Error of the file's model.
        tree: The file.
        root: JSON schema of the model.
    """
    for detail in error.errors(include_url=False):
        yield from _flaws(detail, tree, root)


def report(lines: Iterable[str]) -> str:
    """Join error lines to one message, without repetition; a long list ends with the number of lines left out."""
    unique = list(dict.fromkeys(lines))
    if len(unique) > _MAX_REPORTED:
        unique = [*unique[:_MAX_REPORTED], f"and {len(unique) - _MAX_REPORTED} more problems"]
    return "\n".join(unique)


def line(path: Path, flaw: Flaw) -> str:
    """Return the line that reports one error of the file `path`."""
    return ": ".join(filter(None, (":".join(map(str, (path, *(flaw.place or ())))), flaw.path, flaw.text)))


def _flaws(detail: ErrorDetails, tree: Tree, root: Schema) -> Iterator[Flaw]:
    location, value, context = detail["loc"], detail["input"], detail.get("ctx", {})
    *above, last = location or ("",)
    here, section, path = schema_at(root, location), schema_at(root, tuple(above)), tree.find(location)
    match detail["type"]:
        case "flaw":  # of `fields.flaws`: the last part of the location is a path below the value
            yield tree.flaw(join(tree.find(tuple(above)), last), detail["msg"])
        case "value_error":
            yield tree.flaw(path, str(context["error"]))
        case "missing":
            yield from _missing(tree, section, tree.find(tuple(above)), str(last))
        case "extra_forbidden":
            yield tree.flaw(path, _unknown(section, str(last)))
        case "union_tag_invalid" | "union_tag_not_found" if isinstance(value, Mapping) and "discriminator" in here:
            tag = context["discriminator"].strip("'")
            given = f"{_shown(value[tag])} is not allowed" if tag in value else "missing"
            yield tree.flaw(join(path, tag), f"{given}; one of {', '.join(here['x-branches'])}")
        case _:
            while last != "[key]" and above and path == tree.find(tuple(above)):
                *above, last = above  # the last part names a branch of a union; the message is of all branches
                here = schema_at(root, (*above, last))
            words = allowed(here)
            yield tree.flaw(path, f"{_shown(value)} is not allowed; {words}{_hint(value, here, words)}")


def _missing(tree: Tree, section: Schema, path: str, key: str) -> Iterator[Flaw]:
    renamed = RENAMED.get(str(section.get("title")), {})
    if not any(new == key and join(path, old) in tree.places for old, new in renamed.items()):
        yield tree.flaw(join(path, key), f"missing; {allowed(section['properties'][key])}")


def _unknown(section: Schema, key: str) -> str:
    if successor := RENAMED.get(str(section.get("title")), {}).get(key):
        return f"renamed; write `{successor}` instead"
    known = section["properties"]
    return f"unknown key; {closest(key, known)}allowed: {', '.join(known)}"


def _hint(value: object, schema: Schema, words: str) -> str:
    if "pattern" in schema and not isinstance(value, (str, Mapping, tuple, list)):
        return "; YAML reads it as another value: put it in quotes"
    if not isinstance(value, Plain) or "number" not in words:
        return ""
    if digits := _DIGITS.fullmatch(value.replace("_", "")):
        plain = f"{digits[1]}{digits[2]}"
        return f"; whole numbers end at {MAX_WHOLE}" if plain == value else f"; write {plain}"
    return ""


def _shown(value: object) -> str:
    if value is None:
        return "no value"
    if isinstance(value, (Mapping, tuple, list)):
        kind = "mapping" if isinstance(value, Mapping) else "list"
        return f"a {kind}" if value else f"an empty {kind}"
    if isinstance(value, bool):
        return str(value).lower()
    text = value if isinstance(value, Plain) and value.isprintable() else repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
