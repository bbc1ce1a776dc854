"""Records: rows of named fields, the form in which accounts, positions and parameters reach the kernels."""

from collections.abc import Iterable
from typing import Any

import numpy as np


class Row(np.record):  # type: ignore[misc]  # numpy's stubs call it final, numpy does not
    """One record. Its fields hide numpy's own attributes, `size` for one, as they do in compiled code."""

    def __getattribute__(self, name: str) -> object:
        """A field, or an attribute of numpy where no field has the name."""
        fields = super().__getattribute__("dtype").fields
        return self[name] if fields is not None and name in fields else super().__getattribute__(name)


def record(fields: Iterable[str], integers: Iterable[str] = ()) -> Any:
    """A record of float64 fields, then of int64 fields, 8 bytes each, in the order given."""
    named = [*((name, np.float64) for name in fields), *((name, np.int64) for name in integers)]
    # A record that does not say that it is aligned is loaded byte by byte on a GPU.
    return np.dtype((Row, np.dtype(named, align=True)))
