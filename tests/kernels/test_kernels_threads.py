"""A thread of a device does what the simulation does; small enough to run as plain Python, too."""

import cuda_kit
from gpu_kit import FakeCupy, write_kernels

from kernels.cuda.launch import CudaDevice, CudaJob
from kernels.cuda.manifest import read_manifest
from kernels.strategies import load

NAME, SEED = "ema_cross", 9


def test_each_combo_of_a_card_equals_the_simulation(tmp_path):
    case, inputs = cuda_kit.inputs_for(load(NAME), SEED)
    expected = cuda_kit.on_processor(NAME, case, inputs)
    folder = write_kernels(tmp_path, NAME)
    card = CudaDevice(FakeCupy(), load(NAME), read_manifest(folder), folder)
    card.load(inputs.market, inputs.symbols, inputs.models, inputs.columns)
    few = (inputs.signal_group_of, inputs.params, inputs.signal_params, inputs.column_of)
    done = card.run(CudaJob(*few, case.first, case.steps, case.rules.initial_usd))
    assert cuda_kit.same(cuda_kit.told(*done), cuda_kit.Told(expected.accounts, expected.days))
