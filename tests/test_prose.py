"""The mechanical part of how MEI's code and documents are written."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CODE = sorted(
    path for folder in ("assets", "kernels", "live", "mei_pipeline") for path in (ROOT / folder).rglob("*.py")
)
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
QUESTIONS = {"how", "what", "when", "where", "whether", "which", "who", "whose", "why"}
PHRASES = (
    "came of it", "goes without saying", "made good", "none where", "such a one", "the house", "the whole way",
    "what became of", "what came of", "what is said", "whoever",
)  # fmt: skip
FLAGGED = re.compile(rf"\b(?:{'|'.join(PHRASES)})\b", re.IGNORECASE)
OWNERS = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def name_of(path: Path) -> str:
    """Return the path within the checkout."""
    return path.relative_to(ROOT).as_posix()


def summaries(source: str) -> Iterator[tuple[str, str]]:
    """Yield the name of each documented module, class and function, and the first line of its docstring."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, OWNERS) and (text := ast.get_docstring(node)):
            yield getattr(node, "name", "module"), text.splitlines()[0]


def questions(source: str) -> list[str]:
    """Return the docstring summaries that open with a question word."""
    return [
        f"{name}: {line}" for name, line in summaries(source) if QUESTIONS & set(re.findall(r"\w+", line.lower())[:1])
    ]


def test_docstrings_state_and_do_not_ask():
    asking = {name_of(path): found for path in CODE if (found := questions(path.read_text()))}
    assert asking == {}


def test_a_summary_that_asks_is_found():
    assert questions('def f():\n    """Whether it rains."""\n\nclass A:\n    """A cloud."""\n') == [
        "f: Whether it rains."
    ]


def test_no_public_class_name_is_defined_twice():
    places = defaultdict(list)
    for path in CODE:
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(name_of(path))
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


def test_no_flagged_phrase_is_written():
    flagged = [
        f"{name_of(path)}:{number}: {line.strip()}"
        for path in (*CODE, *PAGES)
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if FLAGGED.search(line)
    ]
    assert flagged == []
