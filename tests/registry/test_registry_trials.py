from dataclasses import replace
from datetime import date

import pytest
import registry_kit as kit
from sqlalchemy import update

from mei_pipeline.errors import DataError, Fatal
from mei_pipeline.registry import tables
from mei_pipeline.registry.database import writing
from mei_pipeline.registry.trials import add_look, looks_between

pytestmark = pytest.mark.usefixtures("database")

LOOK = kit.look()


def found(registry, first=LOOK.first_day, last=LOOK.last_day, venue="binance"):
    return looks_between(registry, venue, first, last)


def test_a_look_comes_back_bit_for_bit(registry):
    assert add_look(registry, LOOK, 1)
    assert found(registry) == (LOOK,)


def test_who_looks_again_sees_nothing_new(registry):
    assert add_look(registry, LOOK, 1)
    later = replace(LOOK, night_id="another", slot="finalist 2", returns=(0.1 + 0.2, -1e-17, -0.0, 5e-324))
    assert not add_look(registry, later, 2)
    assert found(registry) == (LOOK,)


@pytest.mark.parametrize(
    "change",
    [
        {"config_ids": ("a" * 64,)},
        {"venue": "hyperliquid"},
        {"first_day": date(2026, 1, 3), "last_day": date(2026, 1, 6)},
        {"returns": (0.3, -1e-17, 0.0, 5e-324)},
        {"data_hash": "e" * 64},
        {"policy_id": kit.OTHER_POLICY},
    ],
)
def test_whatever_was_seen_makes_another_look(registry, change):
    assert add_look(registry, LOOK, 1)
    assert add_look(registry, replace(LOOK, **change), 2)


@pytest.mark.parametrize(
    ("first", "last", "count"),
    [((1, 1), (1, 1), 0), ((1, 1), (1, 2), 1), ((1, 3), (1, 4), 1), ((1, 5), (2, 9), 1), ((1, 6), (2, 9), 0)],
)
def test_looks_that_share_a_day(registry, first, last, count):
    add_look(registry, LOOK, 1)
    add_look(registry, replace(LOOK, venue="other"), 1)
    assert len(found(registry, date(2026, *first), date(2026, *last))) == count


def test_looks_come_in_the_order_of_looking(registry):
    slots = [f"finalist {number}" for number in (3, 1, 2)]
    for number, slot in enumerate(slots):
        add_look(registry, replace(LOOK, slot=slot, returns=(number / 7, 0.0, 0.0, 0.0)), number)
    assert [look.slot for look in found(registry)] == slots


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"returns": (0.1,)}, "1 returns for the days 2026-01-02 to 2026-01-05"),
        ({"last_day": date(2026, 1, 1), "returns": ()}, "0 returns for the days"),
        ({"config_ids": ()}, "names no config"),
        ({"returns": (0.1, float("nan"), 0.0, 0.0)}, "is no number"),
        ({"returns": (0.1, float("inf"), 0.0, 0.0)}, "is no number"),
    ],
)
def test_a_look_at_nothing_is_refused(change, words):
    with pytest.raises(DataError, match=words):
        replace(LOOK, **change)


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("returns", b"\0" * 32, "another id"),
        ("returns", b"\0" * 31, "restore the registry"),
        ("returns", b"\0" * 24, "3 returns for the days"),
        ("config_ids", "no json", "no JSON"),
    ],
)
def test_a_look_that_was_changed_is_fatal(registry, column, value, words):
    add_look(registry, LOOK, 1)
    with writing(registry) as connection:
        connection.execute(update(tables.looks).values(**{column: value}))
    with pytest.raises(Fatal, match=words):
        found(registry)
