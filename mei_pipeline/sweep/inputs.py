"""What a sweep reads, as files that any machine can run its chunks from: no lake and no features folder are needed.

Every array is a `.npy` file named by its content; a note, named by its own, says which is what, and holds the plan.
"""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from kernels.features import Column
from kernels.market import Market
from mei_pipeline import files
from mei_pipeline.errors import DataError
from mei_pipeline.simulation.feature_sets import FeatureSet
from mei_pipeline.simulation.window import Window
from mei_pipeline.storage import Store
from mei_pipeline.sweep.plan import SweepPlan

FOLDER = "inputs"
_PLAN = TypeAdapter(SweepPlan)


@dataclass(frozen=True)
class Inputs:
    """What the chunks of a sweep are made from.

    Attributes:
        plan: The combos.
        window: What is traded.
        features: Columns that hold every window of the plan.
    """

    plan: SweepPlan
    window: Window
    features: FeatureSet


def publish(store: Store, inputs: Inputs) -> str:
    """Write what the store lacks of `inputs`.

    Returns:
        Hash of the note, by which `read` finds all of it.

    Raises:
        Retryable: The disk is full.
        DataError: The folder can't be written.
    """
    plan, window, features = inputs.plan, inputs.window, inputs.features
    there = store.bucket.names(FOLDER) if store.bucket else set()
    note = {
        "sweep": plan.id,
        "plan": _PLAN.dump_python(plan, mode="json"),
        "window": [window.from_ms, window.to_ms, window.first, window.last],
        "market": {name: _keep(store, there, array) for name, array in window.market._asdict().items()},
        "features": {
            "key": features.key,
            "columns": features.columns,
            "values": _keep(store, there, features.values),
        },
    }
    data = files.canonical_json(note)
    digest = hashlib.sha256(data).hexdigest()
    files.write_bytes(store.folder / FOLDER / f"{digest}.json", data)
    store.push(f"{FOLDER}/{digest}.json")
    return digest


def read(store: Store, digest: str) -> Inputs:
    """The inputs whose note has the hash `digest`; arrays are memory-mapped.

    Raises:
        DataError: A file is missing, or is not what its name says.
    """
    name = f"{FOLDER}/{digest}.json"
    try:
        store.pull(name)
        data = (store.folder / name).read_bytes()
    except FileNotFoundError:
        raise DataError(
            f"{store.folder / name}: not there; is the folder of results shared with this machine?"
        ) from None
    if hashlib.sha256(data).hexdigest() != digest:
        raise DataError(f"{store.folder / name}: damaged; delete it and run the sweep again")
    note: dict[str, Any] = json.loads(data)
    plan = _PLAN.validate_python(note["plan"])
    if plan.id != note["sweep"]:
        raise DataError(f"{store.folder / name}: not a plan of this version; install the version that wrote it")
    market = Market(**{field: _array(store, content) for field, content in note["market"].items()})
    held = note["features"]
    columns = tuple(Column(kind, tuple(windows)) for kind, windows in held["columns"])
    values = _array(store, held["values"])
    from_ms, to_ms, first, last = note["window"]
    window = Window(from_ms, to_ms, first, last, market)
    return Inputs(plan, window, FeatureSet(held["key"], store.folder / FOLDER, columns, values))


def _keep(store: Store, there: set[str], array: NDArray[Any]) -> str:
    """Write the array unless it is there; gives its hash."""
    content = _hash(array)
    name = f"{FOLDER}/{content}.npy"
    path = store.folder / name
    if not path.exists():
        with files.replacing(path) as temporary, temporary.open("wb") as file:
            np.save(file, array, allow_pickle=False)
    if name not in there:
        store.push(name)
    return content


def _array(store: Store, content: str) -> NDArray[Any]:
    name = f"{FOLDER}/{content}.npy"
    path = store.folder / name
    try:
        store.pull(name)
        # Private pages: compiled code takes arrays that may be written, and nothing that it wrote would reach the file.
        array = np.asarray(np.load(path, mmap_mode="c", allow_pickle=False))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: can't be read ({error}); delete it and run the sweep again") from None
    if _hash(array) != content:
        raise DataError(f"{path}: damaged, its content has another hash; delete it and run the sweep again")
    return array


def _hash(array: NDArray[Any]) -> str:
    digest = hashlib.sha256(f"{array.dtype.str}{array.shape}".encode())
    digest.update(np.ascontiguousarray(array).data.cast("B"))
    return digest.hexdigest()
