import polars as pl
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from mei_pipeline.sweep.pareto import pareto

POINTS = st.lists(st.tuples(*[st.integers(0, 4)] * 3), min_size=1, max_size=40)
NAMES = ("return_pct", "max_drawdown_pct", "turnover_usd")


def rows(points):
    columns = [[float(point[axis]) for point in points] for axis in range(3)]
    return pl.DataFrame({"combo": range(len(points)), **dict(zip(NAMES, columns, strict=True)), "sharpe": 1.5})


def beats(a, b):
    """Whether `a` is at least as good everywhere, and better somewhere or, of equal ones, the first."""
    return a[0][0] >= b[0][0] and a[0][1] <= b[0][1] and a[0][2] <= b[0][2] and (a[0] != b[0] or a[1] < b[1])


@given(POINTS)
def test_the_front_is_what_nothing_beats(points):
    numbered = [(point, combo) for combo, point in enumerate(points)]
    expected = {own[1] for own in numbered if not any(beats(other, own) for other in numbered)}
    found = pareto(rows(points))
    assert set(found["combo"].to_list()) == expected
    assert found["combo"].n_unique() == found.height
    assert found["return_pct"].is_sorted(descending=True)
    assert found.columns == ["combo", *NAMES, "sharpe"]


@given(POINTS, st.lists(st.integers(1, 9), min_size=1), st.booleans())
def test_the_front_of_chunks_is_that_of_all(points, sizes, backwards):
    frame = rows(points)
    chunks, start = [], 0
    for size in sizes:
        chunks.append(frame[start : start + size])
        start += size
    chunks.append(frame[start:])
    front = pareto(frame.clear())
    for chunk in reversed(chunks) if backwards else chunks:
        front = pareto(pl.concat([front, chunk]))
    assert_frame_equal(front, pareto(frame), check_exact=True)


def test_combos_that_never_trade_are_on_the_front_once():
    assert pareto(rows([(0, 0, 0)] * 5 + [(1, 1, 1), (0, 1, 1)]))["combo"].to_list() == [5, 0]
