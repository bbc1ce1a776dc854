import polars as pl
import pytest
from candle_kit import HOUR, MAY, NOW, bars, with_row

from mei_pipeline.candles.quality import RULES, Findings, Limits, check, filter_rows

FRAME = bars(("BTC", "ETH"), 48)


def found(findings: Findings) -> dict[str, dict[str, int]]:
    return {rule: row for rule, row in findings.counts().items() if rule not in {"stale", "short"}}


def test_sound_bars_break_no_rule():
    assert check(FRAME, "1h", MAY + 48 * HOUR).items == ()


@pytest.mark.parametrize(
    ("rule", "values"),
    [
        ("null", {"close": None}),
        ("null", {"open_ms": None}),
        ("null", {"volume": None}),
        ("non_finite", {"close": float("nan")}),
        ("non_finite", {"volume": float("nan")}),
        ("non_finite", {"high": float("inf")}),
        ("non_finite", {"volume": float("inf")}),
        ("non_positive", {"low": 0.0}),
        ("non_positive", {"volume": -1.0}),
        ("non_positive", {"trades": -1}),
        ("inconsistent", {"high": 1.0}),
        ("inconsistent", {"low": 1e6}),
        ("inconsistent", {"open": 1e6}),
        ("inconsistent", {"close": 1.0}),
        ("off_grid", {"open_ms": MAY + 3 * HOUR + 1}),
        ("off_grid", {"open_ms": MAY + 3 * HOUR - 1}),
        ("future", {"open_ms": NOW}),
        ("future", {"open_ms": NOW + 24 * HOUR}),
    ],
)
def test_a_bad_row_is_refused_by_name_and_the_others_stay(rule, values):
    bad = with_row(FRAME, 3, **values)
    filtered = filter_rows(bad, "1h", NOW)
    assert rule in found(filtered.findings)
    assert filtered.findings.of(rule)[0].symbol == "BTC"
    assert filtered.findings.of(rule)[0].severity == "refuse"
    assert filtered.refused == {"BTC": 1}
    kept = FRAME.filter(pl.int_range(pl.len()) != 3).sort("symbol", "open_ms")
    assert filtered.accepted.equals(kept)


def test_a_row_without_symbol_is_refused_under_no_name():
    filtered = filter_rows(with_row(FRAME, 0, symbol=None), "1h", NOW)
    assert filtered.refused == {"": 1}


def test_a_row_that_breaks_several_rules_is_refused_once():
    filtered = filter_rows(with_row(FRAME, 3, close=-1.0, open_ms=MAY + 1), "1h", NOW)
    assert {"non_positive", "off_grid", "inconsistent"} <= found(filtered.findings).keys()
    assert filtered.refused == {"BTC": 1}


@pytest.mark.parametrize(
    ("late_ms", "refused"), [(0, {}), (-1, {"BTC": 1, "ETH": 1}), (-HOUR + 1, {"BTC": 1, "ETH": 1})]
)
def test_a_bar_is_closed_from_its_end_on(late_ms, refused):
    filtered = filter_rows(FRAME, "1h", MAY + 48 * HOUR + late_ms)
    assert filtered.refused == refused
    assert ("still_open" in filtered.findings.counts()) == bool(refused)


def test_flat_bars_without_volume_are_legitimate():
    flat = with_row(FRAME, 5, open=100.0, high=100.0, low=100.0, close=100.0, volume=0.0)
    assert found(check(flat, "1h", NOW)) == {}


def test_exact_copies_are_collapsed_and_counted():
    filtered = filter_rows(pl.concat([FRAME, FRAME[3:5], FRAME[3:4]]), "1h", NOW)
    assert filtered.accepted.equals(FRAME)
    assert filtered.repaired == {"BTC": 3}
    assert found(filtered.findings)["duplicate"] == {"BTC": 3}


def test_copies_that_contradict_each_other_are_all_refused():
    other = with_row(FRAME[3:4], 0, volume=9.0)
    filtered = filter_rows(pl.concat([FRAME, other]), "1h", NOW)
    assert found(filtered.findings)["conflict"] == {"BTC": 2}
    assert filtered.refused == {"BTC": 2}
    assert filtered.accepted.height == FRAME.height - 1


def test_a_number_of_trades_that_one_copy_lacks_is_no_conflict():
    filtered = filter_rows(pl.concat([FRAME, with_row(FRAME[3:4], 0, trades=12)]), "1h", NOW)
    assert filtered.refused == {}
    assert filtered.accepted["trades"][3] == 12


def test_unsorted_rows_are_sorted_and_counted():
    filtered = filter_rows(FRAME.reverse(), "1h", NOW)
    assert filtered.accepted.equals(FRAME)
    assert found(filtered.findings)["unsorted"] == {"BTC": 47, "ETH": 47}


@pytest.mark.parametrize(("factor", "jumps"), [(1000.0, 2), (0.001, 2), (1.3, 0)])
def test_a_jump_warns_and_refuses_nothing(factor, jumps):
    row = FRAME.row(10, named=True)
    values = {name: row[name] * factor for name in ("open", "high", "low", "close")}
    jumped = with_row(FRAME, 10, **values)
    # Up by the factor and down again; a fall by more than half and the rise after it.
    assert found(check(jumped, "1h", NOW)).get("jump", {}).get("BTC", 0) == jumps
    assert filter_rows(jumped, "1h", NOW).refused == {}


@pytest.mark.parametrize("missing", [1, 20])
def test_a_gap_counts_its_missing_bars(missing):
    holed = FRAME.filter(~pl.int_range(pl.len()).is_between(10, 9 + missing))
    findings = check(holed, "1h", NOW)
    assert found(findings) == {"gap": {"BTC": missing}}
    assert findings.of("gap")[0].sample[0]["missing"] == missing
    assert findings.of("gap")[0].sample[0]["open_ms"] == MAY + (10 + missing) * HOUR


@pytest.mark.parametrize(("hours", "stale"), [(48, False), (51, False), (51.01, True)])
def test_a_symbol_whose_bars_ended_too_long_ago_is_stale(hours, stale):
    findings = check(FRAME, "1h", MAY + int(hours * HOUR), Limits(min_coverage_frac=0.0))
    assert bool(findings.of("stale")) == stale


def test_a_symbol_with_too_few_bars_of_the_window_is_short():
    frame = pl.concat([FRAME, bars(("OP",), 10, MAY + 38 * HOUR)])
    findings = check(frame, "1h", MAY + 48 * HOUR, Limits(from_ms=MAY))
    assert findings.counts("warn") == {"short": {"OP": 38}}


def test_every_rule_of_the_design_is_there():
    assert set(RULES) == {
        "other_interval",
        *("null", "non_finite", "non_positive", "inconsistent", "off_grid", "duplicate", "conflict", "unsorted"),
        *("future", "still_open", "spike", "jump", "open_jump", "gap_jump", "gap", "stale", "short"),
    }


def test_samples_are_few_and_can_be_written_as_json():
    bad = FRAME.with_columns(pl.lit(float("nan")).alias("close"))
    finding = check(bad, "1h", NOW).of("non_finite")[0]
    assert (finding.count, len(finding.sample)) == (48, 3)
    assert finding.sample[0]["close"] == "nan"


@pytest.mark.parametrize(("factor", "rules"), [(1.33, {"open_jump"}), (1.03, set()), (0.4, {"jump"})])
def test_prices_of_another_source_are_named_where_they_join(factor, rules):
    joined = FRAME.with_columns(
        pl.when(pl.int_range(pl.len()) < 10).then(pl.col(name)).otherwise(pl.col(name) * factor)
        for name in ("open", "high", "low", "close")
    )
    findings = found(check(joined, "1h", NOW))
    assert findings == {key: {"BTC": 1} for key in rules}
