"""Files appear in their places whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from nebula_async.images.part_file import replace_lines


def test_a_file_is_made_anew_of_its_lines(tmp_path: Path):
    """What was there is gone, and a missing folder is made."""
    path = tmp_path / "made" / "rows.jsonl"
    replace_lines(path, ["old", "older"])
    replace_lines(path, ["né", ""])
    assert "né\n\n".encode() == path.read_bytes()
    assert [path] == list(path.parent.iterdir())


def test_a_file_whose_lines_end_early_is_as_it_was(tmp_path: Path):
    """Who makes the lines may fail: the file stays, nothing is left beside it, and the error passes."""
    path = tmp_path / "rows.jsonl"
    replace_lines(path, ["old"])

    def failing() -> Iterator[str]:
        yield "new"
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        replace_lines(path, failing())
    assert "old\n" == path.read_text()
    assert [path] == list(tmp_path.iterdir())
