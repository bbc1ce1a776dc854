"""Reads the commands that the documents tell a person to type."""

import re
import shlex

from mei_pipeline.settings import CHECKOUT

DOCUMENTS = sorted([CHECKOUT / "README.md", CHECKOUT / "CHANGELOG.md", *(CHECKOUT / "docs").rglob("*.md")])


def commands(document):
    """Every command line of the fenced `sh` blocks, as the variables set before it and its words without `uv run`."""
    return [(variables, words) for variables, words, _ in lines(document)]


def lines(document):
    """As `commands`, each with the exit code that a comment behind it states, `# exit code 4`; 0 where none does."""
    blocks = re.findall(r"^ *```sh\n(.*?)^ *```", document.read_text(), flags=re.MULTILINE | re.DOTALL)
    for line in "".join(blocks).replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words:
            code = re.search(r"# exit code (\d+)", line)
            yield (*split(words), int(code[1]) if code else 0)


def files_of(document):
    """Text of each block of YAML that begins with the name of its file, by that name."""
    found = re.findall(r"^```yaml\n# (\S+)\n(.*?)^```", document.read_text(), flags=re.MULTILINE | re.DOTALL)
    return dict(found)


def split(words):
    variables = {}
    while match := re.fullmatch(r"([A-Z_]+)=(.*)", words[0]):
        variables[match[1]] = match[2]
        words = words[1:]
    if words[:2] in (["uv", "run"], [".ci/uv", "run"]):
        words = words[2:]
        while words[0].startswith("-"):
            words = words[1:]
    return variables, words
