"""Where a URL leads is checked, and so is each redirect from there: what may not be called is refused, unconnected."""

from __future__ import annotations

import pytest
from wire import RawServer, answer, download, place, undelivered

pytestmark = pytest.mark.anyio


# Redirects


async def test_a_redirect_is_followed(replies):
    """A redirect to another allowed host is followed, with nothing but the URL going along."""
    other = replies(answer(200, b"picture"))
    server = replies(answer(302, b"", f"Location: {other.url}/there?x=1#y", "Set-Cookie: a=b"))
    assert b"picture" == await download(f"{server.url}/here", place(server), place(other))
    assert other.requests[0].startswith(b"GET /there?x=1 HTTP/1.1\r\n")
    assert b"cookie" not in other.requests[0].lower()
    assert b"referer" not in other.requests[0].lower()


@pytest.mark.parametrize(
    ("status", "location", "path"),
    [
        (301, "/x/2.png", "/x/2.png"),
        (302, "2.png", "/a/2.png"),
        (303, "../2.png?y", "/2.png?y"),
        (307, "?y", "/a/1.png?y"),
        (308, "./", "/a/"),
    ],
)
async def test_a_relative_redirect_is_followed(replies, status, location, path):
    """A redirect may name its target from where it is, as HTTP has it."""
    server = replies(answer(status, b"", f"Location: {location}"), answer(200, b"picture"))
    assert b"picture" == await download(f"{server.url}/a/1.png", place(server))
    assert server.requests[1].startswith(f"GET {path} HTTP/1.1\r\n".encode())


@pytest.mark.parametrize("hops", [3, 4, 21])
async def test_three_redirects_are_followed_and_no_more(replies, hops):
    """A chain of three redirects leads to the picture; a longer one, or a ring, is given up for good (B42)."""
    server = replies(*[answer(302, b"", f"Location: /{hop}") for hop in range(hops)], answer(200, b"picture"))
    if hops == 3:
        assert b"picture" == await download(server.url, place(server))
        return
    error = await undelivered(server.url, place(server))
    assert ("the picture cannot be fetched: its URL is redirected more than 3 times", False) == (
        error.message, error.retryable,
    )  # fmt: skip
    assert 4 == len(server.requests)


async def test_a_redirect_without_a_target_is_an_answer(replies):
    """A redirect that does not say where to is like any other answer without a picture."""
    server = replies(*[answer(302)] * 3)
    assert "its storage answered HTTP 302" in str(await undelivered(server.url, place(server)))


@pytest.mark.parametrize(
    ("location", "problem"),
    [
        (
            "http://127.0.0.1:{port}/",
            "allowed_image_hosts (NEBULA_ALLOWED_IMAGE_HOSTS) may name 127.0.0.1:{port}",
        ),
        ("http://pictures.example/", "(NEBULA_ALLOWED_IMAGE_HOSTS) may name pictures.example:80"),
        ("//127.0.0.1:{port}/", "its URL must begin with https://"),
        ("https://127.0.0.1:{port}/", "leads to an address that is not public"),
        ("https://localhost:{port}/", "leads to an address that is not public"),
        ("https://127.1:{port}/", "leads to an address that is not public"),
        ("https://[::ffff:7f00:1]:{port}/", "leads to an address that is not public"),
        ("https://169.254.169.254/latest/meta-data/", "leads to an address that is not public"),
        ("https://me@127.0.0.1:{port}/", "its URL must have no user name"),
        ("https://127.0.0.1:0/", "its URL must begin with https:// and a host"),
        ("https://127.0.0.1:99999/", "its URL is no URL"),
        ("https://[::1", "its URL is no URL"),
        ("file:///etc/passwd", "its URL must begin with https:// and a host"),
        ("ftp://127.0.0.1:{port}/", "its URL must begin with https:// and a host"),
        ("data:image/png;base64,AAAA", "its URL must begin with https:// and a host"),
        ("javascript:alert(1)", "its URL must begin with https:// and a host"),
        ("\\\\127.0.0.1:{port}\\x", "its URL must have no backslash"),
        ("/a b.png", "its URL must have no backslash, blank"),
        ("/\xe9.png", "non-ASCII"),
        ("/" + "x" * 8192, "its URL must have at most 8192 characters"),
    ],
    ids=lambda text: text[:40],
)
async def test_a_redirect_may_not_lead_just_anywhere(serve, replies, location, problem):
    """Each hop is checked like the URL itself: one that may not be called is refused for good, with no connection
    (B42).
    """
    other = serve(RawServer.read_request)
    port = other.url.rpartition(":")[2]
    server = replies(answer(302, b"", f"Location: {location.format(port=port)}"), answer(200, b"picture"))
    error = await undelivered(server.url, place(server))

    assert not error.retryable
    assert problem.format(port=port) in str(error)
    assert 1 == len(server.requests)
    assert [] == other.connections


async def test_a_redirect_may_leave_tls_for_an_allowed_host_only(serve, replies, certified, trusted):
    """From https to plain http a redirect is followed where the host is allowed by name, and nowhere else (B42)."""
    plain = replies(answer(200, b"picture"))

    def handle(server, connection):
        while server.read_request(connection):
            connection.sendall(answer(302, b"", f"Location: {plain.url}/x"))

    server = serve(handle, tls=certified)
    error = await undelivered(server.url, place(server))
    assert "its URL must begin with https://" in str(error)
    assert [] == plain.connections
    assert b"picture" == await download(server.url, place(server), place(plain))


# URLs


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("http://127.0.0.1:{port}/", "(NEBULA_ALLOWED_IMAGE_HOSTS) may name 127.0.0.1:{port}"),
        ("http://localhost:{port}/", "(NEBULA_ALLOWED_IMAGE_HOSTS) may name localhost:{port}"),
        ("ftp://127.0.0.1:{port}/", "must begin with https:// and a host"),
        ("file:///etc/passwd", "must begin with https:// and a host"),
        ("/1.png", "must begin with https:// and a host"),
        ("1.png", "must begin with https:// and a host"),
        ("//127.0.0.1:{port}/", "must begin with https:// and a host"),
        ("https://:{port}/", "must begin with https:// and a host"),
        ("https://127.0.0.1:0/", "must begin with https:// and a host"),
        ("https://127.0.0.1:99999/", "is no URL"),
        ("https://me@127.0.0.1:{port}/", "must have no user name"),
        ("https://me:pw@127.0.0.1:{port}/", "must have no user name"),
        ("https://pictures.example\\@127.0.0.1:{port}/", "must have no backslash"),
        ("https://127.0.0.1:{port}/\r\nX: y", "must have no backslash, blank, control"),
        ("https://\uff11\uff12\uff17.0.0.1:{port}/", "non-ASCII"),
        ("https://\u2460\u2461\u2466.0.0.1:{port}/", "non-ASCII"),
        ("https://127.0.0.1:{port}/" + "x" * 8192, "must have at most 8192 characters"),
    ],
    ids=lambda text: ascii(text)[:40],
)
async def test_a_url_that_may_not_be_called_is_refused(serve, url, problem):
    """A URL that is not plain https to a host is refused at once and for good: nothing is connected to or looked up
    (B40, B41).
    """
    server = serve(RawServer.read_request)
    port = server.url.rpartition(":")[2]
    error = await undelivered(url.format(port=port), "127.0.0.1:1")

    assert error.message.startswith("the picture cannot be fetched: its URL ")
    assert problem.format(port=port) in str(error)
    assert not error.retryable
    assert [] == server.connections
    assert len(error.message) < 250


@pytest.mark.parametrize("host", ["127%2e0%2e0%2e1", "127.0.0.1%00.example"])
async def test_a_host_with_escapes_is_not_unescaped(serve, host):
    """A host that is written with percent signs is nobody's name: this machine is not connected to (B40)."""
    server = serve(RawServer.read_request)
    error = await undelivered(f"https://{host}:{server.url.rpartition(':')[2]}/", seconds=10)
    assert "its URL must begin with https:// and a host" in str(error)
    assert ([], False) == (server.connections, error.retryable)


async def test_the_longest_url_is_called(replies):
    """A URL of 8 KiB, as signed ones can be, is called (B41)."""
    server = replies(answer(200, b"picture"))
    url = f"{server.url}/1.png?sig="
    assert b"picture" == await download(url + "x" * (8192 - len(url)), place(server))
