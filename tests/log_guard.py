"""The guard over the whole suite: no record of any logger, at DEBUG, shows a key, a prompt or a picture's URL."""

from __future__ import annotations

import logging
import re

WORDS = ("sk-", "Bearer ", "Signature=", "/generated/", "canary", "a cat")
"""What every secret has in it: most records have none of these, and are done with."""

SECRET = re.compile(
    r"\bsk-\w"  # the keys of the suite
    r"|Bearer [^*\s]"
    r"|Signature="  # URLs that are signed, and those of the emulator's storage, which nobody can guess
    r"|/generated/[0-9a-f]{8}"
    r"|canary|\ba cat\b"  # prompts that are there to be found, and the suite's usual one
)

NOT_OURS = ("httpx", "httpx2")
"""Loggers of httpx's own clients, which tests use and this package never makes (`security/test_source_rules.py`)."""

MOST_SHOWN = 3


class LogGuard(logging.Handler):
    """Keeps what must not have been logged since it was last asked; what is fine it forgets at once."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self._formatter = logging.Formatter()
        self._caught: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Look at a record: its words, its facts, and the report of an exception that it carries."""
        if record.name in NOT_OURS:
            return
        text = record.getMessage() if record.args else str(record.msg)
        if facts := record.__dict__.get("nebula"):
            text += f" {facts}"
        if record.exc_info:
            text += self._formatter.formatException(record.exc_info)
        if any(word in text for word in WORDS) and SECRET.search(text) and len(self._caught) < MOST_SHOWN:
            self._caught.append(f"{record.name}: {text}")

    def begin(self) -> None:
        """Let all loggers tell this guard everything, from now on."""
        logging.getLogger().addHandler(self)
        logging.getLogger().setLevel(logging.DEBUG)

    def take(self) -> list[str]:
        """Return what was caught since this was last called."""
        caught, self._caught = self._caught, []
        return caught


GUARD = LogGuard()
"""The one of this run."""
