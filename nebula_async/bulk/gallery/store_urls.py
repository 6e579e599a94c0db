"""Where a browser finds what lies in an object store, if everyone may read it there."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlsplit

ENDPOINT = ("endpoint", "aws_endpoint", "endpoint_url", "aws_endpoint_url")
ENDPOINT_VARIABLES = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
ACCOUNT = ("account_name", "azure_storage_account_name")


ORIGIN = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?", re.ASCII)
"""Host and port as they may stand in the policy of a page: nothing that ends a directive, or the attribute it is in."""


def is_browsable(url: str) -> bool:
    """Whether pictures can be looked for below a URL by a page, whoever wrote it."""
    if not url.isprintable() or url.startswith(" "):  # urllib drops these, and the page would have them
        return False
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    is_plain = not (parts.query or parts.fragment)
    return parts.scheme in ("http", "https") and ORIGIN.fullmatch(parts.netloc) is not None and is_plain


def browser_url(store: str, options: Mapping[str, Any]) -> str | None:
    """Return where a browser finds what lies below the URL of a store; `None` where that cannot be told.

    `options` are those that the store was opened with. Credentials are in none of them that are looked at.
    """
    parts = urlsplit(store)
    given = {name.lower(): value for name, value in options.items() if isinstance(value, str)}
    endpoint = _first(given, ENDPOINT) or (_first(os.environ, ENDPOINT_VARIABLES) if parts.scheme == "s3" else None)
    origin = f"{endpoint.rstrip('/')}/{parts.netloc}" if endpoint else _usual(parts.scheme, parts.netloc, given)
    if origin is None or not is_browsable(origin):
        return None
    return f"{origin}/{quote(parts.path.strip('/'))}".rstrip("/")


def _usual(scheme: str, bucket: str, given: Mapping[str, str]) -> str | None:
    """Return where the providers themselves serve a bucket."""
    account = _first(given, ACCOUNT) or os.environ.get("AZURE_STORAGE_ACCOUNT_NAME")
    usual = {
        "s3": f"https://s3.amazonaws.com/{bucket}" if "." in bucket else f"https://{bucket}.s3.amazonaws.com",
        "gs": f"https://storage.googleapis.com/{bucket}",
        "az": f"https://{account}.blob.core.windows.net/{bucket}" if account else None,
    }
    return usual.get(scheme)


def _first(given: Mapping[str, str], names: tuple[str, ...]) -> str | None:
    return next((given[name] for name in names if given.get(name)), None)
