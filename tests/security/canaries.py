"""Secrets that are there to be found, and where to look for them."""

from __future__ import annotations

import base64
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from traceback import TracebackException
from urllib.parse import quote

from attrs import define, field

KEY = "sk-canary-7Qm2/xV9rT4+wZ8bN1"
PROMPT = "canary: a heliotrope 5219 ümlaut"
SIGNATURE = "canarysignature0f3c9a77d1"
QUERY = f"X-Amz-Expires=3600&X-Amz-Signature={SIGNATURE}"
SECRETS = {"key": KEY, "prompt": PROMPT, "signature": SIGNATURE}


def spellings(secret: str) -> set[bytes]:
    """Return how a secret may be written: plain, for URLs, in JSON, in base64 at any place, and each half of it."""
    data = secret.encode()
    shifted = [base64.b64encode(bytes(shift) + data)[4:-4] for shift in range(3)]
    escaped = secret.encode("ascii", "backslashreplace").replace(b"\\x", b"\\u00")
    half = len(data) // 2
    return {data, quote(secret, safe="").encode(), quote(secret).encode(), escaped, data[:half], data[half:], *shifted}


SPELLINGS = {name: spellings(secret) for name, secret in SECRETS.items()}


def found(where: str | bytes, *names: str) -> list[str]:
    """Return which of these secrets, or of all, stand somewhere."""
    data = where.encode(errors="surrogatepass") if isinstance(where, str) else where
    return [name for name in names or SECRETS if any(spelling in data for spelling in SPELLINGS[name])]


def found_in_files(folder: Path, *names: str) -> dict[str, list[str]]:
    """Return the files below a folder, and their names, that hold one of these secrets."""
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    seen = {name: found(name, *names) + found(path.read_bytes(), *names) for name, path in files.items()}
    return {name: secrets for name, secrets in seen.items() if secrets}


def report(error: BaseException) -> str:
    """Return what a report of an error shows that prints the variables of each frame, of its causes too."""
    return "".join(TracebackException.from_exception(error, capture_locals=True).format())


@define(eq=False)
class Listener(logging.Handler):
    """Keeps all that is logged: words, arguments, facts and reports of exceptions."""

    told: list[str] = field(factory=list)

    def __attrs_pre_init__(self) -> None:
        super().__init__(logging.NOTSET)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record."""
        self.told.append(f"{record.getMessage()} {record.__dict__}")
        if record.exc_info and record.exc_info[1]:
            self.told.append(report(record.exc_info[1]))

    @property
    def text(self) -> str:
        """All that was logged."""
        return "\n".join(self.told)


@contextmanager
def everything_logged() -> Iterator[Listener]:
    """Listen to all loggers at DEBUG, also to those that somebody made quieter."""
    listener, root = Listener(), logging.getLogger()
    loud = [root, *(logging.getLogger(name) for name in ("httpx", "httpcore", "asyncio", "anyio", "nebula_async"))]
    before = [logger.level for logger in loud]
    for logger in loud:
        logger.setLevel(logging.DEBUG)
    root.addHandler(listener)
    try:
        yield listener
    finally:
        root.removeHandler(listener)
        for logger, level in zip(loud, before, strict=True):
            logger.setLevel(level)
