"""Random orders and sets of numbers: every number once, and the same ones everywhere."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mei_pipeline.sweep.search.permutation import Permutation
from mei_pipeline.sweep.search.random_streams import below, stream, words
from mei_pipeline.sweep.search.visited import VisitedCombos, unvisited


@given(st.integers(1, 3000), st.integers(0, 2**32))
def test_an_order_has_every_number_once(n, key):
    assert sorted(Permutation(n, key).at(np.arange(n)).tolist()) == list(range(n))


@given(st.integers(1, 2**62), st.integers(0, 2**32), st.data())
def test_a_place_has_the_same_number_however_it_is_asked_for(n, key, data):
    places = data.draw(st.lists(st.integers(0, n - 1), max_size=20, unique=True))
    order = Permutation(n, key)
    together = order.at(np.array(places, dtype=np.int64)).tolist()
    assert together == [order.at(np.array([place]))[0] for place in places]
    assert len(set(together)) == len(places)
    assert all(0 <= number < n for number in together)


def test_every_order_of_four_is_as_likely():
    found = Counter(tuple(Permutation(4, key).at(np.arange(4)).tolist()) for key in range(1200))
    assert len(found) == 24
    assert sum((count - 50) ** 2 / 50 for count in found.values()) < 50  # chi-square, 23 degrees: 0.1 %


def test_the_first_places_spread_over_the_whole():
    n = 2**62
    numbers = Permutation(n, 7).at(np.arange(64_000))
    counts = np.bincount(numbers >> 56, minlength=64)
    assert ((counts - 1000) ** 2 / 1000).sum() < 106  # chi-square, 63 degrees: 0.1 %
    assert abs(np.corrcoef(numbers[:-1].astype(float), numbers[1:].astype(float))[0, 1]) < 0.02


def test_the_same_numbers_on_every_machine():
    assert Permutation(1000, 1).at(np.arange(5)).tolist() == [111, 484, 694, 476, 633]
    assert words(stream(1), (4,)).tolist() == [58623, 31010, 48627, 33542]
    assert below(stream(1), 10, 8).tolist() == [4, 5, 7, 9, 0, 1, 8, 9]


@pytest.mark.parametrize("n", [0, -1, 2**62 + 1])
def test_an_order_of_too_few_or_too_many(n):
    with pytest.raises(ValueError, match="1 to 2"):
        Permutation(n, 0)


def test_draws_are_even_and_below_the_limit():
    found = below(stream(3), 7, 70_000)
    assert (found.min(), found.max()) == (0, 6)
    assert ((np.bincount(found) - 10_000) ** 2 / 10_000).sum() < 22.5  # chi-square, 6 degrees: 0.1 %
    assert words(stream(3), (3, 5)).shape == (3, 5)
    assert len(words(stream(3), (0,))) == 0


@given(st.lists(st.sets(st.integers(0, 60), max_size=12), max_size=8), st.lists(st.integers(0, 60), max_size=30))
def test_known_numbers_are_known(batches, asked):
    known, all_of_them = VisitedCombos(), set()
    for batch in batches:
        fresh = sorted(batch - all_of_them)
        known.add(np.array(fresh, dtype=np.int64))
        all_of_them |= batch
    assert len(known) == len(all_of_them)
    assert known.has(np.array(asked, dtype=np.int64)).tolist() == [number in all_of_them for number in asked]
    taken = np.array(asked[:3], dtype=np.int64)
    expected = [n for n in dict.fromkeys(asked) if n not in all_of_them and n not in asked[:3]]
    assert unvisited(np.array(asked, dtype=np.int64), known, taken).tolist() == expected
