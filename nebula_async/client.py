"""AsyncNebula: the verbs. It wires the floors below; the logic is theirs."""

from __future__ import annotations

import copy
import sys
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable
from decimal import Decimal
from functools import partial
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, TypeAlias, overload

from attrs import evolve

from nebula_async.api.catalog import Model
from nebula_async.checks import shown
from nebula_async.config import Config, Tier, Timeouts
from nebula_async.errors import ConfigurationError, RateLimitError
from nebula_async.events import Observer, guarded, log_event
from nebula_async.images.image import Image
from nebula_async.images.sources import PictureSource
from nebula_async.items import Item, Result, check_shared, fill_in, likeness, listed, refuse_one
from nebula_async.keys import KeySource, hide
from nebula_async.requests import ImageRequest, InferenceRequest, Request
from nebula_async.results import Failure, Generation, ResultList
from nebula_async.sinks.sink import check_sink

if TYPE_CHECKING:
    from nebula_async.engine.fanout import FanOut
    from nebula_async.engine.gate import Gate, Limits
    from nebula_async.engine.transport import HttpTransport
    from nebula_async.sinks.sink import Sink

ACCOUNT = {"base_url", "inference_url", "tier", "rate_limit", "shared_by", "concurrency"}
SHARED = ACCOUNT | {"allowed_image_hosts", "public_image_hosts", "proxy", "accept_gzip", "keep_alive"}
"""Settings of the account, and of the connections that siblings share."""

Around: TypeAlias = Callable[[Request, Callable[[], Awaitable[Generation]]], Awaitable[Generation]]
"""What runs a call of `generate`: told what is asked for, and handed the call itself."""


class AsyncNebula:
    """A client of the Nebula Block image API, for asyncio and trio.

    The key comes from `api_key` (text, or a callable where keys rotate), else from `NEBULA_API_KEY`; without one, or
    with a malformed one, `ConfigurationError` is raised here. `config` holds all settings, and the environment is only
    read without it (`Config.from_env`); named options win over both. `timeout` is the total for a call in seconds, or
    `Timeouts`;
    `rate_limit` is in requests a minute. `transport` is an httpx transport of your own, `gate` one shared with others
    (by default, clients of an account that were given the same limit share it in an event loop; with
    `Config(shared_by="host")` all processes of this host do), `observer` is told what happens (by default it is logged
    under `nebula_async`).

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
        from nebula_async.wiring import wire  # the engine, and the libraries below it, come with the first client

        self._wiring = wire(self.config, api_key, transport, gate, guarded(observer or log_event), _caller_place())
        self.generator = self._wiring.generator  # what runs many items by itself, as a bulk job does, calls it
        self._around: Around | None = None

    async def __aenter__(self) -> AsyncNebula:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections, also those of siblings (`with_options`). A call made later is a `RuntimeError`."""
        await self._wiring.aclose()

    @property
    def limits(self) -> Limits:
        """What is believed now of the account's limits: requests a minute, today's, in flight, waiting, held."""
        return self._wiring.gate.limits

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
        sibling = copy.copy(self)
        sibling.config = evolve(self.config, **changes)
        sibling._wiring = self._wiring.for_sibling(sibling.config, guarded(observer) if observer else None)
        sibling.generator = sibling._wiring.generator
        return sibling

    def inside(self, around: Around) -> AsyncNebula:
        """Return a sibling whose calls of `generate` are run by `around(request, call)`, with what that returns."""
        sibling = copy.copy(self)
        sibling._around = around
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
        check_sink(sink)
        request = fill_in(prompt, parameters)
        call = partial(self.generator.generate, request, download=download, sink=sink)
        return await (call() if self._around is None else self._around(request, call))

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
        refuse_one(prompts_or_requests)
        check_shared(shared)
        check_sink(sink)
        work = partial(self.generator.result, shared, download=download, sink=sink)
        return self._wiring.fan_out(work, prompts_or_requests, concurrency, is_ordered=ordered)

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
        daily quota is used up, what is left of them fails with that error. A notebook shows the list as its pictures.
        """
        items = await listed(prompts_or_requests)
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
        return ResultList(found[index] for index in range(len(items)))

    async def download(self, image: Image, *, sink: Sink | None = None) -> Image:
        """Fetch a picture that was left at its URL and return it with its bytes, or streamed into a sink; one that is
        here is returned at once.

        Costs nothing, works within the hour after generation, and is repeated until it succeeds, the URL is gone, or
        the total timeout is over. The key is not sent; only public hosts are called, and `allowed_image_hosts`. Raises
        `DownloadError`, `retryable` where trying again may help, and `InvalidRequestError` for a picture without a URL.
        """
        check_sink(sink)
        return await self.generator.download(image, sink)

    async def models(self) -> tuple[Model, ...]:
        """Return the models that the API lists, with their prices; from then on `Generation.cost` goes by these.

        Costs nothing.
        """
        return await self._wiring.models()

    async def credits(self) -> Decimal:
        """Return the account's balance in USD. Costs nothing."""
        return await self._wiring.credits()


def _timeouts(config: Config, given: float | Timeouts | None) -> Timeouts | None:
    return given if given is None or isinstance(given, Timeouts) else evolve(config.timeouts, total=given)


def _caller_place() -> str:
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_name == "__init__":  # subclasses have their own
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame else "an unknown place"
