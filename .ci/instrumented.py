"""Keep the code that slipcover instruments, for the other processes of a run and for the next run.

To instrument all modules of MEI takes a process over 10 s of processor time; to load kept code takes less than 1 s.

A probe counts in memory and can't be written: kept code has None in its place, and `_load` makes a new one. From Python
3.12 on slipcover puts no probes into code, and measure.py does without this module.
"""

import ast
import marshal
import os
import sys
from hashlib import sha256
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from slipcover import Slipcover, branch, importer, version
from slipcover.bytecode import Editor
from slipcover.slipcover import probe

MADE_BY = f"{sys.version} slipcover {version.__version__}".encode()


def keep_in(folder: Path) -> None:
    """Let slipcover keep instrumented modules in a folder, a file for each, and load them from there."""
    folder.mkdir(parents=True, exist_ok=True)
    uncached = importer.SlipcoverLoader.exec_module

    def exec_module(loader: importer.SlipcoverLoader, module: ModuleType) -> None:
        if not isinstance(loader.orig_loader, SourceFileLoader):
            uncached(loader, module)
            return
        loader.sci.register_module(module)
        exec(instrumented(loader.sci, loader.origin, folder), vars(module))  # noqa: S102 - as every loader does

    importer.SlipcoverLoader.exec_module = exec_module


def instrumented(measured: Slipcover, file: Path, folder: Path) -> CodeType:
    """Return the instrumented code of a module: the kept one if it was made from the same source."""
    source, name = file.read_bytes(), str(file)
    made_from = sha256(MADE_BY + source).hexdigest()
    place = folder / sha256(name.encode()).hexdigest()
    if place.exists():
        known, kept, lines, branches = marshal.loads(place.read_bytes())  # noqa: S302 - own files
        if known == made_from:
            measured.code_lines[name].update(lines)
            measured.code_branches[name].update(branches)
            code = _load(measured, kept)
            measured.instrumented[name].add(code)
            return code
    code = measured.instrument(compile(branch.preinstrument(ast.parse(source)), name, "exec"))
    facts = made_from, _kept(measured, code), list(measured.code_lines[name]), list(measured.code_branches[name])
    written = place.with_suffix(f".{os.getpid()}")
    written.write_bytes(marshal.dumps(facts))
    written.replace(place)  # another process reads the old file or the new one
    return code


def _kept(measured: Slipcover, code: CodeType) -> tuple[Any, ...]:
    """Return instrumented code as values that marshal writes."""
    editor, constants, probes = Editor(code), list(code.co_consts), []
    signal = constants.index(probe.signal)  # code without a line of its own has it too
    constants[signal] = None
    for offset, label in measured.code2index[code]:
        _, place = editor.get_inserted_function(offset)
        constants[place] = None
        probes.append((place, label))
    inner = {place: _kept(measured, value) for place, value in enumerate(constants) if isinstance(value, CodeType)}
    for place in inner:
        constants[place] = None
    return code.replace(co_consts=tuple(constants)), measured.code2index[code], signal, probes, inner


def _load(measured: Slipcover, kept: tuple[Any, ...]) -> CodeType:
    """Return the code of which `_kept` made values, with probes that count for `measured`."""
    bare, index, signal, probes, inner = kept
    constants = list(bare.co_consts)
    constants[signal] = probe.signal
    for place, label in probes:
        constants[place] = probe.new(measured, bare.co_filename, label, measured.d_miss_threshold)
    for place, value in inner.items():
        constants[place] = _load(measured, value)
    code = bare.replace(co_consts=tuple(constants))
    measured.code2index[code] = index
    return code
