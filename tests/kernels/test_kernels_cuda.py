"""The kernels compile for a GPU without one, round as the CPU does, and take what they did when this was written.

Without libNVVM's option against fused multiply-add the GPU rounds once where the CPU rounds twice, and results differ
in their last bits. Registers decide how many threads are at work at once, and what spills goes through memory.
"""

import inspect
import json
import re
from collections import Counter
from pathlib import Path

import numba
import numpy as np
import pytest

from kernels.cuda import build
from kernels.cuda.layout import KERNELS, arguments_of, types_of, words_of
from kernels.cuda.manifest import CudaUnavailable, read_manifest
from kernels.strategies import load
from mei_pipeline.cli import main

pytestmark = pytest.mark.cuda

STRATEGIES = ("ema_cross", "mei_alpha")
H200, ARCH = (9, 0), "sm_90"

# rcp.rn is 1 / x, rounded as a division is.
ROUNDED = re.compile(r"\b(?:mul|add|sub|div|sqrt|rcp)\.rn\.f64\b")
ARITHMETIC = re.compile(r"\b(?:fma|mad|mul|add|sub|div|sqrt|rcp|rsqrt)(?:\.\w+)*\.f64\b")

MOST_REGISTERS = {
    "ema_cross": {"start": 48, "signals": 56, "idle": 32, "advance": 168},
    "mei_alpha": {"start": 48, "signals": 128, "idle": 32, "advance": 168},
}
"""168 is what three blocks of 128 threads leave to each on a multiprocessor."""

LOCAL_BYTES = {"ema_cross": 128, "mei_alpha": 1360}
"""Stack of `move`: the copy of a combo's parameters, and nothing else."""


@pytest.fixture(scope="module", autouse=True)
def _compiler():
    if not build.can_compile():
        pytest.skip("needs a group of dependencies: .ci/uv run --group cuda pytest -m cuda")


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """What the command makes."""
    folder = tmp_path_factory.mktemp("built")
    assert main.run(["kernels", "build", "--arch", ARCH, "--out", str(folder)]) == 0
    return folder


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_operation_is_rounded(built, name):
    found = Counter()
    for kernel in KERNELS:
        code = (built / f"{name}.{ARCH}" / f"{kernel}.ptx").read_text()
        assert f".target {ARCH}" in code
        assert f".visible .entry mei_{kernel}(" in code
        assert ".version 9.0" in code  # driver 580 takes up to this
        found += Counter(ARITHMETIC.findall(code))
    assert [operation for operation in found if not ROUNDED.fullmatch(operation)] == []
    assert found["add.rn.f64"] > 100
    assert found["mul.rn.f64"] > 100


@pytest.mark.parametrize("name", STRATEGIES)
def test_registers_and_memory_are_as_written_down(built, name):
    for kernel, figures in read_manifest(built / f"{name}.{ARCH}").kernels.items():
        assert 0 < figures.registers <= MOST_REGISTERS[name][kernel]
        assert (figures.spill_stores_bytes, figures.spill_loads_bytes) == (0, 0)
        assert figures.stack_bytes == (LOCAL_BYTES[name] if kernel == "advance" else 0)


@pytest.mark.parametrize("name", STRATEGIES)
def test_what_is_handed_over_is_what_the_code_takes(built, name):
    manifest = read_manifest(built / f"{name}.{ARCH}")
    for kernel, figures in manifest.kernels.items():
        entry, kinds = build.parameters_of((built / f"{name}.{ARCH}" / f"{kernel}.ptx").read_text())
        words = [(argument, word) for argument in figures.arguments for word in argument.words]
        assert entry == figures.entry
        assert len(kinds) == len(words)
        for kind, (argument, _) in zip(kinds, words, strict=True):
            assert kind == ("f64" if argument.dtype == "float64" and not argument.order else "u64")


def test_an_array_of_the_gpu_has_the_fields_of_one_of_the_cpu():
    with build.cuda_compiler(H200) as cuda:
        manager = cuda.descriptor.cuda_target.target_context.data_model_manager
        for axes in (1, 2, 3):
            array = numba.types.Array(numba.types.float64, axes, "C")
            model = manager[array]
            assert tuple(model._fields) == ("meminfo", "parent", "nitems", "itemsize", "data", "shape", "strides")
            assert len(words_of(array)) == 5 + 2 * axes


def test_machine_code_is_made_again_in_one_piece(built):
    again = build.build("ema_cross", ARCH, built)
    assert read_manifest(built / f"ema_cross.{ARCH}") == again
    assert sorted(path.name for path in built.iterdir()) == [f"{name}.{ARCH}" for name in STRATEGIES]


def test_the_manifest_says_what_made_it(built):
    raw = json.loads((built / f"mei_alpha.{ARCH}" / "manifest.json").read_text())
    assert (raw["strategy"], raw["arch"], raw["cuda"]) == ("mei_alpha", ARCH, "13.0")
    assert raw["options"] == {"fma": 0, "lto": False, "fastmath": False}
    assert set(raw["versions"]) == {"numba", "numpy", "numba-cuda", "nvidia-nvvm", "nvidia-cuda-nvcc"}
    assert str(built) not in json.dumps(raw)


@pytest.mark.parametrize("arch", ["sm_50", "sm_999"])
def test_an_architecture_that_no_compiler_knows_is_refused(tmp_path, arch):
    with pytest.raises(CudaUnavailable, match=arch):
        build.build("ema_cross", arch, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_signatures_are_of_the_strategy():
    with build.cuda_compiler(H200) as cuda:
        threads = build.bind("ema_cross", cuda, "signatures")
    for name in KERNELS:
        kernel = getattr(threads, name)
        parameters = inspect.signature(kernel).parameters
        assert len(types_of(kernel, load("ema_cross"))) == len(parameters)
        named = dict.fromkeys(argument.name.partition(".")[0] for argument in arguments_of(kernel, load("ema_cross")))
        assert list(named) == list(parameters)


def product_and_sum(out, a, b, c):
    out[0] = a * b + c


def test_without_the_option_the_compiler_fuses_and_with_it_not():
    signature = tuple(map(numba.typeof, (np.zeros(1), 1.0, 1.0, 1.0)))
    with build.cuda_compiler(H200) as cuda:
        code = build.compile_kernel(cuda, product_and_sum, signature, H200, "unfused")
    assert set(ARITHMETIC.findall(code)) == {"mul.rn.f64", "add.rn.f64"}
    fused, _ = cuda.compile(product_and_sum, signature, device=False, abi="numba", cc=H200)  # what was put in is out
    assert "fma.rn.f64" in fused
