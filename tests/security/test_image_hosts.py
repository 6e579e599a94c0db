"""Which public hosts pictures are fetched from: any, or those that are named; and that a new one is told."""

from __future__ import annotations

import logging
from random import Random

import httpx
import pytest

from nebula_async.api.messages import Reply
from nebula_async.config import Config, RetryPolicy
from nebula_async.engine.download import Downloader
from nebula_async.engine.reading import WholeReply
from nebula_async.errors import DownloadError

pytestmark = pytest.mark.anyio

SIGNED = "/1.png?X-Amz-Signature=canary-of-a-signature"
AWAY = "https://elsewhere.example/2.png"

PLACES = [
    (None, f"https://pictures.example{SIGNED}", None),
    (("pictures.example:443",), f"https://pictures.example{SIGNED}", None),
    (("pictures.example:443",), f"https://PICTURES.example:443{SIGNED}", None),
    (("pictures.example:8443",), f"https://pictures.example:8443{SIGNED}", None),
    (("pictures.example:443",), f"https://pictures.example:8443{SIGNED}", "pictures.example:8443"),
    (("pictures.example:443",), f"https://pictures.example.evil.io{SIGNED}", "pictures.example.evil.io:443"),
    (("pictures.example:443",), f"https://a.pictures.example{SIGNED}", "a.pictures.example:443"),
    (("pictures.example:443",), "https://pictures.example/away", "elsewhere.example:443"),
    (("pictures.example:443", "elsewhere.example:443"), "https://pictures.example/away", None),
]


class Storages(httpx.MockTransport):
    """All storages there are; what they are asked for as `/away` is elsewhere."""

    def __init__(self) -> None:
        super().__init__(self.say)
        self.asked: list[str] = []

    def say(self, request: httpx.Request) -> httpx.Response:
        """Answer a request."""
        self.asked.append(request.url.host)
        if request.url.path == "/away":
            return httpx.Response(302, headers={"Location": AWAY})
        return httpx.Response(200, content=b"picture")


async def whole(reply: Reply) -> bytes:
    """Read a picture as it is."""
    return reply.body


async def fetch(storages: Storages | None, *urls: str, only: tuple[str, ...] | None = None, allowed=()) -> list[bytes]:
    """Fetch URLs with one client's downloader."""
    downloader = Downloader(frozenset(allowed), Random(7), storages, public_hosts=only)  # noqa: S311 - waits
    config = Config(retry=RetryPolicy(backoff=0))
    try:
        return [await downloader.fetch(url, lambda: WholeReply(whole), config, seconds=5) for url in urls]
    finally:
        await downloader.aclose()


@pytest.mark.parametrize(("only", "url", "refused"), PLACES, ids=str)
async def test_only_named_hosts_are_called(only, url, refused):
    """With `public_image_hosts` no other public host is asked, whoever names it; the refusal says how to allow it."""
    storages = Storages()
    if refused is None:
        assert [b"picture"] == await fetch(storages, url, only=only)
        return
    with pytest.raises(DownloadError) as caught:
        await fetch(storages, url, only=only)
    told = f"none of public_image_hosts (NEBULA_PUBLIC_IMAGE_HOSTS), which may name {refused}, if you trust it"
    assert f"the picture cannot be fetched: its host is {told}" == caught.value.message
    assert (True, False) == (caught.value.is_forbidden, caught.value.retryable)
    assert refused.partition(":")[0] not in storages.asked


async def test_a_near_host_stays_refused_though_it_is_named():
    """`public_image_hosts` narrows what may be called, and opens nothing."""
    with pytest.raises(DownloadError, match="leads to an address that is not public"):
        await fetch(None, "https://127.0.0.1:1/1.png", only=("127.0.0.1:1",))


async def test_plain_http_stays_refused_though_it_is_named():
    """A host that is named is called by https alone."""
    with pytest.raises(DownloadError, match="must begin with https://"):
        await fetch(Storages(), "http://pictures.example/1.png", only=("pictures.example:80",))


async def test_the_first_change_of_hosts_is_told(caplog):
    """A storage seldom moves: a second public host is a warning, once, with its name and without its URL."""
    caplog.set_level(logging.WARNING)
    urls = [f"https://{name}.example{SIGNED}" for name in ("pictures", "pictures", "evil", "pictures", "other", "evil")]
    await fetch(Storages(), *urls)
    [record] = caplog.records
    told = "pictures are fetched from evil.example:443 too, and were from pictures.example:443 alone"
    assert ("WARNING", told) == (record.levelname, record.getMessage())


async def test_an_allowed_host_is_no_change(caplog):
    """What `allowed_image_hosts` names is known, and told of neither way."""
    caplog.set_level(logging.WARNING)
    allowed = "http://127.0.0.1:8000/1.png"
    await fetch(Storages(), allowed, f"https://pictures.example{SIGNED}", allowed, allowed=["127.0.0.1:8000"])
    assert [] == caplog.records
