"""Legs on disk: the arrays of several in one compressed file."""

import io
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from mei_pipeline import files
from mei_pipeline.errors import DataError
from mei_pipeline.selection.legs import Leg


def write_legs(path: Path, legs: Mapping[Any, Leg]) -> None:
    """Write legs by name, whole or not at all."""
    buffer = io.BytesIO()
    arrays = {f"{name} {f.name}": getattr(leg, f.name) for name, leg in legs.items() for f in fields(leg)}
    np.savez_compressed(buffer, **arrays)
    files.write_bytes(path, buffer.getvalue())


def read_legs(path: Path, names: Iterable[object], asset: str) -> tuple[Leg, ...]:
    """The legs of some names.

    Raises:
        DataError: The file is missing or damaged, or lacks one; the message names the asset to materialise.
    """
    try:
        with np.load(io.BytesIO(path.read_bytes())) as stored:
            return tuple(Leg(**{f.name: stored[f"{name} {f.name}"] for f in fields(Leg)}) for name in names)
    except FileNotFoundError:
        raise DataError(f"{path}: the night has none yet; materialise `{asset}`") from None
    except (OSError, EOFError, KeyError, ValueError, NotImplementedError, BadZipFile, zlib.error) as error:
        raise DataError(f"{path}: damaged ({error}); materialise `{asset}` again") from None
