"""Pictures that came as URLs, to their bytes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from functools import partial

import anyio
from attrs import evolve, frozen

from nebula_async.arrival import PictureArrival
from nebula_async.config import Config
from nebula_async.engine.download import Downloader
from nebula_async.errors import DownloadError, InvalidRequestError, without_frames
from nebula_async.images.image import Image
from nebula_async.sinks.keeping import InMemory, Keeping, in_memory

LAST_SECONDS, FEWEST_SECONDS = 120.0, 15.0
"""A URL is not relied on in the last of its hour; but a picture asked for that late is still tried for."""


@frozen
class Delivery:
    """Fetches the bytes of pictures."""

    downloader: Downloader

    async def fetch(
        self, image: Image, config: Config, *, seconds: float, keep: Callable[[], Keeping] = InMemory
    ) -> Image:
        """Return a picture with its bytes, or where a sink stored it, within so many seconds.

        Raises `DownloadError` where its URL does not give them, `InvalidRequestError` for one that has no URL, and
        `SinkError`.
        """
        if image.is_here:
            return image
        if image.url is None:
            raise InvalidRequestError("this picture has neither bytes nor a URL: there is nothing to fetch")

        most_tries = 1 if _is_over(image) else math.inf
        seconds = min(seconds, _lifetime(image))
        try:
            found = await self.downloader.fetch(
                image.url, lambda: PictureArrival(keep()), config, seconds=seconds, most_tries=most_tries
            )
        except DownloadError as error:
            error.images = (image,)
            error.message += _about_expiry(image)
            raise without_frames(error)  # noqa: B904 - the very same one; the frames below hold the URL
        return evolve(found, url=image.url, expires_at=image.expires_at, provenance=image.provenance)

    async def fetch_all(
        self, images: Sequence[Image], config: Config, *, seconds: float, keep: Callable[[int], Keeping] = in_memory
    ) -> tuple[Image, ...]:
        """Return pictures with their bytes, each kept where `keep` says; one whose URL does not give them stays as
        it is.

        Raises `DownloadError`, with all of `images`, where no picture is here, and `SinkError`.
        """
        found = list(images)
        errors: list[Exception] = []

        async def fetch_one(index: int) -> None:
            try:
                found[index] = await self.fetch(images[index], config, seconds=seconds, keep=partial(keep, index))
            except Exception as error:  # noqa: BLE001 - raised below: it would leave the group inside of another one
                errors.append(error)

        async with anyio.create_task_group() as group:
            for index in range(len(images)):
                group.start_soon(fetch_one, index)
        if failure := _failure(errors, found):
            raise failure
        return tuple(found)


def _failure(errors: Sequence[Exception], found: Sequence[Image]) -> Exception | None:
    """Return what a fetch of several ends with: an error of its own, or that not one of them came."""
    for error in errors:
        if not isinstance(error, DownloadError):
            return error
        if not any(image.is_here for image in found):
            error.images = tuple(found)
            error.retryable = any(isinstance(each, DownloadError) and each.retryable for each in errors)
            return error
    return None


def _lifetime(image: Image) -> float:
    """Return for how many seconds a picture's URL may be relied on."""
    if image.expires_at is None:
        return float("inf")
    return max(image.expires_at.timestamp() - time.time() - LAST_SECONDS, FEWEST_SECONDS)


def _is_over(image: Image) -> bool:
    return image.expires_at is not None and image.expires_at.timestamp() <= time.time()


def _about_expiry(image: Image) -> str:
    if image.expires_at is None:
        return ""
    return f"; its URL {'expired' if _is_over(image) else 'is valid until'} {image.expires_at:%Y-%m-%d %H:%M:%S} UTC"
