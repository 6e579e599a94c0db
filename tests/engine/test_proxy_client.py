"""A proxy and packed replies, as a user asks for them."""

from __future__ import annotations

import httpx
import pytest

from nebula_async.charges import Charges
from nebula_async.client import AsyncNebula
from nebula_async.config import Config, RetryPolicy
from nebula_async.errors import ConfigurationError, NotSentError

SMALL = {"model": "black-forest-labs/FLUX.1-schnell", "width": 16, "height": 16}


@pytest.mark.anyio
async def test_a_proxy_of_ones_own_choice(serve, monkeypatch):
    """A proxy that is given is asked, and only for a tunnel; one that the environment names is not (S12)."""
    chosen, named = (serve(lambda server, connection: server.read_request(connection)) for _ in range(2))
    for variable in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "https_proxy", "all_proxy"):
        monkeypatch.setenv(variable, named.url)
    config = Config(base_url="https://api.nebula.test/api/v1", proxy=chosen.url, retry=RetryPolicy(backoff=0))
    async with AsyncNebula("sk-secret", config=config) as nebula:
        with pytest.raises(NotSentError) as caught:
            await nebula.generate("a cat", **SMALL)

    assert (3, Charges(0, 0), True) == (caught.value.attempts, caught.value.charges, caught.value.retryable)
    assert (3, 0) == (len(chosen.requests), len(named.requests))
    assert all(text.startswith(b"CONNECT api.nebula.test:443 ") for text in chosen.requests)
    assert not any(b"secret" in text for text in chosen.requests)


@pytest.mark.anyio
async def test_this_machine_is_not_called_through_a_proxy(emulator, serve):
    """An emulator on this machine is called directly, whatever proxy is given."""
    proxy = serve(lambda server, connection: server.read_request(connection))
    async with AsyncNebula(emulator.key, config=Config(base_url=emulator.base_url, proxy=proxy.url)) as nebula:
        assert 16 == (await nebula.generate("a cat", **SMALL)).image.width
    assert [] == proxy.requests


def test_a_proxy_belongs_to_the_transport():
    """With a transport of the user's own a proxy would be passed by: giving both is refused."""
    with pytest.raises(ConfigurationError, match="give the proxy to the transport"):
        AsyncNebula("sk-1", config=Config(proxy="http://127.0.0.1:1"), transport=httpx.AsyncHTTPTransport())


@pytest.mark.anyio
@pytest.mark.parametrize(("accept_gzip", "coding"), [(False, b"identity"), (True, b"gzip")])
async def test_packed_replies_are_asked_for_where_they_are_wanted(serve, accept_gzip, coding):
    """`accept_gzip` asks for packed replies; by default they are not wanted."""
    server = serve(lambda server, connection: server.read_request(connection))
    config = Config(base_url=server.url, accept_gzip=accept_gzip, retry=RetryPolicy(attempts=1))
    async with AsyncNebula("sk-1", config=config) as nebula:
        with pytest.raises(Exception, match="no complete reply"):
            await nebula.generate("a cat", **SMALL)
    assert b"\r\nAccept-Encoding: " + coding + b"\r\n" in server.requests[0]
