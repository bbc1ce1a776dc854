"""Starting kernels through CuPy, on a card that is none: packing, batches, memory, and what goes wrong on the way."""

from pathlib import Path

import cuda_kit
import gpu_kit
import numpy as np
import pytest
from gpu_kit import FakeCupy, write_kernels

from kernels.cuda.launch import Card, Job, NoMemory, Stopped, through, tile_steps
from kernels.cuda.layout import Array, Sizes, batch_arrays, packed, places, words_of
from kernels.cuda.manifest import MANIFEST, Unfit, capability_of, read, runs_on
from kernels.strategies import load

NAME, SEED = "ema_cross", 9
TIMES = 30  # so often is every combo there
LAST = 24  # the step before which the runs end: a tile of the fewest steps, and a part of one


@pytest.fixture(scope="module")
def kernels_folder(tmp_path_factory) -> Path:
    return write_kernels(tmp_path_factory.mktemp("kernels"), NAME)


@pytest.fixture(scope="module")
def work():
    """A market, combos in plenty, and what the engine of this processor makes of them."""
    case, inputs = cuda_kit.inputs_for(load(NAME), SEED)
    expected = cuda_kit.on_processor(NAME, case, inputs, LAST)
    assert len(np.unique(expected.accounts, axis=0)) > 1  # combos that trade, and not alike
    which = np.repeat(np.arange(cuda_kit.COMBOS), TIMES)
    job = Job(
        inputs.entry_of[which],
        inputs.params[which],
        inputs.entries,
        inputs.rows,
        case.first,
        LAST,
        case.rules.initial_usd,
    )
    return inputs, job, cuda_kit.Told(expected.accounts[which], np.ascontiguousarray(expected.days[:, :, which]))


def card_of(cupy: FakeCupy, folder: Path, inputs) -> Card:
    card = Card(cupy, load(NAME), read(folder), folder)
    card.load(inputs.market, inputs.symbols, inputs.models, inputs.columns)
    return card


def bytes_of(combos: int, job: Job, inputs) -> int:
    """Memory of a batch."""
    symbols = inputs.market.close.shape[1]
    sets = min(combos, cuda_kit.SETS)
    tile = min(tile_steps(sets, symbols), job.last - job.first)
    _, groups, features = inputs.rows.shape
    return places(batch_arrays(load(NAME), Sizes(combos, sets, tile, symbols, groups, features)))[1]


def test_a_card_does_what_the_processor_does(work, kernels_folder):
    inputs, job, expected = work
    cupy = FakeCupy()
    card = card_of(cupy, kernels_folder, inputs)
    kept = cupy.used
    assert cuda_kit.same(cuda_kit.told(*card.run(job)), expected)
    assert card.batch == len(job.entry_of)
    assert cupy.kept() == kept  # a batch leaves nothing behind
    assert {name for name, _ in cupy.launches} == {"start", "look", "calm", "move"}
    assert cuda_kit.same(cuda_kit.told(*card.run(job)), expected)


def test_batches_fit_the_memory_that_is_free_two_at_a_time(work, kernels_folder):
    inputs, job, expected = work
    cupy = FakeCupy()
    card = card_of(cupy, kernels_folder, inputs)
    cupy.capacity = cupy.used + int(bytes_of(50, job, inputs) * 2 / 0.8)
    assert cuda_kit.same(cuda_kit.told(*card.run(job)), expected)
    assert card.batch == 45  # 180 combos, halved until two batches fit
    assert [threads for name, threads in cupy.launches if name == "start"] == [128] * 4
    assert cupy.most_used > bytes_of(45, job, inputs) * 2  # the next one begins before the last one's results are read
    assert cupy.most_used <= cupy.capacity


@pytest.mark.long
def test_results_do_not_depend_on_the_tile(work, kernels_folder):
    inputs, job, expected = work
    cupy = FakeCupy()
    card = card_of(cupy, kernels_folder, inputs)
    card.tile_bytes = 1
    assert cuda_kit.same(cuda_kit.told(*card.run(job)), expected)
    assert len([name for name, _ in cupy.launches if name == "move"]) == -(-(job.last - job.first) // 16)


def test_a_card_with_less_memory_than_it_says_gets_smaller_batches(work, kernels_folder):
    inputs, job, expected = work
    cupy = FakeCupy()
    card = card_of(cupy, kernels_folder, inputs)
    cupy.said_free, cupy.capacity = gpu_kit.GIB, cupy.used + bytes_of(60, job, inputs)
    assert cuda_kit.same(cuda_kit.told(*card.run(job)), expected)
    assert card.batch == 32  # the fewest: two of them do not fit, either, so one is at work at a time
    assert cupy.most_used <= cupy.capacity


def test_a_card_without_room_for_a_warp_is_refused(work, kernels_folder):
    inputs, job, _ = work
    cupy = FakeCupy()
    card = card_of(cupy, kernels_folder, inputs)
    cupy.said_free, cupy.capacity = gpu_kit.GIB, cupy.used + bytes_of(16, job, inputs)
    with pytest.raises(NoMemory, match="32 combos at once do not fit"):
        card.run(job)


def test_out_of_memory_of_a_launch_counts_too(work, kernels_folder):
    inputs, job, _ = work
    cupy = FakeCupy()
    card = card_of(cupy, kernels_folder, inputs)
    cupy.lost_after, cupy.status = 0, 2
    with pytest.raises(NoMemory):
        card.run(job)


@pytest.mark.parametrize("survives", [0, 1, 3])
def test_a_lost_card_ends_the_run(work, kernels_folder, survives):
    inputs, job, _ = work
    cupy = FakeCupy()
    card = card_of(cupy, kernels_folder, inputs)
    kept = cupy.used
    cupy.lost_after = survives
    with pytest.raises(gpu_kit.CUDADriverError, match="launch failure"):
        card.run(job)
    assert cupy.kept() == kept


def test_a_run_stops_between_tiles(work, kernels_folder):
    inputs, job, _ = work
    cupy = FakeCupy()
    card = card_of(cupy, kernels_folder, inputs)
    kept = cupy.used
    card.tile_bytes = 1
    with pytest.raises(Stopped):
        card.run(job, lambda: len(cupy.launches) > 6)
    assert len([name for name, _ in cupy.launches if name == "move"]) == 2
    assert cupy.kept() == kept


def test_no_step_leaves_fresh_accounts(work, kernels_folder):
    inputs, job, _ = work
    cupy = FakeCupy()
    accounts, days = card_of(cupy, kernels_folder, inputs).run(job._replace(last=job.first))
    assert (accounts["cash"] == job.usd).all()
    assert not days.any()


def test_kernels_of_other_records_are_refused(tmp_path):
    other = write_kernels(tmp_path, NAME)
    (other / MANIFEST).write_text((other / MANIFEST).read_text().replace("bars_held@", "bars_kept@"))
    with pytest.raises(Unfit, match="other records than this version's: accounts"):
        Card(FakeCupy(), load(NAME), read(other), other)


def test_tiles_cover_all_steps_once():
    seen = []
    sizes = Sizes(7, 2, 10, 3, 1, 1)
    ends = list(through(lambda *call: seen.append(call), sizes, 5, 32, 1.0))
    assert ends == [15, 25, 32]
    assert seen[0] == ("start", 7, {"usd": 1.0})
    assert seen[1:4] == [
        ("look", 20, {"first": 5, "count": 10, "version": 0}),
        ("calm", 2, {"first": 5, "count": 10, "version": 0}),
        ("move", 7, {"first": 5, "count": 10, "version": 0}),
    ]
    assert seen[-3] == ("look", 14, {"first": 25, "count": 7, "version": 0})


def test_a_tile_ends_where_the_terms_of_the_venue_change():
    seen = []
    sizes = Sizes(7, 2, 10, 3, 1, 1, versions=4)
    assert list(through(lambda *call: seen.append(call), sizes, 5, 32, 1.0, [0, 3, 15, 18])) == [15, 18, 28, 32]
    moves = [scalars["version"] for name, _, scalars in seen if name == "move"]
    assert moves == [1, 2, 3, 3]


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", [(5,), (3, 4), (2, 3, 4)])
def test_an_array_lies_as_numpy_lays_it(shape, order):
    array = Array(np.dtype(np.int16), shape, order)
    twin = np.zeros(shape, np.int16, order=order)
    assert (array.strides, array.nbytes) == (twin.strides, twin.nbytes)
    words = packed(words_of(array.type), array, 4096)
    assert words == [0, 0, twin.size, 2, 4096, *shape, *twin.strides]
    assert {type(word) for word in words} == {np.int64}


def test_arrays_have_places_of_their_own():
    arrays = batch_arrays(load(NAME), Sizes(33, 2, 7, 3, 1, 3))
    found, length = places(arrays)
    ends = [found[name] + array.nbytes for name, array in arrays.items()]
    starts = [*found.values(), length]
    assert all(end <= start for end, start in zip(ends, starts[1:], strict=True))
    assert all(start % 256 == 0 for start in starts)


def test_an_architecture_runs_on_its_own_major_version_only():
    assert capability_of("sm_120") == (12, 0)
    assert [runs_on("sm_86", each) for each in ((8, 6), (8, 9), (8, 0), (9, 0))] == [True, True, False, False]
    with pytest.raises(Unfit, match="'sm90' is no architecture"):
        capability_of("sm90")


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (lambda folder: (folder / MANIFEST).unlink(), "can't be read"),
        (lambda folder: (folder / MANIFEST).write_text("{"), "can't be read"),
        (lambda folder: (folder / MANIFEST).write_text('{"format": 0}'), "another version of MEI"),
        (lambda folder: (folder / "move.cubin").write_bytes(b"other"), "not what manifest.json says"),
        (lambda folder: (folder / "look.cubin").unlink(), "can't be read"),
    ],
)
def test_damaged_kernels_are_refused(tmp_path, harm, says):
    folder = write_kernels(tmp_path, NAME)
    harm(folder)
    with pytest.raises(Unfit, match=says):
        read(folder)
