"""Standard input is a manifest: text or JSON lines by what it begins with, or what it is said to be."""

from __future__ import annotations

import gzip
import io
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import anyio
import pytest
from manifests import item, names, spooled

from nebula_async.errors import JobError

pytestmark = pytest.mark.anyio


@pytest.fixture
def stdin(monkeypatch):
    """Return the writing end of a pipe that is standard input."""
    reading, writing = os.pipe()
    with os.fdopen(reading) as source, os.fdopen(writing, "wb") as target:
        monkeypatch.setattr(sys, "stdin", source)
        yield target


@pytest.mark.parametrize(
    ("content", "kind", "prompts"),
    [
        ("a cat\na dog", "txt", ["a cat", "a dog"]),
        ("\ufeff\n  \n[1", "txt", ["[1"]),
        ('\ufeff\n  \n{"prompt": "a"}', "jsonl", ["a"]),
        ('{"prompt": "a"}\n', "jsonl", ["a"]),
        ('\n "a"\n', "jsonl", ["a"]),
        ("[a]\n", "txt", ["[a]"]),
        ("\n" * 200_000 + '"a"\n', "jsonl", ["a"]),
    ],
)
@pytest.mark.parametrize("pack", [str.encode, lambda text: gzip.compress(text.encode())])
async def test_standard_input_is_text_or_json_lines(tmp_path, stdin, content, kind, prompts, pack):
    """What begins with a brace or a quote is JSON lines, anything else text; either may be compressed."""
    async with anyio.create_task_group() as group:
        group.start_soon(_send, stdin, pack(content))
        source = await spooled("-", tmp_path)

    assert (kind, "standard input", Path()) == (source.kind, source.name, source.base)
    assert [f"input.{kind}"] == names(tmp_path / "job")
    assert prompts == [entry.request.prompt for entry in source.entries()]


async def _send(target: io.BufferedWriter, data: bytes) -> None:
    await anyio.to_thread.run_sync(target.write, data)
    await anyio.to_thread.run_sync(target.close)


@pytest.mark.parametrize(("kind", "content"), [("csv", b"prompt\na\n"), ("tsv", b"prompt\na\n"), ("txt", b'"a"\n')])
async def test_the_kind_of_standard_input_may_be_said(tmp_path, stdin, kind, content):
    """Tables come through a pipe too, and text may begin with a quote."""
    await _send(stdin, content)

    source = await spooled("-", tmp_path, kind=kind)

    assert ["a"] == [entry.request.prompt.strip('"') for entry in source.entries()]


async def test_standard_input_may_be_a_file(tmp_path, monkeypatch):
    """A file is sent in with <, and nothing waits for it."""
    (tmp_path / "p").write_text("a\n")
    with (tmp_path / "p").open() as file:
        monkeypatch.setattr(sys, "stdin", file)
        source = await spooled("-", tmp_path)

    assert [item(0, 1, "a")] == list(source.entries())


async def test_nothing_from_standard_input_is_said(tmp_path, stdin):
    """An empty pipe is refused."""
    stdin.close()

    source = await spooled("-", tmp_path)

    with pytest.raises(JobError, match="there is no request in standard input; give at least one"):
        list(source.entries())


async def test_a_closed_standard_input_is_said(tmp_path, monkeypatch):
    """A shell can close standard input: that is one sentence."""
    monkeypatch.setattr(sys, "stdin", None)

    with pytest.raises(JobError, match="standard input is closed; give a file, or send the prompts through a pipe"):
        await spooled("-", tmp_path)


async def test_a_folder_as_standard_input_is_said(tmp_path, monkeypatch):
    """What cannot be read is said with the system's reason."""
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(fileno=lambda: folder))
        with pytest.raises(JobError, match="standard input cannot be read: Is a directory; give a file"):
            await spooled("-", tmp_path)
    finally:
        os.close(folder)


async def test_a_silent_pipe_can_be_left(tmp_path, stdin):
    """Cancellation ends the wait for a pipe that says nothing more, and leaves no file."""
    stdin.write(b"a\n")
    stdin.flush()

    async with anyio.create_task_group() as group:
        group.start_soon(spooled, "-", tmp_path)
        await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()

    assert [] == names(tmp_path / "job")
