"""Compare what a lane did with a replay of its config over the same bars."""

import sqlite3
from dataclasses import dataclass, replace

import polars as pl

from mei_pipeline.candles.lake import Lake
from mei_pipeline.errors import DataError
from mei_pipeline.execution.events import ConfigOffered
from mei_pipeline.execution.journal.frames import fills_frame
from mei_pipeline.registry.records import from_dict
from mei_pipeline.replay.run import make_replay_inputs, replay
from mei_pipeline.replay.trades import split_trades
from mei_pipeline.settings import Settings
from mei_pipeline.simulation.loading import load_bars


@dataclass(frozen=True)
class TradeComparison:
    """Trades of a lane and of a replay of the same bars.

    Attributes:
        lane: Closed trades of the lane, with the columns of `replay.trades.SCHEMA`.
        replayed: Closed trades of the replay.
        lane_fills: Fills and payments of the lane's trades, with the columns of `replay.run.Replay.fills`.
        replayed_fills: Fills and payments of the replay.
        lane_loose: Funding payments that the lane booked while it held no position, because they arrived after their
            trade was closed, or before its first fill. They count in no trade. A replay has none.
    """

    lane: pl.DataFrame
    replayed: pl.DataFrame
    lane_fills: pl.DataFrame
    replayed_fills: pl.DataFrame
    lane_loose: pl.DataFrame

    @property
    def equal(self) -> bool:
        """True if all trades, fills and payments are equal to the last bit."""
        return (
            self.lane.equals(self.replayed)
            and self.lane_fills.equals(self.replayed_fills)
            and self.lane_loose.is_empty()
        )


def compare_trades(
    settings: Settings,
    journal: sqlite3.Connection,
    offer: ConfigOffered,
    equity_usd: float,
    from_ms: int,
    to_ms: int,
) -> TradeComparison:
    """Replay a config from flat over the UTC days [from_ms, to_ms), and return its trades beside those of a lane.

    Args:
        settings: Settings of the home, for the lake and the features.
        journal: Journal of the lane, which traded no other config.
        offer: The config, as the lane received it.
        equity_usd: Initial equity of the lane.
        from_ms: Open time of the lane's first step; a UTC midnight.
        to_ms: End of its last step; a UTC midnight.

    Raises:
        ConfigError: The days are not UTC midnights inside the lake, or fewer than 16.
        DataError: The lake lacks bars, or the lane traded another config.
    """
    _check_config(journal, offer.config_id)
    resolved = replace(from_dict(offer.config, offer.config_id), initial_balance_usd=equity_usd)
    lake = Lake(settings.lake)
    bars = load_bars(lake, resolved.venue, resolved.intervals, resolved.symbols, offer.anchor_ms, to_ms)
    inputs = make_replay_inputs(settings, bars, resolved, from_ms, to_ms)
    inputs = replace(inputs, model=inputs.model._replace(size_mult=offer.size_multiplier))
    expected = replay(settings, inputs)
    fills = fills_frame(journal)
    if foreign := set(fills["symbol"]) - set(bars.symbols):
        raise DataError(f"journal: a fill of {min(foreign)}, which config {offer.config_id[:12]} does not trade")
    is_loose = (pl.col("size") == 0.0) & (pl.col("held") == 0.0) & (pl.col("reason") == "funding")
    numbered, trades, _ = split_trades(fills.filter(~is_loose), bars, resolved.strategy)
    return TradeComparison(trades, expected.trades, numbered, expected.fills, fills.filter(is_loose))


def _check_config(journal: sqlite3.Connection, config_id: str) -> None:
    """Raise `DataError` if the lane opened a book of another config: its trades would count as differences."""
    for (other,) in journal.execute("SELECT config_id FROM config_changes WHERE change = 'opened' ORDER BY time_ms"):
        if other != config_id:
            raise DataError(f"journal: the lane traded config {other[:12]}, which is not config {config_id[:12]}")
