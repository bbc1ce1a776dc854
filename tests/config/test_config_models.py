from pathlib import Path
from typing import get_args

import pytest
import yaml
from config_kit import TABLE
from hypothesis import given
from hypothesis import strategies as st
from policy_kit import policy, policy_text, selection_of

from mei_pipeline.candles.intervals import INTERVALS
from mei_pipeline.candles.schema import CANDLES, FUNDING, INSTRUMENTS
from mei_pipeline.config import fields
from mei_pipeline.config.document import parse_document
from mei_pipeline.config.keys import keys_of
from mei_pipeline.config.load import load_config
from mei_pipeline.config.models import AxisRange, LaneConfig, Overrides, PipelineConfig, PolicyConfig, SweepSpec
from mei_pipeline.config.models.sources import Column, SyntheticSourceConfig
from mei_pipeline.config.writer import yaml_text
from mei_pipeline.errors import ConfigError
from mei_pipeline.settings import CHECKOUT

PIPELINE = """\
venue: binance
start: 2025-05
intervals: [1h, 4h]
anchors: {1h: 2025-05-01, 4h: 2025-05-01T04:00:00Z}
universe: [BTC, ETH]
sources:
  - kind: files
    venue: binance
    path: candles
  - {kind: synthetic, seed: 7, symbols: [A, B], from: 2025-01-01, to: 2025-02-01}
window: {days: 100, holdout_days: 30}
profiles:
  nightly: {sweep: smoke}
"""
SWEEP = """\
strategy: toy
interval: 1h
market: {fee_bps: 5}
params: {}
axes:
  a.x: [1, 2]
  a.y: {from: 1, to: 2, step: 0.5}
"""
POLICY = policy_text()
CASES = [
    (
        PipelineConfig,
        PIPELINE,
        "intervals: [1h, 4h]",
        "intervals: []",
        "3:1: intervals: an empty list is not allowed; a list of at",
    ),
    (PipelineConfig, PIPELINE, "intervals: [1h, 4h]", "intervals: [1h, 1h]", "3:1: intervals: 1h is listed twice"),
    (
        PipelineConfig,
        PIPELINE,
        "1h, 4h]",
        "1h, 1d]",
        "4:1: anchors.1d: missing; every interval of `intervals` needs an anchor",
    ),
    (
        PipelineConfig,
        PIPELINE,
        "T04:00:00Z",
        "T05:00:00Z",
        "4:27: anchors.4h: 2025-05-01 05:00Z is not the open time of a bar of 4h",
    ),
    (
        PipelineConfig,
        PIPELINE,
        "universe: [BTC, ETH]",
        "universe: some",
        "5:1: universe: some is not allowed; all or a list of at least 1",
    ),
    (
        PipelineConfig,
        PIPELINE,
        "universe: [BTC, ETH]",
        "universe: {a: 1}",
        "5:1: universe: a mapping is not allowed; all or a list of at",
    ),
    (PipelineConfig, PIPELINE, "[BTC, ETH]", "[BTC, BTC]", "5:1: universe: BTC is listed twice"),
    (PipelineConfig, PIPELINE, "path: candles", "path: ''", "9:5: sources[0].path: '' is not allowed; text"),
    (
        PipelineConfig,
        PIPELINE,
        "path: candles",
        "path: x\n    columns: {opne: o}",
        "10:15: sources[0].columns.opne: 'opne' is not allowed; one of",
    ),
    (
        PipelineConfig,
        PIPELINE,
        "to: 2025-02-01",
        "to: 2024-02-01",
        "10:67: sources[1].to: 2024-02-01 00:00Z is not later than `from`",
    ),
    (
        PipelineConfig,
        PIPELINE,
        "to: 2025-02-01",
        "to: 2025-02-01T00:30Z",
        "10:67: sources[1].to: 2025-02-01 00:30Z is not a full hour",
    ),
    (
        PipelineConfig,
        PIPELINE,
        "from: 2025-01-01",
        "from: 2025-01-01T00:30Z",
        "10:49: sources[1].from: 2025-01-01 00:30Z is not a full hour",
    ),
    (PipelineConfig, PIPELINE, "[A, B]", "[A, A]", "10:32: sources[1].symbols: a symbol is listed twice"),
    (
        PipelineConfig,
        PIPELINE,
        "[A, B]",
        "0",
        "10:32: sources[1].symbols: 0 is not allowed; a list of at least 1, each a symbol",
    ),
    (
        PipelineConfig,
        PIPELINE,
        "holdout_days: 30",
        "holdout_days: 100",
        "11:21: window.holdout_days: 100 leaves none of",
    ),
    (
        PipelineConfig,
        PIPELINE,
        "{sweep: smoke}",
        "{sweep: Smoke}",
        "13:13: profiles.nightly.sweep: Smoke is not allowed; a name in lower",
    ),
    (SweepSpec, SWEEP, "[1, 2]", "[]", "6:3: axes.a.x: an empty list is not allowed; a list of at least 1"),
    (
        SweepSpec,
        SWEEP,
        "[1, 2]",
        "5",
        "6:3: axes.a.x: 5 is not allowed; a list of at least 1, each one value or a mapping with the keys",
    ),
    (SweepSpec, SWEEP, "[1, 2]", "[1, 2, 1.0]", "6:3: axes.a.x: 1.0 is listed twice"),
    (SweepSpec, SWEEP, "[1, 2]", "[1, [2]]", "6:12: axes.a.x[1]: a list is not allowed; one value"),
    (SweepSpec, SWEEP, "to: 2,", "to: 0.5,", "7:18: axes.a.y.to: 0.5 is below `from`, 1; the range is empty"),
    (SweepSpec, SWEEP, "step: 0.5", "step: 0", "7:25: axes.a.y.step: 0 is not allowed; a number above 0"),
    (
        SweepSpec,
        SWEEP,
        "step: 0.5",
        "step: 1e-9",
        "7:25: axes.a.y.step: 1e-09 makes more than 10,000 values; take a larger one",
    ),
    (
        SweepSpec,
        SWEEP,
        "step: 0.5",
        "step: 1, stop: 2",
        "7:34: axes.a.y.stop: unknown key; did you mean 'step'? allowed: from, to, step",
    ),
    (
        SweepSpec,
        SWEEP,
        "strategy: toy",
        "strategy: toy\nmethod: tpee",
        "2:1: method: tpee is not allowed; one of grid, random, tpe",
    ),
    (
        SweepSpec,
        SWEEP,
        "strategy: toy",
        "strategy: toy\nentry_interval: 4h",
        "2:1: entry_interval: '4h' does not divide the interval 1h; allowed: 1m, 3m, 5m, 15m, 30m, 1h",
    ),
    (
        SweepSpec,
        SWEEP,
        "strategy: toy",
        "strategy: toy\nentry_interval: 5m\nexit_interval: 3m",
        "3:1: exit_interval: '3m' beside the entry interval 5m: 3m does not divide 5m",
    ),
    (
        SweepSpec,
        SWEEP,
        "strategy: toy",
        "strategy: toy\nexit_interval: 2h",
        "2:1: exit_interval: 2h is not allowed; one of 1m, 3m,",
    ),
    (
        SweepSpec,
        "strategy: toy\ninterval: 1h\naxes: {}",
        "",
        "",
        "3:1: axes: an empty mapping is not allowed; a mapping",
    ),
    (
        LaneConfig,
        "mode: paper\nvenue: binance\nrole: primary",
        "paper",
        "papper",
        "1:1: mode: papper is not allowed; one of paper,",
    ),
    (
        LaneConfig,
        "mode: paper\nvenue: x\nrole: primary\nequity_usd: 0",
        "",
        "",
        "4:1: equity_usd: 0 is not allowed; a number above 0",
    ),
    (
        PolicyConfig,
        POLICY,
        "  candidates: 3",
        "  candidates: 0",
        "2:3: selection.candidates: 0 is not allowed; a whole number from 1 to 20",
    ),
    (PolicyConfig, POLICY, "  candidates: 3\n", "", "1:1: selection.candidates: missing; a whole number from 1 to 20"),
    (
        PolicyConfig,
        POLICY,
        "    min_sharpe: -20\n",
        "",
        "9:3: selection.gates.min_sharpe: missing; a number from -20 to 20",
    ),
    (
        PolicyConfig,
        POLICY,
        "min_deflated_sharpe: 1.0e-09",
        "min_deflated_sharpe: 1",
        "35:5: selection.gates.min_deflated_sharpe: 1 is not allowed; a number above 0 and below 1",
    ),
    (
        PolicyConfig,
        POLICY,
        "max_symbol_share: 1",
        "max_symbol_share: 65",
        "22:5: selection.gates.max_symbol_share: 65 is not allowed; a number from 0 to 1",
    ),
    (
        PolicyConfig,
        POLICY,
        "test_blocks: 1",
        "test_blocks: 13",
        "7:5: selection.walk_forward.test_blocks: 13 after 4 train blocks; there are 16 blocks",
    ),
    (
        PolicyConfig,
        f"{POLICY}  crises: {{crash: {{from: 2025-10-13, to: 2025-10-10}}}}\n",
        "",
        "",
        "44:38: selection.crises.crash.to: not after `from`",
    ),
    (PolicyConfig, "# none", "", "", " selection: missing; a mapping with the keys candidates"),
    (Overrides, "base: {a: 1}", "", "", " strategy: missing; the strategy whose parameters these are"),
    (
        Overrides,
        "strategy: toy\nmodes: {main: {a: 1}}",
        "",
        "",
        "2:9: modes.main: 'main' is not allowed; one of primary,",
    ),
]


@pytest.mark.parametrize(("model", "text", "old", "new", "expected"), CASES)
def test_what_a_file_may_not_say(model, text, old, new, expected):
    with pytest.raises(ConfigError) as caught:
        parse_document(text.replace(old, new).encode(), Path("f.yaml"), model)
    (line,) = str(caught.value).splitlines()
    assert line.startswith(f"f.yaml:{expected}")


@pytest.mark.parametrize(("model", "text"), [(PipelineConfig, PIPELINE), (SweepSpec, SWEEP)])
def test_what_a_model_writes_it_reads_back(model, text):
    once = parse_document(text.encode(), Path("f.yaml"), model).model
    assert model.model_validate(once.model_dump()) == once
    assert model.model_validate(once.model_dump(by_alias=True)) == once


def test_what_is_left_out_has_the_documented_defaults():
    sweep = parse_document(SWEEP.encode(), Path("f.yaml"), SweepSpec).model
    assert (sweep.venue, sweep.method, sweep.initial_balance_usd, sweep.chunk) == (None, "grid", 10_000.0, 4096)
    pipeline = parse_document(PIPELINE.encode(), Path("f.yaml"), PipelineConfig).model
    assert pipeline.automation is False
    assert pipeline.window.min_coverage_frac == 0.98
    assert pipeline.venues == ("binance", "synthetic")


def test_market_parameters_get_their_full_paths():
    assert SweepSpec(
        strategy="toy", interval="1h", market={"fee_bps": 1.0, "market.fill": "close"}, axes={"a": (1,)}
    ).market == {
        "market.fee_bps": 1.0,
        "market.fill": "close",
    }


@pytest.mark.parametrize(
    ("start", "stop", "step", "values"),
    [
        (1, 3, 1, (1, 2, 3)),
        (1, 3, 0.5, (1.0, 1.5, 2.0, 2.5, 3.0)),
        (0.1, 0.5, 0.1, (0.1, 0.2, 0.3, 0.4, 0.5)),
        (1, 2, 0.3, (1.0, 1.3, 1.6, 1.9)),
        (-1, 1, 1, (-1, 0, 1)),
        (5, 5, 3, (5,)),
        (2, 2.9, 1, (2,)),
    ],
)
def test_a_range_has_exact_decimal_values(start, stop, step, values):
    found = AxisRange(from_=start, to=stop, step=step).values
    assert found == values
    assert [type(value) for value in found] == [type(value) for value in values]


@given(st.integers(-999, 999), st.integers(0, 500), st.integers(1, 99), st.integers(0, 4))
def test_a_range_is_a_grid_between_its_ends(first, width, step, decimals):
    scale = 10**decimals
    found = AxisRange(from_=first / scale, to=(first + width) / scale, step=step / scale).values
    assert found == tuple((first + index * step) / scale for index in range(width // step + 1))


def test_layers_apply_in_order_and_only_where_they_belong():
    overrides = Overrides(
        strategy="toy",
        base={"a": 1},
        symbols={"SOL": {"a": 2}, "BTC": {"a": 3}},
        modes={"primary": {"a": 4}},
        live={"a": 5},
    )
    assert [layer.name for layer in overrides.layers()] == ["base"]
    assert [layer.name for layer in overrides.layers(symbol="SOL")] == ["base", "symbols.SOL"]
    assert [layer.name for layer in overrides.layers(symbol="SOL", mode="primary", live=True)] == [
        "base",
        "symbols.SOL",
        "modes.primary",
        "live",
    ]


def test_intervals_and_columns_are_those_of_the_lake():
    assert get_args(fields.Interval) == tuple(INTERVALS)
    assert set(get_args(Column)) == {*CANDLES.columns, *FUNDING.columns, *INSTRUMENTS.columns, "close_ms"}


@pytest.mark.parametrize("model", [PipelineConfig, PolicyConfig, SweepSpec, LaneConfig, Overrides])
def test_every_key_is_documented(model):
    for key in keys_of(model):
        assert key.doc.endswith("."), key.path
        assert key.allowed, key.path


@given(st.integers(0, 2**63 - 1), st.floats(0, 20), st.integers(1, 256), st.booleans())
def test_a_synthetic_source_survives_being_written(seed, edge, count, endless):
    source = SyntheticSourceConfig(
        kind="synthetic", seed=seed, symbols=count, edge_sharpe=edge, from_ms=0, to_ms=None if endless else 7_200_000
    )
    written = source.model_dump(by_alias=True)
    written["from"] = "1970-01-01"
    written["to"] = None if endless else "1970-01-01T02:00:00Z"
    assert parse_document(yaml_text(written).encode(), Path("f.yaml"), SyntheticSourceConfig).model == source


def test_modes_and_real_money_win_over_a_symbols_own_values():
    overrides = Overrides(
        strategy="toy",
        base={"trade.sl_atr_mult": 3},
        symbols={"SOL": {"trade.sl_atr_mult": 4, "trade.trail": True}, "BTC": {"trade.sl_atr_mult": 3.0}},
        modes={"primary": {"trade.sl_atr_mult": 5}},
        live={"trade.trail": False},
    )
    both = {"trade.sl_atr_mult": 4.0, "trade.trail": True}
    assert overrides.of_symbols(TABLE) == {"SOL": both}
    assert overrides.of_symbols(TABLE, mode="primary") == {"SOL": {"trade.trail": True}}
    assert overrides.of_symbols(TABLE, mode="fallback", live=True) == {"SOL": {"trade.sl_atr_mult": 4.0}}
    assert overrides.of_symbols(TABLE, mode="primary", live=True) == {}


POLICIES = [
    ({}, True),
    *(
        ({key: value}, True)
        for key, value in {
            "max_correlation": 0.5,
            "min_run_days": 30,
            "min_gain_sharpe": 0.5,
            "max_incumbent_drawdown_pct": 5,
            "min_incumbent_profit_factor": 1.5,
        }.items()
    ),
    *(
        ({key: value}, False)
        for key, value in {
            "candidates": 4,
            "holdout_symbols": 2,
            "crises": {"covid": {"from": "2020-03-01", "to": "2020-04-01"}},
            "walk_forward": {"window": "rolling", "train_blocks": 4, "test_blocks": 1, "embargo_days": 1},
            "min_sharpe": 1,
            "max_crisis_drawdown_pct": 50,
            "stress": {"slippage_bps": [3], "fee_multiples": [1.5], "delay_bars": 1, "min_return_pct": -100},
        }.items()
    ),
]


def test_gates_that_a_policy_leaves_out_have_the_thresholds_of_the_shipped_one():
    text = policy()
    defaulted = ("min_sharpe_without_best_symbol", "min_recent_probability", "min_holdout_probability")
    for name in defaulted:
        del text["selection"]["gates"][name]
    gates = parse_document(yaml.safe_dump(text).encode(), Path("policy.yaml"), PolicyConfig).model.selection.gates
    shipped = load_config(CHECKOUT / "config").policy.selection.gates
    assert all(getattr(gates, name) == getattr(shipped, name) is not None for name in defaulted)


@pytest.mark.parametrize(
    ("gate", "value", "allowed"),
    [
        ("min_recent_probability", 0, "above 0"),
        ("min_holdout_probability", 1, "below 1"),
        ("min_sharpe_without_best_symbol", 21, "20"),
        ("min_recent_probability", "high", "number"),
    ],
)
def test_a_later_gate_that_is_out_of_bounds_is_refused(gate, value, allowed):
    with pytest.raises(ConfigError, match=gate) as refused:
        selection_of(**{gate: value})
    assert str(value) in str(refused.value)
    assert allowed in str(refused.value)


@pytest.mark.parametrize(("changes", "same"), POLICIES)
def test_the_id_of_a_policy_is_of_what_shapes_a_verdict(changes, same):
    assert (selection_of(**changes).id == selection_of().id) == same


def test_every_part_of_a_policy_is_known_to_shape_verdicts_or_not():
    tried = {key for changes, _ in POLICIES for key in changes}
    selection = selection_of()
    assert set(type(selection.roles).model_fields) <= tried
    assert set(type(selection).model_fields) - {"roles", "gates"} <= tried
