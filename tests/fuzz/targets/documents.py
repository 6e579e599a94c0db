"""What was written down and is read again, by whoever it was changed meanwhile: nothing, or an error that says so."""

from __future__ import annotations

import json
import math
import os
from contextlib import suppress

from nebula_async.bulk.command import Command, quoted
from nebula_async.bulk.gallery.entries import Texts, _entry
from nebula_async.bulk.gallery.scripts import exact, read_back, script
from nebula_async.bulk.lock import holder_of
from nebula_async.bulk.metadata import NAME, find_provenance
from nebula_async.bulk.rebuild import _made_at, _parsed, _pictures_of
from nebula_async.bulk.spool import Spool
from nebula_async.engine.host_state import HostState, read_state, write_state
from nebula_async.images.provenance import Provenance
from targets import same, scratch

REFERENCE = "json"

FOLDER = scratch()
DEEPEST = 100

STATE = HostState("boot")
STATE.enter("me", 5.0, 60.0, 1000)
MADE = Provenance(request={"prompt": "x", "model": "m"}, created="2026-01-01T00:00:00+00:00", sha256="a")
ROW = {
    "file_name": "00000/x.png", "number": 0, "key": "#0", "body_sha256": "b", "dialect": "serverless", "prompt": "x",
    "model": "m", "seed": 5, "width": 3, "height": 3, "sha256": "a", "cost": "0.0019", "provenance": MADE.to_json(),
    "created": MADE.created, "charges_at_least": 1, "charges_at_most": 1,
}  # fmt: skip

WORDS = [
    b'"', b"{", b"}", b"[", b"]", b":", b",", b"null", b"true", b"1e999", b"-1", b"9" * 400, b"NaN", b"Infinity",
    b"[[[[", b'"members":{', b'"allowance":', b'"quota":', b'"written_at":', b'"seed":', b'"created":"', b'"request":{',
    b'"extra":', b'"provenance":"', b"\\ud800", b"</script>", b"nebulaGallery.x(", b");\n", b"process ", b"\n",
    b'{"images":[{"part":"0.1.0.part"', b'"url":"', b"0001-01-01", b"..", b"\xff",
]  # fmt: skip
SEEDS = [
    b"\0" + write_state(STATE).encode(), b"\1" + json.dumps(ROW).encode(),
    b"\2" + json.dumps([["bulk", "x"], "/", "/job"]).encode(), b"\3" + script("run", {"a": "</script>", "b": [1]}),
    b'\4{"images": [{"part": "0.1.0.part", "bytes": 5, "sha256": "x"}, {"url": "https://a.example", "expires_at": 5}]}',
    b"\5process 17\n33\n", b"\6" + json.dumps({"seed": 5, "prompt": "x", "extra": {"a": [1]}}).encode(),
]  # fmt: skip


def check(data: bytes) -> None:
    """Read bytes as the document that the first byte says."""
    kind, rest = (data[0] if data else 0) % 7, data[1:]
    (check_state, check_row, check_command, check_script, check_reply, check_lock, check_entry)[kind](rest)


def check_state(data: bytes) -> None:
    """What the processes of a host know: read, used and written again, or refused."""
    with suppress(ValueError):
        state = read_state(data.decode(), "boot", 10.0)
        state.enter("other", 10.0, 30.0, None)
        state.others("me", 10.0)
        read_state(write_state(state), "boot", 10.0)


def check_row(data: bytes) -> None:
    """A row of the metadata: an item of a ledger, or none; a picture that is looked up by it."""
    row = _parsed(data)
    if row is not None:
        same(json.loads(data)["file_name"], row["file_name"], data)
        assert math.isfinite(_made_at(row)), data
        assert 1 <= _pictures_of(row["provenance"]["request"]), data
    (FOLDER / NAME).write_bytes(data)
    with suppress(ValueError):
        find_provenance(FOLDER / "00000" / "x.png")


def check_command(data: bytes) -> None:
    """The command of a job: texts, or none."""
    text = data.decode("utf-8", "surrogateescape")
    command = Command.read(text)
    if command is not None:
        same(json.loads(text), [list(command.words), command.folder, command.job], data)
    with suppress(UnicodeEncodeError):
        assert quoted(text).isprintable(), data


def check_script(data: bytes) -> None:
    """A script that is read back, and what is written is read as the same."""
    path = FOLDER / f"{os.getpid()}.js"
    path.write_bytes(data)
    found = read_back(path)
    with suppress(ValueError):
        values = exact({"x": json.loads(data)} if deep(data) < DEEPEST else {})
        written = script("x", values)
        assert b"<" not in written, data
        path.write_bytes(written)
        same(json.dumps(values), json.dumps(read_back(path)), data)
    assert found is None or isinstance(found, dict), data


def check_reply(data: bytes) -> None:
    """A reply that a run before noted: the pictures that are as they came."""
    (FOLDER / "0.1.reply").write_bytes(data)
    found = Spool(FOLDER, is_synced=False).read_reply(0, 1)
    assert found is None or all(image.part is None for image in found), data


def check_lock(data: bytes) -> None:
    """A lock that names its holder, or does not."""
    path = FOLDER / "job.lock"
    path.write_bytes(data)
    holder_of(path)


def check_entry(data: bytes) -> None:
    """An item of a ledger that anyone wrote, as the gallery shows it."""
    text = data.decode("utf-8", "surrogateescape")
    if deep(data) < DEEPEST:
        entry = _entry(
            0, 0, "done", 1, 1, 1, text, None, None, "images/x.png", 5, "a", text, 0.5, 5.0, None
        )  # fmt: skip
        script("x", entry.columns(None, Texts()))


def deep(data: bytes) -> int:
    """Return how deep a document can be at most."""
    return data.count(b"[") + data.count(b"{")
