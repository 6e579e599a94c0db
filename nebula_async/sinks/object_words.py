"""What obstore has to say, in one sentence: its own errors are pages long, and hold what the server echoed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from nebula_async.errors import ConfigurationError

FACTS = (r"status code: (\d{3}(?: [A-Z][A-Za-z ]+)?)", r"<Code>(\w{1,60})</Code>", r"HttpError \{\s+kind: (\w+)")
"""The status, the store's own code, and what went wrong on the way. Nothing else is taken over: no URL, no header."""

KINDS = {"Connect": "no connection", "Timeout": "no answer in time", "Request": "the connection was cut"}

METADATA_SERVICE = "169.254."
"""Where clouds give their own machines credentials: it is asked when there are no others."""


@contextmanager
def in_words(url: str) -> Iterator[None]:
    """Raise an `OSError` of one sentence, without a credential, where obstore fails with this URL."""
    try:
        yield
    except FileNotFoundError:
        raise FileNotFoundError(f"{url}: there is no such bucket, container or folder; make it first") from None
    except BaseException as error:
        if not _is_obstores(error):
            raise
        raise _told(url, type(error).__name__, str(error)) from None


@contextmanager
def setting_in_words(url: str) -> Iterator[None]:
    """Raise a `ConfigurationError` of one sentence where obstore cannot use this URL with its options."""
    try:
        yield
    except BaseException as error:
        if not _is_obstores(error) and not isinstance(error, OSError | TypeError | ValueError):
            raise
        reason = re.sub("^Generic .* error: ", "", str(error).partition("\n")[0])
        text = f"{url} cannot be used with its store_options and the environment: {reason}"
        raise ConfigurationError(text) from None


def _is_obstores(error: BaseException) -> bool:
    """Whether obstore raised it: what it has not foreseen is a panic, no `Exception`, of a class without a home."""
    return type(error).__module__.startswith(("obstore", "pyo3_runtime"))


def _told(url: str, name: str, text: str) -> OSError:
    is_refused = name in ("PermissionDeniedError", "UnauthenticatedError")
    if url.startswith("file:"):
        first = text.partition("\n")[0]
        return (PermissionError if is_refused else OSError)(f"{url}: {first.partition(' error: ')[2] or first}")
    if METADATA_SERVICE in text:
        return PermissionError(f"{url}: no credentials were found; set those of the store in the environment")
    if name == "PanicException" or "builder error" in text:
        return OSError(f"{url}: its endpoint must be https://…, or http://… with AWS_ALLOW_HTTP=true")
    found = [KINDS.get(match[1], match[1]) for form in FACTS if (match := re.search(form, text))]
    facts = f" ({', '.join(found)})" if found else ""
    if is_refused:
        return PermissionError(f"{url}: the store refuses the credentials, or what they are used for{facts}")
    return OSError(f"{url}: the store could not be reached, or failed{facts}")
