import os
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, model_validator

from mei_pipeline.config.document import MAX_BYTES, parse_document, read_yaml
from mei_pipeline.config.fields import FileModel, Json, Month, Switch, Symbol, Timestamp, Values
from mei_pipeline.config.messages import report
from mei_pipeline.errors import ConfigError


class Inner(FileModel):
    size: Annotated[int, Field(ge=1, le=9)] = 1


class Cat(FileModel):
    kind: Literal["cat"]
    lives: int = 9


class Dog(FileModel):
    kind: Literal["dog"]


class Sample(FileModel):
    name: str
    count: Annotated[int, Field(ge=0)] = 0
    ratio: Annotated[float, Field(gt=0, lt=1)] = 0.5
    switch: Switch = False
    at: Timestamp = 0
    month: Month = "2025-01"
    colour: Literal["red", "green"] = "red"
    inner: Inner = Inner()
    symbols: tuple[Symbol, ...] = ()
    pets: tuple[Annotated[Cat | Dog, Field(discriminator="kind")], ...] = ()
    weights: dict[Literal["a", "b"], float] = Field(default_factory=dict)
    params: Values = Field(default_factory=dict)
    notes: Json = Field(default_factory=dict)
    labels: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _sensible(self) -> "Sample":
        if self.count > 100:
            raise ValueError("count and ratio do not go together")
        return self


def parse(text: str | bytes) -> Sample:
    content = text if isinstance(text, bytes) else text.encode()
    return parse_document(content, Path("f.yaml"), Sample).model


def complaint(text: str | bytes) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(text)
    return str(caught.value)


SAMPLE_KEYS = "name, count, ratio, switch, at, month, colour, inner, symbols, pets, weights, params, notes, labels"

BAD = {
    "empty": ("", "f.yaml: the file is empty; a mapping with the keys name, count"),
    "blank": (" \n\n", "f.yaml: the file is empty; a mapping with the keys name, count"),
    "byte order mark only": (b"\xef\xbb\xbf", "f.yaml: the file is empty; a mapping with the keys name, count"),
    "comments only": ("# nothing\n", "f.yaml: name: missing; text"),
    "a list": ("- 1\n", "f.yaml: the file is not a mapping (key: value); a mapping with the keys name, count"),
    "a word": ("hello", "f.yaml: the file is not a mapping (key: value); a mapping with the keys name, count"),
    "two documents": (
        "name: x\n---\nname: y\n",
        "f.yaml:2:1: not YAML: expected a single document in the stream but found another document",
    ),
    "unknown key": (
        "name: x\ncuont: 1",
        f"f.yaml:2:1: cuont: unknown key; did you mean 'count'? allowed: {SAMPLE_KEYS}",
    ),
    "unknown inner key": (
        "name: x\ninner:\n  siz: 1",
        "f.yaml:3:3: inner.siz: unknown key; did you mean 'size'? allowed: size",
    ),
    "merge key": ("name: x\n<<: {count: 1}", "f.yaml:2:1: <<: unknown key; allowed: name"),
    "duplicate key": ("name: x\ncount: 1\nname: y", "f.yaml:3:1: name: key given twice; the first is on line 1"),
    "duplicate inner key": (
        "name: x\ninner: {size: 1, size: 2}",
        "f.yaml:2:18: size: key given twice; the first is on line 2",
    ),
    "list for a free mapping": ("name: x\nlabels: [1]", "f.yaml:2:1: labels: a list is not allowed; a mapping"),
    "what a validator says": ("name: x\ncount: 101", "f.yaml: count and ratio do not go together"),
    "missing": ("count: 1", "f.yaml: name: missing; text"),
    "missing value": ("name:", "f.yaml:1:1: name: no value is not allowed; text"),
    "number for text": ("name: 8", "f.yaml:1:1: name: 8 is not allowed; text"),
    "switch for text": ("name: true", "f.yaml:1:1: name: true is not allowed; text"),
    "text for number": ("name: x\ncount: '3'", "f.yaml:2:1: count: '3' is not allowed; a whole number of 0 or more"),
    "float for whole": ("name: x\ncount: 3.0", "f.yaml:2:1: count: 3.0 is not allowed; a whole number of 0 or more"),
    "switch for number": (
        "name: x\ncount: true",
        "f.yaml:2:1: count: true is not allowed; a whole number of 0 or more",
    ),
    "octal": ("name: x\ncount: 08", "f.yaml:2:1: count: 08 is not allowed; a whole number of 0 or more; write 8"),
    "underscores": (
        "name: x\ncount: 1_000",
        "f.yaml:2:1: count: 1_000 is not allowed; a whole number of 0 or more; write 1000",
    ),
    "sexagesimal": ("name: x\ncount: 1:30", "f.yaml:2:1: count: 1:30 is not allowed; a whole number of 0 or more"),
    "hexadecimal": ("name: x\ncount: 0x1F", "f.yaml:2:1: count: 0x1F is not allowed; a whole number of 0 or more"),
    "huge": (
        "name: x\ncount: 99999999999999999999",
        "f.yaml:2:1: count: 99999999999999999999 is not allowed; a whole number of 0 or more; whole numbers end at 92",
    ),
    "very huge": (
        "name: x\ncount: 1" + "0" * 9000,
        f"f.yaml:2:1: count: 1{'0' * 59}… is not allowed; a whole number of 0 or more; whole numbers end at 92",
    ),
    "too small": ("name: x\ncount: -1", "f.yaml:2:1: count: -1 is not allowed; a whole number of 0 or more"),
    "out of range": ("name: x\nratio: 1", "f.yaml:2:1: ratio: 1 is not allowed; a number above 0 and below 1"),
    "nan": ("name: x\nratio: .nan", "f.yaml:2:1: ratio: .nan is not allowed; a number above 0 and below 1"),
    "bare nan": ("name: x\nratio: nan", "f.yaml:2:1: ratio: nan is not allowed; a number above 0 and below 1"),
    "infinite": ("name: x\nratio: -.inf", "f.yaml:2:1: ratio: -.inf is not allowed; a number above 0 and below 1"),
    "overflow": ("name: x\nratio: 1e999", "f.yaml:2:1: ratio: 1e999 is not allowed; a number above 0 and below 1"),
    "quoted switch": ("name: x\nswitch: 'on'", "f.yaml:2:1: switch: 'on' is not allowed; true or false"),
    "number for switch": ("name: x\nswitch: 1", "f.yaml:2:1: switch: 1 is not allowed; true or false"),
    "choice": ("name: x\ncolour: blue", "f.yaml:2:1: colour: blue is not allowed; one of red, green"),
    "bad month": ("name: x\nmonth: 2025-13", "f.yaml:2:1: month: 2025-13 is not allowed; a month such as 2025-05"),
    "bad time": (
        "name: x\nat: 2025-02-30",
        "f.yaml:2:1: at: 2025-02-30 is not allowed; a time in UTC such as 2025-05-01",
    ),
    "number for time": ("name: x\nat: 20250501", "f.yaml:2:1: at: 20250501 is not allowed; a time in UTC such as"),
    "time before 1970": ("name: x\nat: 1969-12-31", "f.yaml:2:1: at: 1969-12-31 is not allowed; a time in UTC such as"),
    "bad symbol": (
        "name: x\nsymbols: [BTC, 'A B']",
        "f.yaml:2:16: symbols[1]: 'A B' is not allowed; a symbol such as BTC",
    ),
    "one for a list": (
        "name: x\nsymbols: BTC",
        "f.yaml:2:1: symbols: BTC is not allowed; a list, each a symbol such as BTC",
    ),
    "list for one": ("name: [x]", "f.yaml:1:1: name: a list is not allowed; text"),
    "number for mapping": ("name: x\ninner: 3", "f.yaml:2:1: inner: 3 is not allowed; a mapping with the keys size"),
    "bad key of mapping": ("name: x\nweights: {c: 1}", "f.yaml:2:11: weights.c: 'c' is not allowed; one of a, b"),
    "bad value of mapping": ("name: x\nweights: {a: x}", "f.yaml:2:11: weights.a: x is not allowed; a number"),
    "unknown kind": (
        "name: x\npets:\n  - {kind: cow}",
        "f.yaml:3:6: pets[0].kind: cow is not allowed; one of cat, dog",
    ),
    "missing kind": ("name: x\npets:\n  - {lives: 1}", "f.yaml:3:5: pets[0].kind: missing; one of cat, dog"),
    "kind that is a list": (
        "name: x\npets: [{kind: [a]}]",
        "f.yaml:2:9: pets[0].kind: a list is not allowed; one of cat",
    ),
    "kind is no mapping": (
        "name: x\npets: [cat]",
        "f.yaml:2:8: pets[0]: cat is not allowed; a mapping whose kind is cat or dog",
    ),
    "wrong key of a kind": (
        "name: x\npets:\n  - kind: dog\n    lives: 1",
        "f.yaml:4:5: pets[0].lives: unknown key; allowed: kind",
    ),
    "list for a parameter": (
        "name: x\nparams: {a: {b: [1]}}",
        "f.yaml:2:14: params.a.b: a list is not allowed; one value",
    ),
    "parameter twice": (
        "name: x\nparams: {a: {b: 1}, a.b: 2}",
        "f.yaml:2:21: params.a.b: present twice, nested and dotted",
    ),
    "parameters as a list": ("name: x\nparams: [1]", "f.yaml:2:1: params: a list is not allowed; parameters by path"),
    "tab": (
        "name: x\ninner:\n\tsize: 1",
        "f.yaml:3:1: not YAML: while scanning for the next token found character that cannot start any token; indent",
    ),
    "alias": ("name: &n x\ncolour: *n", "f.yaml:2:9: alias *n is not allowed; write the value out"),
    "tag": ("name: !!python/object:os.system x", "f.yaml:1:7: tag !!python/object:os.system is not"),
    "own tag": ("name: !secret x", "f.yaml:1:7: tag !secret is not allowed; write the plain value"),
    "binary": ("name: !!binary aGk=", "f.yaml:1:7: tag !!binary is not allowed"),
    "key that is a list": ("name: x\n? [a, b]\n: 1", "f.yaml:2:3: a key must be one word, not a list or a mapping"),
    "unclosed": ("name: [x", "f.yaml:2:1: not YAML: while parsing a flow sequence did not find expected ',' or ']'"),
    "bad indentation": ("name: x\n count: 1", "f.yaml:2:7: not YAML: mapping values are not allowed in this context"),
    "too deep": ("name: " + "[" * 100, "f.yaml:1:38: nested more than 32 levels deep"),
    "far too deep": ("name: " + "[" * 900_000, "f.yaml:1:38: nested more than 32 levels deep"),
    "too many values": ("name: [" + "1, " * 50_000, "f.yaml:1:149999: more than 50,000 keys and values; a config"),
    "not UTF-8": (b"name: x\ncount: \xff", "f.yaml:2:8: byte 0xff is not UTF-8; save the file as UTF-8"),
    "UTF-16": ("name: x".encode("utf-16-le"), "f.yaml:1:2: character U+0000 is not allowed in YAML"),
    "control character": ("name: x\ncount: \x07", "f.yaml:2:8: character U+0007 is not allowed in YAML"),
}


@pytest.mark.parametrize(("text", "expected"), BAD.values(), ids=BAD)
def test_a_bad_file_is_one_exact_complaint(text, expected):
    found = complaint(text)
    assert found.startswith(expected)
    assert "\n" not in found


@pytest.mark.parametrize("text", ["name: [secret", "name: secret\nat: secret", "- secret"])
def test_a_complaint_brings_no_error_that_holds_values(text):
    with pytest.raises(ConfigError) as caught:
        parse(text)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_an_alias_bomb_is_refused_at_its_first_alias():
    layers = "\n".join(f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 9)}]" for i in range(1, 30))
    assert complaint(f"name: x\nl0: &l0 [a]\n{layers}") == "f.yaml:3:10: alias *l0 is not allowed; write the value out"


def test_all_problems_of_a_file_are_reported_in_its_order():
    found = complaint("inner: {size: 0}\nratio: .nan\nsymbols: [A, B C]\ncuont: 1\n").splitlines()
    assert [line.split(": ")[0] + " " + line.split(": ")[1] for line in found] == [
        "f.yaml name",
        "f.yaml:1:9 inner.size",
        "f.yaml:2:1 ratio",
        "f.yaml:3:14 symbols[1]",
        "f.yaml:4:1 cuont",
    ]


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_line_ends_and_byte_order_mark_make_no_difference(ending, mark):
    lines = ("name: x", "inner:", "  size: 3", "symbols: [ON, 'TRUE', 1INCH]", "")
    found = parse(mark + ending.join(lines).encode())
    assert found == Sample(name="x", inner=Inner(size=3), symbols=("ON", "TRUE", "1INCH"))
    assert complaint(mark + ending.join((*lines, "at: 3")).encode()).startswith("f.yaml:6:1: at: 3")


def test_values_of_every_type():
    found = parse(
        "name: 'x'\ncount: 3\nratio: 0.25\nswitch: on\nat: 2025-05-01T02:00:00+02:00\nmonth: 2025-05\ncolour: green\n"
        "pets: [{kind: cat, lives: 7}, {kind: dog}]\nweights: {a: 1}\nparams: {t: {a: 1, b: off}, t.c: true}\n"
        "notes: {a: [1, {b: x}], c: null}\n"
    )
    assert found == Sample(
        name="x",
        count=3,
        ratio=0.25,
        switch=True,
        at=1_746_057_600_000,
        month="2025-05",
        colour="green",
        pets=(Cat(kind="cat", lives=7), Dog(kind="dog")),
        weights={"a": 1.0},
        params={"t.a": 1, "t.b": "off", "t.c": True},
        notes={"a": [1, {"b": "x"}], "c": None},
    )
    assert type(found.params["t.b"]) is str
    assert type(found.notes["a"][1]["b"]) is str
    assert type(found.weights["a"]) is float


@pytest.mark.parametrize(
    ("word", "value"), [("on", True), ("Yes", True), ("true", True), ("OFF", False), ("no", False), ("false", False)]
)
def test_switches(word, value):
    assert parse(f"name: x\nswitch: {word}").switch is value


@pytest.mark.parametrize(
    ("text", "time_ms"),
    [
        ("1970-01-01", 0),
        ("2025-05-01", 1_746_057_600_000),
        ("2025-05-01T00:00Z", 1_746_057_600_000),
        ("2025-05-01 00:00:00", 1_746_057_600_000),
        ("'2025-05-01T00:00:00.123Z'", 1_746_057_600_123),
        ("2025-04-30T19:00:00-05:00", 1_746_057_600_000),
    ],
)
def test_times(text, time_ms):
    assert parse(f"name: x\nat: {text}").at == time_ms


@pytest.mark.parametrize("text", ["2025-05-01T00:00:00.1234Z", "2025-5-1", "2025-05-01T25:00Z", "12:00", "2025", "now"])
def test_what_is_no_time(text):
    assert complaint(f"name: x\nat: {text}").startswith(f"f.yaml:2:1: at: {text} is not allowed; a time in UTC")


def test_code_may_give_times_in_milliseconds():
    assert Sample(name="x", at=5).at == 5


def test_a_model_that_was_read_is_frozen():
    found = parse("name: x")
    with pytest.raises(ValueError, match="frozen"):
        found.name = "y"


def test_a_file_is_read_from_disk(tmp_path):
    path = tmp_path / "f.yaml"
    path.write_text("name: x")
    assert read_yaml(path, Sample) == Sample(name="x")


def trouble(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        read_yaml(path, Sample)
    return str(caught.value)


def test_a_missing_file(tmp_path):
    path = tmp_path / "f.yaml"
    assert trouble(path) == f"{path}: no such file; create it, or set MEI_CONFIG to the folder that has it"


def test_a_folder_and_a_pipe_are_no_files(tmp_path):
    os.mkfifo(tmp_path / "pipe.yaml")
    for path in (tmp_path, tmp_path / "pipe.yaml"):
        assert trouble(path) == f"{path}: not a regular file; put a YAML file there"


def test_a_symlink_loop(tmp_path):
    path = tmp_path / "f.yaml"
    path.symlink_to(path)
    assert trouble(path).startswith(f"{path}: can't be read: Too many levels of symbolic links")


@pytest.fixture
def unreadable(tmp_path):
    """A file without permission; permissions do not bind root, so a run as root becomes somebody else meanwhile."""
    path = tmp_path / "f.yaml"
    path.write_text("name: x")
    path.chmod(0)
    user = os.geteuid()
    os.seteuid(user or 65_534)
    yield path
    os.seteuid(user)


def test_a_file_without_permission(unreadable):
    assert trouble(unreadable) == f"{unreadable}: can't be read: Permission denied"


def test_a_path_below_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "f.yaml"
    assert trouble(path) == f"{path}: can't be read: Not a directory"


def test_size_is_bounded(tmp_path):
    path = tmp_path / "f.yaml"
    path.write_bytes(b"name: x\n#" + b" " * (MAX_BYTES - 9))
    assert read_yaml(path, Sample).name == "x"
    path.write_bytes(b"name: x\n#" + b" " * (MAX_BYTES - 8))
    assert trouble(path) == f"{path}: larger than 1,048,576 bytes; a config file is small"


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused_with_the_name_of_the_file(content):
    try:
        found = parse(content)
    except ConfigError as error:
        assert all(line.startswith("f.yaml") for line in str(error).splitlines())  # noqa: PT017 - either outcome is right
    else:
        assert isinstance(found, Sample)


def test_a_long_report_is_cut_off_with_a_count():
    lines = report(f"line {number}" for number in range(60)).splitlines()
    assert lines[0] == "line 0"
    assert lines[-1] == "and 10 more problems"
    assert len(lines) == 51
    assert report(["same", "same"]) == "same"
