"""AsyncNebula: the verbs. It wires the floors below; the logic is theirs."""

from __future__ import annotations

import copy
import sys
from collections.abc import AsyncIterable, Callable, Iterable
from decimal import Decimal
from functools import partial
from random import Random, SystemRandom
from types import FrameType, TracebackType
from typing import Any, TypeAlias, TypeVar, overload

from attrs import evolve

from nebula_async.api.account import read_credits, read_models
from nebula_async.api.catalog import Model
from nebula_async.api.messages import HttpRequest, Reply
from nebula_async.checks import shown
from nebula_async.config import Config, Tier, Timeouts
from nebula_async.delivery import Delivery
from nebula_async.engine.call import Caller
from nebula_async.engine.connections import ConnectionStack
from nebula_async.engine.download import Downloader
from nebula_async.engine.fanout import FanOut
from nebula_async.engine.gate import Gate, Limits, local_gate, shared_gate, workers_for
from nebula_async.engine.proxy import Proxy
from nebula_async.engine.reading import WholeReply
from nebula_async.engine.transport import Credentials, HttpTransport, Transport
from nebula_async.errors import ConfigurationError, RateLimitError
from nebula_async.events import Observer, guarded, log_event
from nebula_async.generation import Generator, check_shared, end_of_day, fill_in, likeness
from nebula_async.images.image import Image
from nebula_async.images.sources import PictureSource
from nebula_async.keys import KeySource, account_of, find_key, hide
from nebula_async.offload import offload
from nebula_async.requests import ImageRequest, InferenceRequest, Request
from nebula_async.results import Failure, Generation
from nebula_async.sinks.sink import Sink

Item: TypeAlias = str | ImageRequest | InferenceRequest
Result: TypeAlias = Generation | Failure
Value = TypeVar("Value")

ACCOUNT = {"base_url", "inference_url", "tier", "rate_limit", "concurrency"}
SHARED = ACCOUNT | {"allowed_image_hosts", "proxy", "accept_gzip"}
"""Settings of the account, and of the connections that siblings share."""


class AsyncNebula:
    """A client of the Nebula Block image API, for asyncio and trio.

    The key comes from `api_key` (text, or a callable where keys rotate), else from `NEBULA_API_KEY`; without one, or
    with a malformed one, `ConfigurationError` is raised here. `config` holds all settings, and the environment is only
    read without it (`Config.from_env`); named options win over both. `timeout` is the total for a call in seconds, or
    `Timeouts`;
    `rate_limit` is in requests a minute. `transport` is an httpx transport of your own, `gate` one shared with others
    (by default, clients of an account that were given the same limit share it in an event loop), `observer` is told
    what happens (by default it is logged under `nebula_async`).

    The client starts no task, and is usable at once, from several event loops one after the other. Close it with
    `async with` or `aclose()`; one that was used and never closed gives a `ResourceWarning`.
    """

    def __init__(
        self,
        api_key: KeySource | None = None,
        *,
        config: Config | None = None,
        base_url: str | None = None,
        timeout: float | Timeouts | None = None,
        tier: Tier | str | None = None,
        rate_limit: float | None = None,
        concurrency: int | None = None,
        transport: HttpTransport | None = None,
        gate: Gate | None = None,
        observer: Observer | None = None,
    ) -> None:
        api_key = hide(api_key)  # from here on no report that shows local variables shows it
        config = Config.from_env() if config is None else config
        if not isinstance(config, Config):
            raise ConfigurationError(f"config must be a Config; got {shown(config)}")
        options = {
            "base_url": base_url,
            "timeouts": _timeouts(config, timeout),
            "tier": tier,
            "rate_limit": rate_limit,
            "concurrency": concurrency,
        }
        given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
        self.config = evolve(config, **given)
        source = SystemRandom()
        place = _caller_place()
        credentials = Credentials((self.config.base_url, self.config.inference_url), find_key(api_key))
        if transport is not None and self.config.proxy is not None:
            raise ConfigurationError("transport and proxy cannot both be given; give the proxy to the transport")
        proxy = None if self.config.proxy is None else Proxy.at(self.config.proxy)
        make_stack = partial(ConnectionStack, proxy=proxy)
        self._transport = Transport(credentials, transport, place, make_stack, self.config.accept_gzip)
        self._downloader = Downloader(frozenset(self.config.allowed_image_hosts), source, transport, place, proxy)
        self._caller = Caller(
            self._transport,
            gate or self._open_gate(api_key, source, is_shared=transport is None),
            self.config,
            guarded(observer or log_event),
            source,
        )
        # what runs many items by itself, as a bulk job does, calls it
        self.generator = Generator(self._caller, Delivery(self._downloader))

    async def __aenter__(self) -> AsyncNebula:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections, also those of siblings (`with_options`). A call made later is a `RuntimeError`."""
        try:
            await self._transport.aclose()
        finally:
            await self._downloader.aclose()

    @property
    def limits(self) -> Limits:
        """What is believed now of the account's limits: requests a minute, today's, in flight, waiting, held."""
        return self._caller.gate.limits

    def __repr__(self) -> str:
        config = getattr(self, "config", None)  # reports of errors show clients that could not be made
        return f"AsyncNebula({'…' if config is None else repr(config.base_url)})"

    def with_options(
        self,
        *,
        timeout: float | Timeouts | None = None,
        observer: Observer | None = None,
        **changes: Any,
    ) -> AsyncNebula:
        """Return a sibling with other settings (`retry=RetryPolicy(…)`, `timeout=…`, any field of `Config` that is not
        about the account or its hosts); it shares connections and rate limit. Raises `ConfigurationError`.
        """
        allowed = {name for name in Config.__annotations__ if name not in SHARED}
        if unknown := sorted(changes.keys() - allowed):
            raise ConfigurationError(
                f"with_options cannot change {', '.join(unknown)}; it can change {', '.join(sorted(allowed))}"
            )
        if timeout is not None:
            changes["timeouts"] = _timeouts(self.config, timeout)
        notify = guarded(observer) if observer else self._caller.notify
        sibling = copy.copy(self)
        sibling.config = evolve(self.config, **changes)
        sibling._caller = evolve(self._caller, config=sibling.config, notify=notify)
        sibling.generator = evolve(self.generator, caller=sibling._caller)
        return sibling

    @overload
    async def generate(self, prompt: Request, /, *, download: bool = True, sink: Sink | None = None) -> Generation: ...

    @overload
    async def generate(
        self,
        prompt: str,
        *,
        model: str,
        width: int | None = None,
        height: int | None = None,
        num_steps: int | None = None,
        guidance_scale: float | None = None,
        seed: int | None = None,
        negative_prompt: str | None = None,
        image: PictureSource | None = None,
        mask: PictureSource | None = None,
        download: bool = True,
        sink: Sink | None = None,
    ) -> Generation: ...

    async def generate(
        self,
        prompt: str | Request,
        *,
        model: str | None = None,
        width: int | None = None,
        height: int | None = None,
        num_steps: int | None = None,
        guidance_scale: float | None = None,
        seed: int | None = None,
        negative_prompt: str | None = None,
        image: PictureSource | None = None,
        mask: PictureSource | None = None,
        download: bool = True,
        sink: Sink | None = None,
    ) -> Generation:
        """Generate a picture and return it, decoded: from a prompt and the parameters of `ImageRequest`, or from an
        `ImageRequest` or `InferenceRequest`.

        A picture that comes as a URL is fetched, with `download=False` it is left there: `download(image)` fetches it
        within the hour. With a `sink` the picture is streamed into it while it arrives, under the words of its `id`
        or prompt: `image.stored` says where, and it takes no memory. Raises `InvalidRequestError` before anything
        is sent, else the `NebulaError` that the call ended with; both say what it may have cost (`charges`) and whether
        trying again can help (`retryable`). Cancelling the call closes its connection; what was sent by then may have
        been paid for.
        """
        parameters = {
            "model": model,
            "width": width,
            "height": height,
            "num_steps": num_steps,
            "guidance_scale": guidance_scale,
            "seed": seed,
            "negative_prompt": negative_prompt,
            "image": image,
            "mask": mask,
        }
        if isinstance(prompt, ImageRequest | InferenceRequest) and any(
            value is not None for value in parameters.values()
        ):
            raise TypeError("generate takes a request alone; attrs.evolve(request, …) changes one")
        return await self.generator.generate(fill_in(prompt, parameters), download=download, sink=sink)

    def generate_many(
        self,
        prompts_or_requests: Iterable[Item] | AsyncIterable[Item],
        *,
        concurrency: int | None = None,
        ordered: bool = False,
        download: bool = True,
        sink: Sink | None = None,
        **shared: Any,
    ) -> FanOut[Item, Result]:
        """Generate many pictures: `async with nebula.generate_many(…) as results`, then `async for result in results`.

        Takes an iterable or async iterable of prompts and requests of both kinds, lazily and with back-pressure;
        `shared` parameters fill in what an item leaves out, a prompt becomes an `ImageRequest`; `concurrency` can lower
        the client's own, not raise it. Yields a `Generation` or `Failure` for each, as they finish, or in the order of
        the items; both carry `index` and `request`. One item never raises: throttling is waited out, and only the daily
        quota ends the iteration, after the results of what was taken, with one `RateLimitError` (`is_daily`) and the
        rest untaken. With a `sink` pictures are streamed into it, under their index and the words of `id` or prompt:
        `image.stored` says where. Leaving the block cancels what is in flight; what was sent by then may have been paid
        for.
        """
        _refuse_one(prompts_or_requests)
        check_shared(shared)
        workers = workers_for(self.config, concurrency)
        work = partial(self.generator.result, shared, download=download, sink=sink)
        return FanOut(work, prompts_or_requests, workers, ordered, end_of_day)

    async def generate_all(
        self,
        prompts_or_requests: Iterable[Item] | AsyncIterable[Item],
        *,
        concurrency: int | None = None,
        download: bool = True,
        sink: Sink | None = None,
        **shared: Any,
    ) -> list[Result]:
        """Generate many pictures and return all results in the order of the items, however they end.

        Items and results are all held in memory; the items are read to their end before anything is sent. Once the
        daily quota is used up, what is left of them fails with that error.
        """
        items = await _listed(prompts_or_requests)
        found: dict[int, Result] = {}
        async with self.generate_many(
            items, concurrency=concurrency, download=download, sink=sink, **shared
        ) as results:
            try:
                async for result in results:
                    found[result.index] = result
            except RateLimitError as error:
                found |= {
                    index: Failure(request=likeness(items[index], shared), error=evolve(error), index=index)
                    for index in range(len(items))
                    if index not in found
                }
        return [found[index] for index in range(len(items))]

    async def download(self, image: Image) -> Image:
        """Fetch a picture that was left at its URL and return it with its bytes; one that has them is returned at once.

        Costs nothing, works within the hour after generation, and is repeated until it succeeds, the URL is gone, or
        the total timeout is over. The key is not sent; only public hosts are called, and `allowed_image_hosts`. Raises
        `DownloadError`, `retryable` where trying again may help, and `InvalidRequestError` for a picture without a URL.
        """
        return await self.generator.delivery.fetch(image, self.config, seconds=self.config.timeouts.total)

    async def models(self) -> tuple[Model, ...]:
        """Return the models that the API lists, with their prices; from then on `Generation.cost` goes by these.

        Costs nothing.
        """
        listed = await self._get("serverless/models", read_models)
        self.generator.learn_prices(listed)
        return listed

    async def credits(self) -> Decimal:
        """Return the account's balance in USD. Costs nothing."""
        return await self._get("users/credits", read_credits)

    def _open_gate(self, key: Callable[[], str], source: Random, *, is_shared: bool) -> Gate:
        """Return the gate of the account in this process; where a transport of the user's own leads is not known."""
        return shared_gate(self.config, account_of(key), source) if is_shared else local_gate(self.config, source)

    async def _get(self, path: str, read: Callable[[Reply], Value]) -> Value:
        request = HttpRequest(method="GET", url=f"{self.config.base_url}/{path}")

        async def parse(reply: Reply) -> Value:
            return await offload(read, reply)

        return (await self._caller.call(request, partial(WholeReply, parse))).value


def _timeouts(config: Config, given: float | Timeouts | None) -> Timeouts | None:
    return given if given is None or isinstance(given, Timeouts) else evolve(config.timeouts, total=given)


def _refuse_one(items: object) -> None:
    if isinstance(items, str | bytes | ImageRequest | InferenceRequest):
        raise TypeError("this takes an iterable of prompts or requests; for one picture use generate")


async def _listed(items: Iterable[Item] | AsyncIterable[Item]) -> list[Item]:
    _refuse_one(items)
    return [item async for item in items] if isinstance(items, AsyncIterable) else list(items)


def _caller_place() -> str:
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_name == "__init__":  # subclasses have their own
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame else "an unknown place"
