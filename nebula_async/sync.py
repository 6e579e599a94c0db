"""NebulaClient: the documented synchronous client. `generate_image` is the call of the inference API's page and speaks
that dialect (B); all other verbs are those of `AsyncNebula`, and wait for their results.
"""

from __future__ import annotations

import copy
import inspect
import threading
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager
from contextvars import copy_context
from functools import partial, wraps
from itertools import chain
from os import PathLike
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Concatenate, NoReturn, ParamSpec, TypeVar, cast

import anyio
import pybase64
from anyio.abc import TaskStatus
from attrs import Factory, define, evolve, field, frozen

from nebula_async.client import AsyncNebula
from nebula_async.config import Config, Tier, Timeouts
from nebula_async.engine.fanout import FanOut, Results
from nebula_async.engine.gate import Gate, Limits
from nebula_async.engine.transport import HttpTransport
from nebula_async.events import Observer
from nebula_async.images.image import Image
from nebula_async.items import Item, Result
from nebula_async.keys import KeySource, hide
from nebula_async.portal import Call, Loop, LoopThread, trigger_of
from nebula_async.requests import InferenceRequest, Quality, ResponseFormat, Style
from nebula_async.results import Generation

__all__ = ["ImageResponse", "NebulaClient"]

P = ParamSpec("P")
Value = TypeVar("Value")


@define(eq=False)
class _Aside:
    """Reads an iterable in a thread of its own, item by item: it may well block, and nothing else has to wait then."""

    items: Iterable[Item]
    _wishes: SimpleQueue[Future[Item] | None] = field(factory=SimpleQueue, init=False)

    def __aiter__(self) -> AsyncIterator[Item]:
        threading.Thread(target=copy_context().run, args=(self._read,), name="nebula-prompts", daemon=True).start()
        return self

    async def __anext__(self) -> Item:
        wish, ready = Future[Item](), anyio.Event()
        wish.add_done_callback(trigger_of(ready))
        self._wishes.put(wish)
        await ready.wait()
        return wish.result()

    async def aclose(self) -> None:
        """Let the thread end, when the iterable lets go of it."""
        self._wishes.put(None)

    def _read(self) -> None:
        items = chain.from_iterable([self.items])  # what cannot be iterated says so to the first wish
        while (wish := self._wishes.get()) is not None:
            try:
                wish.set_result(next(items))
            except StopIteration:
                wish.set_exception(StopAsyncIteration())
            except Exception as error:  # noqa: BLE001 - it comes out of the iteration, where the caller can catch it
                wish.set_exception(error)
            except BaseException as error:  # noqa: BLE001 - sys.exit, for example, would end the event loop
                text = f"the iterable of prompts raised {type(error).__name__}"
                wish.set_exception(RuntimeError(text))


@define(eq=False)
class _Block:
    """The context manager of `generate_many`, and its iterator."""

    loop: Loop
    fan_out: FanOut[Any, Result]
    _thread: LoopThread = field(init=False)
    _call: Call[None] = field(init=False)
    _results: Results[Result] = field(init=False)

    def __enter__(self) -> Iterator[Result]:
        self._thread, self._call = self.loop.thread(), Call(partial(_hold, self.fan_out))
        self._results = self._thread.enter(self._call)
        return iter(self._next, None)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.end(self._call)

    def __iter__(self) -> NoReturn:
        raise TypeError("use it as a context manager: with … as results, then for result in results")

    def _next(self) -> Result | None:
        result: Result | None = self._thread.run(partial(anext, self._results, None))
        return result


async def _hold(fan_out: FanOut[Any, Result], *, task_status: TaskStatus[Results[Result]]) -> None:
    """Enter a fan-out, and leave it in the same task when that is cancelled."""
    async with fan_out as results:
        task_status.started(results)
        await anyio.sleep_forever()


def _blocking(
    verb: Callable[Concatenate[AsyncNebula, P], Coroutine[Any, Any, Value]],
) -> Callable[Concatenate[NebulaClient, P], Value]:
    """Return the verb of the synchronous client that runs this one and waits for it."""

    @wraps(verb)
    def wait(client: NebulaClient, /, *args: P.args, **kwargs: P.kwargs) -> Value:
        return client._run(partial(verb, client._nebula, *args, **kwargs))

    return wait


def _taking(
    verb: Callable[Concatenate[AsyncNebula, P], object],
) -> Callable[[Callable[..., Value]], Callable[Concatenate[NebulaClient, P], Value]]:
    """Give a method the parameters of a verb, to type checkers and to `help`."""

    def typed(method: Callable[..., Value]) -> Callable[Concatenate[NebulaClient, P], Value]:
        returns = inspect.signature(method).return_annotation
        cast("Any", method).__signature__ = inspect.signature(verb).replace(return_annotation=returns)
        return method

    return typed


def _listed(items: Iterable[Item]) -> Iterable[Item]:
    """Return items as a list; what is asynchronous, or no iterable of items, is judged by the verb itself."""
    is_left = isinstance(items, AsyncIterable | str | bytes) or not isinstance(items, Iterable)
    return items if is_left else list(items)


def _documented(response: ImageResponse) -> dict[str, Any]:
    images = [{"url": image.url, "b64_json": _as_text(image.data)} for image in response.generation.images]
    return {"images": images, "usage": dict(response.generation.usage or {})}


def _as_text(data: bytes | None) -> str | None:
    return None if data is None else pybase64.b64encode_as_string(data)


@frozen(kw_only=True)
class ImageResponse:
    """The answer to `generate_image` as the API's page shows it: `response.data["images"][0]["url"]`.

    `data` is plain mappings, `{"images": [{"url": …, "b64_json": …}], "usage": {…}}`; a URL is valid for an hour.
    `generation` is all that is known of the call: charges, cost, request id.
    """

    generation: Generation
    status: str = "success"
    data: dict[str, Any] = field(default=Factory(_documented, takes_self=True), init=False, repr=False)


class NebulaClient:
    """A client of the Nebula Block image API for code that is not asynchronous, made like `AsyncNebula`.

    Its verbs are those of `AsyncNebula` (but for `inside`, which takes a coroutine function), and block until their
    result is there: in a script, in several threads at once (the calls run side by side), in a notebook; in a running
    event loop they hold that loop up. They run in an event loop of the client's own, in a thread that the first call
    starts, where `observer` and `api_key` are called, too. There, a verb of this client is a `RuntimeError`. A forked
    process gets a loop and connections of its own.

    Ctrl-C, or whatever else a signal handler raises, ends the call that waits, closes its connection, and comes out;
    what was sent by then may have been paid for. The client stays usable. It need not be closed: an interpreter that
    ends does not wait for it. `with` or `close()` end its connections and its thread at once.
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
        self._nebula = AsyncNebula(
            api_key,
            config=config,
            base_url=base_url,
            timeout=timeout,
            tier=tier,
            rate_limit=rate_limit,
            concurrency=concurrency,
            transport=transport,
            gate=gate,
            observer=observer,
        )
        self._loop = Loop(self._nebula.aclose)

    def __enter__(self) -> NebulaClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the calls in flight of all threads, with a `RuntimeError`; close the connections; end the thread.

        So it is with siblings (`with_options`). May be called again, and by any thread. A call made later is a
        `RuntimeError`.
        """
        self._loop.close()

    def __repr__(self) -> str:
        nebula = getattr(self, "_nebula", "AsyncNebula(…)")  # reports of errors show clients that could not be made
        return str(nebula).replace("AsyncNebula", "NebulaClient", 1)

    @property
    def config(self) -> Config:
        """The settings."""
        return self._nebula.config

    @property
    def limits(self) -> Limits:
        """What is believed now of the account's limits, as `AsyncNebula.limits` says it."""

        async def read() -> Limits:
            return self._nebula.limits

        return self._run(read)

    def generate_image(
        self,
        *,
        model: str,
        prompt: str,
        n: int | None = None,
        size: str | None = None,
        quality: Quality | None = None,
        style: Style | None = None,
        negative_prompt: str | None = None,
        response_format: ResponseFormat | None = None,
    ) -> ImageResponse:
        """Generate pictures by the inference API and return its answer; a picture that is at a URL is not fetched.

        `None` leaves a parameter out (`InferenceRequest` says what then holds). Raises `InvalidRequestError` before
        anything is sent, else the `NebulaError` that the call ended with.
        """
        request = InferenceRequest(
            prompt,
            model=model,
            n=n,
            size=size,
            quality=quality,
            style=style,
            negative_prompt=negative_prompt,
            response_format=response_format,
        )
        return ImageResponse(generation=self.generate(request, download=False))

    generate = _blocking(AsyncNebula.generate)
    download = _blocking(AsyncNebula.download)
    models = _blocking(AsyncNebula.models)
    credits = _blocking(AsyncNebula.credits)

    @_taking(AsyncNebula.generate_all)  # type: ignore[arg-type]  # to mypy, `**shared` might hold `self`
    def generate_all(self, prompts_or_requests: Iterable[Item], **options: Any) -> list[Result]:
        """Generate many pictures and return all results in the order of the items, as `AsyncNebula.generate_all` does.

        The items are read to their end in this thread, before anything is sent.
        """
        items = _listed(prompts_or_requests)
        return self._run(partial(self._nebula.generate_all, items, **options))

    @_taking(AsyncNebula.generate_many)  # type: ignore[arg-type]  # as above
    def generate_many(self, *args: Any, **options: Any) -> AbstractContextManager[Iterator[Result]]:
        """Generate many pictures: `with client.generate_many(…) as results`, then `for result in results`.

        All is as in `AsyncNebula.generate_many`: a `Generation` or `Failure` for each, lazily, and leaving the block
        cancels what is in flight. The prompts are read in a thread of their own, ahead of the results; a cursor of
        sqlite3, which belongs to the thread that made it, is better listed first.
        """
        fan_out = self._nebula.generate_many(*args, **options)
        items = fan_out.items
        return _Block(self._loop, fan_out if isinstance(items, AsyncIterable) else evolve(fan_out, items=_Aside(items)))

    @_taking(AsyncNebula.with_options)  # type: ignore[arg-type]  # as above
    def with_options(self, **changes: Any) -> NebulaClient:
        """Return a sibling with other settings, as `AsyncNebula.with_options` does; it shares the event loop, too."""
        sibling = copy.copy(self)
        sibling._nebula = self._nebula.with_options(**changes)
        return sibling

    def save(
        self, image: Image, path: str | PathLike[str], *, overwrite: bool = False, provenance: bool = False
    ) -> Path:
        """Write a picture to a file and return its path, as `Image.save` does."""
        return self._run(partial(image.save, path, overwrite=overwrite, provenance=provenance))

    def _run(self, work: Callable[[], Awaitable[Value]]) -> Value:
        return self._loop.thread().run(work)
