"""Configs of a lane: offers, the second book of a new config, and the end of a book that drained.

A new config opens a book of its own. The older book then only exits until it is flat. It keeps the cash that backs its
positions; the new book gets the rest, and everything else once the older book has ended.
"""

from dataclasses import replace

from mei_pipeline.candles.intervals import Intervals, iso
from mei_pipeline.errors import Fatal
from mei_pipeline.execution.booking import finish
from mei_pipeline.execution.books import StepBook, equity_of, take_terms, unrealised_of
from mei_pipeline.execution.commands import CloseBook, Command, OpenBook, Warm
from mei_pipeline.execution.events import ConfigOffered, Warmed
from mei_pipeline.execution.rows import ConfigChangeRow
from mei_pipeline.execution.state import Changed, LaneBook, LaneState, alive, find_book, with_book


def refusal(state: LaneState, offer: ConfigOffered) -> str:
    """Return why a lane refuses a config; empty if it takes it."""
    newest = state.books[-1] if state.books else None
    latest = state.waiting or (None if newest is None else newest.config)
    if latest is not None and offer.generation < latest.generation:
        return f"the lane has generation {latest.generation}"
    config = offer.config
    step = Intervals(*(str(config.get(key, "")) for key in ("interval", "entry_interval", "exit_interval"))).step
    if newest is not None and step != newest.step.plan.clock.step:
        return (
            f"its steps are {step} long, those of the lane {newest.step.plan.clock.step}; offer it to another lane, or "
            f"start this one with a new journal"
        )
    return ""


def take_offer(state: LaneState, offer: ConfigOffered) -> Changed:
    """Take a config that the lane's pointer names; a config that the lane refuses changes nothing.

    An offer of the newest book's config changes its size or pauses it, from the next step on. Another config waits
    until its features are computed, and until at most one older book is left. All books of a lane have the same steps.
    """
    if reason := refusal(state, offer):
        return Changed(state, (_row(state, offer, "refused", reason),))
    newest = state.books[-1] if state.books else None
    if newest is not None and offer.config_id == newest.config_id:
        changed = with_book(state, replace(newest, config=offer))
        kinds = _kinds(newest.config, offer)
        return Changed(replace(changed, waiting=None), tuple(_row(state, offer, kind) for kind in kinds))
    return Changed(replace(state, waiting=offer), (_row(state, offer, "waiting"),))


def _kinds(before: ConfigOffered, after: ConfigOffered) -> tuple[str, ...]:
    kinds = []
    if before.size_multiplier != after.size_multiplier:
        kinds.append("resized")
    if (before.state == "paused") != (after.state == "paused"):
        kinds.append("paused" if after.state == "paused" else "resumed")
    return tuple(kinds)


def next_warm(state: LaneState) -> tuple[Command, ...]:
    """Return the command that opens the waiting config, if a book of it can be opened now."""
    waiting = state.waiting
    if waiting is None or len(state.books) > 1 or find_book(state, waiting.config_id) is not None:
        return ()
    return (Warm(waiting.config_id),)


def open_book(state: LaneState, fact: Warmed, step: StepBook | None) -> Changed:
    """Open the book of the waiting config, whose features were computed.

    Raises:
        Fatal: The book is missing, or its bars do not end where the lane's last step ends.
    """
    offer = state.waiting
    if offer is None or offer.config_id != fact.config_id or step is None:
        raise Fatal(
            f"lane {state.setup.lane}: config {fact.config_id[:12]} was computed, but the lane does not wait for it"
        )
    if state.next_step_ms not in {None, fact.until_ms}:
        raise Fatal(
            f"lane {state.setup.lane}: features of config {fact.config_id[:12]} end {iso(fact.until_ms)}, the "
            f"lane's last step ends {iso(state.next_step_ms or 0)}"
        )
    length = step.plan.clock.step_ms
    state, rows = finish(state)
    take_terms(step, state.terms, fact.until_ms - length)
    draining = tuple(replace(book, draining=True) for book in state.books)
    usd = state.setup.equity_usd
    if draining:
        usd = spare_cash(draining[-1])
        draining[-1].step.plan.compiled.apply_transfer_step(draining[-1].step.book, -usd)
    step.plan.compiled.open_books(step.book, float(usd))
    opened = replace(
        state,
        books=(*draining, LaneBook(step, offer)),
        waiting=None,
        step_ms=fact.until_ms - length,
        terms_due_ms=0,
        clock_ms=max(state.clock_ms, fact.until_ms),
        initial_usd=state.initial_usd or usd,
        peak_usd=state.peak_usd or usd,
    )
    # The clock of a new lane begins with its first book.
    changes = (*(_row(opened, book.config, "draining") for book in draining), _row(opened, offer, "opened"))
    return Changed(opened, (*rows, *changes))


def spare_cash(book: LaneBook) -> float:
    """Return the cash that a draining book can give up: what is left beside its margin and its unrealised loss."""
    loss = min(unrealised_of(book.step), 0.0)
    kept = float(book.step.account["margin"]) - loss
    return max(float(book.step.account["cash"]) - kept, 0.0)


def end_drained(state: LaneState) -> Changed:
    """End each draining book that is flat and has no order left, and give its cash to the newest book."""
    ended = tuple(book for book in state.books[:-1] if book.draining and is_drained(state, book))
    if not ended:
        return Changed(state)
    newest = state.books[-1].step
    for book in ended:
        newest.plan.compiled.apply_transfer_step(newest.book, float(book.step.account["cash"]))
    gone = {book.config_id for book in ended}  # books hold arrays, which do not compare as a whole
    left = tuple(book for book in state.books if book.config_id not in gone)
    return Changed(replace(state, books=left), tuple(_row(state, book.config, "closed") for book in ended))


def is_drained(state: LaneState, book: LaneBook) -> bool:
    """Return whether a book is flat and has no order left."""
    return float(book.step.account["open_positions"]) == 0.0 and not alive(state, book.config_id)


def book_commands(before: LaneState, after: LaneState) -> tuple[Command, ...]:
    """Return the commands that tell a broker of the books that began or ended between two states."""
    if len(before.books) == len(after.books) and all(
        old.config_id == new.config_id for old, new in zip(before.books, after.books, strict=True)
    ):
        return ()  # at almost every step
    known = {book.config_id for book in before.books}
    left = {book.config_id for book in after.books}
    newest = after.books[-1].config_id if after.books else ""
    giver = before.books[-1].config_id if before.books else ""
    ended = (book for book in before.books if book.config_id not in left)
    began = (book for book in after.books if book.config_id not in known)
    return (
        *(CloseBook(book.config_id, float(book.step.account["cash"]), newest) for book in ended),
        *(OpenBook(book.config_id, float(book.step.account["cash"]), giver) for book in began),
    )


def lane_equity(state: LaneState) -> float:
    """Return the equity over all books, at last prices, in USD."""
    return sum(equity_of(book.step) for book in state.books)


def _row(state: LaneState, offer: ConfigOffered, change: str, reason: str = "") -> ConfigChangeRow:
    return ConfigChangeRow(
        time_ms=state.clock_ms,
        config_id=offer.config_id,
        generation=offer.generation,
        size_multiplier=offer.size_multiplier,
        change=change,
        reason=reason,
    )
