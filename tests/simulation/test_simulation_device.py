"""Which device runs combos, and why: a GPU is taken where one can be used, and never quietly left."""

import sys

import gpu_kit
import numpy as np
import pytest
from gpu_kit import FakeCupy, write_kernels

from kernels.cache import rules_hash
from kernels.cuda import build
from kernels.market import FillModel, Market
from mei_pipeline.cli import main
from mei_pipeline.errors import ConfigError, DataError, Fatal, Retryable
from mei_pipeline.simulation.device import DeviceChoice, Gpu, choose_device, list_manifests, open_gpu

NAME = "ema_cross"
compiles = pytest.mark.skipif(build.can_compile(), reason="what compiles is installed")


@pytest.fixture
def cupy(monkeypatch):
    """A CuPy that sees an H100."""
    fake = FakeCupy()
    monkeypatch.setitem(sys.modules, "cupy", fake)
    return fake


def test_the_processor_is_taken_as_asked_for(mei_settings):
    assert str(choose_device(mei_settings, "cpu", NAME)) == "cpu (as requested)"
    assert open_gpu(choose_device(mei_settings, "cpu", NAME), NAME) is None


def test_without_cupy_auto_is_the_processor_and_cuda_an_error(mei_settings, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    choice = choose_device(mei_settings, "auto", NAME)
    assert choice.name == "cpu"
    assert "CuPy can't be imported" in choice.why
    with pytest.raises(ConfigError, match=r"--device cuda: no GPU in use: CuPy can't be imported.*uv sync --extra gpu"):
        choose_device(mei_settings, "cuda", NAME)


@pytest.mark.gpu
def test_the_real_cupy_of_a_machine_without_a_card_is_understood(mei_settings):
    import cupy

    if cupy.cuda.runtime.driverGetVersion():
        pytest.skip("this machine has a driver")
    assert choose_device(mei_settings, "auto", NAME).why == "no GPU in use: CuPy finds no NVIDIA driver"


def test_a_card_with_kernels_is_taken(mei_settings, cupy):
    place = write_kernels(mei_settings.kernels, NAME)
    for wanted, shown in (("auto", "the faster of cuda and cpu"), ("cuda", "cuda")):
        choice = choose_device(mei_settings, wanted, NAME)
        assert str(choice) == f"{shown} (Fake GPU, sm_90, kernels {place})"
        assert (choice.kernels, choice.gpu_name) == (place, "Fake GPU")
    assert isinstance(open_gpu(choice, NAME), Gpu)
    assert cupy.used == 0


def test_the_newest_kernels_that_run_on_the_card_are_taken(mei_settings, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", FakeCupy(capability=(8, 9)))
    for arch in ("sm_80", "sm_86", "sm_90"):
        write_kernels(mei_settings.kernels, NAME, arch)
    assert choose_device(mei_settings, "cuda", NAME).kernels.name == f"{NAME}.sm_86"


def test_an_old_driver_is_refused(mei_settings, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", FakeCupy(driver=12040))
    write_kernels(mei_settings.kernels, NAME)
    says = "its driver supports CUDA 12.4, the kernels need 13.0"
    assert says in choose_device(mei_settings, "auto", NAME).why
    with pytest.raises(ConfigError, match=says):
        choose_device(mei_settings, "cuda", NAME)


def test_no_driver_and_no_card_are_told_apart(mei_settings, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", FakeCupy(driver=0))
    assert choose_device(mei_settings, "auto", NAME).why.endswith("finds no NVIDIA driver")
    fake = FakeCupy()
    fake.cuda.runtime.getDeviceCount = lambda: 0
    monkeypatch.setitem(sys.modules, "cupy", fake)
    assert choose_device(mei_settings, "auto", NAME).why.endswith("shows no device")

    def none():
        raise gpu_kit.CUDARuntimeError(100, "cudaErrorNoDevice: no CUDA-capable device is detected")

    fake.cuda.runtime.getDeviceCount = none
    assert "no CUDA-capable device" in choose_device(mei_settings, "auto", NAME).why


@compiles
@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({}, "no kernels of ema_cross for sm_90 in"),
        ({"arch": "sm_80"}, "is for sm_80"),
        ({"rules": "0" * 64}, "compiled from other sources than these"),
    ],
)
def test_a_card_without_fitting_kernels_is_not_taken(mei_settings, cupy, given, says):
    if given:
        write_kernels(mei_settings.kernels, NAME, **given)
    assert cupy.used == 0
    choice = choose_device(mei_settings, "auto", NAME)
    assert choice.name == "cpu"
    assert says in choice.why
    assert "mei kernels build --arch sm_90" in choice.why
    with pytest.raises(ConfigError, match=says):
        choose_device(mei_settings, "cuda", NAME)


@compiles
def test_without_a_compiler_nothing_is_built(mei_settings, capsys):
    assert main.run(["kernels", "build", "--arch", "sm_90"]) == 2
    assert "uv sync --group cuda" in capsys.readouterr().err
    assert not mei_settings.kernels.exists() or list_manifests(mei_settings.kernels) == []


def test_unknown_strategies_and_architectures_are_refused(capsys):
    assert main.run(["kernels", "build", "--arch", "sm_90", "--strategy", "nope"]) == 2
    assert "strategy 'nope'" in capsys.readouterr().err
    assert main.run(["kernels", "build", "--arch", "h100"]) == 2
    assert "'h100' is not an architecture" in capsys.readouterr().err


def test_the_kernels_of_a_folder_are_listed(tmp_path, capsys):
    write_kernels(tmp_path, NAME, rules="0" * 64)
    assert main.run(["kernels", "list", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "sm_90" in shown
    assert "advance" in shown
    assert " no " in shown  # not of these rules
    assert [manifest.rules for manifest in list_manifests(tmp_path)] != [rules_hash()]


def test_damaged_kernels_are_an_error_of_data(tmp_path):
    place = write_kernels(tmp_path, NAME)
    (place / "advance.cubin").write_bytes(b"")
    with pytest.raises(DataError, match="compile the kernels again"):
        list_manifests(tmp_path)


ERRORS = {
    2: (Retryable, r"too little memory of the GPU is free: .*; wait for other work on it to end, or use --device cpu"),
    46: (Retryable, r"the GPU is taken \(error 46\); wait for other work on it to end, or use --device cpu"),
    719: (Retryable, r"the GPU was lost \(error 719\); finished chunks are on disk"),
    12345: (Retryable, r"the GPU was lost \(error 12345\)"),
    209: (ConfigError, r"the driver of the GPU does not fit \(error 209\); install driver 580 or later"),
    700: (Fatal, r"a kernel failed on the GPU \(error 700\): a defect; use --device cpu, which gives the same results"),
    716: (Fatal, "a defect"),
}
"""Error that a status of a card becomes, and its message."""


@pytest.mark.parametrize("status", ERRORS)
@pytest.mark.parametrize("made", ["Stream", "RawModule"])
def test_errors_while_a_card_is_opened_say_what_to_do(mei_settings, cupy, monkeypatch, status, made):
    place = write_kernels(mei_settings.kernels, NAME)
    kind, says = ERRORS[status]
    fails = gpu_kit.raising(gpu_kit.CUDARuntimeError(status))
    monkeypatch.setattr(cupy if made == "RawModule" else cupy.cuda, made, fails)
    with pytest.raises(kind, match=says):
        open_gpu(DeviceChoice("cuda", "", place), NAME)


@pytest.mark.parametrize("asked", ["getDeviceCount", "getDeviceProperties", "driverGetVersion"])
@pytest.mark.parametrize(("status", "kind"), [(2, Retryable), (46, Retryable), (100, ConfigError), (35, ConfigError)])
def test_a_card_that_can_not_be_asked_is_not_taken(mei_settings, cupy, asked, status, kind):
    write_kernels(mei_settings.kernels, NAME)
    setattr(cupy.cuda.runtime, asked, gpu_kit.raising(gpu_kit.CUDARuntimeError(status)))
    assert choose_device(mei_settings, "auto", NAME).why == f"no GPU in use: error {status}"
    with pytest.raises(kind):
        choose_device(mei_settings, "cuda", NAME)


@pytest.mark.parametrize("status", ERRORS)
def test_errors_of_a_card_say_whether_to_try_again(mei_settings, cupy, status):
    place = write_kernels(mei_settings.kernels, NAME)
    gpu = open_gpu(DeviceChoice("cuda", "", place), NAME)
    kind, says = ERRORS[status]
    cupy.cuda.alloc = gpu_kit.raising(gpu_kit.CUDADriverError(status))
    one = np.zeros((1, 1))
    market = Market(*([one] * 7), np.zeros(1, np.int64), *([one] * 5), *([np.zeros(1, np.int64)] * 9), np.zeros(1))
    with pytest.raises(kind, match=says):
        gpu.run(market, FillModel(0, 0, 0, 0.0, 0.0, 0.0, 1.0), np.zeros((1, 1, 1)), None)


def test_the_doctor_says_what_runs_combos(mei_settings, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "cupy", None)
    main.run(["doctor", "--json"])
    assert "sweeps run on cpu (no GPU in use: CuPy can't be imported" in capsys.readouterr().out
    monkeypatch.setitem(sys.modules, "cupy", FakeCupy())
    for name in ("ema_cross", "mei_alpha"):
        write_kernels(mei_settings.kernels, name)
    main.run(["doctor", "--json"])
    assert "sweeps run on ema_cross: the faster of cuda and cpu (Fake GPU, sm_90" in capsys.readouterr().out
