"""Whatever prompt, id or key: a picture lands inside of its folder, under a name of its own, on every file system."""

from __future__ import annotations

import ntpath
import os
import posixpath
import string
import tempfile
import unicodedata
from pathlib import Path

import anyio
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nebula_async.bulk.spool import Spool
from nebula_async.sinks.directory import DirectorySink
from nebula_async.sinks.names import check_key, copies, key_of, relative_key

HOSTILE = (
    *("..", ".", "/", "\\", "../", "..\\", "C:", "//host/share", "\\\\?\\", "~", "-rf", "%2e%2e/", "a:b", ".. ", "..."),
    *("con", "NUL", "Aux.png", "COM1", "lpt9.tar.gz", "COM\u00b9", " con ", "prn .txt", "$(id)", "`id`", "*?<>|\"'"),
    *("\0", "\n", "\r", "\x1b[2J", "\x7f", "\u202e", "\u2028", "\ud800", "\u00e9", "e\u0301", "\u00df", "\u0130"),
    *("\u212a", "\ufb01", "\U0001d400", "\u732b", "\U0001f408", "x" * 300, "\u00e9" * 200, "\U0001f408" * 100),
    *("{0.__class__}", "%s", "CAT", "cat", "Cat "),
)  # fmt: skip
TEXTS = st.lists(st.sampled_from(HOSTILE) | st.text(max_size=20), max_size=6).map("".join)
KEYS = TEXTS | st.lists(TEXTS, max_size=4).map("/".join)
PLAIN = set(string.ascii_lowercase + string.digits + "-")
DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))}


def is_inside(key: str) -> bool:
    """Whether a key leads into its folder, as POSIX and as Windows read paths."""
    places = (
        posixpath.normpath(f"/out/{key}"),
        ntpath.normpath(f"C:\\out\\{key}").replace("\\", "/").removeprefix("C:"),
    )
    return all(place.startswith("/out/") for place in places)


def check_name(name: str) -> None:
    """A name of ours is plain, no device of Windows, not hidden, and has room for what is added to it."""
    assert set(name) <= PLAIN
    assert name.strip("-") == name != ""
    assert name not in DEVICES
    assert len(f".{name}-999.jpeg.part") <= 255


@given(st.integers(0, 10**12), TEXTS, st.none() | TEXTS)
@example(0, "con", None)
@example(0, "x", "../../etc/passwd")
def test_every_name_of_ours_is_plain(number, prompt, identity):
    """Names made of prompts and ids hold letters, digits and hyphens: no control character, no device, no way out."""
    folder, slash, name = relative_key(number, prompt, identity).partition("/")
    assert (True, "/") == (folder.isdecimal(), slash)
    for each in (name, key_of(prompt, identity)):
        check_name(each)
        check_key(each)
    assert is_inside(relative_key(number, prompt, identity))


@given(TEXTS)
def test_spellings_of_one_text_have_one_name(text):
    """A text has the same name however its letters are composed, and in whatever case it is written: file systems that
    take such names for one do not meet two.
    """
    forms = {unicodedata.normalize(form, text) for form in ("NFC", "NFD", "NFKC", "NFKD")}
    names = {key_of(form) for form in forms} if len(text) <= 300 else {key_of(text)}
    assert 1 == len({name.casefold() for name in names})
    assert all(name == name.casefold() for name in names)


@settings(max_examples=200)
@given(KEYS)
def test_a_key_that_is_accepted_stays_inside(key):
    """A key of a user's own that `check_key` lets pass leads into the sink's folder, on every system."""
    try:
        check_key(key)
    except ValueError:
        return
    assert is_inside(key)
    assert not any(char < " " or char in "\x7f:\\" for char in key)
    assert not {part.partition(".")[0].strip().casefold() for part in key.split("/")} & DEVICES
    assert all(len(part.encode()) <= 240 for part in key.split("/"))


@pytest.mark.parametrize("key", ["con", "NUL.txt", "a/aux/b", "Com1.tar.gz", "lpt³", "prn .x", "COM¹"])
def test_a_device_of_windows_is_no_key(key):
    """What Windows would open as a device is refused, in any part of a key and with any extension."""
    with pytest.raises(ValueError, match="keeps for a device"):
        check_key(key)


@settings(max_examples=25, deadline=None)
@given(st.lists(TEXTS, min_size=1, max_size=5), st.booleans())
def test_pictures_of_any_names_are_all_there(texts, is_numbered):
    """Pictures stored under what users wrote lie in the folder, one file each: none replaces another one."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "out")
        (Path(name) / "beside").write_bytes(b"untouched")
        keys = [relative_key(1, text) if is_numbered else key_of(text) for text in texts]
        paths = anyio.run(store_all, folder, keys)
        files = [path for path in Path(name).rglob("*") if path.is_file() and path.name != "beside"]

        assert len(texts) == len(set(paths)) == len(files)
        assert all(Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder)) for path in paths)
        assert sorted(path.read_bytes() for path in files) == sorted(b"%d" % n for n in range(len(texts)))
        assert b"untouched" == (Path(name) / "beside").read_bytes()


async def store_all(folder: Path, keys: list[str]) -> list[str]:
    """Store a picture under each key, and return where they are."""
    paths = []
    for number, key in enumerate(keys):
        writer = await DirectorySink(folder).open(key)
        await writer.write(b"%d" % number)
        paths.append(await writer.publish("image/png", ".png"))
    return paths


@given(KEYS)
def test_copies_are_names_beside_the_first(key):
    """The names that are tried where one is taken lie in the same folder, and no two are the same."""
    names = copies(key, ".png")
    tried = [next(names) for _ in range(4)]
    assert 4 == len(set(tried))
    assert {posixpath.dirname(key)} == {posixpath.dirname(name) for name in tried}


@given(st.integers(0, 2**63 - 1), st.integers(0, 2**31), st.integers(0, 10**4))
def test_names_in_the_spool_come_from_numbers(seq, n, index):
    """No text of a user or a server is part of a name in the spool."""
    name = Spool(Path("spool"), is_synced=False).part(seq, n, index).relative_to("spool").as_posix()
    assert f"{seq}.{n}.{index}.part" == name
