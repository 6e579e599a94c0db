"""What a result leaves behind: the pictures to store, and what the ledger notes of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress

from attrs import evolve

from nebula_async.errors import DownloadError, NebulaError
from nebula_async.images.image import Image
from nebula_async.results import Failure, Generation


def settled(images: Sequence[Image], is_told: bool) -> list[Image]:
    """Return pictures as they are stored, with the digests of what they were made of; reading that blocks.

    With `is_told` their bytes say how they were made; one that has no place for it stays as it came.
    """
    return [_settled(image, is_told) for image in images]


def _settled(image: Image, is_told: bool) -> Image:
    if is_told:
        with suppress(ValueError):  # what was paid for is stored all the same
            return image.with_provenance()
    made = image.provenance
    return evolve(image, provenance=None if made is None else made.settled(image.content))


def pictures_of(result: Generation | Failure) -> Sequence[Image]:
    """Return the pictures that a result is about, also those that were not fetched."""
    if isinstance(result, Generation):
        return result.images
    return result.error.images if isinstance(result.error, DownloadError) else ()


def about_missing(generation: Generation) -> str | None:
    """Return what is missing of what was asked for, and where it is."""
    if not generation.missing:
        return None
    text = f"{generation.missing} of {generation.request.pictures} pictures are missing"
    return text + where(image for image in generation.images if not image.is_here)


def where(images: Iterable[Image]) -> str:
    """Return the URLs of pictures that were paid for and are not here, for the ledger: only its owner may read it."""
    return "".join(f"; {image.url}" for image in images if image.url is not None)


def lost(generation: Generation, error: NebulaError) -> Failure:
    """Return the failure of a generation that was paid for and could not be kept."""
    error.attempts, error.charges = generation.attempts, generation.charges
    return Failure(request=generation.request, error=error, index=generation.index)


def reason(error: OSError) -> str:
    """Return what the file system says."""
    return error.strerror or str(error)
