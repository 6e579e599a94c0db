"""JSON that broke off, up to its last whole value."""

from __future__ import annotations

import re

TOKENS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*(?P<end>"?)|[\[\]{},:]|[^\s"\[\]{},:]+', re.DOTALL)
CLOSERS = {b"{": b"}", b"[": b"]"}


def close_json(body: bytes | bytearray) -> bytes:
    """Return JSON that was cut with what closes it, in place of a last value, or key, that is not known to be whole.

    A number may go on, so it is whole where something follows it. What is no JSON stays none.
    """
    closers: list[bytes] = []  # of what is open at the end, and at the last whole value too: they close and open values
    before, whole = b"", 0
    for token in TOKENS.finditer(body):
        text = token[0]
        if text in CLOSERS:
            closers.append(CLOSERS[text])
            whole = token.end()
        elif text in CLOSERS.values():
            del closers[-1:]
            whole = token.end()
        elif text == b",":
            whole = token.start()
        elif token["end"] and (before == b":" or closers[-1:] == [b"]"]):
            whole = token.end()
        before = text
    return bytes(body[:whole]) + b"".join(reversed(closers))
