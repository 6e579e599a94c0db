"""What Nebula Block's own pages show, by the table of docs/samples.md: each row runs."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator

import pytest
from documents import ROOT
from page_runs import PACKAGES, copy_examples, environ_of

from nebula_async.emulator import Emulator

PAGE = (ROOT / "docs/samples.md").read_text()
ROWS = re.findall(r"^\| (?:Serverless|Inference|both).*? \| (.+?) \| `(.+)` \|$", PAGE, flags=re.MULTILINE)
"""What the documents show, and the command that runs it."""

NEEDED = {"sh examples/curl": "curl", "cd examples/javascript": "npm"}
"""What else a row of the table needs."""


@pytest.fixture
def sampled(tmp_path, tmp_path_factory) -> Iterator[tuple[Emulator, dict[str, str]]]:
    """An emulator that knows the key of the documents' samples, and the environment that its command line announces."""
    copy_examples(tmp_path)
    with Emulator(keys=["YOUR_API_KEY"]) as emulator:
        yield emulator, environ_of(emulator, tmp_path_factory.mktemp("state"))


def test_the_table_has_a_row_for_all_that_the_documents_show():
    """Both dialects, the older spelling, each of the six samples, and what the pages say in prose are there."""
    shown = [what for what, _ in ROWS]
    assert 17 == len(ROWS) == PAGE.count("\n| Serverless") + PAGE.count("\n| Inference") + PAGE.count("\n| both")
    assert 6 == sum("sample" in what for what in shown)


@pytest.mark.parametrize(("shown", "line"), ROWS, ids=[what for what, _ in ROWS])
def test_a_row_of_the_table_runs(shown, line, sampled, tmp_path):
    """What the documents show runs here, by the command that stands beside it; the emulator charges pictures for it."""
    emulator, environ = sampled
    for start, program in NEEDED.items():
        if line.startswith(start) and shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    if "npm install" in line:  # the suite calls no registry: `make test` has installed what there is
        if not (PACKAGES / ".package-lock.json").is_file():
            pytest.skip("the packages of examples/javascript are not installed: make test does so where npm is")
        line = line.replace("npm install && ", "")
    done = subprocess.run(
        ["sh", "-c", line], cwd=tmp_path, env=environ, capture_output=True, text=True, check=False, timeout=120
    )
    assert 0 == done.returncode, done.stderr
    own = ("error codes", "valid for an hour", "models")  # these start an emulator of their own, or cost nothing
    assert emulator.journal.charged or any(words in shown for words in own)
    assert done.stdout or "Python sample" in shown
