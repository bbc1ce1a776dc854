"""The sections of the report of a nightly run."""

from collections.abc import Iterator, Sequence

from markupsafe import Markup

from kernels.params import Value
from mei_pipeline.candles.intervals import DAY_MS, iso
from mei_pipeline.candles.quality import RULES
from mei_pipeline.pages import Bad, Good, cell_text
from mei_pipeline.registry.records import Gate
from mei_pipeline.report.document import Block, Paragraph, Plots, Report, Section, Table, Tiles
from mei_pipeline.report.facts import Facts, SearchOverview
from mei_pipeline.report.lanes import lanes_section, move_of, short
from mei_pipeline.selection.io import Candidate
from mei_pipeline.selection.plots import equity_plot, fold_plot, logit_plot, selection_bias_plot
from mei_pipeline.selection.segments import Segment
from mei_pipeline.selection.verdicts import Judgement
from mei_pipeline.svg import value_text
from mei_pipeline.sweep.plan import SweepPlan
from mei_pipeline.sweep.plots import axes_plot, heat_plot, histogram_plot, nothing_varies

_LISTED = 12
"""Number of values of an axis that are listed."""
_BECAUSE = "nothing, because "  # how the reason of an assignment without a config starts


def report_of(facts: Facts) -> Report:
    """Return the report."""
    plan = facts.plan
    sections = [
        _overview(facts),
        lanes_section(facts),
        _candidates(facts),
        _rejected(facts),
        _selection_bias(facts),
        _search(facts),
        _folds(facts),
        _data(facts),
        _verdicts(facts),
    ]
    title = f"Nightly run {plan.id[:16]}, {plan.profile}, as of {iso(plan.as_of_ms)}"
    return Report(title, outcome(facts), tuple(sections))


def outcome(facts: Facts) -> str:
    """Describe the result of the nightly run; it is a success even if nothing is promoted."""
    judged, passed = len(facts.gate_results.judgements), sum(each.passed for each in facts.gate_results.judgements)
    moved = [move_of(each) for each in facts.lanes if each.moved]
    waiting = [each.lane for each in facts.lanes if each.assigned is not None and not each.moved]
    sentences = [f"{passed} of {judged} candidates passed every gate." if judged else "There was no candidate."]
    if moved:
        sentences.append(f"Moved: {'; '.join(moved)}.")
    if waiting:
        sentences.append(f"Assigned but not applied: {', '.join(waiting)}.")
    if not moved and not waiting:
        why = dict.fromkeys(each.reason.removeprefix(_BECAUSE) for each in facts.lanes)
        reasons = "; ".join(why) or "config/lanes has no lane"
        sentences.append(f"Nothing was promoted: {reasons}. That is a normal outcome: no lane moves without evidence.")
    return " ".join(sentences)


def _overview(facts: Facts) -> Section:
    plan, search, judgements = facts.plan, facts.gate_results.search, facts.gate_results.judgements
    overfitting = search.overfitting_probability if search else None
    figures = (
        ("combos", f"{plan.sweep.combos:,}"),
        ("combos that lost money", f"{100.0 * facts.searched.summary.lost_frac:.1f} %" if facts.searched else "-"),
        ("candidates that passed", f"{sum(each.passed for each in judgements)} of {len(judgements)}"),
        ("probability of backtest overfitting", cell_text(overfitting)),
        ("trials on these days", cell_text(search.trials if search else None)),
        ("lanes moved", f"{sum(each.moved for each in facts.lanes)} of {len(facts.lanes)}"),
    )
    rows = (
        ("nightly run", plan.id),
        ("profile", plan.profile),
        ("as of", f"{iso(plan.as_of_ms)}; later data is not used"),
        ("days of the search", _span(plan.sweep.from_ms, plan.sweep.to_ms)),
        ("holdout, which selects nothing", _span(plan.holdout_ms, plan.to_ms)),
        ("policy", plan.selection.id[:16]),
        ("report written", iso(facts.written_ms // 1000 * 1000)),
    )
    return Section("At a glance", (Tiles(figures), Table("", ("", "value"), rows)))


def _candidates(facts: Facts) -> Section:
    candidates = facts.candidates.candidates
    if not candidates:
        return Section(
            "Candidates", (Paragraph("None: no combo made money on the days that candidates are selected on."),)
        )
    verdicts = {each.rank: each for each in facts.gate_results.judgements}
    heading = (
        "rank", "config", "combo", "verdict", "Sharpe in", "Sharpe out", "return out, %", "drawdown out, %",
        "trades out", "Sharpe holdout", "return holdout, %", "drawdown holdout, %", "trades holdout",
    )  # fmt: skip
    rows = [
        (
            each.rank,
            short(each.config_id),
            each.combo,
            _verdict(verdicts.get(each.rank)),
            each.in_sample_sharpe,
            each.out_of_sample.sharpe,
            each.out_of_sample.return_pct,
            each.out_of_sample.max_drawdown_pct,
            each.out_of_sample.trades,
            each.holdout.sharpe,
            each.holdout.return_pct,
            each.holdout.max_drawdown_pct,
            each.holdout.trades,
        )
        for each in candidates
    ]
    legend = (
        "In: the config on the days that it was selected on, which is no evidence. Out: the stitched out-of-sample "
        "segments of the rank, on test days that its selection had not seen; the gates judge them. Holdout: the config "
        "on the last days; it selects nothing. Sharpe ratios are annual, of daily returns."
    )
    plots = equity_plots(candidates, facts.stitched_by_rank, facts.replays)
    axes = [path for path, _ in facts.plan.sweep.axes]
    values = tuple((path, *(_value(each.params.get(path)) for each in candidates)) for path in axes)
    parameters = Table("Parameters", ("axis", *(f"rank {each.rank}" for each in candidates)), values)
    return Section("Candidates", (Paragraph(legend), Table("", heading, tuple(rows)), Plots(plots), parameters))


def equity_plots(
    candidates: Sequence[Candidate], stitched_by_rank: Sequence[Segment], replays: Sequence[tuple[Segment, Segment]]
) -> tuple[Markup, ...]:
    """Draw for each candidate its config in sample and on the holdout, and the stitched segments of its rank."""
    return tuple(
        equity_plot(
            f"Rank {each.rank}, config {short(each.config_id)}: equity, start = 1",
            {"in sample": inside, "out of sample": stitched, "holdout": holdout},
        )
        for each, stitched, (inside, holdout) in zip(candidates, stitched_by_rank, replays, strict=True)
    )


def _rejected(facts: Facts) -> Section:
    judgements = facts.gate_results.judgements
    blocks: list[Block] = [
        Table(
            "Before the gates",
            ("combos", "reason"),
            tuple((n, why) for why, n in facts.candidates.rejected.items()),
        )
    ]
    if judgements:
        rejected = [
            (name, failed, len(ranks) - failed, len(judgements), ", ".join(f"rank {rank}" for rank in ranks))
            for name in _gate_names(judgements)
            if (ranks := [each.rank for each in judgements if _gate(each, name, "pass") is None])
            for failed in [sum(name in each.rejected_at for each in judgements)]
        ]
        blocks.append(
            Table("At the gates", ("gate", "failed", "no evidence", "of", "candidates"), tuple(rejected))
            if rejected
            else Paragraph("At the gates: none. Every candidate passed every gate.")
        )
        blocks.append(_matrix(judgements))
    return Section("Rejected combos and candidates", tuple(blocks))


def _matrix(judgements: Sequence[Judgement]) -> Table:
    rows = []
    for name in _gate_names(judgements):
        gates = [_gate(each, name) for each in judgements]
        threshold = next(gate.threshold for gate in gates if gate is not None)
        rows.append((name, threshold, *map(_cell, gates)))
    heading = ("gate", "threshold", *(f"rank {each.rank}" for each in judgements))
    return Table("Value and verdict", heading, tuple(rows))


def _selection_bias(facts: Facts) -> Section:
    search, bias = facts.gate_results.search, facts.gate_results.selection_bias
    rows = (
        ("trials", search and search.trials, "configs ever judged on a day of these, now or before"),
        ("independent trials", search and search.effective_trials, "independent trials with the same expected best"),
        (
            "probability of backtest overfitting",
            search and search.overfitting_probability,
            "share of splits in which the best combo of one half is below the median on the other",
        ),
        (
            "probability of loss",
            search and search.loss_probability,
            "share of splits in which the best combo of one half loses on the other",
        ),
        (
            "SPA p-value against cash",
            search and search.spa_cash_p,
            "chance of such a best candidate if none beats cash",
        ),
        (
            "SPA p-value against buy and hold",
            search and search.spa_buy_and_hold_p,
            "chance of such a best candidate if none beats holding all symbols",
        ),
        ("best Sharpe ratio of the search", bias and bias.best_sharpe, "annual, in sample"),
        (
            "independent combos",
            bias and bias.effective_trials,
            f"of {facts.plan.sweep.combos:,} combos",
        ),
        (
            "deflated Sharpe ratio of the search",
            bias and bias.deflated_sharpe,
            "probability that the true ratio of its best combo is above zero; it decides nothing",
        ),
    )
    overfitting = search.overfitting_probability if search else None
    plots = Plots((logit_plot(*facts.gate_results.logits, overfitting), selection_bias_plot(bias)))
    return Section("Selection bias", (Table("", ("figure", "value", "meaning"), rows), plots))


def _search(facts: Facts) -> Section:
    plan = facts.plan.sweep
    own = "; each fold has a search of its own" if plan.search.method == "tpe" else ""
    words = (
        f"{plan.combos:,} combos of {plan.strategy} by the method {plan.search.method}{own}. Sweep {plan.id[:16]}; "
        f"start with {plan.initial_balance_usd:,.0f} USD."
    )
    axes = tuple((path, _listed(values), _condition(plan, path)) for path, values in plan.axes)
    table = Table("Axes", ("path", "values", "varies when"), axes)
    rest = _rows_of(plan, facts.searched) if facts.searched else (Paragraph(_GONE),)
    return Section("Search", (Paragraph(words), table, *rest))


_GONE = "Housekeeping has removed the rows of the search: it keeps those of the newest sweeps and of stored configs."


def _rows_of(plan: SweepPlan, searched: SearchOverview) -> Iterator[Block]:
    summary = searched.summary
    yield Paragraph(
        f"{100.0 * summary.lost_frac:.1f} % lost money, {summary.idle:,} combos have no trade; Sharpe ratio "
        f"{cell_text(summary.least)} to {cell_text(summary.greatest)}, mean {cell_text(summary.mean)}."
    )
    yield Plots((histogram_plot(searched.shown, summary), axes_plot(summary.axes, summary.metric)))
    yield Plots(tuple(map(heat_plot, searched.maps)) or (nothing_varies(),))
    shown = ("sharpe", "return_pct", "max_drawdown_pct", "trades", "profit_factor")
    axes = [path for path, _ in plan.axes]
    names = [path.rpartition(".")[2] for path in axes]
    rows = summary.best.rows.select("combo", *shown, *axes).rows()
    if summary.best.exclusion_note:
        yield Paragraph(f"{summary.best.exclusion_note[0].upper()}{summary.best.exclusion_note[1:]}.")
    yield Table(
        f"Best {len(rows)} results on all days of the search, by Sharpe ratio",
        ("combo", "Sharpe", "return, %", "drawdown, %", "trades", "profit factor", *names),
        tuple((*row[: 1 + len(shown)], *map(_value, row[1 + len(shown) :])) for row in rows),
    )


def _folds(facts: Facts) -> Section:
    walk, policy = facts.walk, facts.plan.selection.walk_forward
    words = (
        f"Window {policy.window}; days of embargo before the test days of a fold: {policy.embargo_days}. Rank n is the "
        "n-th best combo of every fold, one fold after the other."
    )
    rows = tuple(
        (
            number,
            _span(*fold.train_ms),
            _span(*fold.test_ms),
            *(None if (best := rank.selected[number - 1]) is None else best.combo for rank in walk.ranks),
        )
        for number, fold in enumerate(walk.folds, 1)
    )
    heading = ("fold", "train days", "test days", *(f"combo of rank {rank.number}" for rank in walk.ranks))
    return Section(
        "Folds", (Paragraph(words), Plots((fold_plot(walk.folds, facts.plan.to_ms),)), Table("", heading, rows))
    )


def _data(facts: Facts) -> Section:
    plan, sweep = facts.plan, facts.plan.sweep
    words = (
        f"{plan.candles:,} bars of {sweep.venue} {', '.join(sweep.intervals.read)}, content {sweep.data_hash[:16]}. "
        f"Searched: {', '.join(sweep.symbols)}. Holdout symbols: {', '.join(plan.holdout_symbols) or 'none'}."
    )
    blocks: list[Block] = [Paragraph(words), *map(Paragraph, plan.notes)]
    if plan.dropped:
        blocks.append(Table("Excluded symbols", ("symbol", "reason"), tuple(sorted(plan.dropped.items()))))
    if plan.findings:
        rows = tuple(
            (finding.rule, finding.severity, finding.symbol or None, finding.count, RULES[finding.rule].doc)
            for finding in plan.findings
        )
        blocks.append(Table("Findings of the quality rules", ("rule", "severity", "symbol", "rows", "meaning"), rows))
    else:
        blocks.append(Paragraph("The quality rules have no finding."))
    return Section("Data", tuple(blocks))


def _verdicts(facts: Facts) -> Section:
    tables = tuple(
        Table(
            f"Rank {each.rank}, config {short(each.config_id)}",
            ("gate", "value", "threshold", "verdict", "explanation"),
            tuple(
                (gate.name, gate.value, gate.threshold, _coloured(gate.verdict), gate.explanation)
                for gate in each.gates
            ),
        )
        for each in facts.gate_results.judgements
    )
    return Section("Verdicts", tables or (Paragraph("No candidate was judged."),))


def _gate_names(judgements: Sequence[Judgement]) -> list[str]:
    return list(dict.fromkeys(gate.name for each in judgements for gate in each.gates))


def _gate(judgement: Judgement, name: str, verdict: str = "") -> Gate | None:
    return next((gate for gate in judgement.gates if gate.name == name and verdict in {"", gate.verdict}), None)


def _cell(gate: Gate | None) -> str | None:
    return None if gate is None else _coloured(f"{cell_text(gate.value)} {gate.verdict}", passed=gate.verdict == "pass")


def _coloured(words: str, *, passed: bool | None = None) -> str:
    return Good(words) if (words == "pass" if passed is None else passed) else Bad(words)


def _verdict(judgement: Judgement | None) -> str | None:
    if judgement is None:
        return None
    if judgement.passed:
        return Good("passed")
    rejected, unknown, gates = len(judgement.rejected_at), len(judgement.without_evidence), len(judgement.gates)
    parts = [f"rejected at {rejected} of {gates} gates"] if rejected else []
    return Bad(", ".join([*parts, *([f"no evidence for {unknown} of {gates}"] if unknown else [])]))


def _span(from_ms: int, to_ms: int) -> str:
    """Format a span of days, the last one included."""
    return f"{iso(from_ms)[:10]} to {iso(to_ms - DAY_MS)[:10]}, {(to_ms - from_ms) // DAY_MS} days"


def _value(value: Value | None) -> str | None:
    return None if value is None else value_text(value)


def _listed(values: Sequence[Value]) -> str:
    shown = values if len(values) <= _LISTED else (*values[:_LISTED], "…", values[-1])
    return ", ".join(map(value_text, shown))


def _condition(plan: SweepPlan, path: str) -> str | None:
    return " and ".join(f"{name} is {value_text(value)}" for name, value in plan.when.get(path, {}).items()) or None
