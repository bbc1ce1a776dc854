"""Every payload that MEI names is decoded, encoded back and, if it is wrong, refused with the place of the fault."""

import copy
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mei_pipeline.hyperliquid import codec, wire

FIXTURES = Path(__file__).with_name("fixtures")
ANSWERS = json.loads((FIXTURES / "answers.json").read_text())
MESSAGES = json.loads((FIXTURES / "messages.json").read_text())
USER = "0x00000000000000000000000000000000000000aa"


def json_bytes(value: Any) -> bytes:
    return json.dumps(value).encode()


def answer_of(request: dict[str, Any], answer: Any) -> Any:
    return codec.decode_answer(codec.decode_request(json_bytes(request)), json_bytes(answer))


def with_new_fields(value: Any) -> Any:
    """Return a payload in which every object of more than one field has a field that nobody knows."""
    if isinstance(value, list):
        return [with_new_fields(part) for part in value]
    if isinstance(value, dict):
        parts = {key: with_new_fields(part) for key, part in value.items()}
        return parts if set(parts) & {"mids", "BTC"} else parts | {"added_in_2030": [{"deep": [None, 1]}]}
    return value


@pytest.mark.parametrize("pair", ANSWERS, ids=lambda pair: pair["request"]["type"])
def test_an_answer_comes_back_from_its_model(pair):
    request = codec.decode_request(json_bytes(pair["request"]))
    answer = codec.decode_answer(request, json_bytes(pair["answer"]))
    assert json.loads(codec.encode(answer)) == pair["answer"]
    assert json.loads(codec.encode(request)) == pair["request"]
    assert codec.decode_answer(request, codec.encode(answer)) == answer


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: message["channel"])
def test_a_message_comes_back_from_its_model(message):
    decoded = codec.decode_message(json_bytes(message))
    assert decoded.channel == message["channel"]
    assert json.loads(codec.encode(decoded.data)) == message["data"]
    assert codec.decode_message(json.dumps(message)) == decoded


def test_there_is_a_fixture_of_every_request_and_channel():
    asked = {type(codec.decode_request(json_bytes(pair["request"]))) for pair in ANSWERS}
    assert asked == set(wire.ANSWERS)
    assert {message["channel"] for message in MESSAGES} | {wire.PONG} == set(wire.CHANNELS)


@pytest.mark.parametrize("pair", ANSWERS, ids=lambda pair: pair["request"]["type"])
def test_new_fields_of_an_answer_change_nothing(pair):
    newer = with_new_fields(pair["answer"])
    assert answer_of(pair["request"], newer) == answer_of(pair["request"], pair["answer"])


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: message["channel"])
def test_new_fields_of_a_message_change_nothing(message):
    newer = {"channel": message["channel"], "data": with_new_fields(message["data"]), "added": 1}
    new, old = codec.decode_message(json_bytes(newer)), codec.decode_message(json_bytes(message))
    if message["channel"] != "post":  # the payload of a post is handed on as it is
        assert new == old


def test_null_is_like_an_absent_field():
    order = next(pair["answer"][0] for pair in ANSWERS if pair["request"]["type"] == "frontendOpenOrders")
    absent = {key: part for key, part in order.items() if key not in {"tif", "cloid", "origSz"}}
    request = {"type": "frontendOpenOrders", "user": USER, "dex": None}
    assert answer_of(request, [absent | {"tif": None, "cloid": None, "origSz": None}]) == answer_of(request, [absent])
    flags = {"name": "BTC", "szDecimals": 5, "maxLeverage": 40, "isDelisted": None, "onlyIsolated": None}
    assert answer_of({"type": "meta"}, {"universe": [flags]}).universe[0].delisted is None
    assert answer_of({"type": "l2Book", "coin": "NONE"}, None) is None


def test_new_values_are_plain_text():
    report = next(pair["answer"][0] for pair in ANSWERS if pair["request"]["type"] == "historicalOrders")
    decoded = answer_of({"type": "historicalOrders", "user": USER}, [report | {"status": "inventedCanceled"}])
    assert decoded[0].status == "inventedCanceled"
    row = {"time": 1, "hash": None, "delta": {"type": "inventedTransfer", "parts": [1, {"x": 2}]}}
    ledger = answer_of({"type": "userNonFundingLedgerUpdates", "user": USER, "startTime": 0, "endTime": None}, [row])
    assert ledger[0].delta == wire.LedgerDelta(type="inventedTransfer")
    event = codec.decode_message(b'{"channel":"user","data":{"invented":{"x":1}}}')
    assert event.data == wire.UserEvent()


def test_a_channel_that_nobody_knows_has_no_data():
    assert codec.decode_message(b'{"channel":"invented","data":[1]}') == codec.VenueMessage("invented", None)
    assert codec.decode_message(b'{"channel":"pong"}') == codec.VenueMessage("pong", None)


CANDLE = next(message["data"] for message in MESSAGES if message["channel"] == "candle")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("o", "NaN"), ("o", "sNaN"), ("h", "Infinity"), ("l", "-Infinity"), ("c", "1e999"), ("v", "1e-999"),
        ("v", "0e99999999"), ("o", ""), ("o", "12,5"), ("o", True), ("o", None), ("o", []),
        ("t", -1), ("t", 10**18), ("t", 10**30), ("t", "5"),
        ("t", 1.5), ("T", None), ("s", 7), ("n", -1), ("n", 2**63), ("n", 10**40), ("i", {}),
    ],
)  # fmt: skip
def test_a_wrong_field_is_named_with_its_channel(field, value):
    for decode, body in (
        (codec.decode_message, {"channel": "candle", "data": CANDLE | {field: value}}),
        (lambda body: codec.decode_answer(wire.CandlesRequest(span=SPAN), body), [CANDLE | {field: value}]),
    ):
        with pytest.raises(codec.WrongPayload, match=r"candle") as caught:
            decode(json_bytes(body))
        assert f".{field}" in str(caught.value) or f" {field}: " in str(caught.value)


SPAN = wire.CandleSpan(coin="BTC", interval="1h", start_ms=0)


@pytest.mark.parametrize("field", sorted(set(CANDLE) - {"n"}))
def test_a_missing_field_is_named(field):
    candle = {key: part for key, part in CANDLE.items() if key != field}
    with pytest.raises(codec.WrongPayload, match=f"channel candle: .*`{field}`"):
        codec.decode_message(json_bytes({"channel": "candle", "data": candle}))


def test_numbers_in_lists_and_objects_are_checked_too():
    for request, answer, place in (
        ({"type": "allMids"}, {"BTC": "NaN"}, "allMids: .*BTC"),
        ({"type": "activeAssetData", "user": USER, "coin": "BTC"}, None, "activeAssetData: .*maxTradeSzs"),
        ({"type": "portfolio", "user": USER}, None, "portfolio: .*pnlHistory"),
    ):
        wrong = answer or copy.deepcopy(next(p["answer"] for p in ANSWERS if p["request"]["type"] == request["type"]))
        if "maxTradeSzs" in wrong:
            wrong["maxTradeSzs"][1] = "Infinity"
        elif isinstance(wrong, list):
            wrong[0][1]["pnlHistory"][0][1] = "1e999"
        with pytest.raises(codec.WrongPayload, match=place):
            answer_of(request, wrong)
    with pytest.raises(codec.WrongPayload, match=r"allMids: .*ETH"):
        codec.decode_message(b'{"channel":"allMids","data":{"mids":{"ETH":"Infinity"}}}')


@pytest.mark.parametrize(
    "body", [b"", b"<html>502 Bad Gateway</html>", b"null", b"7", b"{", b'{"channel":7}', b"\xff\xfe", b"[" * 100_000]
)
def test_other_documents_are_refused(body):
    for decode in (codec.decode_message, codec.decode_request, codec.decode_command):
        with pytest.raises(codec.WrongPayload, match="Hyperliquid: ") as caught:
            decode(body)
        assert len(str(caught.value)) < 600
    with pytest.raises(codec.WrongPayload, match="answer to meta: "):
        codec.decode_answer(wire.MetaRequest(), body)


def test_an_error_shows_hostile_text_as_escapes():
    with pytest.raises(codec.WrongPayload) as caught:
        codec.decode_message("\x1b[31mred\u202e\n\ud800")
    assert str(caught.value).isprintable()
    assert "\\x1b[31mred" in str(caught.value)


@pytest.mark.parametrize(
    "command",
    [
        {"method": "subscribe", "subscription": {"type": "bbo", "coin": "BTC"}},
        {"method": "unsubscribe", "subscription": {"type": "allMids", "dex": "xyz"}},
        {"method": "ping"},
        {"method": "post", "id": 4, "request": {"type": "info", "payload": {"type": "meta"}}},
    ],
)
def test_a_command_comes_back_from_its_model(command):
    decoded = codec.decode_command(json_bytes(command))
    assert json.loads(codec.encode(decoded)) == command


def test_small_numbers_are_written_without_an_exponent():
    level = wire.Level(price=Decimal("1E-7"), size=Decimal("1E+3"), orders=1)
    assert codec.encode([level]) == b'[{"px":"0.0000001","sz":"1000","n":1}]'
    assert codec.encode({"1E-7": [Decimal("-2.5E-9")]}) == b'{"1E-7":["-0.0000000025"]}'
    told = 'a:"1E-7",'
    assert json.loads(codec.encode(told)) == told


def test_only_one_module_spells_names_of_the_venue():
    spelled = {
        wire_name
        for model in vars(wire).values()
        if isinstance(model, type) and issubclass(model, wire.Wire)
        for name, wire_name in zip(model.__struct_fields__, model.__struct_encode_fields__, strict=True)
        if name != wire_name and not wire_name.islower()
    } - {"T"}
    folder = Path(wire.__file__).parent
    for path in folder.glob("*.py"):
        if path.name != "wire.py":
            assert [name for name in sorted(spelled) if f'"{name}"' in path.read_text()] == [], path.name


def test_every_model_has_names_of_its_own():
    for model in vars(wire).values():
        if isinstance(model, type) and issubclass(model, wire.Wire):
            names = model.__struct_encode_fields__
            assert len(set(names)) == len(names)
            assert issubclass(model, msgspec.Struct)
