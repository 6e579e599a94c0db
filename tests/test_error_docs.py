"""docs/errors.md says of every class, code, status and exit code what the code says, and leaves none out."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path

import pytest
from attrs import evolve, frozen
from test_error_texts import TEXTS

from nebula_async import advice, errors
from nebula_async.api import envelope
from nebula_async.api.messages import Reply
from nebula_async.cli.connection import INTERRUPTED, STOPPED, USAGE, exit_code
from nebula_async.engine.verdict import CERTAINLY_FREE, PERHAPS_PAID, Known, judge_reply
from nebula_async.errors import APIStatusError, NebulaError

PAGE = Path(__file__).parent.parent / "docs" / "errors.md"

SLOW, FAST = 5.0, 0.1


@frozen
class Answer:
    """What the API answers, and after how many seconds."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...] = ()
    body: bytes = b""
    seconds: float = SLOW


WAIT = ((b"retry-after", b"7"),)

ANSWERS = {
    "3xx": Answer(307),
    "400, 422 and any other 4xx": Answer(400),
    "401": Answer(401),
    "402": Answer(402),
    "403": Answer(403),
    "404 without a code": Answer(404),
    "404 with a code that is not below": Answer(404, body=b'{"error": {"code": "no_such_thing"}}'),
    "405": Answer(405),
    "408, 425": Answer(408),
    "413": Answer(413),
    "429": Answer(429),
    "429 with `Retry-After: 7`": Answer(429, WAIT),
    "503 with `Retry-After: 7`": Answer(503, WAIT),
    "502, 503 at once, from a gateway": Answer(502, body=b"<html>", seconds=FAST),
    "500, 502, 503": Answer(500),
    "504 and any other 5xx": Answer(504),
}
"""The rows of the page on statuses."""

MANY = {"3xx": {300}, "400, 422 and any other 4xx": {400, 415, 418, 422}, "504 and any other 5xx": {504, 501, 599}}
"""Statuses that a row speaks of without naming, some of them."""


def judged(answer: Answer) -> NebulaError:
    """Return the error that a call for one picture ends with, carrying what that one attempt may have cost."""
    reply = Reply(status=answer.status, headers=answer.headers, body=answer.body)
    verdict = judge_reply(reply, now=0, seconds=answer.seconds)
    return evolve(verdict.error, charges=verdict.known.charges)


def coded(code: str) -> NebulaError:
    """Return the error for a code of the API's own; it counts on any status."""
    return judged(Answer(400, body=json.dumps({"error": {"code": code}}).encode()))


def row(label: str, error: NebulaError, *, is_of_class: bool = False) -> tuple[str, ...]:
    """Return what the page says of an error in a table."""
    kind = () if is_of_class else (f"`{type(error).__name__}`",)
    step = error.next_step or "the message says it"
    return (label, *kind, error.paid, error.prospect or "the message says it", step, str(exit_code(error)))


def section(heading: str) -> str:
    """Return the text below a heading of the page, down to the next one."""
    found = re.search(rf"(?ms)^#+ {re.escape(heading)}\n(.*?)(?=^#+ |\Z)", PAGE.read_text())
    assert found, f"{PAGE.name} has no section {heading}"
    return found[1]


def rows(heading: str) -> list[tuple[str, ...]]:
    """Return the rows of the table in a section."""
    lines = [line for line in section(heading).splitlines() if line.startswith("|")][2:]
    return [tuple(cell.strip() for cell in line.strip("|").split(" | ")) for line in lines]


def classes() -> list[type[NebulaError]]:
    """Return the classes in the order of the module."""
    return [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, NebulaError)]


def test_every_class_has_a_section_and_every_section_a_class():
    """The classes are all there, in the order in which the module has them, and no other is."""
    headings = re.findall(r"(?m)^### `?(\w+)`?$", PAGE.read_text())
    assert [kind.__name__ for kind in classes()] == headings


@pytest.mark.parametrize("kind", classes())
def test_a_class_is_described_as_in_the_code(kind):
    """The page says of a class what its docstring says, and what it is derived from."""
    told = " ".join(section(kind.__name__).split())
    assert " ".join((inspect.getdoc(kind) or "").split()) in told
    parents = [parent.__name__ for parent in kind.__mro__[1:] if parent not in (object, BaseException, Exception)]
    assert not parents or f"Also caught as {', '.join(f'`{parent}`' for parent in parents)}." in told


@pytest.mark.parametrize("kind", classes())
def test_a_class_has_the_texts_that_it_gives(kind):
    """The examples of a class are what real errors of it say: cost, prospect, next step and exit code."""
    given = [error for error, _ in TEXTS if type(error) is kind]
    assert [row(error.message.rstrip("."), error, is_of_class=True) for error in given] == rows(kind.__name__)


def test_every_code_is_there():
    """The table of codes holds all that decide on any status, with what each leads to, and no other."""
    assert [row(f"`{code}`", coded(code)) for code in sorted(envelope.BY_CODE)] == rows("The API's codes")


def test_every_status_is_there():
    """The table of statuses says for each what an answer with it leads to."""
    assert [row(label, judged(answer)) for label, answer in ANSWERS.items()] == rows("HTTP statuses")


def test_no_status_is_left_out():
    """Each status with a meaning of its own has a row, and those in one row lead to the same."""
    named = {
        label: {int(found) for found in re.findall(r"\b\d{3}\b", label)} | MANY.get(label, set()) for label in ANSWERS
    }
    assert {*envelope.BY_STATUS, *advice.BY_STATUS} <= set().union(*named.values())
    for label, statuses in named.items():
        alike = {row("", judged(evolve(ANSWERS[label], status=status))) for status in statuses}
        assert len(alike) == 1, label


def test_every_outcome_of_an_attempt_is_there():
    """What is known after an attempt, what it is charged and whether it is repeated by itself are told as they are."""
    again = dict.fromkeys(CERTAINLY_FREE, "as often as `attempts` allows")
    again |= dict.fromkeys(PERHAPS_PAID, "at most `resend_unknown` times (1)")
    expected = [(known.value, advice.cost_of(known.charges), again.get(known, "never")) for known in Known]
    assert expected == [cells[:3] for cells in rows("What an attempt may cost")]


def test_every_exit_code_is_there():
    """The table of exit codes has those of the commands and no other."""
    assert ["0", "1", str(USAGE), str(STOPPED), str(INTERRUPTED)] == [cells[0] for cells in rows("Exit codes")]


def test_each_step_is_said_to_somebody():
    """No next step is written down that no class and no code leads to."""
    kinds = {kind.__name__ for kind in classes()}
    silent = {kind.__name__ for kind in classes() if kind.says_what_to_do}
    assert kinds - silent - {"NebulaError"} == set(advice.BY_CLASS)
    assert set(envelope.BY_CODE) == set(advice.BY_CODE)
    assert all(issubclass(kind, APIStatusError) for kind in envelope.BY_CODE.values())
