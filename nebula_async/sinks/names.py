"""Where the pictures of a bulk job are stored: safe names on every file system, made of what users wrote."""

from __future__ import annotations

import re
import unicodedata

FOLDER_ITEMS = 1_000
"""Folders stay small enough for file browsers and for listing an object store."""

MAX_SLUG = 60
"""With the number, a "-1" for a second picture and an extension, a file name stays below 120 bytes."""

MAX_READ = 1_000
"""More of a prompt is not looked at: it may be megabytes long."""


def relative_key(number: int, prompt: str, identity: str | None = None) -> str:
    """Return where item `number` of a job is stored: `"00000/000000042-a-flying-cat"`, without extension.

    The name tells the `identity` where one is given, else the prompt. The number alone makes it unique, also where
    upper and lower case are the same. Whatever the text, the key is ASCII and stays inside its folder.
    """
    if number < 0:
        raise ValueError(f"number must be 0 or more; got {number}")
    words = slug(prompt if identity is None else identity)
    return f"{number // FOLDER_ITEMS:05}/{number:09}" + (f"-{words}" if words else "")


def slug(text: str) -> str:
    """Return a text's words as part of a file name: `[a-z0-9-]`, at most 60 characters, empty where it has none."""
    # compatibility forms before case: a fullwidth or mathematical capital has no lower case of its own
    letters = unicodedata.normalize("NFKD", text[:MAX_READ]).casefold()
    unaccented = "".join(char for char in letters if not unicodedata.combining(char))
    words = re.sub(r"[^a-z0-9]+", "-", unaccented).strip("-")
    if len(words) <= MAX_SLUG:
        return words
    return words[: MAX_SLUG + 1].rpartition("-")[0] or words[:MAX_SLUG]
