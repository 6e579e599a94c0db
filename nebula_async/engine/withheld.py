"""What the HTTP library logs of our exchanges: that something arrived, and not what.

At DEBUG it writes the headers of each reply, and quotes what it cannot read. A redirect's Location is a signed URL,
which opens a picture to anyone, and a server may repeat the key that it was sent.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

LOGGERS = tuple(
    f"{library}.{part}"
    for library in ("httpcore", "httpcore2")
    for part in ("connection", "http11", "http2", "proxy", "socks")
)

_is_ours: ContextVar[bool] = ContextVar("_is_ours", default=False)


def _withhold(record: logging.LogRecord) -> bool:
    """Shorten what is logged in an exchange of ours to its event; those of other programs stay as they are."""
    if _is_ours.get():
        event, _, facts = record.getMessage().partition(" ")
        if event.startswith("receive_response"):
            name, _, said = facts.partition("=")
            record.msg, record.args = f"{event} {name}=<withheld>" if said else event, ()
    return True


@contextmanager
def withheld() -> Iterator[None]:
    """Let nothing of the replies that arrive meanwhile, in this task, be logged by the HTTP library."""
    token = _is_ours.set(True)
    try:
        yield
    finally:
        _is_ours.reset(token)


for _name in LOGGERS:
    logging.getLogger(_name).addFilter(_withhold)
