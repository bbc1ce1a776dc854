"""Read one YAML file into a frozen model. All errors of a file are reported at once; `messages` words them."""

import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from mei_pipeline.config.keys import allowed, schema_of
from mei_pipeline.config.messages import line, lines, report, syntax_line
from mei_pipeline.config.yaml_marks import Keys, join, parse, place_after
from mei_pipeline.errors import ConfigError

MAX_BYTES = 1 << 20

ModelT = TypeVar("ModelT", bound=BaseModel)


@dataclass(frozen=True)
class Document(Generic[ModelT]):
    """A parsed file.

    Attributes:
        path: The file.
        model: Its content.
        text: Text of the file.
    """

    path: Path
    model: ModelT
    text: str = ""

    def problem(self, keys: Keys, text: str) -> str:
        """Return the line that reports an error of the value at `keys`, for checks that need more than one file."""
        return line(self.path, join("", *keys), text, self.text)


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
    """As `read_yaml`, with the text of the file."""
    return parse_document(_read(path), path, model)


def parse_document(content: bytes, path: Path, model: type[ModelT]) -> Document[ModelT]:
    """As `read_document`, for bytes from `path`."""
    text = _decode(content, path)
    if not text.strip():
        raise ConfigError(f"{path}: the file is empty; {allowed(schema_of(model))}")
    try:
        data = parse(text)
        if data is None or isinstance(data, Mapping):
            return Document(path, model.model_validate(data or {}, context={"file": path}), text)
        problems = [f"{path}: the file is not a mapping (key: value); {allowed(schema_of(model))}"]
    except yaml.MarkedYAMLError as error:
        problems = [syntax_line(path, error)]
    except ValidationError as error:
        problems = lines(path, error, schema_of(model), text)
    # Raised outside of the handlers: errors of PyYAML and pydantic hold values of the file, such as secrets, and a
    # traceback would show them.
    raise ConfigError(report(problems))


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
        where = ":".join(map(str, (path, *place_after(before))))
        text = f"byte 0x{error.object[error.start]:02x} is not UTF-8; save the file as UTF-8"
        raise ConfigError(f"{where}: {text}") from None
