"""The API key: where it comes from, and a type that never prints it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Hashable, Mapping
from hashlib import sha256
from typing import Any, NoReturn, TypeAlias

from nebula_async.errors import ConfigurationError, NebulaError

KEY_VARIABLE = "NEBULA_API_KEY"

SHORTEST_SECRET = 6
"""Characters: what is shorter stands in ordinary words, too."""

KEY_LIKE = re.compile(r"(sk|ak)[-_].+|[A-Za-z0-9_.-]{24,}", re.ASCII)

KeySource: TypeAlias = str | Callable[[], str]
"""A key, or a callable that returns the current one: keys rotate."""


class ApiKey:
    """A key that shows as `***` in repr, str, format and logs, and refuses to be pickled.

    Raises `ConfigurationError` for a key that no HTTP header can carry; the message never contains it. The prefix is
    not checked: the published ones contradict each other.
    """

    __slots__ = ("_key",)

    def __init__(self, key: str) -> None:
        self._key = key
        del key  # a traceback that shows local variables must not show it
        problem = _problem(self._key)
        if problem:
            raise ConfigurationError(f"the API key {problem}; check {KEY_VARIABLE} or api_key=")

    def reveal(self) -> str:
        """Return the key itself, for the one header that needs it."""
        return self._key

    def __repr__(self) -> str:
        return "ApiKey('***')"

    def __str__(self) -> str:
        return "***"

    def __reduce__(self) -> NoReturn:
        raise TypeError("an API key is not pickled; let the other process read its own from " + KEY_VARIABLE)


class _Hidden:
    """A source of keys that shows nothing of it, and is not pickled."""

    __slots__ = ("_given",)

    def __init__(self, given: KeySource) -> None:
        self._given = given

    def __call__(self) -> str:
        return self._given() if callable(self._given) else self._given

    def __repr__(self) -> str:
        return "***"

    __reduce__ = ApiKey.__reduce__


def hide(given: KeySource | None) -> Callable[[], str]:
    """Return the source of keys, of `given` or else of the environment variable, in a form that shows as `***`.

    Keep only this in local variables: many reports of errors show those of each frame.
    """
    return _Hidden(_from_environment if given is None else given)


def without_secrets(value: Any, secrets: Collection[str]) -> Any:
    """Return plain data in whose texts `***` stands for each secret: a server may repeat the key that it was sent."""
    if isinstance(value, str):
        for secret in sorted(secrets, key=len, reverse=True):
            value = value.replace(secret, "***") if len(secret) >= SHORTEST_SECRET else value
        return value
    if isinstance(value, Mapping):
        return {without_secrets(name, secrets): without_secrets(each, secrets) for name, each in value.items()}
    return [without_secrets(each, secrets) for each in value] if isinstance(value, list | tuple) else value


def looks_like_key(value: object) -> bool:
    """Whether a value that was given for something else may be a key: it is told to nobody then."""
    return isinstance(value, str) and any(KEY_LIKE.fullmatch(word) for word in value.split())


def find_key(given: KeySource | None) -> Callable[[], ApiKey]:
    """Return a function that yields the current key: of `given`, else of the environment variable.

    Called once here, so that a missing or malformed key is said when the client is made, not at its first call.
    """
    source = hide(given)
    del given  # a traceback that shows local variables must not show it

    def current() -> ApiKey:
        try:
            return ApiKey(source())
        except NebulaError:
            raise
        except Exception as error:  # a callable is other people's code
            text = f"api_key= is a callable, and it failed: {type(error).__name__}; mend it"
            raise ConfigurationError(text) from error

    current()
    return current


def account_of(source: Callable[[], str]) -> Hashable:
    """Return what tells the account of a source of keys (`hide`) from others, and nothing of the key.

    Of a callable, whose keys rotate, it is the callable itself.
    """
    given = source._given if isinstance(source, _Hidden) else source
    if isinstance(given, str) or given is _from_environment:
        return digest_of(source)
    try:
        hash(given)
    except TypeError:
        return id(given)
    return given


def digest_of(source: Callable[[], str]) -> str:
    """Return what tells the key that a source gives now from all others, and nothing of it."""
    return sha256(source().encode()).hexdigest()


def _from_environment() -> str:
    key = os.environ.get(KEY_VARIABLE)
    if key is None:
        raise ConfigurationError(
            f"no API key: set {KEY_VARIABLE}, or pass api_key=. Keys are made in the Nebula Block console; "
            "a .env file is not read. To try without a key: commands take --emulator, and for programs"
            " there is nebula-async emulator"
        )
    return key


def _problem(key: object) -> str | None:
    if not isinstance(key, str):
        return f"must be text, not {type(key).__name__}"
    if not key.strip():
        return "is empty"
    if key != key.strip():
        return "begins or ends with white space or a line break"
    if not all("!" <= char <= "~" for char in key):
        return "has a character that a header cannot carry (blank, control or non-ASCII)"
    return None
