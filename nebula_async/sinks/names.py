"""Where pictures are stored: safe names on every file system, made of what users wrote, and the check of any others."""

from __future__ import annotations

import itertools
import os
import re
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import PurePath

FOLDER_ITEMS = 1_000
"""Folders stay small enough for file browsers and for listing an object store."""

MAX_SLUG = 60
"""With the number, a "-1" for a second picture and an extension, a file name stays below 120 bytes."""

MAX_READ = 1_000
"""More of a prompt is not looked at: it may be megabytes long."""

MOST_PART_BYTES = 240
"""With a number and an extension a file name stays below the 255 bytes that file systems take."""

RESERVED = frozenset(("con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in "123456789¹²³")))
"""What Windows takes for a device, whatever extension follows."""

UNSAFE = re.compile(r"[\x00-\x1f\x7f:\\\ud800-\udfff]")
"""What ends a name, leads elsewhere on Windows, or is no text that a file system takes."""


def relative_key(number: int, prompt: str, identity: str | None = None) -> str:
    """Return where item `number` of a job is stored: `"00000/000000042-a-flying-cat"`, without extension.

    The name tells the `identity` where one is given, else the prompt. The number alone makes it unique, also where
    upper and lower case are the same. Whatever the text, the key is ASCII and stays inside its folder.
    """
    if number < 0:
        raise ValueError(f"number must be 0 or more; got {number}")
    words = slug(prompt if identity is None else identity)
    return f"{number // FOLDER_ITEMS:05}/{number:09}" + (f"-{words}" if words else "")


def key_of(prompt: str, identity: str | None = None) -> str:
    """Return where a picture that belongs to no job is stored: `"a-flying-cat"`, as in `relative_key`."""
    words = slug(prompt if identity is None else identity)
    return f"{words}-picture" if words in RESERVED else words or "picture"


def slug(text: str) -> str:
    """Return a text's words as part of a file name: `[a-z0-9-]`, at most 60 characters, empty where it has none."""
    # compatibility forms before case: a fullwidth or mathematical capital has no lower case of its own
    letters = unicodedata.normalize("NFKD", text[:MAX_READ]).casefold()
    unaccented = "".join(char for char in letters if not unicodedata.combining(char))
    words = re.sub(r"[^a-z0-9]+", "-", unaccented).strip("-")
    if len(words) <= MAX_SLUG:
        return words
    return words[: MAX_SLUG + 1].rpartition("-")[0] or words[:MAX_SLUG]


def check_key(key: str) -> None:
    """Refuse what does not name a place below a folder on every system. Raises `ValueError`.

    `relative_key` makes none of these; requests' own ids may be anything.
    """
    parts = key.split("/")
    if not all(part.strip(". ") for part in parts):  # ".. " is a way up on Windows
        problem = "it must be relative, with more than dots in each part between its slashes"
    elif UNSAFE.search(key):
        problem = "it must not hold a colon, a backslash, a control character or a lone surrogate"
    elif any(part.partition(".")[0].strip().casefold() in RESERVED for part in parts):
        problem = "no part may have a name that Windows keeps for a device, such as con or nul"
    elif max(len(part.encode()) for part in parts) > MOST_PART_BYTES:
        problem = f"each part between its slashes must have at most {MOST_PART_BYTES} bytes"
    else:
        return
    raise ValueError(f"{key[:MOST_PART_BYTES]!r} cannot be the key of a picture: {problem}")


def copies(key: str, extension: str) -> Iterator[str]:
    """Yield the names for a picture in the order in which the first free one is taken: `cat.png`, `cat-1.png`."""
    yield f"{key}{extension}"
    for number in itertools.count(1):
        yield f"{key}-{number}{extension}"


def problem_of_name(path: PurePath) -> str | None:
    """Return why no file of this process can have such a name: its locale's encoding lacks some characters."""
    try:
        os.fsencode(path)
    except UnicodeEncodeError:
        names = f"this process writes names of files in {sys.getfilesystemencoding()}"
        return f"{names}, which lacks some of its characters; use others, or set PYTHONUTF8=1"
    return None
