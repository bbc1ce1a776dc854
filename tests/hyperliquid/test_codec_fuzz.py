"""Whatever arrives, decoding raises `WrongPayload` or nothing."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mei_pipeline.hyperliquid import codec

FIXTURES = Path(__file__).with_name("fixtures")
PAIRS = [
    (codec.decode_request(json.dumps(pair["request"]).encode()), json.dumps(pair["answer"]).encode())
    for pair in json.loads((FIXTURES / "answers.json").read_text())
]
MESSAGES = [json.dumps(message).encode() for message in json.loads((FIXTURES / "messages.json").read_text())]
REQUESTS = [codec.encode(request) for request, _ in PAIRS]
BODIES = [*MESSAGES, *REQUESTS, *(body for _, body in PAIRS)]
ODD = st.sampled_from([
    b"NaN", b"Infinity", b"1e999", b'"1e999"', b'"NaN"', b"-1", b"9" * 40, b"9" * 5000, b"null", b"true", b'""', b"[]",
    b"{}", b'"\\ud800"', b'"\xff"', b"\x00", b"[" * 2000, b'{"a":' * 2000, b'"', b"\\", b",", b"\xef\xbb\xbf",
])  # fmt: skip


@st.composite
def spoiled(draw: Any, bodies: list[bytes]) -> bytes:
    """Return a fixture with some bytes replaced, and perhaps cut off."""
    body = draw(st.sampled_from(bodies))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(body)))
        end = draw(st.integers(start, min(len(body), start + 12)))
        body = body[:start] + draw(st.one_of(ODD, st.binary(max_size=6))) + body[end:]
    return body[: draw(st.integers(0, len(body)))] if draw(st.booleans()) else body


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text()),
    lambda part: st.lists(part, max_size=4) | st.dictionaries(st.text(max_size=5), part, max_size=4),
    max_leaves=12,
)


def decode_all(body: bytes) -> None:
    for decode in (codec.decode_message, codec.decode_request, codec.decode_command):
        refuse_or_decode(decode, body)


def refuse_or_decode(decode: Any, *arguments: Any) -> None:
    try:
        value = decode(*arguments)
    except codec.WrongPayload as error:
        assert str(error).isprintable()  # noqa: PT017 - most of what is generated is refused, some is not
    else:
        codec.encode(value)


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.binary(max_size=200), spoiled(BODIES), JSON.map(lambda value: json.dumps(value).encode())))
def test_bytes_are_decoded_or_refused(body: bytes) -> None:
    decode_all(body)


@settings(max_examples=100, deadline=None)
@given(st.one_of(st.text(), spoiled(MESSAGES).map(lambda body: body.decode(errors="surrogateescape"))))
def test_text_is_decoded_or_refused(text: str) -> None:
    refuse_or_decode(codec.decode_message, text)
    refuse_or_decode(codec.decode_command, text)


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(PAIRS), st.data())
def test_answers_are_decoded_or_refused(pair: Any, data: st.DataObject) -> None:
    request, body = pair
    refuse_or_decode(codec.decode_answer, request, data.draw(st.one_of(spoiled([body]), st.sampled_from(BODIES))))


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(MESSAGES), JSON)
def test_data_of_another_form_are_decoded_or_refused(message: bytes, value: Any) -> None:
    channel = json.loads(message)["channel"]
    refuse_or_decode(codec.decode_message, json.dumps({"channel": channel, "data": value}).encode())


@pytest.mark.parametrize("deep", [b"[" * 200_000, b'{"a":' * 200_000, b'{"channel":"user","data":' * 50_000])
def test_deep_nesting_is_refused(deep: bytes) -> None:
    decode_all(deep)
    for request, _ in PAIRS:
        with pytest.raises(codec.WrongPayload):
            codec.decode_answer(request, deep)
