"""URLs of places in object stores."""

from __future__ import annotations

import re

from nebula_async.checks import shown
from nebula_async.errors import ConfigurationError

FORM = re.compile(r"(?:s3|gs|az)://[^/]+(?:/.*)?|file:///.+|memory:///?", re.DOTALL)


def check_url(url: object) -> None:
    """Refuse what is no URL of a place in an object store. Raises `ConfigurationError`."""
    place = url.partition("://")[2] if isinstance(url, str) else ""
    bucket, *prefix = place.rstrip("/").split("/")
    if "@" in bucket:  # the URL is not shown: a password may be in it
        raise ConfigurationError(
            "the URL of an object store must have no user name or password; credentials come from the environment"
        )
    if not isinstance(url, str) or not FORM.fullmatch(url):
        problem = (
            "it must be like s3://bucket/prefix, gs://bucket/prefix, az://container/prefix, file:///folder, memory://"
        )
    elif not all(part.strip(".") for part in prefix):
        problem = "its prefix must have no empty, . or .. part"
    elif re.search(r"[\x00-\x1f\x7f?#\\]", place) or ("%" in place and not url.startswith("file:")):
        problem = "it must not hold ?, #, %, a backslash or a control character"
    else:
        return
    raise ConfigurationError(f"{shown(url)} is no URL of an object store: {problem}")
