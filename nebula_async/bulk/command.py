"""The command line that a job is run by, as its ledger keeps it for those who want to go on."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path
from typing import Any

from attrs import evolve, frozen

COMMAND = "command"
"""What the ledger calls it."""


@frozen
class Command:
    """The words behind the program's name, the folder from which relative paths among them start, and that of the job:
    where the latter has another place by now, the words lead elsewhere.
    """

    words: tuple[str, ...]
    folder: str
    job: str = ""

    def noted(self, job: Path) -> str:
        """Return it as text for the ledger of the job in a folder."""
        known = evolve(self, job=str(job.absolute()))
        return json.dumps([known.words, known.folder, known.job])

    @classmethod
    def read(cls, noted: str | None) -> Command | None:
        """Return what was noted, `None` where that is nothing, or no command."""
        try:
            words, folder, job = json.loads(noted or "null")
        except (TypeError, ValueError, RecursionError):
            return None
        return cls(tuple(words), folder, job) if _are_texts(words) and _are_texts([folder, job]) else None


def quoted(word: str) -> str:
    """Return a word as a shell reads it; control characters, and bytes that are no text, are escaped as bash does."""
    if word.isprintable():
        return shlex.quote(word)
    escaped = "".join(
        chr(byte) if 0x20 <= byte < 0x7F and byte not in b"'\\" else f"\\x{byte:02x}" for byte in os.fsencode(word)
    )
    return f"$'{escaped}'"


def _are_texts(values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(value, str) for value in values)
