"""The record of a promoted config: read from its file, measured on the days of the search, and first on the page."""

from dataclasses import asdict

import pytest
from market_kit import DAY_MS
from page_kit import read_page
from replay_kit import FROM_MS, TO_MS, cross, inputs

from mei_pipeline.config.promoted import to_yaml
from mei_pipeline.errors import ConfigError
from mei_pipeline.replay.page import page_of
from mei_pipeline.replay.record import PeriodResult, PromotionRecord, record_rows
from mei_pipeline.replay.report import report_of
from mei_pipeline.replay.run import replay
from mei_pipeline.replay.spec import read_record

HOLDOUT_MS = TO_MS - 10 * DAY_MS
FOLDS_MS = ((FROM_MS + 11 * DAY_MS, FROM_MS + 20 * DAY_MS), (FROM_MS + 21 * DAY_MS, HOLDOUT_MS))
RECORD = PromotionRecord(
    FROM_MS, HOLDOUT_MS, TO_MS, PeriodResult(18, 32.125, 3.85, 4.5, 17), PeriodResult(10, -1.5, None, 2.25, 3), FOLDS_MS
)
METRICS = {**asdict(RECORD), "sweep_id": "a", "in_sample_sharpe": 4.5}


def written(tmp_path, metrics):
    path = tmp_path / "c.yaml"
    path.write_text(to_yaml(cross(), evidence={"metrics": metrics}, provenance={}))
    return path


def test_the_record_is_read_from_the_file_of_a_promoted_config(tmp_path):
    assert read_record(written(tmp_path, METRICS)) == RECORD
    assert read_record(written(tmp_path, {key: METRICS[key] for key in METRICS if key != "folds_ms"})).folds_ms == ()
    earlier = {part: {**METRICS[part], "round_trips": METRICS[part]["trades"]} for part in ("out_of_sample", "holdout")}
    for part in earlier.values():
        del part["trades"]
    assert read_record(written(tmp_path, METRICS | earlier)) == RECORD  # as the version before wrote it
    assert read_record(written(tmp_path, {"sharpe": 1.5})) is None
    path = tmp_path / "mine.yaml"
    path.write_text("strategy: ema_cross\ninterval: 1h\n")
    assert read_record(path) is None


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"holdout_ms": "soon"}, r"c\.yaml: evidence\.metrics\.holdout_ms: .*'soon'"),
        ({"out_of_sample": {"days": 3}}, r"c\.yaml: evidence\.metrics\.out_of_sample\.return_pct: Field required"),
        ({"folds_ms": [[1]]}, r"c\.yaml: evidence\.metrics\.folds_ms\.0"),
    ],
)
def test_a_damaged_record_is_refused_by_its_key(tmp_path, change, says):
    with pytest.raises(ConfigError, match=says):
        read_record(written(tmp_path, METRICS | change))


def test_the_part_of_the_search_is_a_replay_of_its_days_alone(mei_settings):
    alone = replay(mei_settings, inputs(mei_settings, cross(), HOLDOUT_MS))
    on = inputs(mei_settings, cross())
    record = report_of(on, replay(mei_settings, on), RECORD)["record"]
    expected = (alone.metrics[name] for name in ("return_pct", "sharpe", "max_drawdown_pct", "trades"))
    assert list(record["search"].values()) == [30, *map(pytest.approx, expected)]
    assert record["search"]["trades"] > 5
    assert record_rows(record)[2] == ("Sharpe ratio, annual", record["search"]["sharpe"], 3.85, None)


def test_a_window_without_the_whole_search_has_no_part_of_it(mei_settings):
    on = inputs(mei_settings, cross(), HOLDOUT_MS - DAY_MS)
    report = report_of(on, replay(mei_settings, on), RECORD)
    assert report["record"]["search"] is None
    assert record_rows(report["record"])[0] == ("days", None, 18, 10)


def test_the_page_of_a_promoted_config_headlines_its_record_and_shades_its_days(mei_settings):
    on = inputs(mei_settings, cross())
    run = replay(mei_settings, on)
    page = read_page(page_of(on, run, report_of(on, run, RECORD)))
    whole = page.words.rpartition("The whole window, with the days that the config was chosen on")[2]
    top = page.words[: page.words.index("Record that the config was accepted on")]
    assert [line for line in top.split("\n") if line.endswith(("out of sample", "holdout"))] == [
        "32.1 %Return, out of sample",
        "3.85Sharpe, out of sample",
        "4.5 %Maximum drawdown, out of sample",
        "-1.5 %Return, holdout",
        "-Sharpe, holdout",
        "2.2 %Maximum drawdown, holdout",
    ]
    assert "Net profit, USD" in whole
    assert "Net profit, USD" not in top
    assert page.heads[0] == ["figure", "search", "out of sample", "holdout"]
    grounds = [
        (float(attrs["x"]), float(attrs["width"]))
        for tag, attrs, _ in page.elements
        if tag == "rect" and attrs.get("y") == "14"
    ]
    wide = grounds[0][1] + grounds[-1][1]
    days = [(first - FROM_MS, end - first) for first, end in ((FROM_MS, HOLDOUT_MS), *FOLDS_MS, (HOLDOUT_MS, TO_MS))]
    assert len(grounds) == 4
    for (x, width), (first, length) in zip(grounds, days, strict=True):
        assert width == pytest.approx(wide * length / (TO_MS - FROM_MS), rel=0.01)
        assert x - grounds[0][0] == pytest.approx(wide * first / (TO_MS - FROM_MS), abs=2.0)


def test_other_pages_have_neither_record_nor_shades(mei_settings):
    on = inputs(mei_settings, cross())
    run = replay(mei_settings, on)
    report = report_of(on, run)
    assert report["record"] is None
    page = read_page(page_of(on, run, report))
    assert "out of sample" not in page.words
