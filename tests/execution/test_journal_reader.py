"""What was journaled is read back exactly, also while a process writes."""

import sqlite3
import sys
from contextlib import closing
from decimal import Decimal
from functools import partial

import journal_kit as kit
import msgspec
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from mei_pipeline.errors import DataError, Retryable
from mei_pipeline.execution import events, rows
from mei_pipeline.execution.commands import Place
from mei_pipeline.execution.journal import frames, reader, schema
from mei_pipeline.execution.journal.export import FORMS, export_journal

EXACT = (0.1 + 0.2, 0.0, 5e-324, sys.float_info.max, 1 / 3, 1e16 + 2.0, -123456.789e-7)

CONFIG = {"strategy": "mei_alpha", "params": {"a.b": 1.0, "c": 3, "d": [True, None, "x"]}}
PLACE = kit.filled(Place)
EVENTS = (
    *(kit.filled(kind) for kind in events.EVENTS if kind is not events.Checkpoint),
    events.BarClosed(symbol="A", interval="1m", open_ms=1, open=0.1, high=1e300, low=-0.0, close=1 / 3, volume=5e-324),
    events.StepClosed(venue_ms=kit.NOW, step_ms=60_000, present=("A", "B"), late_ms=5),
    events.OrderRefused(cloid="0x01", reason='a "quoted"\nreason, with ünicode'),
    kit.filled(events.AccountSnapshot, positions={"A": (-3, 2)}, open_orders=("0x01",)),
    kit.filled(events.ConfigOffered, config=CONFIG),
    events.HoldsChanged(holds={"x": kit.filled(events.HoldState)}),
    kit.filled(
        events.Decided,
        blocked={"A": "stale"},
        positions={"A": {"size": 0.1, "stop": None}},
        orders=(PLACE, msgspec.structs.replace(PLACE, limit=Decimal("0.10"), tif="ioc", reduce_only=True)),
    ),
)


@pytest.fixture
def journal(tmp_path):
    with closing(kit.create(tmp_path)) as created:
        yield created


def test_every_event_is_read_back_as_it_was(journal):
    for event in EVENTS:
        journal.append(event, kit.NOW)
    journal.append(kit.checkpoint(5), kit.NOW)
    journal.commit()
    with closing(reader.connect_read_only(journal.path)) as connection:
        found = list(reader.events_after(connection, 0))
        assert [event for _, event in found] == list(EVENTS)
        assert [seq for seq, _ in found] == list(range(1, len(EVENTS) + 1))
        assert [seq for seq, _ in reader.events_after(connection, 20)] == list(range(21, len(EVENTS) + 1))
    # -0.0 equals 0.0, so the text is compared too.
    assert list(map(repr, (event for _, event in found))) == list(map(repr, EVENTS))


def test_an_event_that_can_not_be_read_is_named(journal):
    journal.append(kit.timer(), kit.NOW)
    journal.commit()
    journal.connection.execute("INSERT INTO events VALUES (2, 'Melted', NULL, NULL, 5, '{\"event\": \"Melted\"}')")
    found = reader.events_after(journal.connection, 0)
    assert next(found) == (1, kit.timer())
    with pytest.raises(DataError, match=f"{journal.path}: event 2 can't be read: .*Melted"):
        next(found)


def test_text_that_is_no_text_is_damage(journal):
    journal.connection.execute("INSERT INTO events VALUES (1, 'Timer', NULL, NULL, 5, CAST(x'22ff22' AS TEXT))")
    with pytest.raises(DataError, match=f"{journal.path}: damaged: Could not decode"):
        next(reader.events_after(journal.connection, 0))


def test_recovery_starts_at_the_last_checkpoint(journal):
    assert reader.last_checkpoint(journal.connection) is None
    for clock_ms in (10, 20, 30):
        journal.append(kit.checkpoint(clock_ms), kit.NOW)
        journal.append(kit.timer(clock_ms), kit.NOW)
    journal.commit()
    assert reader.last_checkpoint(journal.connection) == (5, kit.checkpoint(30))
    assert list(reader.events_after(journal.connection, 5)) == [(6, kit.timer(30))]


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE checkpoints SET body = CAST(replace(CAST(body AS TEXT), '0', '1') AS BLOB) WHERE seq = {seq}",
        "UPDATE checkpoints SET body = x'' WHERE seq = {seq}",
        "DELETE FROM checkpoints WHERE seq = {seq}",
        "DROP TRIGGER events_update; UPDATE events SET body = 'x' WHERE seq = {seq}",
        'DROP TRIGGER events_update; UPDATE events SET body = \'{{"event": "Checkpoint"}}\' WHERE seq = {seq}',
    ],
)
def test_a_damaged_checkpoint_falls_back_to_the_one_before_and_then_to_all_events(damage, journal):
    for clock_ms in (20, 30):
        journal.append(kit.checkpoint(clock_ms), kit.NOW)
        journal.append(kit.timer(clock_ms), kit.NOW)
    journal.commit()
    journal.connection.executescript(damage.format(seq=3))
    assert reader.last_checkpoint(journal.connection) == (1, kit.checkpoint(20))
    assert list(reader.events_after(journal.connection, 1)) == [(2, kit.timer(20)), (4, kit.timer(30))]
    journal.connection.executescript(damage.replace("DROP TRIGGER events_update; ", "").format(seq=1))
    assert reader.last_checkpoint(journal.connection) is None


def test_a_checkpoint_of_another_layout_is_passed_over(journal):
    journal.append(kit.checkpoint(10), kit.NOW)
    other = events.Timer(name="not a checkpoint", due_ms=1)
    fact = {"event": "Checkpoint", "venue_ms": 1, "bytes": 1}
    body = msgspec.json.encode(other)
    digest = kit.sha256(body)
    journal.connection.execute(
        "INSERT INTO events VALUES (2, 'Checkpoint', NULL, 1, 1, ?)",
        (msgspec.json.encode({**fact, "sha256": digest}).decode(),),
    )
    journal.connection.execute("INSERT INTO checkpoints VALUES (2, ?)", (body,))
    assert reader.last_checkpoint(journal.connection) == (1, kit.checkpoint(10))


def test_a_reader_sees_the_last_commit_while_a_transaction_writes(journal):
    journal.append(kit.timer(), kit.NOW, [kit.filled_row(rows.EquityRow, step_ms=1)])
    journal.commit()
    for number in range(500):
        journal.append(kit.timer(number), kit.NOW, [kit.filled_row(rows.EquityRow, step_ms=number)])
    with closing(reader.connect_read_only(journal.path)) as connection:
        assert frames.view_frame(connection, "equity")["step_ms"].to_list() == [1]
        connection.execute("BEGIN")
        frames.view_frame(connection, "equity")
        journal.commit()
        assert frames.view_frame(connection, "equity").height == 1
        connection.execute("COMMIT")
        assert frames.view_frame(connection, "equity").height == 500


def test_damage_below_a_reader_is_reported(journal):
    journal.append(kit.checkpoint(1), kit.NOW)
    journal.commit()
    with closing(reader.connect_read_only(journal.path)) as connection:
        journal.connection.executescript("DROP VIEW v_trades; DROP TABLE checkpoints; DROP TABLE fills")
        for read in (partial(frames.view_frame, name="trades"), frames.fills_frame, reader.last_checkpoint):
            with pytest.raises(DataError, match=f"{journal.path}: damaged: no such table"):
                read(connection)
        journal.connection.execute("DROP TABLE events")
        with pytest.raises(DataError, match=f"{journal.path}: damaged: no such table"):
            next(reader.events_after(connection, 0))


def fill_row(key, **values):
    return kit.filled_row(rows.FillRow, key=key, **values)


def test_fills_and_funding_are_one_table_in_the_order_of_the_journal(journal):
    paid = kit.filled_row(rows.FundingRow, usd=0.3, cash_usd=-0.3, price=2.0, held=-1.5, symbol="B", config_id="c")
    journal.append(kit.fill("f2"), kit.NOW, [fill_row("f2", symbol="A", config_id="c", cash_usd=-0.1, time_ms=9)])
    journal.append(kit.timer(), kit.NOW, [kit.filled_row(rows.EquityRow), paid])
    journal.append(kit.fill("f1"), kit.NOW, [fill_row("f1/2", config_id="c"), fill_row("f1", config_id="d")])
    found = frames.fills_frame(journal.connection)
    assert found["reason"].to_list() == ["text", "funding", "text", "text"]
    assert found.schema == {
        "time_ms": pl.Int64,
        "bar": pl.Int64,
        "symbol": pl.String,
        "reason": pl.String,
        "moment": pl.String,
        "size": pl.Float64,
        "price": pl.Float64,
        "fee_usd": pl.Float64,
        "cash_usd": pl.Float64,
        "held": pl.Float64,
        "signal": pl.Int64,
    }
    assert found.row(1, named=True) == {
        "time_ms": 7,
        "bar": 7,
        "symbol": "B",
        "reason": "funding",
        "moment": "close",
        "size": 0.0,
        "price": 2.0,
        "fee_usd": 0.0,
        "cash_usd": -0.3,
        "held": -1.5,
        "signal": 0,
    }
    assert frames.fills_frame(journal.connection, "c").height == 3
    assert_frame_equal(frames.fills_frame(journal.connection, "none"), found.clear())


def test_a_table_is_read_in_parts_and_an_empty_one_has_its_columns(journal):
    [empty] = frames.view_chunks(journal.connection, "equity")
    for number in range(7):
        journal.append(kit.timer(), kit.NOW, [kit.filled_row(rows.EquityRow, step_ms=number, equity_usd=EXACT[number])])
    parts = list(frames.view_chunks(journal.connection, "equity", chunk_rows=3))
    assert [part.height for part in parts] == [3, 3, 1]
    assert {part.schema == empty.schema for part in parts} == {True}
    assert list(map(repr, pl.concat(parts)["equity_usd"])) == list(map(repr, EXACT))


def test_truth_values_and_missing_values_are_read_as_such(journal):
    journal.append(
        kit.timer(),
        kit.NOW,
        [
            kit.filled_row(rows.OrderRow, reduce_only=False, limit_price=None),
            kit.filled_row(rows.HoldRow, own=True, lifted_ms=None),
        ],
    )
    [order] = frames.view_frame(journal.connection, "orders").to_dicts()
    [hold] = frames.view_frame(journal.connection, "holds").to_dicts()
    assert [order["reduce_only"], order["limit_price"], hold["own"]] == [False, None, True]
    assert [hold["lifted_ms"], hold["lifted_utc"]] == [None, None]


@pytest.fixture
def full(journal):
    """A journal with rows in every table, and a transaction in progress."""
    for number, value in enumerate(EXACT):
        named = [kit.filled_row(rows.TradeRow, trade=number, pnl_usd=value, exit_ms=None if number % 2 else 5)]
        journal.append(kit.fill(), kit.NOW, [*named, *(kit.every_row() if not number else ())])
    journal.commit()
    journal.append(kit.timer(), kit.NOW, [kit.filled_row(rows.TradeRow, trade=99)])
    return journal


@pytest.mark.parametrize("form", FORMS)
def test_an_export_equals_the_views_while_the_lane_writes(form, full, tmp_path):
    written = export_journal(full.path, tmp_path / "out" / "deep", form)
    full.rollback()
    assert [file.path.name for file in written] == [f"{name}.{form}" for name in schema.VIEWS]
    for file, name in zip(written, schema.VIEWS, strict=True):
        view = frames.view_frame(full.connection, name)
        read = pl.read_parquet(file.path) if form == "parquet" else pl.read_csv(file.path, schema=view.schema)
        assert_frame_equal(read, view, check_exact=True)
        assert file.rows == view.height > 0
    trades = frames.view_frame(full.connection, "trades")
    assert list(map(repr, trades["pnl_usd"].to_list()[: len(EXACT)])) == list(map(repr, EXACT))
    assert sorted(path.name for path in (tmp_path / "out" / "deep").iterdir()) == sorted(
        file.path.name for file in written
    )


@pytest.mark.parametrize("form", FORMS)
def test_an_export_of_an_empty_journal_has_the_columns(form, journal, tmp_path):
    written = export_journal(journal.path, tmp_path / "out", form)
    assert sum(file.rows for file in written) == 1  # the identity
    read = pl.read_parquet if form == "parquet" else pl.read_csv
    for file, name in zip(written, schema.VIEWS, strict=True):
        assert tuple(read(file.path).columns) == schema.columns(journal.connection, f"v_{name}")


@pytest.mark.parametrize("form", FORMS)
def test_an_export_that_fails_keeps_the_earlier_files_whole(form, full, tmp_path):
    out = tmp_path / "out"
    export_journal(full.path, out, form)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    with kit.file_size(16), pytest.raises(Retryable, match="not written, the previous file is intact"):
        export_journal(full.path, out, form)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


@pytest.mark.parametrize("form", FORMS)
def test_an_export_of_a_damaged_journal_names_it(form, full, tmp_path):
    full.connection.execute("ROLLBACK")
    full.connection.execute("DROP VIEW v_orders")
    with pytest.raises(DataError, match=f"{full.path}: damaged: no such table: v_orders"):
        export_journal(full.path, tmp_path / "out", form)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_journal_is_read_by_sqlite_alone(full):
    """As `docs/reference/journal.md` shows."""
    with closing(sqlite3.connect(f"{full.path.as_uri()}?mode=ro", uri=True)) as connection:
        [(entry, pnl)] = connection.execute("SELECT entry_utc, pnl_usd FROM v_trades WHERE trade = 0").fetchall()
    assert (entry, pnl) == ("1970-01-01T00:00:00.007Z", EXACT[0])
