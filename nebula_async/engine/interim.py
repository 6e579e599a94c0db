"""The heads of a reply as they arrive: interim ones (1xx), which the HTTP library skips uncounted, and the last."""

from __future__ import annotations

import re

from attrs import define, field

MOST_INTERIM = 16
MOST_LINES = 1000

END = re.compile(rb"\n\r?\n")
STATUS = re.compile(rb"HTTP/[0-9]\.[0-9] ([0-9]{3})")
FRAMING = re.compile(rb"(?im)^(content-length|transfer-encoding):[ \t]*([^\r\n]*)")
LENGTH_FIELD = re.compile(rb"(?im)^(content-length:[ \t]*)[0-9]+")
LENGTH = re.compile(rb"[0-9]{1,15}[ \t]*")

NO_CONTENT = 204
SWITCHING_PROTOCOLS = 101
"""The one 1xx that is final: what follows it is no HTTP."""


@define(eq=False)
class ReplyHeads:
    """Reads the heads of one reply, fed in any pieces, and counts what comes after them.

    `status` is that of the final head once it is there whole, 0 where it is no HTTP, which is for others to refuse;
    `head` is its text, `length` the size of the body that it promises, where it names one; `after` is how many bytes
    have come after it.
    """

    status: int | None = field(default=None, init=False)
    head: bytes = field(default=b"", init=False)
    length: int | None = field(default=None, init=False)
    interim: int = field(default=0, init=False)
    after: int = field(default=0, init=False)
    _unread: bytearray = field(factory=bytearray, init=False)

    def feed(self, data: bytes | bytearray) -> None:
        """Read on. Raises `ValueError` where there are more interim heads, or lines of one, than a server has reason to
        send, and where the length of the reply is no number or is said twice: what follows could be taken for the
        reply to another request.
        """
        if self.status is not None:
            self.after += len(data)
            return
        is_final, seen = False, max(len(self._unread) - 2, 0)  # an end may lie across two pieces
        self._unread += data
        while not is_final and (end := END.search(self._unread, seen)):
            self.head, seen = bytes(self._unread[: end.end()]), 0
            is_final = self._read(self.head[: end.start()])
            del self._unread[: end.end()]
        if is_final:
            self.after = len(self._unread)
            self._unread.clear()

    @property
    def has_body(self) -> bool:
        """Whether the final head is that of a success with a body."""
        return self.status is not None and self.status // 100 == 2 and self.status != NO_CONTENT

    @property
    def without_body(self) -> bytes:
        """The final head as that of a reply which has no body, for a library that is to leave the body to others."""
        return LENGTH_FIELD.sub(rb"\g<1>0", self.head)

    @property
    def is_whole(self) -> bool:
        """Whether the final head and as much as it promises are there."""
        return self.length is not None and self.after >= self.length

    @property
    def is_exceeded(self) -> bool:
        """Whether more has come than the final head promises."""
        return self.length is not None and self.after > self.length

    def _read(self, head: bytes) -> bool:
        """Read a head and return whether it is the final one."""
        if head.count(b"\n") > MOST_LINES:  # each costs the HTTP library as much time as a short reply
            raise ValueError(f"the reply has more than {MOST_LINES} headers")
        line = STATUS.match(head)
        status = int(line[1]) if line else 0
        if status // 100 != 1 or status == SWITCHING_PROTOCOLS:
            self.status, self.length = status, _length(head)
            return True
        self.interim += 1
        if self.interim > MOST_INTERIM:
            raise ValueError(f"more than {MOST_INTERIM} interim replies (1xx) came before a final one")
        return False


def _length(head: bytes) -> int | None:
    said = [(name.lower(), value) for name, value in FRAMING.findall(head)]
    lengths = [value for name, value in said if name == b"content-length"]
    if not lengths:
        return None
    if len(said) > 1 or not LENGTH.fullmatch(lengths[0]):
        raise ValueError("the length of the reply is no number, or is said in more than one way")
    return int(lengths[0])
