"""Server-sent events that we write, of any text: an `EventSource`, as its standard reads lines, finds the same."""

from __future__ import annotations

import re

from nebula_async.integrations.web.sse import encode_event
from targets import same

REFERENCE = "the WHATWG's rules"

WORDS = [
    b"\r", b"\n", b"\r\n", b"data: ", b"event: ", b"id: 5", b"\n\n", b":", b"\0", b"\xe2\x80\xa8", b"\xef\xbb\xbf",
    b" ",
]  # fmt: skip
SEEDS = [b"result\x1e7\x1e{}", b"a\x1eb\x1eone\ntwo\r\nthree\rfour\n", b"x\x1e\x1e data: x\n\nevent: evil"]


def check(data: bytes) -> None:
    """Write an event of name, id and text, and read it."""
    name, number, text = [*data.decode("utf-8", "replace").split("\x1e", 2), "", ""][:3]
    try:
        written = encode_event(text, event=name, number=number)
    except ValueError:
        assert re.search("[\r\n\0]", name + number), data
        return
    same([(name.removeprefix(" "), re.sub("\r\n|\r", "\n", text))], list(dispatched(written.decode())), data)


def dispatched(stream: str) -> list[tuple[str, str]]:
    """Return the events of a stream: name and data."""
    found, name, lines = [], "", []
    for line in re.split("\r\n|\r|\n", stream)[:-1]:
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            found.append((name.removeprefix(" "), "\n".join(lines)))
            name, lines = "", []
        elif field == "event":
            name = value
        elif field == "data":
            lines.append(value)
    return found
