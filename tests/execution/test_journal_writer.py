"""A journal takes an event with its rows as one, or not at all, and nothing twice."""

import sqlite3
from contextlib import closing, contextmanager

import journal_kit as kit
import pytest

from mei_pipeline.errors import Busy, DataError, Fatal, OutcomeUnknown, Retryable
from mei_pipeline.execution import events, rows
from mei_pipeline.execution.journal import reader, writer

ORDER = kit.filled_row(rows.OrderRow)
FILL = kit.filled_row(rows.FillRow)
FUNDING = kit.filled_row(rows.FundingRow)
POSITION = kit.filled_row(rows.PositionRow)


@pytest.fixture
def journal(tmp_path):
    with closing(kit.create(tmp_path)) as created:
        yield created


def changed(row, **values):
    fields = {name: getattr(row, name) for name in row.__struct_fields__}
    return type(row)(**{**fields, **values})


def test_events_are_numbered_and_last_after_a_commit(journal):
    assert [journal.append(kit.timer(), 5), journal.append(kit.fill(), 6), journal.last_seq] == [1, 2, 2]
    journal.commit()
    journal.close()
    with closing(kit.reopen(journal.path)) as again:
        assert again.last_seq == 2
        assert kit.select(again, "SELECT seq, event, step_ms, venue_ms, seen_ms FROM events") == [
            (1, "Timer", None, None, 5),
            (2, "Fill", 60_000, None, 6),
        ]
        assert again.append(kit.timer(), 7) == 3


def test_a_row_of_each_class_is_stored_as_it_is(journal):
    given = kit.every_row()
    seq = journal.append(kit.timer(), kit.NOW, given)
    journal.commit()
    for part, row in enumerate(given):
        values = tuple(getattr(row, name) for name in row.__struct_fields__)
        expected = (seq, part, *values) if type(row) in writer.INSERTED else values
        assert kit.select(journal, f"SELECT * FROM {writer.TABLES[type(row)]}") == [expected]  # noqa: S608 - ours
    assert kit.select(journal, "SELECT * FROM intents") == [("text", "text", "text", 1, "text")]


def test_a_row_replaces_the_one_with_its_key(journal):
    journal.append(kit.timer(), kit.NOW, [ORDER, POSITION])
    journal.append(kit.timer(), kit.NOW, [changed(ORDER, state="FILLED", oid="9"), changed(POSITION, stop=None)])
    assert kit.select(journal, "SELECT state, oid FROM orders") == [("FILLED", "9")]
    assert kit.select(journal, "SELECT stop, target FROM positions") == [(None, POSITION.target)]


@pytest.mark.parametrize("size", [0.0, -0.0])
def test_a_position_of_size_0_is_removed(size, journal):
    other = changed(POSITION, symbol="BBB")
    journal.append(kit.timer(), kit.NOW, [POSITION, other])
    journal.append(kit.timer(), kit.NOW, [changed(POSITION, size=size)])
    assert kit.select(journal, "SELECT symbol FROM positions") == [("BBB",)]


@pytest.mark.parametrize(
    ("before", "after", "named"),
    [
        (FILL, FILL, "key text"),
        (FUNDING, FUNDING, "key text"),
        (FILL, changed(FILL, price=2.0), "fills.key"),
        (ORDER, changed(ORDER, cloid="0x02"), "cloid 0x02"),  # a second order with the intent of the first
        (ORDER, changed(ORDER, attempt=2), "intents.cloid"),  # a second intent with the order of the first
        (ORDER, changed(ORDER, cloid="0x02", attempt=0), "attempt"),
        (ORDER, changed(ORDER, lots=0), "lots"),
        (FILL, changed(FILL, key="2", price=float("nan")), "fills.price"),
        (FILL, kit.filled_row(rows.TradeRow, side="up"), "side"),
        (FILL, kit.filled_row(rows.HoldRow, effect="stop"), "effect"),
    ],
)
@pytest.mark.parametrize("durable", [True, False])
@pytest.mark.parametrize("together", [True, False])
def test_what_can_not_be_ends_the_transaction(before, after, named, durable, together, journal):
    """Both rows may be in one transaction. After a commit that is not durable, the next commit writes the rows."""
    journal.append(kit.timer(), kit.NOW, () if together else [before])
    journal.commit(durable=durable)
    stored = kit.dump(journal.path)
    journal.append(kit.timer(), kit.NOW, [before] if together else ())
    with pytest.raises(Fatal, match=named) as caught:
        write(journal, [(kit.fill(), [POSITION, after])], durable=durable)
    doing = "Fill" if durable else "commit"
    assert f"{journal.path}: {doing}, {type(after).__name__}" in str(caught.value)
    journal.commit(durable=durable)
    assert journal.last_seq == 1
    assert kit.dump(journal.path) == stored
    assert journal.append(kit.timer(), kit.NOW) == 2


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_an_event_that_recovery_could_not_read_is_refused(number, journal):
    bar = events.BarClosed(symbol="A", interval="1m", open_ms=1, open=1.0, high=1.0, low=1.0, close=number, volume=1.0)
    with pytest.raises(Fatal, match=r"BarClosed has NaN or infinity where a number must be: .*close"):
        journal.append(bar, kit.NOW, [FILL])
    journal.append(events.OrderRefused(cloid="1", reason="null"), kit.NOW)
    assert kit.select(journal, "SELECT count(*) FROM fills") == [(0,)]


def test_a_batch_leaves_the_rows_that_single_commits_leave(tmp_path):
    """A batch writes the last row of each key, and all events, fills and payments."""
    left = []
    for durable in (True, False):
        with closing(kit.create(tmp_path / str(durable))) as journal:
            journal.append(kit.timer(), kit.NOW, kit.every_row())
            journal.commit(durable=durable)
            for number in range(3):
                bars = [kit.timer(number), kit.timer(number + 10)]
                moved = [changed(ORDER, state=str(number)), changed(POSITION, size=float(number - 1))]
                assert journal.append_all(bars, kit.NOW, [*moved, changed(FILL, key=str(number))]) == 3 * number + 3
                journal.append(kit.fill(), kit.NOW, [changed(ORDER, cloid=f"n{number}", attempt=number + 2)])
            journal.commit(durable=durable)
            left.append(without_identity(journal))
    assert left[0] == left[1]


def test_an_order_that_changes_keeps_its_intent(journal):
    for state in ("NEW", "SENT", "FILLED"):
        journal.append(kit.timer(), kit.NOW, [changed(ORDER, state=state)])
    assert kit.select(journal, "SELECT count(*) FROM intents") == [(1,)]


def test_a_value_that_sqlite_can_not_hold_leaves_nothing(journal):
    with pytest.raises(OverflowError):
        journal.append(kit.timer(), kit.NOW, [POSITION, changed(FILL, time_ms=1 << 63)])
    journal.commit()
    assert [kit.select(journal, "SELECT count(*) FROM events"), journal.last_seq] == [[(0,)], 0]


def test_a_rollback_leaves_nothing(journal):
    journal.append(kit.timer(), kit.NOW)
    journal.commit()
    stored = kit.dump(journal.path)
    journal.append(kit.checkpoint(5), kit.NOW, kit.every_row())
    journal.append(events.Started(kernel_hash="k2", mode="paper", feed="replay"), kit.NOW)
    journal.rollback()
    assert [kit.dump(journal.path), journal.last_seq] == [stored, 1]
    journal.rollback()  # without a transaction


def test_a_closed_journal_has_nothing_that_was_not_committed(journal):
    journal.append(kit.timer(), kit.NOW)
    journal.close()
    with closing(kit.reopen(journal.path)) as again:
        assert again.last_seq == 0


def test_the_identity_follows_the_process_and_the_first_anchor(journal):
    warmed = events.Warmed(config_id="c", anchor_ms=60_000, until_ms=5, data_hash="d")
    journal.append(events.Started(kernel_hash="k2", mode="paper", feed="replay"), kit.NOW)
    journal.append(warmed, kit.NOW)
    journal.append(events.Warmed(config_id="e", anchor_ms=120_000, until_ms=5, data_hash="d"), kit.NOW)
    journal.commit()
    journal.close()
    with closing(kit.reopen(journal.path)) as again:
        assert (again.meta.kernel_hash, again.meta.anchor_ms) == ("k2", 60_000)


def test_the_states_of_the_last_two_checkpoints_are_kept(journal):
    for clock_ms in range(4):
        journal.append(kit.checkpoint(clock_ms), kit.NOW)
        journal.append(kit.timer(), kit.NOW)
    journal.commit()
    assert kit.select(journal, "SELECT seq FROM checkpoints") == [(5,), (7,)]
    assert kit.select(journal, "SELECT count(*) FROM events WHERE event = 'Checkpoint'") == [(4,)]


def test_hooks_surround_durable_commits_only(tmp_path):
    calls: list[str] = []
    with closing(kit.create(tmp_path, fault_hook=calls.append)) as journal:
        journal.append(kit.timer(), kit.NOW)
        journal.commit(durable=False)
        assert calls == []
        journal.append(kit.timer(), kit.NOW)
        journal.commit()
        assert calls == ["journal commit", "journal committed"]


def test_a_transaction_survives_a_hook_that_fails(tmp_path):
    def fail(step):
        raise ZeroDivisionError(step)

    with closing(kit.create(tmp_path, fault_hook=fail)) as journal:
        journal.append(kit.timer(), kit.NOW)
        with pytest.raises(ZeroDivisionError, match="journal commit"):
            journal.commit()
        journal.rollback()
        assert kit.select(journal, "SELECT count(*) FROM events") == [(0,)]


def level(journal):
    return kit.select(journal, "PRAGMA synchronous")[0][0]


def test_the_level_of_safety_follows_the_commits(journal):
    full, normal = 2, 1
    assert level(journal) == full
    for durable, expected in ((False, normal), (False, normal), (True, full), (True, full)):
        journal.append(kit.timer(), kit.NOW)
        journal.commit(durable=durable)
        assert level(journal) == expected
    journal.commit(durable=False)  # nothing to commit
    journal.commit()
    assert kit.select(journal, "SELECT count(*) FROM events") == [(4,)]


def test_commits_that_can_not_be_made_durable_are_unknown(journal):
    journal.append(kit.timer(), kit.NOW)
    journal.commit(durable=False)
    journal.append(kit.timer(), kit.NOW)
    journal.commit(durable=False)
    log = journal.path.with_name("journal.db-wal")
    moved = log.rename(journal.path.with_name("moved"))
    with pytest.raises(OutcomeUnknown, match="db-wal: the last commits may not be on the disk"):
        journal.commit()
    moved.rename(log)
    journal.commit()
    assert journal.last_seq == 2


def test_a_second_writer_waits_and_is_refused(journal):
    with closing(kit.reopen(journal.path, wait_s=0.0)) as second:
        journal.append(kit.timer(), kit.NOW)
        with pytest.raises(Busy, match="another process writes to it"):
            second.append(kit.timer(), kit.NOW)
        journal.commit()
        # Its number is taken: two processes never share a journal unnoticed.
        second.append(kit.timer(), kit.NOW)
        with pytest.raises(Fatal, match=r"commit: UNIQUE constraint failed: events.seq"):
            second.commit()


def steps():
    """Transactions that touch every table; each is repeated until it succeeds."""
    for number in range(2):
        long = events.OrderUnknown(cloid=str(number), reason="x" * 5000)
        keyed = [
            changed(ORDER, cloid=str(number), attempt=number + 1),
            changed(FILL, key=str(number)),
            changed(FUNDING, key=str(number)),
        ]
        given = [*keyed, *(row for row in kit.every_row() if type(row) not in {type(each) for each in keyed})]
        yield [(long, given), (kit.checkpoint(number), ())]


def write(journal, transaction, *, durable=True):
    for event, given in transaction:
        journal.append(event, kit.NOW, given)
    journal.commit(durable=durable)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    with closing(kit.create(tmp_path_factory.mktemp("undisturbed"))) as journal:
        for transaction in steps():
            write(journal, transaction)
        return without_identity(journal)


def without_identity(journal):
    return [line for line in kit.dump(journal.path) if 'INSERT INTO "meta"' not in line]


def run_with(journal, obstacle):
    """Write all steps with an obstacle, which is removed after it was met; return the number of errors."""
    errors = 0
    for transaction in steps():
        before = kit.dump(journal.path)
        try:
            with obstacle():
                write(journal, transaction)
        except Retryable:
            errors += 1
            assert kit.dump(journal.path) == before
            assert journal.last_seq == len([line for line in before if 'INSERT INTO "events"' in line])
            write(journal, transaction)
    return errors


def test_a_full_disk_at_any_page_loses_nothing(tmp_path, undisturbed):
    failed = []
    for pages in range(40):
        with closing(kit.create(tmp_path / str(pages))) as journal:

            @contextmanager
            def few_pages(journal=journal, pages=pages):
                [(used,)] = kit.select(journal, "PRAGMA page_count")
                journal.connection.execute(f"PRAGMA max_page_count = {used + pages}")
                try:
                    yield
                finally:
                    journal.connection.execute("PRAGMA max_page_count = 1000000")

            failed.append(run_with(journal, few_pages))
            assert without_identity(journal) == undisturbed
        if not failed[-1]:
            break
    assert failed[0] == len(list(steps()))
    assert failed[-1] == 0


def test_a_disk_that_fails_at_any_write_loses_nothing(tmp_path, undisturbed):
    failed = []
    for limit in range(4096, 1 << 20, 12 * 4096):
        with closing(kit.create(tmp_path / str(limit))) as journal:
            failed.append(run_with(journal, lambda limit=limit: kit.file_size(limit)))
            assert without_identity(journal) == undisturbed
        if not failed[-1]:
            break
    assert failed[0] >= len(list(steps())) - 1
    assert failed[-1] == 0


def test_a_journal_that_is_damaged_while_it_is_open_is_reported(journal):
    journal.connection.execute("DROP TABLE fills")
    with pytest.raises(DataError, match=f"{journal.path}: Fill: damaged: no such table"):
        journal.append(kit.fill("text"), kit.NOW, [FILL])


def test_batches_need_no_reader_to_wait(journal):
    journal.append(kit.timer(), kit.NOW)
    journal.commit()
    journal.append(kit.timer(), kit.NOW)
    with closing(reader.connect_read_only(journal.path)) as connection:
        assert [seq for seq, _ in reader.events_after(connection, 0)] == [1]
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            connection.execute("DELETE FROM equity")
