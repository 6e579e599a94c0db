"""A picture as an answer: its type, a tag that tells it from every other, and no more bytes than are wanted."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from anyio.lowlevel import checkpoint
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, Response
from starlette.types import Receive, Scope, Send

from nebula_async.images.image import Image
from nebula_async.images.media import EXTENSIONS
from nebula_async.offload import offload, on_disk
from nebula_async.results import Generation

PRIVATE = "private, no-cache"
"""Only the visitor's own browser keeps it, and asks whether it is still the same: a picture may be as private as its
prompt, and the same URL may give another one tomorrow.
"""

IMMUTABLE = "public, max-age=31536000, immutable"
"""For a URL that names one picture for ever, such as that of a stored one; never for one that makes pictures."""

PIECE_BYTES = 256 * 1024
"""A server takes a piece when the one before is on its way: a slow reader holds no second copy of a whole picture."""

SMALL_BYTES = 64 * 1024
"""What is hashed here: to hand it to a thread takes longer."""

NOT_HERE = "there is no such picture here"

MOST_NAME = 100
ABOUT_BYTES = {"content-length", "content-type", "content-disposition", "accept-ranges", "last-modified"}
TAG = re.compile(r'(?:W/)?("[^"]*")')
UNPLAIN = re.compile(r"[^A-Za-z0-9._ -]")


class PictureResponse(Response):
    """The answer with a picture that is in memory; it is what `image_response` returns.

    Its `ETag` is the SHA-256 of its bytes. Who has it already (`If-None-Match`) gets status 304, and HEAD no bytes.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the picture, or that it has not changed."""
        data = bytes(self.body)
        self.headers["etag"] = await offload(_tag_of, data) if len(data) > SMALL_BYTES else _tag_of(data)
        if is_known(scope, self.headers["etag"]):
            await _not_modified(self)(scope, receive, send)
            return
        await self._send(data, scope, send)
        if self.background is not None:
            await self.background()

    async def _send(self, data: bytes, scope: Scope, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        end = 0 if scope["method"] == "HEAD" else len(data)
        for start in range(0, max(end, 1), PIECE_BYTES):
            if start:  # a server that takes all at once waits for nothing, nor learns of a visitor who has left
                await checkpoint()
            piece = data[start : min(start + PIECE_BYTES, end)]
            await send({"type": "http.response.body", "body": piece, "more_body": start + PIECE_BYTES < end})


class StoredResponse(FileResponse):
    """The answer with a picture that lies in a file, `find` says which: sent in pieces, or in the parts asked for."""

    def __init__(self, find: Callable[[], Path], headers: Mapping[str, str]) -> None:
        super().__init__("", headers=headers, media_type="application/octet-stream")
        self.find = find

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the picture, that it has not changed, or that it is not there (404)."""
        try:
            self.path, self.headers["content-type"], self.headers["etag"] = await on_disk(_look_at, self.find)
        except (OSError, ValueError) as error:
            raise HTTPException(404, NOT_HERE, {"Cache-Control": "no-store"}) from error
        if is_known(scope, self.headers["etag"]):
            await _not_modified(self)(scope, receive, send)
            return
        await super().__call__(scope, receive, send)


def image_response(
    picture: Generation | Image,
    *,
    number: int = 0,
    cache_control: str = PRIVATE,
    filename: str | None = None,
    disposition: Literal["inline", "attachment"] = "inline",
    facts: bool = False,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Return the answer with a picture: of a `Generation`, picture `number` of it, or an `Image`.

    One that a sink stored as a file is streamed from there. `filename` is what a browser saves it as; its extension is
    that of the bytes. `facts` adds `X-Image-Seed` and `X-Image-Cost`. `Cache-Control` is `PRIVATE` unless said
    otherwise; `IMMUTABLE` is right for the URL of one stored picture.

    Raises `HTTPException` 404 where there is no such picture, and `ValueError` for one without bytes and file.
    """
    image = picture if isinstance(picture, Image) else _image_of(picture, number)
    told = {"Cache-Control": cache_control, "X-Content-Type-Options": "nosniff", **(headers or {})}
    if facts:
        told |= _facts(picture)
    if filename is not None or disposition == "attachment":
        told["Content-Disposition"] = content_disposition(disposition, filename or "picture", image.extension)
    if image.data is not None:
        return PictureResponse(image.data, headers=told, media_type=image.media_type)
    path = _file_of(image)
    return StoredResponse(lambda: path, told)


def stored_image_response(
    folder: str | PathLike[str], name: str, *, cache_control: str = PRIVATE, headers: Mapping[str, str] | None = None
) -> Response:
    """Return the answer with a picture that a `DirectorySink(folder)` stored, by its name below the folder, with or
    without its extension; one whose visitor left has the name `finished_key(id)`.

    Whatever the name, nothing outside of the folder is sent: status 404, as for a picture that is not there.
    """
    told = {"Cache-Control": cache_control, "X-Content-Type-Options": "nosniff", **(headers or {})}
    return StoredResponse(partial(find_stored, Path(folder), name), told)


def find_stored(folder: Path, name: str) -> Path:
    """Return the file of a picture below a folder. Raises `OSError` and `ValueError` where there is none."""
    suffixes = [suffix for known in EXTENSIONS.values() for suffix in known]
    names = [name, *(f"{name}{suffix}" for suffix in suffixes)]
    root = Path(os.path.realpath(folder))
    for path in (Path(os.path.realpath(root / each)) for each in names):
        if path.suffix.lower() in suffixes and path.is_relative_to(root) and path.is_file():
            return path
    raise FileNotFoundError(NOT_HERE)


def content_disposition(disposition: str, filename: str, extension: str | None) -> str:
    """Return the header that names a file: without folders, quotes and control characters, whatever the name was."""
    stem = filename.replace("\\", "/").rpartition("/")[2]
    if extension and stem.lower().endswith(extension):
        stem = stem[: -len(extension)]
    kept = "".join(char for char in stem if char.isprintable()).strip(" .")[:MOST_NAME] or "picture"
    full = kept + (extension or "")
    plain = UNPLAIN.sub("_", full)
    encoded = "" if plain == full else f"; filename*=UTF-8''{quote(full, safe='')}"
    return f'{disposition}; filename="{plain}"{encoded}'


def is_known(scope: Scope, tag: str) -> bool:
    """Whether the visitor has what has this tag already: `If-None-Match` names it, in a list, or is `*`."""
    if scope["method"] not in ("GET", "HEAD"):
        return False
    asked = ", ".join(Headers(scope=scope).getlist("if-none-match"))
    return asked.strip() == "*" or tag in TAG.findall(asked)


def _not_modified(response: Response) -> Response:
    kept = {name: value for name, value in response.headers.items() if name not in ABOUT_BYTES}
    return Response(status_code=304, headers=kept, background=response.background)


def _image_of(generation: Generation, number: int) -> Image:
    if not 0 <= number < len(generation.images):
        raise HTTPException(404, f"there is no picture {number}: there are {len(generation.images)}, from 0")
    return generation.images[number]


def _file_of(image: Image) -> Path:
    if image.stored is None:
        raise ValueError("this picture was left at its URL: fetch it with nebula.download(image) first")
    if "://" in image.stored:
        raise ValueError(f"this picture is in an object store, and not served from here: send a URL of {image.stored}")
    return Path(image.stored)


def _facts(picture: Generation | Image) -> dict[str, str]:
    if isinstance(picture, Image):
        return {}
    named = {"X-Image-Seed": picture.request.seed, "X-Image-Cost": picture.cost}
    return {
        name: f"{value:f}" if isinstance(value, Decimal) else str(value)
        for name, value in named.items()
        if value is not None
    }


def _look_at(find: Callable[[], Path]) -> tuple[Path, str, str]:
    path = find()
    with path.open("rb") as file:
        media = next((each for each, suffixes in EXTENSIONS.items() if path.suffix.lower() in suffixes), "")
        return path, media or "application/octet-stream", f'"{hashlib.file_digest(file, "sha256").hexdigest()}"'


def _tag_of(data: bytes) -> str:
    return f'"{hashlib.sha256(data).hexdigest()}"'
