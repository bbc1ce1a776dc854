"""Inputs of a sweep as files, from which any machine can run chunks without a lake or a features folder.

Every array is a `.npy` file named by the hash of its content. A note lists the arrays, holds the plan, and is named by
its own hash.
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
class SweepInputs:
    """Plan, window and features of a sweep.

    Attributes:
        plan: The combos.
        window: The window.
        features: Columns for every feature window of the plan.
    """

    plan: SweepPlan
    window: Window
    features: FeatureSet


def publish_inputs(store: Store, inputs: SweepInputs) -> str:
    """Write the files of `inputs` that the store lacks.

    Returns:
        Hash of the note, from which `read_inputs` finds all files.

    Raises:
        Retryable: The disk is full.
        DataError: The folder can't be written.
    """
    plan, window, features = inputs.plan, inputs.window, inputs.features
    stored = store.bucket.names(FOLDER) if store.bucket else set()
    note = {
        "sweep": plan.id,
        "plan": _PLAN.dump_python(plan, mode="json"),
        "window": [window.from_ms, window.to_ms, window.first, window.last],
        "market": {name: _write_array(store, stored, array) for name, array in window.market._asdict().items()},
        "features": {
            "key": features.key,
            "columns": features.columns,
            "values": _write_array(store, stored, features.values),
        },
    }
    data = files.canonical_json(note)
    digest = hashlib.sha256(data).hexdigest()
    files.write_bytes(store.folder / FOLDER / f"{digest}.json", data)
    store.push(f"{FOLDER}/{digest}.json")
    return digest


def read_inputs(store: Store, digest: str) -> SweepInputs:
    """Return the inputs whose note has the hash `digest`; arrays are memory-mapped.

    Raises:
        DataError: A file is missing, or its content does not match its name.
    """
    name = f"{FOLDER}/{digest}.json"
    try:
        store.pull(name)
        data = (store.folder / name).read_bytes()
    except FileNotFoundError:
        raise DataError(
            f"{store.folder / name}: file is missing; share the folder of results with this machine"
        ) from None
    if hashlib.sha256(data).hexdigest() != digest:
        raise DataError(f"{store.folder / name}: damaged; delete it and run the sweep again")
    note: dict[str, Any] = json.loads(data)
    plan = _PLAN.validate_python(note["plan"])
    if plan.id != note["sweep"]:
        raise DataError(f"{store.folder / name}: plan of another version of MEI; install the version that wrote it")
    market = Market(**{field: _read_array(store, content) for field, content in note["market"].items()})
    stored = note["features"]
    columns = tuple(Column(kind, tuple(windows)) for kind, windows in stored["columns"])
    values = _read_array(store, stored["values"])
    from_ms, to_ms, first, last = note["window"]
    window = Window(from_ms, to_ms, first, last, market)
    return SweepInputs(plan, window, FeatureSet(stored["key"], store.folder / FOLDER, columns, values))


def _write_array(store: Store, stored: set[str], array: NDArray[Any]) -> str:
    """Write the array unless the store has it; return the hash of its content."""
    content = _hash(array)
    name = f"{FOLDER}/{content}.npy"
    path = store.folder / name
    if not path.exists():
        with files.replacing(path) as temporary, temporary.open("wb") as file:
            np.save(file, array, allow_pickle=False)
    if name not in stored:
        store.push(name)
    return content


def _read_array(store: Store, content: str) -> NDArray[Any]:
    name = f"{FOLDER}/{content}.npy"
    path = store.folder / name
    try:
        store.pull(name)
        # Mode "c" maps private pages: compiled code requires writable arrays, and writes never reach the file.
        array = np.asarray(np.load(path, mmap_mode="c", allow_pickle=False))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: unreadable: {error}; delete it and run the sweep again") from None
    if _hash(array) != content:
        raise DataError(f"{path}: damaged: its content has another hash; delete it and run the sweep again")
    return array


def _hash(array: NDArray[Any]) -> str:
    digest = hashlib.sha256(f"{array.dtype.str}{array.shape}".encode())
    digest.update(np.ascontiguousarray(array).data.cast("B"))
    return digest.hexdigest()
