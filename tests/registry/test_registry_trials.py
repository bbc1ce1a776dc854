from dataclasses import replace
from datetime import date

import pytest
import registry_kit as kit
from sqlalchemy import update

from mei_pipeline.errors import DataError, Fatal
from mei_pipeline.registry import tables
from mei_pipeline.registry.database import write_transaction
from mei_pipeline.registry.trials import add_trial, trials_between

pytestmark = pytest.mark.usefixtures("database")

TRIAL = kit.trial()


def found(registry, first=TRIAL.first_day, last=TRIAL.last_day, venue="binance"):
    return trials_between(registry, venue, first, last)


def test_a_trial_comes_back_bit_for_bit(registry):
    assert add_trial(registry, TRIAL, 1)
    assert found(registry) == (TRIAL,)


def test_a_repeated_trial_is_not_a_new_one(registry):
    assert add_trial(registry, TRIAL, 1)
    later = replace(TRIAL, night_id="another", rank="finalist 2", returns=(0.1 + 0.2, -1e-17, -0.0, 5e-324))
    assert not add_trial(registry, later, 2)
    assert found(registry) == (TRIAL,)


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
def test_any_other_content_makes_another_trial(registry, change):
    assert add_trial(registry, TRIAL, 1)
    assert add_trial(registry, replace(TRIAL, **change), 2)


@pytest.mark.parametrize(
    ("first", "last", "count"),
    [((1, 1), (1, 1), 0), ((1, 1), (1, 2), 1), ((1, 3), (1, 4), 1), ((1, 5), (2, 9), 1), ((1, 6), (2, 9), 0)],
)
def test_trials_that_share_a_day(registry, first, last, count):
    add_trial(registry, TRIAL, 1)
    add_trial(registry, replace(TRIAL, venue="other"), 1)
    assert len(found(registry, date(2026, *first), date(2026, *last))) == count


def test_trials_come_in_the_order_of_storing(registry):
    ranks = [f"finalist {number}" for number in (3, 1, 2)]
    for number, rank in enumerate(ranks):
        add_trial(registry, replace(TRIAL, rank=rank, returns=(number / 7, 0.0, 0.0, 0.0)), number)
    assert [trial.rank for trial in found(registry)] == ranks


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"returns": (0.1,)}, "1 returns for the days 2026-01-02 to 2026-01-05"),
        ({"last_day": date(2026, 1, 1), "returns": ()}, "0 returns for the days"),
        ({"config_ids": ()}, "names no config"),
        ({"returns": (0.1, float("nan"), 0.0, 0.0)}, "is not finite"),
        ({"returns": (0.1, float("inf"), 0.0, 0.0)}, "is not finite"),
    ],
)
def test_a_trial_without_content_is_refused(change, words):
    with pytest.raises(DataError, match=words):
        replace(TRIAL, **change)


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("returns", b"\0" * 32, "another id"),
        ("returns", b"\0" * 31, "restore the registry"),
        ("returns", b"\0" * 24, "3 returns for the days"),
        ("config_ids", "no json", "not JSON"),
    ],
)
def test_a_trial_that_was_changed_is_fatal(registry, column, value, words):
    add_trial(registry, TRIAL, 1)
    with write_transaction(registry) as connection:
        connection.execute(update(tables.trials).values(**{column: value}))
    with pytest.raises(Fatal, match=words):
        found(registry)
