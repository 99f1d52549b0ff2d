"""README.md and docs/ as the tests read them: blocks, and how their commands run in a test."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from types import MappingProxyType

from conftest import TOP
from markdown_it import MarkdownIt
from markdown_it.token import Token

# Commands that the tests of the pages leave out, and the file that runs each of them.
RUN_ELSEWHERE = {
    "make test": ".ci/run",
    "make reproduce": ".ci/run",
    "make reproduce JOBS=4": "tests/test_makefile.py",
    "make verify": "tests/test_verify.py",
    "make check": "tests/test_check.py",
    "dvc queue start": "tests/test_pipeline_experiments.py",
}
# `make test` runs all tests, so the pages' tests leave out commands that run some of them.
PYTEST = ".venv/bin/pytest"
# What stands for the place of a repository, and of a folder that several machines reach. Nobody is
# there to answer DVC's question.
STANDS_FOR = {
    "dvc gc ": "dvc gc --force ",
    "https://example.com/classifiers.git": "$ORIGIN",
    "/mnt/storage": "$STORAGE",
}


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: str
    line: int
    language: str
    needs: frozenset[str]
    text: str
    heading: str


def parse(page: str) -> list[Token]:
    return MarkdownIt("commonmark").enable("table").parse((TOP / page).read_text(encoding="utf-8"))


def blocks(page: str) -> list[Block]:
    found = []
    heading = ""
    for before, token in pairwise(parse(page)):
        if before.type == "heading_open":
            heading = token.content
        if token.type in ("fence", "code_block"):
            language, *options = token.info.split() or [""]
            needs = frozenset(option.removeprefix("needs=") for option in options)
            line = token.map[0] + 1 if token.map else 0
            found.append(Block(page, line, language, needs, token.content, heading))
    return found


def run_here(block: Block, names: Mapping[str, str] = MappingProxyType({})) -> str:
    """Returns the block's text as it runs in a test, with `names` in place of the page's."""
    text = "".join(
        line
        for line in block.text.splitlines(keepends=True)
        if re.sub(r"\s+#.*", "", line).strip() not in RUN_ELSEWHERE and not line.startswith(PYTEST)
    )
    for shown, replacement in {**names, **STANDS_FOR}.items():
        text = text.replace(shown, replacement)
    return text
