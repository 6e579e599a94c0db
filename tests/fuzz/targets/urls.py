"""URLs and addresses: what is accepted leads where httpx and `urllib` lead; by `ipaddress` where that is."""

from __future__ import annotations

import ipaddress
import socket
from contextlib import suppress
from urllib.parse import urljoin, urlsplit

import httpx

from nebula_async.api.messages import Reply
from nebula_async.bulk.gallery.store_urls import browser_url, is_browsable
from nebula_async.config import Config
from nebula_async.engine.addresses import is_public
from nebula_async.engine.download import _redirect
from nebula_async.engine.proxy import Proxy, public_name
from nebula_async.errors import ConfigurationError
from nebula_async.sinks.object_urls import check_url
from nebula_async.urls import host_and_port, is_loopback, is_proxy, port_of, read_url
from targets import same

REFERENCE = "httpx, urllib, ipaddress"

WORDS = [
    b"https://", b"http://", b"a.example", b"127.0.0.1", b"[::1]", b"[::ffff:7f00:1]", b"0x7f.1", b"2130706433",
    b":443", b":0", b":65536", b"@", b"user:pw@", b"%40", b"%2e", b"#", b"?", b"\\", b"/", b"..", b"localhost",
    b".localhost", b".", b"s3://b/", b"file:///", b"redis://", b"rediss://", b"unix:///", b"?db=", b"169.254.169.254",
    b"64:ff9b::", b"fe80::", b"%25eth0", b"2002:7f00::", b"xn--", b"\xc3\xa9", b"\t", b"memory://",
]  # fmt: skip
SEEDS = [
    b"https://a.example:8443/x?y=z#w", b"http://user:pw@proxy.example:3128", b"http://[::1]:8000/", b"a.example:443",
    b"64:ff9b::7f00:1", b"redis://user:pw@127.0.0.1:6379/0?db=1", b"s3://bucket/prefix", b"../x?y",
]  # fmt: skip

BASE = "https://storage.example/a/b"


def check(data: bytes) -> None:
    """Take a text for each of the kinds of place."""
    text = data.decode("utf-8", "surrogateescape")
    check_called(text)
    check_proxy(text)
    check_address(text)
    check_redirect(data)
    for make in (lambda: Config(base_url=text), lambda: Config(allowed_image_hosts=[text]), lambda: check_url(text)):
        with suppress(ConfigurationError):
            make()
    if is_browsable(text):
        assert not {*text} & {*" '\"<>;,"} or urlsplit(text).path, text
    with suppress(ValueError):
        browser_url(text, {"endpoint": text})
    check_redis(text)


def check_called(text: str) -> None:
    """What may be called is the same place to the library that calls it."""
    try:
        parts = read_url(text)
    except ValueError:
        return
    try:
        url = httpx.URL(text)
        host = url.host and url.raw_host.decode()  # the former is decoded when it is asked for, the latter is called
    except (httpx.InvalidURL, ValueError):
        return  # refused when it is called
    port = url.port or (443 if url.scheme == "https" else 80)
    same((host.lower(), port), (parts.hostname, port_of(parts)), text)  # it leaves the letters of an IPv6 address
    assert not url.userinfo, text
    same(host_and_port(parts), host_and_port(read_url(f"{parts.scheme}://{host_and_port(parts)}/")), text)


def check_proxy(text: str) -> None:
    """What is a proxy has a host; it is never shown with who is let in."""
    if is_proxy(text):
        proxy = Proxy.at(text)
        assert proxy.host, text
        assert "@" not in str(proxy), text
        proxy.tunnel_to("a.example", 443)
        same(text, Config(proxy=text).proxy, text)
        return
    with suppress(ConfigurationError):
        Proxy.at(text)
        raise AssertionError(text)


def check_address(text: str) -> None:
    """What counts as public is global to `ipaddress`; what a resolver takes for an address is never a name."""
    with suppress(ValueError):
        address = ipaddress.ip_address(text)
        if is_public(text):
            assert address.is_global or getattr(address, "ipv4_mapped", None), text
            assert not any((address.is_loopback, address.is_private, address.is_link_local)), text
        assert is_loopback(text) == address.is_loopback, text
    try:
        public_name(text)
    except (PermissionError, UnicodeError):
        return
    with suppress(OSError, ValueError):
        packed = socket.inet_aton(text)
        assert text == text.strip(), text
        assert ipaddress.ip_address(packed).is_global, text


def check_redirect(data: bytes) -> None:
    """A place to go on to is the one that `urljoin` gives, or none."""
    place = _redirect(Reply(status=302, headers=((b"Location", data),)), BASE)
    with suppress(ValueError):
        same(urljoin(BASE, data.decode("latin-1")), place, data)


def check_redis(text: str) -> None:
    """The URL of a Redis is refused, or can be connected to."""
    try:
        from nebula_async.integrations.redis_address import Address
    except ImportError:
        return
    try:
        address = Address(text)
    except ConfigurationError:
        return
    str(address)
