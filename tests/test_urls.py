"""A URL means the same to us as to the library that calls it, or it is refused."""

from __future__ import annotations

import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nebula_async.urls import LONGEST, host_and_port, is_loopback, read_url

HOST = "must begin with https:// and a host"
NAME = "must have no user name"
UNREADABLE = "is no URL: its host or port cannot be read"
CHARACTERS = "must have no backslash, blank, control or non-ASCII character"


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("https://a.example", "a.example:443"),
        ("http://a.example", "a.example:80"),
        ("HTTPS://A.Example/X", "a.example:443"),
        ("https://a.example:8443/x?y=z#w", "a.example:8443"),
        ("https://a.example:", "a.example:443"),
        ("https://a.example:0080/", "a.example:80"),
        ("https://a.example:65535/", "a.example:65535"),
        ("https://a.example/x@y", "a.example:443"),
        ("https://a.example?x@y", "a.example:443"),
        ("https://a.example#x@y:1", "a.example:443"),
        ("https://a.example./", "a.example.:443"),
        ("https://127.1/", "127.1:443"),
        ("https://2130706433/", "2130706433:443"),
        ("http://[::1]:8000/", "[::1]:8000"),
        ("https://[2001:DB8::1]/", "[2001:db8::1]:443"),
        ("https://[::ffff:7f00:1]/", "[::ffff:7f00:1]:443"),
        ("https://a.example/" + "x" * (LONGEST - 18), "a.example:443"),
    ],
    ids=lambda text: text[:40],
)
def test_a_url_leads_to_a_host_and_a_port(text, place):
    """The host is read in small letters and the port is the scheme's where none is given."""
    assert place == host_and_port(read_url(text))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", HOST),
        ("https://%61.example/", HOST),
        ("https://a<b/", HOST),
        ("https://a|b.example/", HOST),
        ("https://[fe80::1%25eth0]/", HOST),
        ("a.example", HOST),
        ("//a.example/x", HOST),
        ("/x.png", HOST),
        ("https:", HOST),
        ("https:a.example", HOST),
        ("https:/a.example", HOST),
        ("https://", HOST),
        ("https:///x", HOST),
        ("https://:443/", HOST),
        ("https://?x", HOST),
        ("https://#x", HOST),
        ("ftp://a.example/", HOST),
        ("file:///etc/passwd", HOST),
        ("file://a.example/etc/passwd", HOST),
        ("data:image/png;base64,AAAA", HOST),
        ("javascript:alert(1)", HOST),
        ("gopher://a.example/", HOST),
        ("ws://a.example/", HOST),
        ("httpss://a.example/", HOST),
        ("https://a.example:0/", HOST),
        ("https://me@a.example/", NAME),
        ("https://me:pw@a.example/", NAME),
        ("https://:pw@a.example/", NAME),
        ("https://@a.example/", NAME),
        ("https://a.example@evil.example/", NAME),
        ("https://a.example:99999/", UNREADABLE),
        ("https://a.example:-1/", UNREADABLE),
        ("https://a.example:+1/", UNREADABLE),
        ("https://a.example:8_0/", UNREADABLE),
        ("https://a.example:x/", UNREADABLE),
        ("https://a.example:80:80/", UNREADABLE),
        ("https://[::1/", UNREADABLE),
        ("https://::1]/", UNREADABLE),
        ("https://[evil]/", UNREADABLE),
        ("http://[::1]8000/", UNREADABLE),
        ("https://[::1]8000:443/", UNREADABLE),
        ("https://a[::1]/", UNREADABLE),
        ("https://[127.0.0.1]/", UNREADABLE),
        ("https://a.example\\@evil.example/", CHARACTERS),
        ("https:\\\\a.example/", CHARACTERS),
        ("https://a.example/x y", CHARACTERS),
        (" https://a.example/", CHARACTERS),
        ("https://a.example/\n", CHARACTERS),
        ("https://a.example/\r\nHost: evil", CHARACTERS),
        ("ht\ttps://a.example/", CHARACTERS),
        ("https://a.example/\0", CHARACTERS),
        ("https://a.example/\x7f", CHARACTERS),
        ("https://b\u00fccher.example/", CHARACTERS),
        ("https://a.example/\u00e9", CHARACTERS),
        ("https://\uff11\uff12\uff17.0.0.1/", CHARACTERS),
        ("https://\u0661\u0662\u0667.0.0.1/", CHARACTERS),
        ("https://a\u3002example/", CHARACTERS),
        ("https://a\u2044example/", CHARACTERS),
        ("https://a.example/\ud800", CHARACTERS),
        ("https://a.example/" + "x" * (LONGEST - 17), f"must have at most {LONGEST} characters"),
        ("https://a.example/" + "x" * 10**6, f"must have at most {LONGEST} characters"),
    ],
    ids=lambda text: ascii(text)[:40],
)
def test_any_other_text_is_refused(text, problem):
    """What two libraries could read in two ways is refused before either sees it, without being repeated (B5)."""
    with pytest.raises(ValueError, match=r"^(must|is) ") as caught:
        read_url(text)
    assert problem == str(caught.value)
    assert caught.value.__cause__ is None


@given(st.text("htps:/@.#?[]\\ae1%7\u00e9\t;=&_-", max_size=24))
@example("https://a.example:443@evil.example/")
@example("https://a.example;@evil.example/")
@example("https://[::1]@evil.example/")
@example("https://[::1]evil.example/")
@example("https://1.1.1.1 &@2.2.2.2# @3.3.3.3/")
@example("https://a.example:80#@evil.example/")
def test_an_accepted_url_leads_where_the_library_goes(tail):
    """Whatever the text, one that is accepted means the very same host and port to the library that calls it."""
    text = tail if tail.startswith("http") else "https://" + tail
    try:
        parts, url = read_url(text), httpx.URL(text)
    except (ValueError, httpx.InvalidURL):
        return
    port = url.port or (443 if url.scheme == "https" else 80)
    assert (parts.hostname, host_and_port(parts).rpartition(":")[2]) == (url.host, str(port))
    assert not url.userinfo


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.9.9.9", "::1", "0:0:0:0:0:0:0:1"])
def test_this_machine_is_known_by_its_names(host):
    """These names mean this machine, whatever any resolver says."""
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host",
    [
        "", "localhost.", "localhost.evil.example", "a.localhost", "127.1", "2130706433", "0x7f000001", "10.0.0.1",
        "128.0.0.1", "0.0.0.0", "::", "::2", "[::1]", "127.0.0.1 ", "LOCALHOST",  # noqa: S104 - nothing is bound
    ],
)  # fmt: skip
def test_other_names_are_not_taken_for_this_machine(host):
    """A name that only looks like this machine's, or that needs to be resolved, is not taken for it."""
    assert not is_loopback(host)
