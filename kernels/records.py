"""Records: rows of named float64 fields, the form in which accounts, positions and parameters reach the kernels."""

from collections.abc import Iterable

import numpy as np


def record(fields: Iterable[str], integers: Iterable[str] = ()) -> np.dtype[np.record]:
    """A record of float64 fields, then of int64 fields, 8 bytes each, in the order given."""
    return np.dtype((np.record, [*((name, np.float64) for name in fields), *((name, np.int64) for name in integers)]))
