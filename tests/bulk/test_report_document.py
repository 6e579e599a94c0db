"""docs/report.md says of every field of `report.json` and of `failed.jsonl` what it is, and of no other."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from jobs import CAREFUL, run

from nebula_async.bulk.report_values import VERSION

pytestmark = pytest.mark.anyio

DOCUMENT = Path(__file__).parents[2] / "docs/report.md"
PARTS = ("models", "causes", "latency", "timeline", "this_run")


def documented() -> dict[str, list[str]]:
    """Return the fields that each section's table names, by its heading."""
    sections = re.split(r"^##+ (.+)$", DOCUMENT.read_text(), flags=re.MULTILINE)[1:]
    return {
        heading: [name for cell in re.findall(r"^\| (`[^|]+`) \|", text, flags=re.MULTILINE) for name in names_in(cell)]
        for heading, text in zip(sections[::2], sections[1::2], strict=True)
    }


def names_in(cell: str) -> list[str]:
    """Return the names in the first cell of a row."""
    return re.findall(r"`(\w+)`", cell)


def fields_of(part: Any) -> list[str]:
    """Return the fields of a part of a report, or of the first of a list of them."""
    return sorted(part if isinstance(part, Mapping) else part[0])


@pytest.fixture
async def out(manifest, start) -> Path:
    """The folder of a job that has an item of each kind."""
    emulator = start(faults=["400=invalid_size:@1", "malformed=base64:@2", "drop:@3"])
    await run(manifest, emulator, config=CAREFUL)
    return manifest.parent / "out"


async def test_every_field_of_a_report_is_documented(out):
    """The tables of the page name the fields of a real report.json, and no field is missing or made up."""
    report, known = json.loads((out / "report.json").read_text()), documented()
    assert sorted(report) == sorted(known["report.json"])
    assert {name: fields_of(report[name]) for name in PARTS} == {name: sorted(known[name]) for name in PARTS}
    assert VERSION == report["version"]


async def test_every_field_of_a_failure_is_documented(out):
    """So are the fields that a line of failed.jsonl adds to what was asked for."""
    first, *_ = (out / "failed.jsonl").read_text().splitlines()
    assert fields_of(json.loads(first)["failure"]) == sorted(documented()["failed.jsonl"])


def test_words_of_the_job_for_causes_are_documented():
    """Each cause that is no error's is named on the page."""
    from nebula_async.bulk import causes

    words = {causes.MISSING, causes.GONE, causes.UNTRACED, causes.STOPPED, causes.UNDER_WAY, causes.AT_URL}
    assert set() == {word for word in words if f"`{word}`" not in DOCUMENT.read_text()}
