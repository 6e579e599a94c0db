"""A picture is put into its place once, however often that is begun."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from job_folders import picture

from nebula_async.bulk.folder import Shelf
from nebula_async.bulk.metadata import Making, Metadata
from nebula_async.bulk.spool import PartWriter, Received, Spool
from nebula_async.bulk.storing import EMBEDDED, Storing
from nebula_async.images.provenance import Provenance, read_provenance

NAME = "images/00000/000000042-a-cat"


@pytest.fixture
def storing(tmp_path: Path) -> Storing:
    """What writes into pictures how they were made."""
    spool = tmp_path / "spool"
    spool.mkdir()
    (tmp_path / "images").mkdir()
    return Storing(Spool(spool, True), Shelf(tmp_path, True), Metadata(tmp_path / "images"), True)


def receive(storing: Storing, data: bytes) -> Received:
    """Let a picture be received."""
    writer = PartWriter(storing.spool.part(42, 1, 0), True)
    writer.path.unlink(missing_ok=True)
    writer.write([data])
    return Received(part=writer.path, sha256=writer.finish(), bytes=len(data), media_type="image/png", extension=".png")


def draft(**facts: Any) -> dict[str, Any]:
    """Return what is known of how it was made."""
    return Making(made=Provenance(request={"prompt": "a cat"}, **facts), key="#42", number=42, body_sha="").draft()


def stored(storing: Storing) -> list[Path]:
    """Return the files of all pictures."""
    return sorted((storing.metadata.folder / "00000").iterdir())


def test_a_picture_that_was_told_is_stored_as_it_was(storing):
    """A run that is killed once the picture is in its place, and knew the reply, leaves the same to one that does not:
    there is no second file.
    """
    received = receive(storing, picture(1))
    (before,) = storing.place(42, 1, NAME, draft(request_id="known"), {0: received})
    (after,) = storing.place(42, 1, NAME, draft(), {0: received})
    assert (before.path, before.sha256, before.bytes) == (after.path, after.sha256, after.bytes)
    (file,) = stored(storing)
    assert "known" == read_provenance(file.read_bytes()).request_id


@pytest.mark.parametrize("left", [b"", b"cut", "of another picture"], ids=str)
def test_what_a_run_left_unfinished_is_made_anew(storing, left):
    """What it says of how it was made is that of this picture, and whole."""
    if left == "of another picture":
        storing.place(41, 1, "images/00000/000000041-a-cat", draft(), {0: receive(storing, picture(2))})
        left = storing.spool.part(41, 1, EMBEDDED).read_bytes()
    storing.spool.part(42, 1, EMBEDDED).write_bytes(left)
    received = receive(storing, picture(1))
    (output,) = storing.place(42, 1, NAME, draft(), {0: received})
    made = read_provenance((storing.shelf.root / output.path).read_bytes())
    assert received.sha256 == made.sha256
