"""A successful reply of any dialect: its pictures and what it says beside them.

The structure decides, whatever dialect was asked: the serverless list, the inference API's `data.images`, and the
shapes of older servers (the vendor's pages "Generate Serverless Images" and "Image Generation API", and their history).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, Protocol, TypeVar

import cattrs
from attrs import define, field, frozen

from nebula_async.api.base64_stream import PictureWriter
from nebula_async.api.envelope import error_of, is_error, is_known, read_envelope
from nebula_async.api.extract import MOST_PICTURES, Cut, Extracted, Extractor, flat_enough, parse_json
from nebula_async.api.headers import read_request_id
from nebula_async.api.messages import Reply
from nebula_async.errors import NebulaError, UnusableReplyError
from nebula_async.images.image import Image

P = TypeVar("P", bound="Picture")

URL_LIFETIME = timedelta(hours=1)
"""How long the inference API's URLs are documented to be valid after generation."""


def _optional(kind: type | tuple[type, ...]) -> Any:
    """A hook under which a member of the wrong type reads as absent: replies are documented thinly."""
    return lambda value, _type: value if isinstance(value, kind) and not isinstance(value, bool) else None


def _finite(value: object, _type: object = float) -> float | None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    return float(value) if abs(value) <= sys.float_info.max else None  # NaN is not, nor a long whole number


replies = cattrs.Converter()
replies.register_structure_hook(str | None, _optional(str))
replies.register_structure_hook(int | None, _optional(int))
replies.register_structure_hook(float | None, _finite)
replies.register_structure_hook(Mapping[str, Any] | None, _optional(dict))


@frozen
class Entry:
    """One picture of a reply, as base64 or as a URL."""

    b64_json: str | None = None
    url: str | None = None
    index: int | None = None
    timings: Mapping[str, Any] | None = None


@frozen
class Facts:
    """What a reply says beside its pictures."""

    model: str | None = None
    message: str | None = None
    usage: Mapping[str, Any] | None = None


@frozen(kw_only=True)
class Answer:
    """A successful reply, read: at least one picture; `missing` were asked for and are not there."""

    facts: Facts
    images: tuple[Image, ...]
    inference_seconds: float | None = None
    missing: int = 0


class Picture(PictureWriter, Protocol):
    """Takes the bytes of one picture as they arrive."""

    def write(self, data: bytes | memoryview, /) -> None:
        """Take the next piece. Never raises: `image` tells what is wrong."""
        ...

    def image(self) -> Image:
        """Return the picture, at its end. Raises `ValueError` for what is no whole picture."""
        ...


@define(eq=False)
class AnswerReader(Generic[P]):
    """Reads a 2xx reply of any documented or observed shape while it arrives; `open_picture` makes what each of its
    pictures is decoded into.
    """

    open_picture: Callable[[], P]
    feed: Callable[[bytes | memoryview], None] = field(init=False)
    """Takes the next piece of the body. Never raises: `finish` tells what is wrong."""

    _extractor: Extractor[P] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._extractor = Extractor(self.open_picture)
        self.feed = self._extractor.feed

    @property
    def json_bytes(self) -> int:
        """How much JSON there is beside the pictures."""
        return self._extractor.json_bytes

    def said(self, most: int) -> bytes:
        """Return so many bytes of that as they came, or of a body that is no JSON."""
        return self._extractor.said(most)

    def finish(self, reply: Reply, *, asked: int, now: float) -> Answer:
        """Return what the reply says; its body was fed. Blocks where there is much JSON beside the pictures.

        Raises the API's own error where the body says that the request failed, else `UnusableReplyError` for a body
        without one usable picture; one whose JSON breaks off behind the last picture is usable.
        """
        try:
            extracted = self._extractor.finish()
        except ValueError as error:
            if answer := self.salvage(reply, asked=asked, now=now):
                return answer
            raise unusable(reply, f"the reply is no JSON that can be read: {error}") from error
        return _answer(reply, extracted, asked, now)

    def salvage(self, reply: Reply, *, asked: int, now: float) -> Answer | None:
        """Return what a reply says whose body broke off, if every picture that was asked for is in it, and whole.

        `None` where one is missing, and where what came says that the request failed.
        """
        try:
            answer = _answer(reply, self._extractor.salvage(), asked, now)
        except (ValueError, NebulaError):
            return None
        return None if answer.missing else answer


def _answer(reply: Reply, extracted: Extracted[P], asked: int, now: float) -> Answer:
    body = _object(reply, extracted.value)
    if is_error(body):
        raise _failure(reply, body, now)
    entries = sorted(picture_entries(body), key=lambda entry: -1 if entry.index is None else entry.index)
    until = datetime.fromtimestamp(now, UTC) + URL_LIFETIME
    images, problems = _images(entries, extracted.pictures, expires_at=until)
    if not images:
        raise unusable(reply, f"the reply holds no usable picture: {problems[0] if problems else 'none in it'}")
    return Answer(
        facts=_facts(body),
        images=tuple(images),
        inference_seconds=_finite((entries[0].timings or {}).get("inference")),
        missing=max(asked - len(images), 0),
    )


def _facts(body: Mapping[str, Any]) -> Facts:
    data = body.get("data")
    beside_pictures = data if isinstance(data, Mapping) else {}  # the inference API has its `usage` there
    said = {name: value for name, value in body.items() if value is not None}
    facts = {**beside_pictures, **said}
    return replies.structure(facts | {"usage": flat_enough(facts.get("usage"))}, Facts)


def _failure(reply: Reply, body: Mapping[str, Any], now: float) -> NebulaError:
    """Return the API's own error where its code is known; with any other, the picture counts as paid for."""
    error = error_of(read_envelope(body), reply, now=now)
    if is_known(error.code):
        return error
    return unusable(reply, f"success in the status, failure in the body: {error.message}", error.details)


def unusable(reply: Reply, problem: str, details: object = None) -> UnusableReplyError:
    """Return the error for a reply that is a success and cannot be used."""
    return UnusableReplyError(problem, request_id=read_request_id(reply.headers), details=details)


def picture_entries(body: Mapping[str, Any]) -> list[Entry]:
    """Find the pictures of a reply by its structure, whatever dialect was asked: the serverless list, the inference
    API's `data.images`, and the shapes of older servers.
    """
    data = body.get("data")
    found = data.get("images") if isinstance(data, Mapping) else data
    if isinstance(found, list):
        return [replies.structure(entry, Entry) for entry in found[:MOST_PICTURES] if isinstance(entry, Mapping)]
    older = {
        "b64_json": data.get("image_file") if isinstance(data, Mapping) else body.get("image_b64"),
        "url": body.get("image_url"),
    }
    entry = replies.structure(older, Entry)
    return [] if entry == Entry() else [entry]


def parsed_object(reply: Reply) -> Mapping[str, Any]:
    """Return the JSON object that a reply is. Raises `UnusableReplyError`."""
    try:
        return _object(reply, parse_json(reply.body))
    except ValueError as error:
        raise unusable(reply, f"the reply is no JSON: {error}") from error


def _object(reply: Reply, value: object) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise unusable(reply, f"the reply is no JSON object but a {type(value).__name__}")
    return value


def _images(
    entries: list[Entry], pictures: Mapping[str, Cut[P]], *, expires_at: datetime
) -> tuple[list[Image], list[str]]:
    images, problems = [], []
    for entry in entries:
        try:
            images.append(_image(entry, pictures, expires_at))
        except ValueError as error:
            problems.append(str(error))
    return images, problems


def _image(entry: Entry, pictures: Mapping[str, Cut[P]], expires_at: datetime) -> Image:
    problem = ValueError("it has neither b64_json nor a URL")
    if entry.b64_json:
        try:
            return _cut_image(pictures[entry.b64_json])
        except ValueError as error:
            problem = error
    if entry.url:
        return Image(url=entry.url, expires_at=expires_at)
    raise problem


def _cut_image(cut: Cut[P]) -> Image:
    if cut.problem is not None or cut.writer is None:
        raise ValueError(cut.problem)
    return cut.writer.image()
