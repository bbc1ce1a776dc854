from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from pydantic import TypeAdapter

from mei_pipeline.candles.intervals import Intervals
from mei_pipeline.config.document import parse_document
from mei_pipeline.config.models import SweepSpec
from mei_pipeline.errors import ConfigError, DataError
from mei_pipeline.params.identity import config_id
from mei_pipeline.params.table import read_catalog
from mei_pipeline.sweep.plan import SweepPlan, make_plan, plan_from_dict, plan_to_dict, resolved_combo

SPEC = """\
strategy: ema_cross
interval: 1h
params: {trade: {size_frac: 0.2, sl_atr_mult: 9}}
symbol_params:
  SOL: {trade: {tp_atr_mult: 5}, indicators.ema_fast_window: 7}
  GONE: {trade: {tp_atr_mult: 6}}
axes:
  trade.sl_atr_mult: {values: [1, 2], when: {trade.size_mode: units}}
  trade.size_mode: [units, equity]
  indicators.ema_slow_window: {values: [50, 80], when: {indicators.ema_fast_window: 5}}
  entry.warmup_bars: [100, 200]
  indicators.ema_fast_window: [5, 8]
chunk_combos: 7
"""


def bars(symbols=("BTC", "SOL")):
    """What a plan asks of bars."""
    return SimpleNamespace(
        venue="binance",
        interval="1h",
        intervals=Intervals("1h"),
        symbols=symbols,
        anchor_ms=0,
        end_ms=86_400_000,
        data_hash="d",
    )


def plan_of(text=SPEC, symbols=("BTC", "SOL")):
    return make_plan(parse_document(text.encode(), Path("f.yaml"), SweepSpec).model, bars(symbols), 0, 86_400_000)


def test_axes_are_ordered_by_what_neighbours_share():
    plan = plan_of()
    assert [path for path, _ in plan.axes] == [
        "indicators.ema_fast_window",
        "indicators.ema_slow_window",
        "entry.warmup_bars",
        "trade.size_mode",
        "trade.sl_atr_mult",
    ]
    assert plan.combos == (2 + 1) * 2 * (2 + 1)
    assert plan.chunks == 3
    assert plan.chunk(2) == range(14, 18)


def test_every_combo_has_every_parameter_and_none_comes_twice():
    plan = plan_of()
    combos = [plan.combo(number) for number in range(plan.combos)]
    assert {len(combo) for combo in combos} == {len(read_catalog().strategies["ema_cross"])}
    assert len({tuple(sorted(combo.items())) for combo in combos}) == plan.combos
    assert {combo["trade.size_frac"] for combo in combos} == {0.2}
    assert {combo["trade.sl_atr_mult"] for combo in combos if combo["trade.size_mode"] == "equity"} == {9.0}
    assert {combo["indicators.ema_slow_window"] for combo in combos if combo["indicators.ema_fast_window"] == 8} == {50}


def test_chunks_say_the_same_as_single_combos():
    plan = plan_of()
    for index in range(plan.chunks):
        columns = {path: of.to_list() for path, of in plan.axis_values(np.array(plan.chunk(index))).items()}
        for place, number in enumerate(plan.chunk(index)):
            assert {**plan.params, **{path: values[place] for path, values in columns.items()}} == plan.combo(number)


def test_columns_are_those_of_all_values_fixed_ones_and_single_symbols_included():
    text = SPEC.replace("params: {", "params: {indicators.ema_slow_window: 60, ")
    windows = {column.windows for column in plan_of(text).columns() if column.kind == "ema"}
    assert windows == {(5,), (8,), (7,), (50,), (80,), (60,)}


def test_symbols_that_are_not_in_the_bars_are_passed_over():
    assert plan_of().symbol_params == {"SOL": {"trade.tp_atr_mult": 5.0, "indicators.ema_fast_window": 7}}
    assert plan_of(symbols=("BTC",)).symbol_params == {}


def test_own_values_of_symbols_are_part_of_every_config():
    plan = plan_of()
    resolved = resolved_combo(plan, plan.combo(0))
    assert resolved.symbol_params == {"SOL": {"indicators.ema_fast_window": 7, "trade.tp_atr_mult": 5.0}}
    assert config_id(resolved) != config_id(resolved_combo(plan_of(symbols=("BTC",)), plan.combo(0)))


def test_own_values_win_over_axes():
    axes, own = "axes: {trade.tp_atr_mult: [3, 5]}", "symbol_params: {SOL: {trade.tp_atr_mult: 5}}"
    text = f"strategy: ema_cross\ninterval: 1h\n{axes}\n{own}"
    plan = plan_of(text)
    found = [resolved_combo(plan, plan.combo(number)).symbol_params for number in range(plan.combos)]
    assert found == [{"SOL": {"trade.tp_atr_mult": 5.0}}, {}]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("tp_atr_mult: 5", "tp_atr_mult: 4"),
        ("when: {trade.size_mode: units}", "when: {trade.size_mode: equity}"),
        ("sl_atr_mult: 9", "sl_atr_mult: 8"),
        ("[1, 2]", "[1, 2, 3]"),
    ],
)
def test_what_makes_another_sweep(old, new):
    assert plan_of(SPEC.replace(old, new)).id != plan_of().id


def test_what_leaves_the_id_alone():
    assert plan_of(SPEC.replace("chunk_combos: 7", "chunk_combos: 8")).id == plan_of().id
    assert plan_of(SPEC.replace("tp_atr_mult: 6", "tp_atr_mult: 7")).id == plan_of().id


def test_a_plan_survives_being_stored():
    plan = plan_of()
    form = TypeAdapter(SweepPlan)
    found = form.validate_json(form.dump_json(plan))
    assert found == plan
    assert found.id == plan.id == plan_to_dict(plan)["id"]
    assert found.combo(11) == plan.combo(11)


def test_own_values_are_checked():
    with pytest.raises(ConfigError, match=r"symbol_params\.SOL: trade\.tp: unknown parameter"):
        plan_of(SPEC.replace("tp_atr_mult: 5", "tp: 5"))


@pytest.mark.parametrize("combos", [0, -5])
def test_a_stored_plan_of_no_combos_in_a_file_is_refused(combos):
    changed = plan_to_dict(plan_of()) | {"chunk_combos": combos}  # which is no part of the id
    with pytest.raises(DataError, match=f"chunk_combos is {combos}, at least 1 is allowed"):
        plan_from_dict(changed)
