"""Plots, tables and checks, apart from any run."""

import base64
import dataclasses
from pathlib import Path
from xml.etree import ElementTree as ET

import dagster as dg
import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from market_kit import fill_lake, write_config
from result_kit import read_results

from assets import metadata, plots
from assets.checks import non_finite_values, replay_differences
from assets.partitions import span_ms, touched_months
from assets.run_context import retried
from mei_pipeline import files
from mei_pipeline.candles.intervals import month_range
from mei_pipeline.candles.lake import Lake
from mei_pipeline.config.load import load_config
from mei_pipeline.errors import Busy, DataError, MeiError, Retryable
from mei_pipeline.night.data import build_night_features, load_night_bars, search_window
from mei_pipeline.night.plan import NightPlan, plan_night
from mei_pipeline.progress import silent
from mei_pipeline.settings import Settings
from mei_pipeline.sweep.results import sweep_folder
from mei_pipeline.sweep.run import run_sweep

NAN = float("nan")
SVG = "{http://www.w3.org/2000/svg}"
AS_OF_MS = 1_735_689_600_000 + 60 * 86_400_000


@given(
    values=st.lists(st.floats(-1e12, 1e12) | st.just(float("nan")), min_size=2, max_size=40),
    name=st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), max_size=12),
)
def test_any_line_makes_a_picture_that_keeps_inside_its_frame(values: list[float], name: str) -> None:
    time_ms = np.arange(len(values), dtype=np.int64) * 3_600_000
    svg = plots.line_plot(name, "facts", time_ms, {name or "line": np.array(values)})
    for path in ET.fromstring(svg).iter(f"{SVG}path"):  # noqa: S314 - our own picture - made above
        if path.get("fill") == "none":
            points = [point.split() for point in path.get("d", "").replace("L", "M").split("M") if point]
            assert all(0 <= float(y) <= plots.HEIGHT and 0 <= float(x) <= plots.WIDTH for x, y in points)
            assert len(points) == int(np.isfinite(values).sum())


def test_a_gap_in_a_line_stays_a_gap() -> None:
    svg = plots.line_plot("x", "", np.arange(5, dtype=np.int64), {"a": np.array([1.0, 2.0, np.nan, 3.0, 4.0])})
    drawn = [p.get("d", "") for p in ET.fromstring(svg).iter(f"{SVG}path") if p.get("fill") == "none"]  # noqa: S314 - our own picture
    assert drawn[0].count("M") == 2


def test_artefact_metadata_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    frame = pl.DataFrame({"symbol": ["A|B", "C"], "close": [1.5, None]})
    frame.write_parquet(path)
    told = metadata.artefact_metadata(
        path, frame=frame, docs={"symbol": "Coin.", "close": "Last price."}, plots={"line": ["<svg/>"]}
    )
    assert told["path"].value == str(path)
    assert next(iter(told)) == "line"
    assert told["hash"].value == files.sha256_file(path)[:12]
    assert told["dagster/row_count"].value == 2
    columns = told["dagster/column_schema"].value.columns
    assert [(column.name, column.type, column.description) for column in columns] == [
        ("symbol", "String", "Coin."),
        ("close", "Float64", "Last price."),
    ]
    assert told["preview"].value == "| symbol | close |\n| --- | --- |\n| A\\|B | 1.5 |\n| C | - |"


def test_a_column_without_a_description_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="close"):
        metadata.artefact_metadata(tmp_path, frame=pl.DataFrame({"close": [1.5]}), docs={"open": "First price."})


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("return_pct", 12.3456, "12.35"),
        ("drawdown out %", 12.0, "12.00"),
        ("fees_usd", 1234567.891, "1,234,567.89"),
        ("combos_per_s", 1234.567, "1,234.6"),
        ("age in hours", 2.04, "2.0"),
        ("sharpe out", -0.00123, "-0.001"),
        ("win_rate", 0.66666666, "0.667"),
        ("rate", 0.0000123456, "1.235e-05"),
        ("size", 1234.5678, "1,234.57"),
        ("sharpe", NAN, "-"),
        ("trades", None, "-"),
        ("config", "0123456789abcdef" * 4, "0123456789ab"),
        ("file", f"{'0123456789abcdef' * 4}.yaml", "0123456789ab….yaml"),
        ("open_ms", 1735689600000, "1735689600000"),
        ("kept", True, "True"),
    ],
)
def test_a_cell_has_the_digits_of_its_kind(name: str, value: object, shown: str) -> None:
    assert metadata.records([{name: value}]).value == f"| {name} |\n| --- |\n| {shown} |"


@pytest.mark.parametrize(
    ("name", "value", "kept"),
    [
        ("lost_money_pct", 12.3456789, 12.35),
        ("effective_trials", 3.14159265, 3.142),
        ("combos_per_s", 1234.56789, 1234.6),
        ("combos_per_s", None, None),
        ("ratio", 0.123456789, 0.1235),
        ("ratio", 1234.56789, 1234.57),
        ("combos", 12, 12),
        ("device", "cpu", "cpu"),
        ("sweep_id", "0123456789abcdef" * 4, "0123456789ab"),
    ],
)
def test_an_entry_is_rounded_by_its_name(name: str, value: object, kept: object) -> None:
    assert metadata.entries(**{name: value})[name].value == kept


def test_a_long_table_says_how_long_it_is() -> None:
    shown = metadata.table(pl.DataFrame({"n": range(12)})).value
    assert shown is not None
    assert shown.endswith("| 9 |\n\n12 rows in all")


def test_pictures_are_embedded() -> None:
    shown = metadata.picture("<svg/>", "<svg>2</svg>").value
    assert shown is not None
    encoded = [part.split("base64,")[1].rstrip(")") for part in shown.split("\n\n")]
    assert [base64.b64decode(data).decode() for data in encoded] == ["<svg/>", "<svg>2</svg>"]


@pytest.fixture
def searched(mei_settings: Settings, tmp_path: Path) -> tuple[Settings, NightPlan]:
    fill_lake(mei_settings)
    plan = plan_night(mei_settings, write_config(tmp_path / "config"), "smoke", AS_OF_MS)
    bars = load_night_bars(mei_settings, plan)
    run_sweep(
        mei_settings,
        plan.sweep,
        search_window(plan, bars),
        build_night_features(mei_settings, plan, bars),
    )
    return mei_settings, plan


@pytest.mark.parametrize(
    ("column", "change"),
    [
        ("sharpe", pl.col("sharpe") * (1 + 2**-52)),
        ("trades", pl.col("trades") + 1),
        ("win_rate", pl.lit(None, dtype=pl.Float64)),
        ("day_sum", pl.col("day_sum").reverse()),
        ("combo", None),
    ],
)
def test_a_figure_that_replay_contradicts_is_found(
    searched: tuple[Settings, NightPlan], column: str, change: pl.Expr | None
) -> None:
    settings, plan = searched
    bars = load_night_bars(settings, plan)
    cut, features = search_window(plan, bars), build_night_features(settings, plan, bars)
    rows = read_results(sweep_folder(settings.sweeps, plan.sweep), plan.sweep).head(4)
    if change is not None:
        rows = rows.with_columns(change.alias(column))
    found = replay_differences(settings, plan, bars, cut, features, rows, silent)
    assert {item["figure"] for item in found} == (set() if change is None else {column})


def test_a_column_without_a_value_is_found(searched: tuple[Settings, NightPlan]) -> None:
    settings, plan = searched
    bars = load_night_bars(settings, plan)
    features = build_night_features(settings, plan, bars)
    assert non_finite_values(bars, features) == []
    values = np.array(features.values)
    values[1, 100:103, 2] = np.nan
    assert non_finite_values(bars, dataclasses.replace(features, values=values)) == [
        {"column": features.columns[1].label, "symbol": bars.symbols[2], "bars": 3}
    ]


def test_months_with_news_reach_from_the_newest_bar_to_now(mei_settings: Settings, tmp_path: Path) -> None:
    pipeline = write_config(tmp_path / "config").pipeline
    path = tmp_path / "config" / "pipeline.yaml"
    source = "{kind: synthetic, venue: test, seed: 1, symbols: 1, from: 2025-01-01}"
    path.write_text(path.read_text().replace("sources: []", f"sources: [{source}]"))
    fetched = load_config(tmp_path / "config").pipeline
    now_ms = month_range("2025-06")[0] + 1
    lake = Lake(mei_settings.lake)
    assert touched_months(lake, pipeline, now_ms) is None
    assert touched_months(lake, fetched, now_ms) == ("2025-01", "2025-06")
    fill_lake(mei_settings)  # sixty days, so it ends in March
    assert touched_months(lake, fetched, now_ms) == ("2025-03", "2025-06")
    assert touched_months(lake, fetched, month_range("2024-12")[0]) is None


def test_a_span_ends_now_at_the_latest() -> None:
    start, end = month_range("2025-02")
    assert span_ms("2025-02", "2025-02", end + 5) == (start, end)
    assert span_ms("2025-02", "2025-02", start + 5) == (start, start + 5)


@pytest.mark.parametrize(
    ("error", "again"), [(Busy("held"), True), (Retryable("later"), True), (DataError("bad"), False)]
)
def test_only_what_may_succeed_later_is_tried_again(error: MeiError, again: bool) -> None:
    with pytest.raises(dg.RetryRequested if again else DataError) as raised, retried():
        raise error
    assert (raised.value if not again else raised.value.__cause__) is error
