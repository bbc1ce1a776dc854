import itertools
from pathlib import Path

import pytest
import yaml
from policy_kit import policy

from mei_pipeline.config.document import parse_document
from mei_pipeline.config.fields import FileModel
from mei_pipeline.config.models import PipelineConfig, PolicyConfig
from mei_pipeline.config.renamed_keys import RENAMED
from mei_pipeline.errors import ConfigError

PIPELINE = """\
venue: binance
start: 2025-05
intervals: [1h]
anchors: {1h: 2025-05-01}
profiles: {smoke: {sweep: smoke}}
"""


class Box(FileModel):
    height: int
    colour: str = "red"


class Shelf(FileModel):
    boxes: dict[str, tuple[Box, ...]]


def complaints(text, model):
    with pytest.raises(ConfigError) as caught:
        parse_document(text.encode(), Path("f.yaml"), model)
    return str(caught.value).splitlines()


def test_a_renamed_key_names_its_successor():
    assert complaints(f"{PIPELINE}engine: {{run: ray}}", PipelineConfig) == [
        "f.yaml:6:1: engine: renamed; write `compute` instead"
    ]
    assert complaints(f"{PIPELINE}compute: {{run: ray}}", PipelineConfig) == [
        "f.yaml:6:11: compute.run: renamed; write `backend` instead"
    ]


def test_a_policy_of_an_earlier_version_names_every_successor():
    content = policy()
    selection = content["selection"]
    for part, names in ((selection["gates"], RENAMED["Gates"]), (selection, RENAMED["Selection"])):
        for old, new in names.items():
            part[old] = part.pop(new)
    found = complaints(yaml.safe_dump(content), PolicyConfig)
    successors = RENAMED["Gates"] | RENAMED["Selection"]
    assert len(found) == len(successors)
    for old, new in successors.items():
        assert sum(f"{old}: renamed; write `{new}` instead" in line for line in found) == 1


def test_a_renamed_key_is_not_reported_as_missing_too(monkeypatch):
    monkeypatch.setitem(RENAMED, "Box", {"tallness": "height"})
    assert complaints("boxes:\n  a:\n    - {height: 1}\n    - {tallness: 1, color: x}\n", Shelf) == [
        "f.yaml:4:8: boxes.a[1].tallness: renamed; write `height` instead",
        "f.yaml:4:21: boxes.a[1].color: unknown key; did you mean 'colour'? allowed: height, colour",
    ]
    assert complaints("boxes: {a: [{}]}", Shelf) == ["f.yaml:1:13: boxes.a[0].height: missing; a whole number"]


def models():
    found = [FileModel]
    for model in found:
        found += model.__subclasses__()
    return found


@pytest.mark.parametrize(
    ("section", "old", "new"), [(s, *pair) for s, keys in RENAMED.items() for pair in keys.items()]
)
def test_successors_are_keys_and_their_predecessors_are_not(section, old, new):
    (model,) = [each for each in models() if each.__name__ == section]
    keys = set(itertools.chain.from_iterable((name, info.alias) for name, info in model.model_fields.items()))
    assert new in keys
    assert old not in keys
