"""Records with named fields, for the accounts, positions and parameters of the kernels."""

from collections.abc import Iterable
from typing import Any

import numpy as np


class Row(np.record):  # type: ignore[misc]  # numpy's stubs call it final, numpy does not
    """A record whose fields hide attributes of numpy with the same name, such as `size`, as in compiled code."""

    def __getattribute__(self, name: str) -> object:
        """Return a field or, if no field has the name, an attribute of numpy."""
        fields = super().__getattribute__("dtype").fields
        return self[name] if fields is not None and name in fields else super().__getattribute__(name)


def record(fields: Iterable[str], integers: Iterable[str] = ()) -> Any:
    """Return the dtype of a record of float64 fields followed by int64 fields, 8 bytes each."""
    named = [*((name, np.float64) for name in fields), *((name, np.int64) for name in integers)]
    # A GPU loads a record byte by byte unless its dtype is marked as aligned.
    return np.dtype((Row, np.dtype(named, align=True)))
