"""A job in a hostile world leaves no key anywhere, signed URLs in its ledger, and prompts where they are promised.

Through failure, resume, repetition, export, page and report, by the commands that people type.
"""

from __future__ import annotations

import json
import stat
import sys

import pytest
from canaries import PROMPT, everything_logged, found, found_in_files
from echoing import PNG, REPLIES, echoing, says

PROMPTS_ARE_IN = {
    "failed.jsonl",  # valid input again
    "images/metadata.jsonl",  # what makes the pictures a data set
    "gallery/data",  # the page shows what was asked for
    ".nebula/ledger.db",
    "export/webdataset",
}
"""What a job writes prompts into, on purpose: nothing else has them, but for the words of pictures' names."""

URLS_ARE_IN = {".nebula/ledger.db"}
COMMANDS = (
    ("bulk", "p.jsonl", "--out", "out", "--json"),
    ("bulk", "p.jsonl", "--out", "out", "--retry-failed"),
    ("report", "out"),
    ("report", "out", "--json"),
    ("gallery", "out"),
    ("export", "out", "--format", "webdataset"),
    ("plan", "p.jsonl"),
    ("doctor",),
    ("doctor", "--json"),
    ("bulk", "p.jsonl", "--out", "emulated", "--emulator"),
)

started: list[str] = []
sys.addaudithook(lambda event, facts: started.append(repr(facts[1:])) if event == "subprocess.Popen" else None)
"""The words and the environment of each process that this one starts; a hook cannot be taken away again."""


def write_prompts(folder) -> None:
    """Write a manifest of both dialects."""
    rows = [{"dialect": "inference", "prompt": f"{PROMPT} {each}", "model": "sdxl", "size": "64x64"} for each in "ab"]
    (folder / "p.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))


def places(folder, *names: str) -> set[str]:
    """Return the files of a job that hold a secret, with folders of data as one."""
    wide = ("gallery/data", "export/webdataset")
    held = found_in_files(folder, *names)
    return {next((each for each in wide if name.startswith(each)), name.partition("-")[0]) for name in held}


def check_modes(hidden) -> None:
    """The folder of ledger and spool, and all that is in it, are for their owner alone, whatever the umask."""
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in (hidden, *hidden.rglob("*"))}
    assert {} == {path: oct(mode) for path, mode in modes.items() if mode & 0o077}
    assert 0o600 == modes[hidden / "ledger.db"]
    assert 0o700 == modes[hidden / "spool"] == modes[hidden]


def test_a_job_keeps_its_secrets(tmp_path, command, open_umask):
    """From a run that fails to the export: no key in any file, name, stream, log or process; a signed URL in the
    ledger alone, which nobody else may read, with umask 0; prompts where they belong and in no log.
    """
    answers = {False: lambda at: says(403, at.encode()), True: lambda _: says(200, PNG)}
    is_there, texts = [False], []
    write_prompts(tmp_path)
    started.clear()
    with echoing(lambda at: answers[is_there[0]](at), leads_to_url=True) as server, everything_logged() as log:
        assert 1 == command(server, "bulk", "p.jsonl", "--out", "out", "--json").code
        assert {".nebula/ledger.db", "failed.jsonl", "gallery/data"} == places(tmp_path / "out", "prompt", "signature")
        assert URLS_ARE_IN == places(tmp_path / "out", "signature")
        check_modes(tmp_path / "out/.nebula")
        is_there[0] = True
        ended = [command(server, *words) for words in COMMANDS]
        texts += [each.text for each in ended]

    assert [0] * len(COMMANDS) == [each.code for each in ended], texts
    check_modes(tmp_path / "out/.nebula")
    assert {} == found_in_files(tmp_path, "key")
    assert {} == found_in_files(tmp_path / "emulated", "signature")
    assert URLS_ARE_IN == places(tmp_path / "out", "signature")
    assert PROMPTS_ARE_IN - {"failed.jsonl"} == places(tmp_path / "out", "prompt")
    assert [] == found("".join(texts), "key", "signature")
    assert [] == found(log.text)
    assert [] == found("".join(started))
    assert any("thumbnailer" in each for each in started), "the page has thumbnails, made by another process"


@pytest.mark.parametrize(
    "where", ["in the error's JSON", "in a header line that is none", "in a success that is no JSON"]
)
def test_a_key_that_comes_back_is_in_no_file(tmp_path, command, where):
    """What a server says of a failure stands in ledger, report and page, and the key that it repeats does not."""
    write_prompts(tmp_path)
    with echoing(REPLIES[where]) as server, everything_logged() as log:
        ended = command(server, "bulk", "p.jsonl", "--out", "out")
        command(server, "generate", PROMPT, "--model", "sdxl", "--inference", "--json")
    assert 1 == ended.code
    assert {} == found_in_files(tmp_path, "key")
    assert [] == found(ended.text, "key")
    assert [] == found(log.text)
