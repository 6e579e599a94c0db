"""A picture that came back: its bytes, what they are, and how they are saved."""

from __future__ import annotations

import io
from datetime import datetime
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import anyio.to_thread
from attrs import field, frozen

from nebula_async.images.media import EXTENSIONS, read_media

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage


def _size_only(data: bytes | None) -> str:
    return "None" if data is None else f"<{len(data)} bytes>"


@frozen(kw_only=True)
class Image:
    """A picture: `data` are its bytes, `media_type`, `width`, `height` (pixels) and `extension` are read from them.

    One that came as a `url` and was not fetched has that instead of `data`; it is valid until `expires_at` (an hour
    after generation), and `nebula.download(image)` fetches it.
    """

    data: bytes | None = field(default=None, repr=_size_only)
    media_type: str | None = None
    width: int | None = None
    height: int | None = None
    extension: str | None = None
    url: str | None = field(default=None, repr=lambda url: "None" if url is None else "<url>")
    expires_at: datetime | None = None
    stored: str | None = None

    async def save(self, path: str | PathLike[str], *, overwrite: bool = False) -> Path:
        """Write the picture to a file and return its path; missing folders are made.

        Without an extension in `path` the one of the bytes is added; one of another picture type is refused with a
        `ValueError`. The file appears whole or not at all. Raises `FileExistsError` where there is one, unless
        `overwrite`. A cancelled call ends when the file is written.
        """
        data, target = self.content, self._target(Path(path))
        await anyio.to_thread.run_sync(_publish, data, target, overwrite)
        return target

    def to_pil(self) -> PillowImage:
        """Return the picture as a `PIL.Image.Image`, loaded; needs Pillow (extra `images`)."""
        import PIL.Image

        picture = PIL.Image.open(io.BytesIO(self.content))
        picture.load()
        return picture

    def to_numpy(self) -> Any:
        """Return the pixels as a numpy array of shape (height, width, channels); needs Pillow and numpy."""
        import numpy  # type: ignore[import-not-found, unused-ignore]  # not needed by anything else

        return numpy.asarray(self.to_pil())

    def _repr_mimebundle_(self, **_options: Any) -> dict[str, bytes | str]:
        if self.data is None or self.media_type is None:
            return {"text/plain": repr(self)}
        return {self.media_type: self.data, "text/plain": repr(self)}

    @property
    def content(self) -> bytes:
        """The picture's bytes. Raises `ValueError` for one that was left at its URL."""
        if self.data is None:
            until = f" before {self.expires_at:%H:%M} UTC" if self.expires_at else ""
            raise ValueError(f"this picture has no bytes here, only a URL: fetch it with nebula.download(image){until}")
        return self.data

    def _target(self, path: Path) -> Path:
        if path.suffix.lower() in EXTENSIONS.get(self.media_type or "", ()):
            return path
        if any(path.suffix.lower() in suffixes for suffixes in EXTENSIONS.values()):
            raise ValueError(f"{path.name}: the picture is {self.media_type}; save it as {path.stem}{self.extension}")
        return path.with_name(path.name + (self.extension or ""))


def read_image(data: bytes, *, url: str | None = None, expires_at: datetime | None = None) -> Image:
    """Return the picture that the bytes of a file are. Raises `ValueError` for what is no whole picture."""
    media = read_media(data)
    return Image(
        data=data,
        media_type=media.media_type,
        width=media.width,
        height=media.height,
        extension=media.extension,
        url=url,
        expires_at=expires_at,
    )


def _publish(data: bytes, target: Path, overwrite: bool) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{uuid4().hex}.part")
    try:
        with part.open("xb") as file:
            file.write(data)
        _put_in_place(part, target, overwrite)
    finally:
        part.unlink(missing_ok=True)


def _put_in_place(part: Path, target: Path, overwrite: bool) -> None:
    if overwrite:
        part.replace(target)
        return
    try:
        _link(part, target)
    except FileExistsError:
        raise FileExistsError(f"{target} exists; give another name, or overwrite=True") from None


def _link(part: Path, target: Path) -> None:
    try:
        target.hardlink_to(part)  # unlike a rename, a link never takes the place of another file
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        target.touch(exist_ok=False)
        part.replace(target)
