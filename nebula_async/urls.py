"""URLs that are called: what is wrong with one, before any library reads it in a way of its own."""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache
from urllib.parse import SplitResult, urlsplit

LONGEST = 8192

HOST = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:-]+")
"""The characters of a host, an IPv6 address too (RFC 3986, section 3.2.2); the library that calls encodes others."""

BRACKETED = re.compile(r"\[[^\[\]]*\](:[0-9]*)?")
"""A host in brackets and its port: urllib drops what else is around it, and others take that for the port."""

USER = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:%-]*")
"""The characters of a user name and password in a URL (RFC 3986, section 3.2.1)."""

UNREADABLE = "is no URL: its host or port cannot be read"

PROXY_PROBLEM = (
    "must be http://host:port or https://host:port, with user:password@ (percent-encoded) before the host if need be;"
    " what was given is not shown, it may hold a password"
)
"""What is said of a URL that is no proxy's."""


def read_url(text: str) -> SplitResult:
    """Return the parts of an http or https URL. Raises `ValueError` saying what it must be; the URL is not in it."""
    if len(text) > LONGEST:
        raise ValueError(f"must have at most {LONGEST} characters")
    if "\\" in text or not all("!" <= char <= "~" for char in text):
        raise ValueError("must have no backslash, blank, control or non-ASCII character")
    parts = _split(text)
    if parts.scheme not in ("http", "https") or not HOST.fullmatch(parts.hostname or "") or parts.port == 0:
        raise ValueError("must begin with https:// and a host")
    if parts.username is not None:
        raise ValueError("must have no user name")
    return parts


def _split(text: str) -> SplitResult:
    try:
        parts = urlsplit(text)
        _ = parts.port  # read when it is asked for
    except ValueError:
        raise ValueError(UNREADABLE) from None
    place = parts.netloc.rpartition("@")[2]
    if {*place} & {*"[]"} and not BRACKETED.fullmatch(place):
        raise ValueError(UNREADABLE)
    return parts


def is_proxy(url: str) -> bool:
    """Whether a URL says where an HTTP proxy is, with or without who is let in."""
    scheme, _, rest = url.partition("://")
    user, _, place = rest.rpartition("@")
    try:
        parts = read_url(f"{scheme}://{place}")
    except ValueError:
        return False
    return bool(USER.fullmatch(user)) and parts.path in ("", "/") and not {*"?#"} & {*place}


def host_and_port(parts: SplitResult) -> str:
    """Return where a URL leads, as `host:port`."""
    return place_of(parts.hostname or "", port_of(parts))


@lru_cache(maxsize=64)
def server_of(url: str) -> tuple[str, int]:
    """Return the host and the port that a URL leads to."""
    parts = read_url(url)
    return parts.hostname or "", port_of(parts)


def port_of(parts: SplitResult) -> int:
    """Return the port that a URL leads to: the usual one of its scheme where it names none."""
    return parts.port or (443 if parts.scheme == "https" else 80)


def place_of(host: str, port: int) -> str:
    """Return a host and a port as URLs and HTTP write them: an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_loopback(host: str) -> bool:
    """Whether a host's name means this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
