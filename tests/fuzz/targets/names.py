"""Names of pictures, made of any text: inside of their folder on every system, by `pathlib` and `ntpath`."""

from __future__ import annotations

import itertools
import ntpath
import posixpath
import re
from contextlib import suppress
from pathlib import PureWindowsPath

from nebula_async.sinks.names import check_key, copies, key_of, relative_key, slug

REFERENCE = "posixpath, ntpath"

WORDS = [
    b"../", b"..", b"./", b"/", b"\\", b":", b"C:", b"con", b"NUL", b"\0", b"\xed\xa0\x80", b"\xef\xb7\xba", b"a" * 70,
    b"\xc3\x9f", b"\xe2\x84\xaa", b"\xf0\x9d\x94\xb8", b"\xcc\x81", b"~", b" ", b"-", b"_", b"\xe2\x80\xae", b"e",
    b"%2e",
]  # fmt: skip
SEEDS = [b"a flying cat", b"00000/000000042-a-cat", b"../../etc/passwd", "ÀÉß 漢字 ﷺ".encode(), b"a/./b/.. /c"]


def check(data: bytes) -> None:
    """Make names of a text, and take it for a key."""
    text = data.decode("utf-8", "surrogateescape")
    words = slug(text)
    assert re.fullmatch(r"([a-z0-9]+(-[a-z0-9]+)*)?", words), text
    assert len(words) <= 60, text
    for key in (relative_key(len(text), text), relative_key(10**9, "", text), key_of(text), key_of("", text)):
        check_key(key)
        assert_inside(key)
    with suppress(ValueError):
        check_key(text)
        assert_inside(text)
        for name in itertools.islice(copies(text, ".png"), 3):
            assert_inside(name)


def assert_inside(key: str) -> None:
    """Raise unless a key leads below a folder, on Windows too."""
    assert posixpath.normpath(f"/a/b/{key}").startswith("/a/b/"), key
    assert not posixpath.isabs(key), key
    path = PureWindowsPath(key)
    assert not path.drive, key
    assert not path.root, key
    assert ntpath.normpath(f"C:\\a\\b\\{key}").startswith("C:\\a\\b\\"), key
    key.encode()
