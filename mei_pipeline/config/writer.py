"""YAML output that `document` reads back unchanged: ambiguous text is quoted."""

import re
from typing import Any

import yaml

_SAFE = re.compile(r"[A-Za-z][A-Za-z0-9_./+-]*")
_TAKEN = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})


# libyaml writes the same text in a quarter of the time.
_Base: Any = yaml.CSafeDumper if yaml.__with_libyaml__ else yaml.SafeDumper


class _Dumper(_Base):  # pyrefly: ignore[unknown-base-class]  # one of two classes
    """A dumper that quotes what `yaml_marks` would not read as text, and writes no aliases."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - the signature is PyYAML's
        return True

    def represent_text(self, text: str) -> yaml.ScalarNode:
        plain = _SAFE.fullmatch(text) and text.lower() not in _TAKEN
        node: yaml.ScalarNode = self.represent_scalar("tag:yaml.org,2002:str", text, style=None if plain else '"')
        return node


_Dumper.add_representer(str, _Dumper.represent_text)


def yaml_text(value: Any) -> str:
    """Return `value` (dict, list, text, finite numbers, booleans, None) as block YAML; keys keep their order."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1_000_000)
