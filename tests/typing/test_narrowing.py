"""What type checkers conclude: checked by `mypy` (and pyright) as part of the checks; running it proves nothing."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import assert_never, assert_type

from nebula_async import (
    AsyncNebula,
    Config,
    DownloadError,
    Failure,
    Generation,
    Image,
    ImageRequest,
    InferenceRequest,
    NebulaError,
    Provenance,
    RateLimitError,
    RetryPolicy,
    Timeouts,
)


def narrow_by_match(result: Generation | Failure) -> str:
    """A `match` over both kinds of result is complete, and each branch knows its own fields."""
    match result:
        case Generation(image=image, request=request):
            assert_type(image, Image)
            return request.prompt
        case Failure(error=error, request=request):
            assert_type(error, NebulaError)
            return request.prompt
        case _:
            assert_never(result)


def narrow_by_isinstance(result: Generation | Failure) -> Image | NebulaError:
    """After `isinstance` only the other kind is left."""
    if isinstance(result, Failure):
        assert_type(result, Failure)
        return result.error
    assert_type(result, Generation)
    return result.image


def narrow_errors(error: NebulaError) -> float | None:
    """An error's own fields are known after `isinstance`."""
    if isinstance(error, RateLimitError):
        assert_type(error.scope, str | None)
        return error.retry_after
    return None


async def generate_one(nebula: AsyncNebula, request: ImageRequest) -> None:
    """Both ways to call `generate` give a `Generation`."""
    assert_type(await nebula.generate(request), Generation)
    assert_type(await nebula.generate("a cat", model="m"), Generation)
    assert_type(await nebula.generate(prompt="a cat", model="m", width=512, image=Path("cat.png")), Generation)
    assert_type(await nebula.generate("a cat", model="m", image=b"bytes", mask="mask.png"), Generation)
    # What is wrong is an error to both checkers: an ignore that nothing needs would be one, too.
    await nebula.generate("a cat")  # type: ignore[call-overload]  # no model  # pyright: ignore[reportCallIssue]
    await nebula.generate(request, model="m")  # type: ignore[call-overload]  # two  # pyright: ignore[reportCallIssue, reportArgumentType]
    await nebula.generate("a cat", model="m", width="512")  # type: ignore[call-overload]  # text  # pyright: ignore[reportCallIssue, reportArgumentType]


async def generate_by_inference(nebula: AsyncNebula, request: InferenceRequest) -> None:
    """A request of either API gives a `Generation`, whose request is one of either."""
    generation = await nebula.generate(request, download=False)
    assert_type(generation, Generation)
    assert_type(generation.request, ImageRequest | InferenceRequest)
    assert_type(generation.request.prompt, str)
    assert_type(generation.request.seed, int | None)
    assert_type(generation.cost, Decimal | None)
    assert_type(await nebula.generate("a cat", model="m", download=False), Generation)
    assert_type(await nebula.download(generation.image), Image)
    await nebula.generate(request, model="m")  # type: ignore[call-overload]  # two  # pyright: ignore[reportCallIssue, reportArgumentType]
    await nebula.generate("a cat", model="m", n=2)  # type: ignore[call-overload]  # the other's  # pyright: ignore[reportCallIssue]


def make_requests() -> list[ImageRequest | InferenceRequest]:
    """The words and numbers of the inference API are checked before the program runs, too."""
    InferenceRequest("a lake", model="m", quality="HD")  # type: ignore[arg-type]  # no such word  # pyright: ignore[reportArgumentType]
    InferenceRequest("a lake", model="m", style="oil")  # type: ignore[arg-type]  # no such word  # pyright: ignore[reportArgumentType]
    InferenceRequest("a lake", model="m", response_format="png")  # type: ignore[arg-type]  # nor this  # pyright: ignore[reportArgumentType]
    InferenceRequest("a lake", model="m", n="2")  # type: ignore[arg-type]  # text  # pyright: ignore[reportArgumentType]
    InferenceRequest("a lake", model="m", width=512)  # type: ignore[call-arg]  # the other's  # pyright: ignore[reportCallIssue]
    InferenceRequest("a lake", "m")  # type: ignore[call-arg]  # by name only  # pyright: ignore[reportCallIssue]
    good = InferenceRequest("a lake", model="m", n=2, size="64x64", quality="hd", style="vivid", response_format="url")
    assert_type(InferenceRequest.from_dict(good.to_dict()), InferenceRequest)
    assert_type(ImageRequest.from_dict({"prompt": "x", "model": "m"}), ImageRequest)
    assert_type(good.pictures, int)
    return [good, ImageRequest("a cat", model="m")]


async def fetch_later(nebula: AsyncNebula, error: DownloadError) -> list[Image]:
    """What could not be fetched is on the error, for a later try."""
    return [await nebula.download(image) for image in error.images] if error.retryable else []


async def generate_many(nebula: AsyncNebula, requests: list[ImageRequest]) -> None:
    """Many results are each a `Generation` or a `Failure`, from prompts as from requests."""
    async with nebula.generate_many(["a cat", "a dog"], model="m") as results:
        async for result in results:
            assert_type(result, Generation | Failure)
    async with nebula.generate_many(requests, ordered=True, concurrency=4) as results:
        async for result in results:
            assert_type(result, Generation | Failure)
    async with nebula.generate_many(make_requests(), download=False) as results:
        async for result in results:
            assert_type(result, Generation | Failure)
    mixed: list[str | ImageRequest | InferenceRequest] = ["a cat", *requests, *make_requests()]
    assert_type(await nebula.generate_all(iter(mixed), model="m"), list[Generation | Failure])


async def save(image: Image) -> None:
    """Saving gives the path of the file."""
    assert_type(await image.save("cat"), Path)
    assert_type(await image.save(Path("cat"), overwrite=True, provenance=True), Path)
    assert_type(image.provenance, Provenance | None)


async def options(nebula: AsyncNebula) -> None:
    """A sibling is a client like any other, and settings are plain values."""
    assert_type(nebula.with_options(timeout=5, retry=RetryPolicy(attempts=1)), AsyncNebula)
    async with AsyncNebula("key", config=Config(tier="expert-1"), timeout=Timeouts(total=5)) as other:
        assert_type(other, AsyncNebula)
    config = Config(inference_url="https://a.example/v1", allowed_image_hosts=["127.0.0.1:8000"])
    assert_type(config.allowed_image_hosts, tuple[str, ...])
