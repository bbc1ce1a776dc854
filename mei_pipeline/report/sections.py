"""What a report of a night says, section by section."""

from collections.abc import Iterator, Sequence

from markupsafe import Markup

from kernels.params import Value
from mei_pipeline.candles.intervals import DAY_MS, iso
from mei_pipeline.candles.quality import RULES
from mei_pipeline.pages import Bad, Good, cell_text
from mei_pipeline.registry.records import Gate
from mei_pipeline.report.document import Block, Paragraph, Pictures, Report, Section, Table, Tiles
from mei_pipeline.report.facts import Facts, SearchOverview
from mei_pipeline.report.lanes import lanes_section, move_of, short
from mei_pipeline.selection.io import Candidate
from mei_pipeline.selection.pictures import equity_picture, fold_picture, logit_picture, selection_bias_picture
from mei_pipeline.selection.segments import Segment
from mei_pipeline.selection.verdicts import Judgement
from mei_pipeline.svg import value_text
from mei_pipeline.sweep.pictures import axes_picture, heat_picture, histogram_picture, nothing_varies
from mei_pipeline.sweep.plan import SweepPlan

_LISTED = 12
"""Values of an axis that are listed."""
_BECAUSE = "nothing, because "


def report_of(facts: Facts) -> Report:
    """The whole report."""
    plan = facts.plan
    sections = [
        _overview(facts),
        lanes_section(facts),
        _candidates(facts),
        _rejected(facts),
        _selection_bias(facts),
        _tried(facts),
        _folds(facts),
        _data(facts),
        _verdicts(facts),
    ]
    return Report(f"Night {plan.id[:16]}, {plan.profile}, as of {iso(plan.as_of_ms)}", outcome(facts), tuple(sections))


def outcome(facts: Facts) -> str:
    """What came of the night, in words; a night that deploys nothing is a normal one."""
    judged, passed = len(facts.gate_results.judgements), sum(each.passed for each in facts.gate_results.judgements)
    moved = [move_of(each) for each in facts.lanes if each.moved]
    waiting = [each.lane for each in facts.lanes if each.assigned is not None and not each.moved]
    said_of = [f"{passed} of {judged} finalists passed every gate." if judged else "There was no finalist."]
    if moved:
        said_of.append(f"Moved: {'; '.join(moved)}.")
    if waiting:
        said_of.append(f"Chosen and not applied: {', '.join(waiting)}.")
    if not moved and not waiting:
        why = dict.fromkeys(each.reason.removeprefix(_BECAUSE) for each in facts.lanes)
        reasons = "; ".join(why) or "config/lanes has no lane"
        said_of.append(f"Nothing was deployed: {reasons}. That is a normal outcome: no lane moves without evidence.")
    return " ".join(said_of)


def _overview(facts: Facts) -> Section:
    plan, search, judgements = facts.plan, facts.gate_results.search, facts.gate_results.judgements
    overfitting = search.overfitting_probability if search else None
    figures = (
        ("combos tried", f"{plan.sweep.combos:,}"),
        ("of them lost money", f"{100.0 * facts.searched.summary.lost_frac:.1f} %" if facts.searched else "-"),
        ("finalists that passed", f"{sum(each.passed for each in judgements)} of {len(judgements)}"),
        ("probability of backtest overfitting", cell_text(overfitting)),
        ("looks at these days", cell_text(search.trials if search else None)),
        ("lanes moved", f"{sum(each.moved for each in facts.lanes)} of {len(facts.lanes)}"),
    )
    rows = (
        ("night", plan.id),
        ("profile", plan.profile),
        ("as of", f"{iso(plan.as_of_ms)}; the night knows nothing later"),
        ("days of the search", _span(plan.sweep.from_ms, plan.sweep.to_ms)),
        ("holdout, which chooses nothing", _span(plan.holdout_ms, plan.to_ms)),
        ("policy", plan.selection.id[:16]),
        ("report written", iso(facts.written_ms // 1000 * 1000)),
    )
    return Section("At a glance", (Tiles(figures), Table("", ("", "value"), rows)))


def _candidates(facts: Facts) -> Section:
    candidates = facts.found.candidates
    if not candidates:
        return Section("Finalists", (Paragraph("None: no combo made money on the days that finalists are chosen on."),))
    verdicts = {each.rank: each for each in facts.gate_results.judgements}
    heading = (
        "slot", "config", "combo", "verdict", "Sharpe in", "Sharpe out", "return out, %", "drawdown out, %",
        "trips out", "Sharpe holdout", "return holdout, %", "drawdown holdout, %", "trips holdout",
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
        "In: the config on the days that it was chosen on, which says little. Out: what the slot's choices earned on "
        "the days of the folds, chained, none of which its choice had seen; gates judge this. Holdout: the config on "
        "the last days; it decides nothing. Sharpe ratios are annual, of daily returns."
    )
    pictures = equity_pictures(candidates, facts.stitched_by_rank, facts.replays)
    axes = [path for path, _ in facts.plan.sweep.axes]
    values = tuple((path, *(_value(each.params.get(path)) for each in candidates)) for path in axes)
    parameters = Table("Their parameters", ("axis", *(f"slot {each.rank}" for each in candidates)), values)
    return Section("Finalists", (Paragraph(legend), Table("", heading, tuple(rows)), Pictures(pictures), parameters))


def equity_pictures(
    candidates: Sequence[Candidate], stitched_by_rank: Sequence[Segment], replays: Sequence[tuple[Segment, Segment]]
) -> tuple[Markup, ...]:
    """One picture for each finalist: its config in sample and on the holdout, and its slot's choices out of sample."""
    return tuple(
        equity_picture(
            f"Slot {each.rank}, config {short(each.config_id)}: equity, start = 1",
            {"in sample": inside, "out of sample": stitched, "holdout": holdout},
        )
        for each, stitched, (inside, holdout) in zip(candidates, stitched_by_rank, replays, strict=True)
    )


def _rejected(facts: Facts) -> Section:
    judgements = facts.gate_results.judgements
    blocks: list[Block] = [
        Table(
            "Before the gates", ("combos", "fell because"), tuple((n, why) for why, n in facts.found.rejected.items())
        )
    ]
    if judgements:
        rejected = [
            (name, failed, len(ranks) - failed, len(judgements), ", ".join(f"slot {rank}" for rank in ranks))
            for name in _gate_names(judgements)
            if (ranks := [each.rank for each in judgements if _gate(each, name, "pass") is None])
            for failed in [sum(name in each.rejected_at for each in judgements)]
        ]
        blocks.append(
            Table("At the gates", ("gate", "fell", "no evidence", "of", "who"), tuple(rejected))
            if rejected
            else Paragraph("At the gates: nobody. Every finalist passed every gate.")
        )
        blocks.append(_matrix(judgements))
    return Section("What fell where", tuple(blocks))


def _matrix(judgements: Sequence[Judgement]) -> Table:
    rows = []
    for name in _gate_names(judgements):
        gates = [_gate(each, name) for each in judgements]
        threshold = next(gate.threshold for gate in gates if gate is not None)
        rows.append((name, threshold, *map(_cell, gates)))
    heading = ("gate", "threshold", *(f"slot {each.rank}" for each in judgements))
    return Table("Value and verdict", heading, tuple(rows))


def _selection_bias(facts: Facts) -> Section:
    search, selection_bias = facts.gate_results.search, facts.gate_results.selection_bias
    rows = (
        ("trials", search and search.trials, "configs ever judged on days of these, tonight's included"),
        ("independent looks", search and search.effective_trials, "as many would have the same expected best"),
        (
            "probability of backtest overfitting",
            search and search.overfitting_probability,
            "how often the best on some blocks of the search is below the median on the others",
        ),
        (
            "probability of loss",
            search and search.loss_probability,
            "how often the best on some blocks loses on the others",
        ),
        (
            "p against nothing",
            search and search.spa_cash_p,
            "SPA: chance of the best finalist where none beats nothing",
        ),
        ("p against the basket", search and search.spa_buy_and_hold_p, "SPA: the same against holding all symbols"),
        ("best Sharpe ratio of the search", selection_bias and selection_bias.best_sharpe, "annual, in sample"),
        (
            "independent trials",
            selection_bias and selection_bias.effective_trials,
            f"of {facts.plan.sweep.combos:,} combos",
        ),
        (
            "deflated Sharpe ratio of the search",
            selection_bias and selection_bias.deflated_sharpe,
            "probability that the true ratio of its best is above zero after so many trials; reported, decides nothing",
        ),
    )
    overfitting = search.overfitting_probability if search else None
    pictures = Pictures(
        (logit_picture(*facts.gate_results.logits, overfitting), selection_bias_picture(selection_bias))
    )
    return Section("How much is luck", (Table("", ("figure", "value", "what it says"), rows), pictures))


def _tried(facts: Facts) -> Section:
    plan = facts.plan.sweep
    own = "; each fold chose from a search of its own" if plan.search.method == "tpe" else ""
    words = (
        f"{plan.combos:,} combos of {plan.strategy} by the method {plan.search.method}{own}. Sweep {plan.id[:16]}; "
        f"start with {plan.initial_balance_usd:,.0f} USD."
    )
    axes = tuple((path, _listed(values), _condition(plan, path)) for path, values in plan.axes)
    table = Table("Axes", ("path", "values", "varies when"), axes)
    rest = _rows_of(plan, facts.searched) if facts.searched else (Paragraph(_GONE),)
    return Section("What was tried", (Paragraph(words), table, *rest))


_GONE = "The rows of the search are no longer there: housekeeping keeps those of the last sweeps and of stored configs."


def _rows_of(plan: SweepPlan, searched: SearchOverview) -> Iterator[Block]:
    summary = searched.summary
    yield Paragraph(
        f"{100.0 * summary.lost_frac:.1f} % lost money, {summary.idle:,} combos have no round trip; Sharpe ratio "
        f"{cell_text(summary.least)} to {cell_text(summary.greatest)}, mean {cell_text(summary.mean)}."
    )
    yield Pictures((histogram_picture(searched.shown, summary), axes_picture(summary.axes, summary.metric)))
    yield Pictures(tuple(map(heat_picture, searched.maps)) or (nothing_varies(),))
    shown = ("sharpe", "return_pct", "max_drawdown_pct", "trades", "profit_factor")
    axes = [path for path, _ in plan.axes]
    names = [path.rpartition(".")[2] for path in axes]
    rows = summary.best.rows.select("combo", *shown, *axes).rows()
    if summary.best.exclusion_note:
        yield Paragraph(f"{summary.best.exclusion_note[0].upper()}{summary.best.exclusion_note[1:]}.")
    yield Table(
        f"Best {len(rows)} results on all days of the search, by Sharpe ratio",
        ("combo", "Sharpe", "return, %", "drawdown, %", "trips", "profit factor", *names),
        tuple((*row[: 1 + len(shown)], *map(_value, row[1 + len(shown) :])) for row in rows),
    )


def _folds(facts: Facts) -> Section:
    walk, policy = facts.walk, facts.plan.selection.walk_forward
    words = (
        f"Window {policy.window}; days of embargo before those that a fold is judged on: {policy.embargo_days}. A slot "
        "is the n-th best choice of every fold, one after the other."
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
    heading = ("fold", "chosen on", "judged on", *(f"combo of slot {rank.number}" for rank in walk.ranks))
    return Section(
        "Folds", (Paragraph(words), Pictures((fold_picture(walk.folds, facts.plan.to_ms),)), Table("", heading, rows))
    )


def _data(facts: Facts) -> Section:
    plan, sweep = facts.plan, facts.plan.sweep
    words = (
        f"{plan.candles:,} bars of {sweep.venue} {', '.join(sweep.intervals.read)}, content {sweep.data_hash[:16]}. "
        f"Searched: {', '.join(sweep.symbols)}. Never searched, judged on as well: "
        f"{', '.join(plan.holdout_symbols) or 'none'}."
    )
    blocks: list[Block] = [Paragraph(words), *map(Paragraph, plan.notes)]
    if plan.dropped:
        blocks.append(Table("Symbols that sat out", ("symbol", "why"), tuple(sorted(plan.dropped.items()))))
    if plan.findings:
        rows = tuple(
            (found.rule, found.severity, found.symbol or None, found.count, RULES[found.rule].doc)
            for found in plan.findings
        )
        blocks.append(Table("What the quality rules found", ("rule", "severity", "symbol", "rows", "meaning"), rows))
    else:
        blocks.append(Paragraph("The quality rules found nothing."))
    return Section("Data", tuple(blocks))


def _verdicts(facts: Facts) -> Section:
    tables = tuple(
        Table(
            f"Slot {each.rank}, config {short(each.config_id)}",
            ("gate", "value", "threshold", "verdict", "explanation"),
            tuple(
                (gate.name, gate.value, gate.threshold, _coloured(gate.verdict), gate.explanation)
                for gate in each.gates
            ),
        )
        for each in facts.gate_results.judgements
    )
    return Section("Every verdict", tables or (Paragraph("Nothing was judged."),))


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
    parts = [f"fell at {rejected} of {gates} gates"] if rejected else []
    return Bad(", ".join([*parts, *([f"no evidence for {unknown} of {gates}"] if unknown else [])]))


def _span(from_ms: int, to_ms: int) -> str:
    """Days, the last one included."""
    return f"{iso(from_ms)[:10]} to {iso(to_ms - DAY_MS)[:10]}, {(to_ms - from_ms) // DAY_MS} days"


def _value(value: Value | None) -> str | None:
    return None if value is None else value_text(value)


def _listed(values: Sequence[Value]) -> str:
    shown = values if len(values) <= _LISTED else (*values[:_LISTED], "…", values[-1])
    return ", ".join(map(value_text, shown))


def _condition(plan: SweepPlan, path: str) -> str | None:
    return " and ".join(f"{name} is {value_text(value)}" for name, value in plan.when.get(path, {}).items()) or None
