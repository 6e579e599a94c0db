"""The clients that are compared: each generates pictures as its documentation says, and ends with their decoded bytes.

An entry of `CLIENTS` opens a client for a `Work` and yields a function, which makes one call for each number that it
takes, as many at a time as the work says, and checks how long each picture is.
"""

from __future__ import annotations

import base64
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import anyio
import anyio.to_thread
from attrs import frozen

KEY, MODEL = "sk-benchmark", "black-forest-labs/FLUX.1-schnell"
PROMPT = "a flying cat"
TIMEOUT_SECONDS = 300.0
"""Of every client: the default limits of some are for queues that are shorter than those here."""


@frozen
class Work:
    """What a client is to do: calls to a root `url`, so many in flight, each for a picture of `size` bytes."""

    url: str
    in_flight: int
    size: int

    def check(self, size: int) -> None:
        """Raise `ValueError` where a picture is not as long as it should be."""
        if size != self.size:
            raise ValueError(f"a picture of {self.size} bytes was expected; got {size}")


Numbers: TypeAlias = Iterator[int]
Run: TypeAlias = Callable[[Numbers], Awaitable[None]]
Client: TypeAlias = Callable[[Work], AbstractAsyncContextManager[Run]]
Fetch: TypeAlias = Callable[[], Awaitable[int]]


async def _in_turn(work: Work, fetch: Fetch, numbers: Numbers) -> None:
    """Make one call for each number, `in_flight` at a time; no client holds more pictures than that."""

    async def repeat() -> None:
        for _ in numbers:
            work.check(await fetch())

    async with anyio.create_task_group() as group:
        for _ in range(work.in_flight):
            group.start_soon(repeat)


@asynccontextmanager
async def nebula_async(work: Work, *, into_folder: bool = False) -> AsyncIterator[Run]:
    """`generate_many`, with a limit that is never reached; what goes `into_folder` is measured there and deleted."""
    from nebula_async import AsyncNebula, Failure

    with tempfile.TemporaryDirectory() as folder:
        shared = {"model": MODEL, **(_sink(folder) if into_folder else {})}
        async with AsyncNebula(
            KEY, base_url=f"{work.url}/api/v1", rate_limit=1_000_000, concurrency=work.in_flight
        ) as nebula:

            async def run(numbers: Numbers) -> None:
                async with nebula.generate_many((f"{PROMPT} {number}" for number in numbers), **shared) as results:
                    async for result in results:
                        if isinstance(result, Failure):
                            raise result.error
                        data = result.image.data
                        work.check(_take(Path(folder, str(result.image.stored))) if data is None else len(data))

            yield run


def _sink(folder: str) -> dict[str, Any]:
    from nebula_async import DirectorySink

    return {"sink": DirectorySink(folder)}


def _take(stored: Path) -> int:
    size = stored.stat().st_size
    stored.unlink()
    return size


@asynccontextmanager
async def openai(work: Work, *, through_aiohttp: bool = False) -> AsyncIterator[Run]:
    """OpenAI's SDK, as shipped, or with the aiohttp client that it has as an extra."""
    from openai import AsyncOpenAI, DefaultAioHttpClient  # type: ignore[import-not-found, unused-ignore]

    http = DefaultAioHttpClient() if through_aiohttp else None
    async with AsyncOpenAI(
        api_key=KEY, base_url=f"{work.url}/v1", timeout=TIMEOUT_SECONDS, max_retries=0, http_client=http
    ) as client:

        async def fetch() -> int:
            reply = await client.images.generate(model=MODEL, prompt=PROMPT, response_format="b64_json")
            return len(base64.b64decode(reply.data[0].b64_json))

        yield partial(_in_turn, work, fetch)


@asynccontextmanager
async def together(work: Work, *, through_aiohttp: bool = False) -> AsyncIterator[Run]:
    """Together's SDK, as shipped, or with its aiohttp client."""
    from together import AsyncTogether, DefaultAioHttpClient  # type: ignore[import-not-found, unused-ignore]

    http = DefaultAioHttpClient() if through_aiohttp else None
    async with AsyncTogether(
        api_key=KEY, base_url=f"{work.url}/v1", timeout=TIMEOUT_SECONDS, max_retries=0, http_client=http
    ) as client:

        async def fetch() -> int:
            reply = await client.images.generate(model=MODEL, prompt=PROMPT, response_format="base64")
            return len(base64.b64decode(reply.data[0].b64_json))

        yield partial(_in_turn, work, fetch)


@asynccontextmanager
async def huggingface_hub(work: Work) -> AsyncIterator[Run]:
    """Hugging Face's inference client, for which the server is Together's: it decodes by itself, into a Pillow image.

    It knows no other base URL for a provider, and asks the hub which models one has: both are told by hand.
    """
    from huggingface_hub import AsyncInferenceClient  # type: ignore[import-not-found, unused-ignore]
    from huggingface_hub.hf_api import InferenceProviderMapping  # type: ignore[import-not-found, unused-ignore]
    from huggingface_hub.inference._providers import (  # type: ignore[import-not-found, unused-ignore]
        _common,
        get_provider_helper,
    )

    task = "text-to-image"
    listed = InferenceProviderMapping(
        provider="together", hf_model_id=MODEL, providerId=MODEL, status="live", task=task
    )
    _common.HARDCODED_MODEL_INFERENCE_MAPPING["together"][MODEL] = listed
    get_provider_helper("together", task, MODEL).base_url = work.url
    async with AsyncInferenceClient(provider="together", api_key=KEY, timeout=TIMEOUT_SECONDS) as client:

        async def fetch() -> int:
            picture = await client.text_to_image(PROMPT, model=MODEL)
            return len(picture.fp.getbuffer())

        yield partial(_in_turn, work, fetch)


@asynccontextmanager
async def litellm(work: Work) -> AsyncIterator[Run]:
    """LiteLLM, for which the server is OpenAI's."""
    from litellm import aimage_generation  # type: ignore[import-not-found, unused-ignore]

    options: Mapping[str, Any] = {"api_base": f"{work.url}/v1", "api_key": KEY, "timeout": TIMEOUT_SECONDS}

    async def fetch() -> int:
        reply = await aimage_generation(prompt=PROMPT, model="openai/dall-e-3", response_format="b64_json", **options)
        return len(base64.b64decode(reply.data[0].b64_json))

    yield partial(_in_turn, work, fetch)


@asynccontextmanager
async def script_httpx(work: Work, *, is_limited: bool = True, in_thread: bool = False) -> AsyncIterator[Run]:
    """What a user would write with httpx, whose pool has by default at most 100 connections, and keeps 20 of them.

    `in_thread` decodes beside the loop, as a user would who has seen it stand still.
    """
    import httpx

    limits = httpx.Limits(max_connections=100, max_keepalive_connections=20) if is_limited else httpx.Limits()

    def decode(response: httpx.Response) -> bytes:
        return base64.b64decode(response.json()["data"][0]["b64_json"])

    async with httpx.AsyncClient(timeout=TIMEOUT_SECONDS, limits=limits) as client:

        async def fetch() -> int:
            response = await client.post(f"{work.url}/v1/images", json={"model": MODEL, "prompt": PROMPT})
            response.raise_for_status()
            return len(await anyio.to_thread.run_sync(decode, response) if in_thread else decode(response))

        yield partial(_in_turn, work, fetch)


@asynccontextmanager
async def script_aiohttp(work: Work) -> AsyncIterator[Run]:
    """What a user would write with aiohttp."""
    import aiohttp  # type: ignore[import-not-found, unused-ignore]

    async with aiohttp.ClientSession() as session:

        async def fetch() -> int:
            async with session.post(f"{work.url}/v1/images", json={"model": MODEL, "prompt": PROMPT}) as response:
                response.raise_for_status()
                return len(base64.b64decode((await response.json())["data"][0]["b64_json"]))

        yield partial(_in_turn, work, fetch)


@asynccontextmanager
async def bare_aiohttp(work: Work) -> AsyncIterator[Run]:
    """The floor: aiohttp receives and counts the bytes of the reply, as many connections as calls, nothing decoded."""
    import aiohttp

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def fetch() -> int:
            async with session.post(f"{work.url}/v1/images", json={"model": MODEL, "prompt": PROMPT}) as response:
                received = 0
                async for piece in response.content.iter_any():
                    received += len(piece)
            return work.size if received == response.content_length else 0

        yield partial(_in_turn, work, fetch)


@asynccontextmanager
async def idle(_work: Work) -> AsyncIterator[Run]:
    """No client at all: what the machine and the loop do by themselves."""

    async def run(numbers: Numbers) -> None:
        for _ in numbers:
            await anyio.sleep(0.05)

    yield run


CLIENTS: Mapping[str, Client] = {
    "nebula_async": nebula_async,
    "nebula_async into a folder": partial(nebula_async, into_folder=True),
    "openai": openai,
    "openai, aiohttp": partial(openai, through_aiohttp=True),
    "together": together,
    "together, aiohttp": partial(together, through_aiohttp=True),
    "huggingface_hub": huggingface_hub,
    "litellm": litellm,
    "script, httpx": script_httpx,
    "script, httpx, no limits": partial(script_httpx, is_limited=False),
    "script, httpx, threads": partial(script_httpx, in_thread=True),
    "script, aiohttp": script_aiohttp,
    "bare aiohttp": bare_aiohttp,
    "idle": idle,
}
