"""Starting kernels through CuPy, on a card that is none: packing, batches, memory, and what goes wrong on the way."""

from pathlib import Path
from typing import NamedTuple

import cuda_kit
import gpu_kit
import numpy as np
import pytest
from gpu_kit import FakeCupy, write_kernels
from kernel_kit import Inputs

from kernels.cuda.launch import CudaDevice, CudaJob, DeviceMemoryFull, LaunchStopped, run_tiles, tile_steps
from kernels.cuda.layout import ArrayLayout, LayoutSizes, batch_arrays, offsets_of, pack_array, words_of
from kernels.cuda.manifest import MANIFEST, CudaUnavailable, capability_of, read_manifest, runs_on
from kernels.cuda.status import KINDS, STATUSES, kind_of
from kernels.ledger import ACCOUNT
from kernels.strategies import load

NAME = "ema_cross"
BOOK, SINGLE = 9, 5
"""Seeds of a book of five symbols that trades from its first steps on, and of one symbol: there combos cost little."""

STEPS = 17  # one more than the shortest tile
TIMES = 17  # so often is every combo there where there are plenty


class Work(NamedTuple):
    """A market, combos, and what the simulation of this processor makes of them."""

    inputs: Inputs
    job: CudaJob
    expected: cuda_kit.Told


def work_of(seed: int, times: int = 1) -> Work:
    case, inputs = cuda_kit.inputs_for(load(NAME), seed)
    last = case.first + STEPS
    expected = cuda_kit.on_processor(NAME, case, inputs, last)
    assert expected.accounts[:, ACCOUNT.names.index("fills")].any()  # else equal results say nothing
    which = np.repeat(np.arange(cuda_kit.COMBOS), times)
    job = CudaJob(
        inputs.signal_group_of[which],
        inputs.params[which],
        inputs.signal_params,
        inputs.column_of,
        case.first,
        last,
        case.rules.initial_usd,
    )
    told = cuda_kit.Told(expected.accounts[which], np.ascontiguousarray(expected.days[:, :, which]))
    return Work(inputs, job, told)


@pytest.fixture(scope="module")
def kernels_folder(tmp_path_factory) -> Path:
    return write_kernels(tmp_path_factory.mktemp("kernels"), NAME)


@pytest.fixture(scope="module")
def book() -> Work:
    """A few combos of a book."""
    return work_of(BOOK)


@pytest.fixture(scope="module")
def plenty() -> Work:
    """More combos than a device ever gets at least, of one symbol."""
    return work_of(SINGLE, TIMES)


def card_of(cupy: FakeCupy, folder: Path, inputs) -> CudaDevice:
    card = CudaDevice(cupy, load(NAME), read_manifest(folder), folder)
    card.load(inputs.market, inputs.symbols, inputs.models, inputs.columns)
    return card


def equal(card: CudaDevice, work: Work) -> bool:
    return cuda_kit.same(cuda_kit.told(*card.run(work.job)), work.expected)


def starts(cupy: FakeCupy) -> int:
    """Return the number of batches that were begun."""
    return [name for name, _ in cupy.launches].count("start")


def bytes_of(combos: int, work: Work) -> int:
    """Memory of a batch."""
    symbols = work.inputs.market.close.shape[1]
    sets = min(combos, cuda_kit.SIGNAL_GROUPS)
    tile = min(tile_steps(sets, symbols), work.job.last - work.job.first)
    _, groups, features = work.inputs.column_of.shape
    return offsets_of(batch_arrays(load(NAME), LayoutSizes(combos, sets, tile, symbols, groups, features)))[1]


def test_a_card_does_what_the_processor_does(book, kernels_folder):
    cupy = FakeCupy()
    card = card_of(cupy, kernels_folder, book.inputs)
    kept = cupy.kept()
    assert equal(card, book)
    assert card.batch == len(book.job.signal_group_of)
    assert cupy.kept() == kept  # a batch leaves nothing behind
    assert {name for name, _ in cupy.launches} == {"start", "signals", "idle", "advance"}
    assert equal(card, book)


@pytest.mark.parametrize(("most", "tile_bytes"), [(1, 1 << 20), (2, 1), (4, 1 << 20), (5, 1)])
def test_results_depend_neither_on_the_batch_nor_on_the_tile(book, kernels_folder, most, tile_bytes):
    cupy = FakeCupy()
    card = card_of(cupy, kernels_folder, book.inputs)
    card.most, card.tile_bytes = most, tile_bytes
    assert equal(card, book)
    batches = -(-len(book.job.signal_group_of) // most)
    assert starts(cupy) == batches
    assert len([name for name, _ in cupy.launches if name == "advance"]) == batches * (2 if tile_bytes == 1 else 1)


def test_every_batch_comes_back_in_one_copy_through_buffers_that_stay(book, kernels_folder):
    cupy = FakeCupy()
    card = card_of(cupy, kernels_folder, book.inputs)
    card.most = 2
    assert equal(card, book)
    assert equal(card, book)
    assert len(cupy.brought) == starts(cupy) == 6
    assert len(cupy.locked) == 2  # as many as there are batches in flight
    assert sum(cupy.brought) < 1.5 * 2 * (book.expected.accounts.nbytes + book.expected.days.nbytes)


def test_the_size_of_a_batch_follows_each_job(plenty, kernels_folder):
    cupy = FakeCupy()
    card = card_of(cupy, kernels_folder, plenty.inputs)
    one = CudaJob(*(array[:1] for array in plenty.job[:2]), *plenty.job[2:])
    card.run(one._replace(last=one.first))  # as a sweep gets ready
    assert equal(card, plenty)
    assert (card.batch, starts(cupy)) == (len(plenty.job.signal_group_of), 2)


def test_batches_fit_the_memory_that_is_free_two_at_a_time(plenty, kernels_folder):
    cupy = FakeCupy()
    card = card_of(cupy, kernels_folder, plenty.inputs)
    cupy.capacity = cupy.kept() + int(bytes_of(40, plenty) * 2 / 0.8)
    assert equal(card, plenty)
    assert card.batch == 34  # of 102 combos, the largest third, quarter and so on that fits twice
    assert starts(cupy) == 3
    assert cupy.most_used > bytes_of(34, plenty) * 2  # the next one begins before the last one's results are read
    assert cupy.most_used <= cupy.capacity


def test_the_memory_that_is_free_is_looked_at_for_each_job(plenty, kernels_folder):
    cupy = FakeCupy()
    card = card_of(cupy, kernels_folder, plenty.inputs)
    found = []
    for room in (bytes_of(102, plenty), bytes_of(40, plenty) * 2, bytes_of(102, plenty)):
        cupy.capacity = cupy.kept() + int(room / 0.8) + 1
        found.append((equal(card, plenty), card.batch))
        assert cupy.pooled  # what CuPy keeps is free to the next job
    assert found == [(True, 102), (True, 34), (True, 102)]


def test_a_card_with_less_memory_than_it_says_gets_smaller_batches(plenty, kernels_folder):
    cupy = FakeCupy()
    card = card_of(cupy, kernels_folder, plenty.inputs)
    cupy.said_free, cupy.capacity = gpu_kit.GIB, cupy.kept() + bytes_of(45, plenty)
    assert equal(card, plenty)  # of 102, 51 and 32 combos the last fit, one batch at a time
    assert cupy.most_used <= cupy.capacity


def test_a_card_without_room_for_a_warp_is_refused(plenty, kernels_folder):
    cupy = FakeCupy()
    card = card_of(cupy, kernels_folder, plenty.inputs)
    cupy.said_free, cupy.capacity = gpu_kit.GIB, cupy.kept() + bytes_of(16, plenty)
    with pytest.raises(DeviceMemoryFull, match="32 combos at once do not fit"):
        card.run(plenty.job)


def test_bars_that_do_not_fit_are_refused(book, kernels_folder):
    cupy = FakeCupy(capacity=1000)
    with pytest.raises(DeviceMemoryFull, match=r"bars and features, .* MiB, do not fit"):
        card_of(cupy, kernels_folder, book.inputs)


@pytest.mark.parametrize("again", [False, True], ids=["once", "from then on"])
def test_memory_may_lack_at_any_place(plenty, kernels_folder, again):
    few = CudaJob(*(array[:: TIMES // 2] for array in plenty.job[:2]), *plenty.job[2:])
    job = few._replace(last=few.first + 2)
    cupy = FakeCupy()
    card = card_of(cupy, kernels_folder, plenty.inputs)
    card.most = 7
    expected = cuda_kit.told(*card.run(job))
    before = cupy.asked
    card.run(job)
    places_asked, kept = cupy.asked - before, cupy.kept()
    assert places_asked > 15
    refused = 0
    for place in range(places_asked):
        start = cupy.asked + place
        cupy.fails = range(start, start + 10**6) if again else range(start, start + 1)
        try:
            assert cuda_kit.same(cuda_kit.told(*card.run(job)), expected), place
        except DeviceMemoryFull:
            refused += 1
        assert cupy.kept() == kept, place
        cupy.fails = range(0)
        assert cuda_kit.same(cuda_kit.told(*card.run(job)), expected), place  # nothing is left of it
    assert refused == (places_asked if again else 0)


@pytest.mark.parametrize("survives", [0, 1, 3, 5])
def test_a_lost_card_ends_the_run(book, kernels_folder, survives):
    cupy = FakeCupy()
    card = card_of(cupy, kernels_folder, book.inputs)
    card.most = 3
    kept = cupy.kept()
    cupy.lost_after = survives
    try:  # what pytest would keep of the error holds the memory
        card.run(book.job)
    except gpu_kit.CUDADriverError as error:
        said = str(error)
    assert "launch failure" in said
    assert cupy.kept() == kept


def test_a_run_stops_between_tiles(book, kernels_folder):
    cupy = FakeCupy()
    card = card_of(cupy, kernels_folder, book.inputs)
    kept = cupy.kept()
    card.most, card.tile_bytes = 3, 1
    with pytest.raises(LaunchStopped):
        card.run(book.job, lambda: len(cupy.launches) > 7)  # seven are the two tiles of the first batch
    assert len([name for name, _ in cupy.launches if name == "advance"]) == 3
    assert cupy.kept() == kept
    assert equal(card, book)


def test_an_interruption_waits_for_the_device(book, kernels_folder):
    cupy = FakeCupy()
    card = card_of(cupy, kernels_folder, book.inputs)
    kept = cupy.kept()
    card.most = 3

    def interrupt() -> bool:
        if len(cupy.launches) > 4:  # the first batch is at work
            raise KeyboardInterrupt
        return False

    with pytest.raises(KeyboardInterrupt):
        card.run(book.job, interrupt)
    assert cupy.kept() == kept
    assert equal(card, book)


def test_the_time_of_each_kernel_is_measured_when_asked_for(book, kernels_folder):
    card = card_of(FakeCupy(), kernels_folder, book.inputs)
    card.spent_ms = {}
    assert equal(card, book)
    assert list(card.spent_ms) == ["start", "signals", "idle", "advance"]
    assert min(card.spent_ms.values()) > 0.0
    assert card.spent_ms["advance"] > card.spent_ms["idle"]


def test_every_status_has_one_class():
    listed = [status for statuses in STATUSES.values() for status in statuses]
    assert len(listed) == len(set(listed)) == len(KINDS)
    cupy = FakeCupy()
    assert kind_of(cupy, gpu_kit.OutOfMemoryError()) == "memory"
    for status, kind in {2: "memory", 46: "busy", 719: "lost", 35: "driver", 700: "defect", 12345: "lost"}.items():
        assert kind_of(cupy, gpu_kit.CUDARuntimeError(status)) == kind_of(cupy, gpu_kit.CUDADriverError(status)) == kind
    assert kind_of(cupy, ValueError()) is None


def test_no_step_leaves_fresh_accounts(book, kernels_folder):
    inputs, job, _ = book
    cupy = FakeCupy()
    accounts, days = card_of(cupy, kernels_folder, inputs).run(job._replace(last=job.first))
    assert (accounts["cash"] == job.usd).all()
    assert not days.any()


def test_kernels_of_other_records_are_refused(tmp_path):
    other = write_kernels(tmp_path, NAME)
    (other / MANIFEST).write_text((other / MANIFEST).read_text().replace("bars_held@", "bars_kept@"))
    with pytest.raises(CudaUnavailable, match="other records than this version's: accounts"):
        CudaDevice(FakeCupy(), load(NAME), read_manifest(other), other)


def test_tiles_cover_all_steps_once():
    seen = []
    sizes = LayoutSizes(7, 2, 10, 3, 1, 1)
    ends = list(run_tiles(lambda *call: seen.append(call), sizes, 5, 32, 1.0))
    assert ends == [15, 25, 32]
    assert seen[0] == ("start", 7, {"usd": 1.0})
    assert seen[1:4] == [
        ("signals", 20, {"first": 5, "count": 10, "version": 0}),
        ("idle", 2, {"first": 5, "count": 10, "version": 0}),
        ("advance", 7, {"first": 5, "count": 10, "version": 0}),
    ]
    assert seen[-3] == ("signals", 14, {"first": 25, "count": 7, "version": 0})


def test_a_tile_ends_where_the_terms_of_the_venue_change():
    seen = []
    sizes = LayoutSizes(7, 2, 10, 3, 1, 1, versions=4)
    assert list(run_tiles(lambda *call: seen.append(call), sizes, 5, 32, 1.0, [0, 3, 15, 18])) == [15, 18, 28, 32]
    moves = [scalars["version"] for name, _, scalars in seen if name == "advance"]
    assert moves == [1, 2, 3, 3]


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", [(5,), (3, 4), (2, 3, 4)])
def test_an_array_lies_as_numpy_lays_it(shape, order):
    array = ArrayLayout(np.dtype(np.int16), shape, order)
    twin = np.zeros(shape, np.int16, order=order)
    assert (array.strides, array.nbytes) == (twin.strides, twin.nbytes)
    words = pack_array(words_of(array.type), array, 4096)
    assert words == [0, 0, twin.size, 2, 4096, *shape, *twin.strides]
    assert {type(word) for word in words} == {np.int64}


def test_arrays_have_places_of_their_own():
    arrays = batch_arrays(load(NAME), LayoutSizes(33, 2, 7, 3, 1, 3))
    found, length = offsets_of(arrays)
    ends = [found[name] + array.nbytes for name, array in arrays.items()]
    starts = [*found.values(), length]
    assert all(end <= start for end, start in zip(ends, starts[1:], strict=True))
    assert all(start % 256 == 0 for start in starts)


def test_an_architecture_runs_on_its_own_major_version_only():
    assert capability_of("sm_120") == (12, 0)
    assert [runs_on("sm_86", each) for each in ((8, 6), (8, 9), (8, 0), (9, 0))] == [True, True, False, False]
    with pytest.raises(CudaUnavailable, match="'sm90' is not an architecture"):
        capability_of("sm90")


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (lambda folder: (folder / MANIFEST).unlink(), "can't be read"),
        (lambda folder: (folder / MANIFEST).write_text("{"), "can't be read"),
        (lambda folder: (folder / MANIFEST).write_text('{"format": 0}'), "another version of MEI"),
        (lambda folder: (folder / "advance.cubin").write_bytes(b"other"), "its hash differs from manifest.json"),
        (lambda folder: (folder / "signals.cubin").unlink(), "can't be read"),
    ],
)
def test_damaged_kernels_are_refused(tmp_path, harm, says):
    folder = write_kernels(tmp_path, NAME)
    harm(folder)
    with pytest.raises(CudaUnavailable, match=says):
        read_manifest(folder)
