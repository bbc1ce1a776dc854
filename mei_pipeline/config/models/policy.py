"""policy.yaml."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from kernels.blocks import BLOCKS
from mei_pipeline.config.fields import FileModel, Name, Timestamp, flaws
from mei_pipeline.files import sha256_json

Count = Annotated[int, Field(ge=0, le=1_000_000)]
Share = Annotated[float, Field(ge=0, le=1)]
Percent = Annotated[float, Field(gt=0, le=100)]
Bps = Annotated[float, Field(gt=0, le=1000)]
Probability = Annotated[float, Field(gt=0, lt=1)]


class WalkForward(FileModel):
    """How the days of the search are cut into folds: choose on the days of one part, judge on those that follow."""

    window: Literal["anchored", "rolling"]
    """Where the days to choose on begin: `anchored` at the first day of the search, so that they become more with every
    fold; `rolling` `train_blocks` before the days to judge on."""
    train_blocks: Annotated[int, Field(ge=1, le=BLOCKS - 1)]
    """Sixteenths of the search's days that the first fold chooses on; with `rolling`, every fold."""
    test_blocks: Annotated[int, Field(ge=1, le=BLOCKS - 1)]
    """Sixteenths that each fold is judged on."""
    embargo_days: Annotated[int, Field(ge=0, le=30)]
    """Days left out between the two, so that no position and no feature of the first reaches into the second day by
    day."""

    @model_validator(mode="after")
    def _leaves_a_fold(self) -> "WalkForward":
        if self.train_blocks + self.test_blocks > BLOCKS:
            raise flaws(
                {"test_blocks": f"{self.test_blocks} after {self.train_blocks} to choose on; there are {BLOCKS} blocks"}
            )
        return self


class Crisis(FileModel):
    """Days that every trader remembers."""

    from_ms: Annotated[Timestamp, Field(alias="from")]
    """First day."""
    to_ms: Annotated[Timestamp, Field(alias="to")]
    """Day after the last one."""

    @model_validator(mode="after")
    def _ascending(self) -> "Crisis":
        if self.to_ms <= self.from_ms:
            raise flaws({"to": "not after `from`"})
        return self


class Stress(FileModel):
    """Markets that are worse than the one that the search assumed; each is a gate of its own."""

    slippage_bps: Annotated[tuple[Bps, ...], Field(min_length=1, max_length=5)]
    """Slippage of entries and exits on top of the assumed one: a gate for each level."""
    fee_multiples: Annotated[tuple[Annotated[float, Field(gt=1, le=10)], ...], Field(min_length=1, max_length=5)]
    """The fee, so many times: a gate for each level."""
    delay_bars: Annotated[int, Field(ge=1, le=24)]
    """Bars that every order waits in addition."""
    min_return_pct: Annotated[float, Field(ge=-100, le=1000)]
    """Least net return out of sample under each of them."""


class Gates(FileModel):
    """What the chained days out of sample must show. A threshold of `null` is not asked for."""

    min_round_trips: Count
    """Fewest closed round trips out of sample."""
    min_sharpe: Annotated[float, Field(ge=-20, le=20)]
    """Least annual Sharpe ratio of daily returns out of sample."""
    min_median_day_pct: Annotated[float, Field(ge=-100, le=100)]
    """Least median of the daily returns out of sample on which a position was held or closed, percent."""
    max_drawdown_pct: Percent
    """Deepest fall of mark-to-market equity out of sample, percent of its peak."""
    min_profit_factor: Annotated[float, Field(ge=0, le=100)]
    """Profits of winning round trips over losses of the others, both after fees and funding."""
    stress: Stress
    """Worse markets."""
    max_symbol_share: Share
    """Greatest share of the profit of all symbols that made one, that a single symbol may have made."""
    max_trade_share: Share
    """The same of a single round trip."""
    max_day_share: Share
    """The same of a single day."""
    min_plateau_frac: Share
    """Least share of the neighbours, one step up or down on one axis, that keep at least half of the candidate's Sharpe
    ratio on the days of the search."""
    max_loss_probability: Probability
    """Greatest probability, by the stationary bootstrap, that the mean daily return out of sample is not above zero."""
    max_shuffled_drawdown_pct: Percent
    """Drawdown that 95 of 100 random orders of the round trips stay within, percent of the initial balance."""
    min_sharpe_without_best_symbol: Annotated[float | None, Field(ge=-20, le=20)] = 1.0
    """Least annual Sharpe ratio out of sample of the closed round trips of all symbols but the best one, by day of
    their ends."""
    min_recent_probability: Probability | None = 0.8
    """Least probability that the true Sharpe ratio is above zero, by the later half of the days out of sample alone."""
    min_holdout_probability: Probability | None = 0.05
    """The same probability by the holdout alone: a veto on a candidate that loses significantly there. 0.5 where it
    did not trade. The holdout ranks nothing."""
    min_other_symbols_sharpe: Annotated[float | None, Field(ge=-20, le=20)]
    """Least annual Sharpe ratio out of sample on the symbols that the search never saw; see `other_symbols`."""
    max_crisis_drawdown_pct: Annotated[float | None, Field(gt=0, le=100)]
    """Deepest fall in each of the `crises` that lie in the night's days."""
    max_overfitting_probability: Probability
    """Greatest probability of backtest overfitting (CSCV) of the search that the candidate comes from."""
    max_search_loss_probability: Probability
    """Greatest share of the splits of the same cross-validation in which what is best on one half of the search's days
    loses money on the other half."""
    min_deflated_sharpe: Probability
    """Least deflated Sharpe ratio: the probability that the true Sharpe ratio out of sample is above zero, after as
    many independent looks at these days as were really taken, by this night and by those before it."""
    max_snooping_p: Probability
    """Greatest p-value of the test for superior predictive ability against doing nothing."""
    max_basket_p: Probability
    """The same against holding the basket of all symbols, scaled to the candidates' volatility."""


class Roles(FileModel):
    """Which of those that passed takes which lane, and when it may replace the one that is there."""

    max_correlation: Share
    """Greatest correlation of daily returns out of sample with the configs of other roles."""
    min_run_days: Annotated[int, Field(ge=0, le=365)]
    """Days that an incumbent keeps its lane, unless it fails."""
    min_gain_sharpe: Annotated[float, Field(ge=0, le=20)]
    """How much higher than the incumbent's on the same days the annual Sharpe ratio of its successor must be."""
    max_incumbent_drawdown_pct: Percent
    """Fall from its peak since it took the lane, replayed, at which an incumbent has failed."""
    min_incumbent_profit_factor: Annotated[float, Field(ge=0, le=100)]
    """Profit factor since it took the lane, replayed, below which an incumbent has failed, from 30 round trips on."""


class Selection(FileModel):
    """From the rows of a search to the configs that may be deployed, by walk-forward."""

    finalists: Annotated[int, Field(ge=1, le=20)]
    """How many of the best combos are chosen in each fold, and judged. Each is a further look at the same days."""
    other_symbols: Annotated[int, Field(ge=0, le=100)]
    """Symbols that the search does not see, every night the same ones, on which finalists are judged as well."""
    walk_forward: WalkForward
    """The folds."""
    gates: Gates
    """The thresholds."""
    crises: dict[Name, Crisis] = Field(default_factory=dict)
    """Named windows in which a finalist must not lose too much."""
    roles: Roles
    """From those that passed to lanes."""

    @property
    def id(self) -> str:
        """SHA-256 of what shapes a verdict: a verdict holds under the policy that it was reached by.

        Roles are left out: they decide which lane takes a config, after every verdict.
        """
        content = self.model_dump(mode="json", exclude={"roles"})
        drop_later_gates(content["gates"])
        return sha256_json(content)


LATER_GATES = ("min_sharpe_without_best_symbol", "min_recent_probability", "min_holdout_probability")
"""Gates that policies of earlier versions do not have."""


def drop_later_gates(gates: dict[str, Any]) -> None:
    """Delete `LATER_GATES` that are not asked for, so that ids of earlier versions hold."""
    for name in LATER_GATES:
        if gates[name] is None:
            del gates[name]


def add_later_gates(gates: dict[str, Any]) -> None:
    """Set those `LATER_GATES` to None that an earlier version did not store: it did not ask for them."""
    for name in LATER_GATES:
        gates.setdefault(name, None)


class Spikes(FileModel):
    """Bounds between a crash and an error. A bar beyond them is marked, and its symbol is not traded."""

    max_reach: Annotated[float, Field(gt=1, le=1_000_000)] = 10.0
    """Greatest multiple of the highs of both neighbours that the high of a bar may reach; its low may fall to the same
    fraction of their lows."""
    max_displacement: Annotated[float, Field(gt=1, le=1_000_000)] = 2.0
    """The same for open and close, where no bar is missing before and after."""
    max_bars: Annotated[int, Field(ge=1, le=24)] = 3
    """Longest run of bars that is judged as one spike, if prices come back after it."""


class RealMoney(FileModel):
    """How long a config trades at one stage, at least, before a person may bring it to the next."""

    min_paper_days: Annotated[float, Field(ge=0, le=3650)] = 28.0
    """Days on paper before it enters a live lane, at a quarter of the size."""
    min_stage_days: Annotated[float, Field(ge=0, le=3650)] = 14.0
    """Days in a live lane at 0.25 before 0.5, and at 0.5 before 1."""


class PolicyConfig(FileModel):
    """policy.yaml: every threshold that decides."""

    selection: Selection
    """From search results to lanes: folds, gates and roles."""
    spikes: Spikes = Field(default_factory=Spikes)
    """Bars that no market makes: their bounds."""
    real_money: RealMoney = Field(default_factory=RealMoney)
    """Least time at each stage on the way to real money."""
