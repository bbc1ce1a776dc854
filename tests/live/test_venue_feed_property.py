"""Any order, loss and repetition of what a venue sends leaves exact steps, and bars that are right or marked."""

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st
from venue_feed_kit import T0, Scene, candle, minute

from mei_pipeline.candles.intervals import MINUTE_MS
from mei_pipeline.execution.events import BarClosed, BarMissing, BarRevised, StepClosed
from mei_pipeline.hyperliquid.wire import Candle

BARS = 8
PARTS = 3


@dataclass(frozen=True)
class Script:
    """What happens to the messages and answers of a few bars.

    Attributes:
        traded: Bars with a trade.
        lost: Numbers of messages that never arrive.
        twice: Numbers of messages that arrive twice.
        late: Delays of messages in tenths of a second.
        breaks: Times of losses of the connection, in tenths of a second, and their lengths.
        deaf: Spans without an answer, alike.
    """

    traded: tuple[bool, ...]
    lost: frozenset[int]
    twice: frozenset[int]
    late: tuple[int, ...]
    breaks: tuple[tuple[int, int], ...]
    deaf: tuple[tuple[int, int], ...]


def truth(script: Script) -> list[Candle]:
    """The final bars of the venue."""
    return [candle(minute(n), 100.0 + n, PARTS) for n in range(BARS) if script.traded[n]]


def within(spans: tuple[tuple[int, int], ...], tenth: int) -> bool:
    return any(begin <= tenth < begin + length for begin, length in spans)


SPANS = st.lists(st.tuples(st.integers(0, BARS * 600), st.integers(1, 1500)), max_size=3).map(tuple)
NUMBERS = st.frozensets(st.integers(0, BARS * PARTS - 1), max_size=8)
SCRIPTS = st.builds(
    Script,
    traded=st.lists(st.sampled_from([True, True, True, False]), min_size=BARS, max_size=BARS).map(tuple),
    lost=NUMBERS,
    twice=NUMBERS,
    late=st.lists(st.sampled_from([0, 0, 0, 1, 5, 700]), min_size=BARS * PARTS, max_size=BARS * PARTS).map(tuple),
    breaks=SPANS,
    deaf=SPANS,
)


def messages(script: Script) -> dict[int, list[Candle]]:
    """Messages by the tenth of a second of their arrival."""
    arriving: dict[int, list[Candle]] = {}
    for n in range(BARS):
        for part in range(PARTS):
            number = n * PARTS + part
            sent = n * 600 + (0, 300, 599)[part]
            if not script.traded[n] or number in script.lost or within(script.breaks, sent):
                continue
            last = part == PARTS - 1
            bar = candle(minute(n), 100.0 + n if last else 100.0, part + 1)
            for delay in (0, 3) if number in script.twice else (0,):
                arriving.setdefault(sent + script.late[number] + delay, []).append(bar)
    return arriving


def play(script: Script) -> Scene:
    """The events of a consumer of a venue that behaves as the script says."""
    scene = Scene()
    scene.bars.append(candle(minute(-1)))
    scene.turn()
    scene.acknowledge()
    final = {bar.open_ms: bar for bar in truth(script)}
    arriving = messages(script)
    connected = True
    for tenth in range((BARS + 3) * 600):
        scene.now_s = tenth / 10.0
        if tenth % 2:
            scene.push_contexts()
        broken = within(script.breaks, tenth)
        if broken and connected:
            scene.core.lose(scene.now_s)
        elif not broken and not connected:
            scene.acknowledge()
        connected = not broken
        scene.bars = [bar for bar in scene.bars if bar.open_ms < T0]
        scene.bars += [bar for open_ms, bar in final.items() if open_ms + MINUTE_MS <= T0 + tenth * 100]
        if tenth >= BARS * 600:  # later trades prove the bars before them
            scene.bars += [candle(minute(n)) for n in range(BARS, tenth // 600 + 1)]
        scene.answering = not within(script.deaf, tenth)
        if connected:
            for bar in arriving.get(tenth, ()):
                scene.core.take_candle(bar, scene.now_s)
        work = scene.core.poll(scene.now_s)
        for ask in work.asks:
            if scene.answering:
                scene.answer(ask)
            else:
                from mei_pipeline.errors import Retryable

                scene.core.fail(ask, Retryable("no answer"), scene.now_s)
        scene.read()
    return scene


@given(SCRIPTS)
def test_steps_are_the_grid_and_bars_are_right_or_marked(script: Script) -> None:
    scene = play(script)
    steps = [step.step_ms for step in scene.of(StepClosed)]
    assert steps == [minute(n) for n in range(len(steps))]
    assert len(steps) >= BARS + 1
    final = {bar.open_ms: bar for bar in truth(script)}
    revised = {event.open_ms: event for event in scene.of(BarRevised)}
    seen = {event.open_ms: event for event in scene.of(BarClosed, BarMissing)}
    present = {event.open_ms for event in scene.of(BarClosed)}
    assert {step.step_ms for step in scene.of(StepClosed) if step.present} == present
    for n in range(BARS):
        event, sent = seen.get(minute(n)), final.get(minute(n))
        if isinstance(event, BarMissing) and event.reason == "no trade":
            assert sent is None
        elif isinstance(event, BarClosed) and event.confirmed and minute(n) not in revised:
            # Without its last message a bar looks complete; the next comparison with an answer finds it.
            complete = n * PARTS + PARTS - 1 not in script.lost and script.late[n * PARTS + PARTS - 1] == 0
            assert sent is not None
            assert not complete or (event.close, event.volume) == (float(sent.close), float(sent.volume))
        if minute(n) in revised:
            assert sent is not None
            assert revised[minute(n)].close == float(sent.close)


@given(SCRIPTS)
def test_after_the_next_comparison_every_bar_is_right_or_marked(script: Script) -> None:
    scene = play(script)
    scene.answering = True
    for state in scene.core.asks.values():
        state.audit_s = state.next_s = 0.0
    scene.core.tracks["BTC", "1m"].checked_ms = T0
    for _ in range(40):
        scene.now_s += 5.0
        scene.push_contexts()
        scene.turn()
    seen = {event.open_ms: event for event in scene.of(BarClosed)}
    revised = {event.open_ms: event for event in scene.of(BarRevised)}
    for bar in truth(script):
        last = revised.get(bar.open_ms) or seen[bar.open_ms]
        assert (last.close, last.volume) == (float(bar.close), float(bar.volume))


@given(SCRIPTS)
def test_the_same_script_gives_the_same_events(script: Script) -> None:
    assert play(script).events == play(script).events
