"""The fenced blocks of the README and of the pages of docs/: what each is; `page_runs.py` runs them.

A `python` block is a whole program, or a cell of a notebook. A `sh` block is command lines, which run one after the
other in one folder for each page; `nebula-async emulator` and `uvicorn` go on until the page ends, at a port that is
free. A block with a title is the file of that name, which is written first. `text` after either is what it prints,
line by line: any number stands for any other, and `…` for anything; `json` after a command has the members of what it
prints. `diagram` is a drawing.
"""

from __future__ import annotations

import json
import re
import textwrap
from importlib.metadata import PackageNotFoundError, distribution
from itertools import pairwise
from pathlib import Path

from attrs import frozen

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
PAGES = sorted((ROOT / "docs").glob("*.md"))

FENCE = re.compile(r"^( *)(`{3,})([\w-]*)([^\n`]*)\n(.*?)^\1\2 *$", flags=re.MULTILINE | re.DOTALL)
TITLE = re.compile(r'title="([^"]+)"')
NUMBER = re.compile(r"[0-9][0-9.,]*")
WILD = re.compile(r"…|[0-9][0-9.,]*|\s+")

NOT_RUN = {
    "make ": "the targets are what runs these tests",
    "pip install ": "the tests run in what it installed",
    ". .venv/bin/activate": "the tests run in the environment that is entered",
    "export ": "the tests set the variables of their own emulator",
}
"""How lines begin that are not run, and why."""

ELSEWHERE = {"ray.md": "ray"}
"""Pages whose programs need a library that the development environment lacks, and which: `make test-ray` runs them."""

WITH_DRAWINGS = {"architecture.md"}
"""Pages whose drawings nothing is held against."""


@frozen
class Block:
    """A fenced block: the page and line where it stands, its language, its text, and the file that it is."""

    page: Path
    line: int
    language: str
    text: str
    title: str | None

    @property
    def name(self) -> str:
        """What a test calls it."""
        return f"{self.page.name}:{self.line}"

    @property
    def commands(self) -> list[str]:
        """The command lines of a `sh` block, those that are continued joined."""
        lines = self.text.replace("\\\n", " ").splitlines() if self.language == "sh" else []
        return [line for line in lines if line.strip() and not line.startswith("#")]


def blocks_of(page: Path) -> list[Block]:
    """Return the fenced blocks of a page, in order."""
    text = page.read_text()
    return [
        Block(
            page=page,
            line=text.count("\n", 0, found.start()) + 1,
            language=found[3],
            text=textwrap.dedent(found[5]),
            title=titled[1] if (titled := TITLE.search(found[4])) else None,
        )
        for found in FENCE.finditer(text)
    ]


def library_missing(page: Path) -> str | None:
    """Return the library of a page that is not installed here, if there is one."""
    library = ELSEWHERE.get(page.name)
    return library if library and not _is_installed(library) else None


def _is_installed(library: str) -> bool:
    try:  # by what was installed: a benchmark has the name of a library, too, and some tests import from there
        distribution(library)
    except PackageNotFoundError:
        return False
    return True


def is_run(line: str) -> bool:
    """Whether a command line is run."""
    return not line.startswith(tuple(NOT_RUN))


def told_by(blocks: list[Block]) -> dict[Block, Block]:
    """Return for each block that shows what another one prints, which that is: the program or commands before it."""
    return {
        after: before
        for before, after in pairwise(blocks)
        if after.language in ("text", "json")
        and not after.title
        and (before.language == "python" or any(is_run(line) for line in before.commands))
    }


def without_a_test(page: Path) -> list[str]:
    """Return the blocks of a page that nothing runs, compares, reads or writes."""
    blocks = blocks_of(page)
    shown = told_by(blocks)
    return [block.name for block in blocks if not (block.title or block in shown or _is_tested(block))]


def _is_tested(block: Block) -> bool:
    if block.language == "json":  # an example of what a program reads
        return isinstance(json.loads(block.text), dict | list)
    return block.language in ("python", "sh") or (block.language == "diagram" and block.page.name in WITH_DRAWINGS)


def compare(shown: Block, printed: str) -> None:
    """Hold what a page shows of an output against the output."""
    if shown.language == "json":
        assert members(json.loads(shown.text)) == members(json.loads(printed)), shown.name
        return
    missing = differences(shown.text, printed)
    assert missing == [], f"{shown.name} shows what is not printed:\n{printed}"


def differences(expected: str, actual: str) -> list[str]:
    """Return the lines of `expected` that `actual` has not, or not in this order."""
    lines = iter([line.strip() for line in actual.splitlines()])
    return [
        line
        for line in expected.splitlines()
        if line.strip() and not any(_pattern(line.strip()).fullmatch(each) for each in lines)
    ]


def _pattern(line: str) -> re.Pattern[str]:
    parts = zip(WILD.split(line), [*WILD.findall(line), ""], strict=True)
    return re.compile("".join(re.escape(plain) + _any_of(wild) for plain, wild in parts))


def _any_of(wild: str) -> str:
    if wild in ("…", ""):
        return ".*" if wild else ""
    return NUMBER.pattern if wild.strip() else r"\s+"


def members(value: object) -> object:
    """Return the shape of a JSON value: the names of its members, and of those of its members."""
    if isinstance(value, dict):
        return {name: members(each) for name, each in value.items()}
    return [members(value[0])] if isinstance(value, list) and value else None
