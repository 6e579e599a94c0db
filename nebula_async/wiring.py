"""What a client is made of: the engine, the generator above it, and what they share."""

from __future__ import annotations

from collections.abc import AsyncIterable, Awaitable, Callable, Iterable
from decimal import Decimal
from functools import partial
from random import Random, SystemRandom
from typing import TypeVar

from attrs import evolve, frozen

from nebula_async.api.account import read_credits, read_models
from nebula_async.api.catalog import Model
from nebula_async.api.messages import HttpRequest, Reply
from nebula_async.config import Config
from nebula_async.delivery import Delivery
from nebula_async.engine.call import Caller
from nebula_async.engine.connections import ConnectionStack
from nebula_async.engine.download import Downloader
from nebula_async.engine.fanout import FanOut
from nebula_async.engine.gate import Gate, local_gate, shared_gate, workers_for
from nebula_async.engine.proxy import Proxy
from nebula_async.engine.reading import WholeReply
from nebula_async.engine.transport import Credentials, HttpTransport, Transport
from nebula_async.errors import ConfigurationError
from nebula_async.events import Observer
from nebula_async.generation import Generator
from nebula_async.items import Item, Result, end_of_day
from nebula_async.keys import account_of, digest_of, find_key
from nebula_async.offload import offload

Value = TypeVar("Value")


@frozen
class Wiring:
    """The parts of a client; siblings share connections, downloads, gate and prices."""

    caller: Caller
    downloader: Downloader
    generator: Generator

    @property
    def gate(self) -> Gate:
        """What holds the account's limits."""
        return self.caller.gate

    def for_sibling(self, config: Config, observer: Observer | None) -> Wiring:
        """Return the same with other settings, and another observer where one is given."""
        return self._with(evolve(self.caller, config=config, notify=observer or self.caller.notify))

    def sleeping(self, sleep: Callable[[float], Awaitable[None]]) -> Wiring:
        """Return the same with another way to pass the time between attempts."""
        return self._with(evolve(self.caller, sleep=sleep))

    def fan_out(
        self,
        work: Callable[[int, Item], Awaitable[Result]],
        items: Iterable[Item] | AsyncIterable[Item],
        concurrency: int | None,
        *,
        is_ordered: bool,
    ) -> FanOut[Item, Result]:
        """Return the run of many items; it ends with the day's quota."""
        return FanOut(work, items, workers_for(self.caller.config, concurrency), is_ordered, end_of_day)

    async def models(self) -> tuple[Model, ...]:
        """Return the models that the API lists, and go by their prices from now on."""
        found = await self._get("serverless/models", read_models)
        self.generator.learn_prices(found)
        return found

    async def credits(self) -> Decimal:
        """Return the account's balance in USD."""
        return await self._get("users/credits", read_credits)

    async def aclose(self) -> None:
        """Close the connections of the running event loop."""
        try:
            await self.caller.transport.aclose()
        finally:
            await self.downloader.aclose()

    def _with(self, caller: Caller) -> Wiring:
        return evolve(self, caller=caller, generator=evolve(self.generator, caller=caller))

    async def _get(self, path: str, read: Callable[[Reply], Value]) -> Value:
        request = HttpRequest(method="GET", url=f"{self.caller.config.base_url}/{path}")

        async def parse(reply: Reply) -> Value:
            return await offload(read, reply)

        return (await self.caller.call(request, partial(WholeReply, parse))).value


def wire(
    config: Config,
    api_key: Callable[[], str],
    transport: HttpTransport | None,
    gate: Gate | None,
    observer: Observer,
    made_at: str,
) -> Wiring:
    """Put a client together. Raises `ConfigurationError`."""
    source = SystemRandom()
    credentials = Credentials((config.base_url, config.inference_url), find_key(api_key), account_of(api_key))
    if transport is not None and config.proxy is not None:
        raise ConfigurationError("transport and proxy cannot both be given; give the proxy to the transport")
    proxy = None if config.proxy is None else Proxy.at(config.proxy)
    keep_alive = config.keep_alive
    make_stack = partial(ConnectionStack, proxy=proxy, keep_alive=keep_alive)
    connected = Transport(credentials, transport, made_at, make_stack, config.accept_gzip, keep_alive)
    allowed, public = frozenset(config.allowed_image_hosts), config.public_image_hosts
    downloader = Downloader(allowed, source, transport, made_at, proxy, keep_alive, public)
    gate = gate or _gate(config, api_key, source, observer, is_shared=transport is None)
    caller = Caller(connected, gate, config, observer, source)
    return Wiring(caller, downloader, Generator(caller, Delivery(downloader)))


def _gate(config: Config, key: Callable[[], str], source: Random, observer: Observer, *, is_shared: bool) -> Gate:
    """Return the gate of the account in this process or on this host; a transport of the user's own leads elsewhere."""
    if is_shared and config.shared_by == "host":
        from nebula_async.engine.hostgate import host_gate  # it loads a database

        return host_gate(config, digest_of(key), source, observer)
    return shared_gate(config, account_of(key), source) if is_shared else local_gate(config, source)
