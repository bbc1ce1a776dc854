"""Errors of a config file as lines: file, line, column, path of the key, what is wrong, and what is allowed."""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from mei_pipeline.config.keys import Schema, allowed, schema_at
from mei_pipeline.config.renamed_keys import RENAMED
from mei_pipeline.config.yaml_marks import MAX_WHOLE, Keys, Place, Plain, join, places
from mei_pipeline.params.paths import closest

_MAX_REPORTED = 50
_SHOWN = 60
_DIGITS = re.compile(r"([-+]?)0*([0-9]+(?:\.[0-9]+)?)")


def report(lines: Iterable[str]) -> str:
    """Join error lines to one message, without repetition; a long list ends with the number of lines left out."""
    unique = list(dict.fromkeys(lines))
    if len(unique) > _MAX_REPORTED:
        unique = [*unique[:_MAX_REPORTED], f"and {len(unique) - _MAX_REPORTED} more problems"]
    return "\n".join(unique)


def line(file: Path, key: str, problem: str, text: str) -> str:
    """Return the line that reports an error of a file, at the place of the innermost key of `key` that it has.

    Args:
        file: The file.
        key: Path of the key, such as `sources[0].path`; empty for the whole file.
        problem: What is wrong, and what is allowed.
        text: Text of the file.
    """
    place = _place(places(text), key) or ()
    return ": ".join(filter(None, (":".join(map(str, (file, *place))), key, problem)))


def lines(file: Path, error: ValidationError, root: Schema, text: str) -> list[str]:
    """Return the errors that pydantic found in a file, as lines in the order of the file.

    Args:
        file: The file.
        error: Error of the file's model.
        root: JSON schema of the model.
        text: Text of the file.
    """
    known = places(text)
    found: dict[str, str] = {}
    for detail in error.errors(include_url=False):
        for key, problem in _problems(detail, known, root):
            found.setdefault(key, problem)  # of several errors of one key, the first is the most basic
    return [line(file, key, found[key], text) for key in sorted(found, key=lambda key: _place(known, key) or (0, 0))]


def syntax_line(file: Path, error: yaml.MarkedYAMLError) -> str:
    """Return the line that reports why a text is not YAML, or not YAML of plain values."""
    mark = error.problem_mark or error.context_mark
    where = f"{file}:{mark.line + 1}:{mark.column + 1}" if mark else str(file)
    own = type(error) is yaml.MarkedYAMLError  # PyYAML itself raises subclasses
    reason = " ".join(filter(None, ("" if own else "not YAML:", error.context, error.problem)))
    hint = "; indent with spaces, not with tabs" if "cannot start any token" in reason else ""
    return f"{where}: {reason}{hint}"


def _place(known: Mapping[str, Place], key: str) -> Place | None:
    while key and key not in known:
        key = re.sub(r"(^|\.|\[)[^.\[]*$", "", key)
    return known.get(key)


def _find(known: Mapping[str, Place], location: Keys) -> str:
    """Return the path of a location, without the parts that the file lacks: pydantic also names union branches."""
    path = ""
    for part in location:
        path = longer if (longer := join(path, part)) in known else path
    return path


def _problems(detail: ErrorDetails, known: Mapping[str, Place], root: Schema) -> Iterator[tuple[str, str]]:
    location, value, context = detail["loc"], detail["input"], detail.get("ctx", {})
    *above, last = location or ("",)
    here, section, path = schema_at(root, location), schema_at(root, tuple(above)), _find(known, location)
    match detail["type"]:
        case "flaw":  # of `fields.flaws`: the last part of the location is a path below the value
            yield (join(_find(known, tuple(above)), last), detail["msg"])
        case "value_error":
            yield (path, str(context["error"]))
        case "missing":
            yield from _missing(known, section, _find(known, tuple(above)), str(last))
        case "extra_forbidden":
            yield (path, _unknown(section, str(last)))
        case "union_tag_invalid" | "union_tag_not_found" if isinstance(value, Mapping) and "discriminator" in here:
            tag = context["discriminator"].strip("'")
            given = f"{_shown(value[tag])} is not allowed" if tag in value else "missing"
            yield (join(path, tag), f"{given}; one of {', '.join(here['x-branches'])}")
        case _:
            while last != "[key]" and above and path == _find(known, tuple(above)):
                *above, last = above  # the last part names a branch of a union; the message is of all branches
                here = schema_at(root, (*above, last))
            words = allowed(here)
            yield (path, f"{_shown(value)} is not allowed; {words}{_hint(value, here, words)}")


def _missing(known: Mapping[str, Place], section: Schema, path: str, key: str) -> Iterator[tuple[str, str]]:
    renamed = RENAMED.get(str(section.get("title")), {})
    if not any(new == key and join(path, old) in known for old, new in renamed.items()):
        yield (join(path, key), f"missing; {allowed(section['properties'][key])}")


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
