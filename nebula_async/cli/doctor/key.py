"""The shape of the API key: where it comes from and what is wrong with it, and none of its characters."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from nebula_async.cli.doctor.finding import Finding, fine, note, problem
from nebula_async.errors import ConfigurationError
from nebula_async.keys import KEY_VARIABLE, ApiKey
from nebula_async.quantities import counted

MISNAMED = ("NEBULABLOCK_API_KEY", "NEBULA_KEY", "NEBULA_APIKEY", "NEBULA_API_TOKEN", "NEBULA_TOKEN")
"""Names that are taken for the variable's; the first stands in one of the vendor's samples."""

FEWEST_CHARACTERS = 12

WORDS = r"(sk|ak|your|my|the|nebula|block|api|key|token|secret|here|goes|insert|enter|add|replace|me|change|example)"
PLACEHOLDERS = (
    re.compile(rf"[<\[{{]?{WORDS}([-_.]?{WORDS})*[-_.]?[>\]}}]?", re.IGNORECASE),
    re.compile(r"<.*>|\$\{?\w+\}?|.*(\.\.\.|…).*"),
    re.compile(r"((sk|ak)[-_])?[xX*•.0-]+"),
)
"""What samples and templates have in place of a key."""

MAKE_ONE = f"make a key in the Nebula Block console, then: export {KEY_VARIABLE}=…"
WITHOUT = "to try without a key: --emulator"


AGAIN = f"export {KEY_VARIABLE} once more"

FAULTS: tuple[tuple[Callable[[str], object], str, str], ...] = (
    (lambda key: not key.strip(), "nothing, or white space alone", f"{MAKE_ONE}; {WITHOUT}"),
    (lambda key: len(key.splitlines()) > 1, "more than one line", f"{AGAIN}, with the key's own line alone"),
    (lambda key: key[-1] in "\r\n", "a line break at its end", f"{AGAIN} without it"),
    (lambda key: key != key.strip(), "white space at its beginning or end", f"{AGAIN} without it"),
    (lambda key: {key[0], key[-1]} & {*"\"'`"}, "quotes that are part of it", f"{AGAIN} without them"),
    (lambda key: key.lower().startswith("bearer"), "it begins with the word Bearer", f"{AGAIN} without it"),
    (lambda key: key.startswith(KEY_VARIABLE), "it begins with the variable's name", f"{AGAIN} without it"),
    (lambda key: not key.isascii(), "characters that are not ASCII, as word processors make", f"copy it, and {AGAIN}"),
    (lambda key: not key.isprintable() or " " in key, "a blank or a control character", f"copy it, and {AGAIN}"),
    (lambda key: any(form.fullmatch(key) for form in PLACEHOLDERS), "what samples have in place of a key", MAKE_ONE),
)
"""What is wrong with keys: whether a key is so, in which words, and what to do. The first that applies is told."""


def look_at_key(environ: Mapping[str, str]) -> Finding:
    """Return what is found of the key in the environment."""
    key = environ.get(KEY_VARIABLE)
    if key is None:
        return problem("key", f"{KEY_VARIABLE} is not set", _how_to_set(environ), is_set=False)
    facts = {"is_set": True, "from": KEY_VARIABLE, "characters": len(key)}
    size = f"{counted(len(key), 'character')} in {KEY_VARIABLE}"
    if found := _what_is_wrong(key):
        return problem("key", f"{size}: {found[0]}", found[1], **facts)
    if len(key) < FEWEST_CHARACTERS:
        return note("key", f"{size}, which is short for a key", "copy it from the console once more, whole", **facts)
    return fine("key", f"{size}, of which a header can carry each", **facts)


def usable_key(environ: Mapping[str, str]) -> ApiKey | None:
    """Return the key, if a header can carry it."""
    try:
        return ApiKey(environ.get(KEY_VARIABLE, ""))
    except ConfigurationError:
        return None


def _how_to_set(environ: Mapping[str, str]) -> str:
    if misnamed := [name for name in MISNAMED if environ.get(name)]:
        return f'{misnamed[0]} is set, and not read; export {KEY_VARIABLE}="${misnamed[0]}"'
    if Path(".env").is_file():
        return f"a .env file is here, and not read; if {KEY_VARIABLE} is in it: set -a; . ./.env; set +a"
    return f"{MAKE_ONE}; {WITHOUT}"


def _what_is_wrong(key: str) -> tuple[str, str] | None:
    """Return what is wrong with a key, and what to do."""
    return next(((text, advice) for applies, text, advice in FAULTS if applies(key)), None)
