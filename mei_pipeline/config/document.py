"""Read one YAML file into a frozen model. All errors of a file are reported at once; `messages` words them."""

import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import BaseModel, ValidationError

from mei_pipeline.config.keys import schema_of
from mei_pipeline.config.messages import flaws_of, line, report
from mei_pipeline.config.yaml_marks import Flaw, Keys, Tree, join, parse, place_after
from mei_pipeline.errors import ConfigError

MAX_BYTES = 1 << 20

ModelT = TypeVar("ModelT", bound=BaseModel)


@dataclass(frozen=True)
class Document(Generic[ModelT]):
    """A file that was read.

    Attributes:
        path: The file.
        model: Its content.
        tree: Its values with their places.
    """

    path: Path
    model: ModelT
    tree: Tree

    def problem(self, keys: Keys, text: str) -> str:
        """Return the line that reports an error of the value at `keys`, for checks that need more than one file."""
        return line(self.path, self.tree.flaw(join("", *keys), text))


def read_yaml(path: Path, model: type[ModelT]) -> ModelT:
    """Read and validate one YAML file.

    Args:
        path: The file: UTF-8, at most 1 MiB, one mapping.
        model: Model of the file.

    Raises:
        ConfigError: The file can't be read or breaks a rule of `model`; one line per error.
    """
    return read_document(path, model).model


def read_document(path: Path, model: type[ModelT]) -> Document[ModelT]:
    """As `read_yaml`, with the places of all keys."""
    return parse_document(_read(path), path, model)


def parse_document(content: bytes, path: Path, model: type[ModelT]) -> Document[ModelT]:
    """As `read_document`, of bytes that were read from `path`."""
    text = _decode(content, path)
    if not text.strip():
        raise ConfigError(f"{path}: the file is empty; {_keys_of(model)}")
    tree = parse(text)
    found = list(tree.flaws)
    if tree.data is None and not found:
        tree = Tree({}, {})
    if isinstance(tree.data, Mapping):
        try:
            value = model.model_validate(tree.data, context={"file": path})
        except ValidationError as error:
            found += flaws_of(error, tree, schema_of(model))
        else:
            if not found:
                return Document(path, value, tree)
    elif not found:
        found.append(Flaw(None, "", f"the file is not a mapping (key: value); {_keys_of(model)}"))
    # Of several errors of one key, the first is the most basic.
    first = {(flaw.path or flaw.text, flaw.place): flaw for flaw in reversed(found)}.values()
    raise ConfigError(report(line(path, flaw) for flaw in sorted(first, key=lambda flaw: flaw.place or (0, 0))))


def _read(path: Path) -> bytes:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise ConfigError(f"{path}: not a regular file; put a YAML file there")
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; create it, or set MEI_CONFIG to the folder that has it") from None
    except OSError as error:
        raise ConfigError(f"{path}: can't be read: {error.strerror}") from error
    if len(content) > MAX_BYTES:
        raise ConfigError(f"{path}: larger than {MAX_BYTES:,} bytes; a config file is small")
    return content


def _decode(content: bytes, path: Path) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = error.object[: error.start].decode()
        text = f"byte 0x{error.object[error.start]:02x} is not UTF-8; save the file as UTF-8"
        raise ConfigError(line(path, Flaw(place_after(before), "", text))) from None


def _keys_of(model: type[BaseModel]) -> str:
    schema = schema_of(model)
    needed = schema.get("required")
    return f"needed keys: {', '.join(needed)}" if needed else f"allowed keys: {', '.join(schema['properties'])}"
