"""A picture that came back: its bytes, what they are, and how they are saved."""

from __future__ import annotations

import io
from datetime import datetime
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio.to_thread
from attrs import evolve, field, frozen

from nebula_async.images.media import EXTENSIONS, Media, read_media
from nebula_async.images.part_file import PartFile
from nebula_async.images.provenance import Provenance, write_provenance

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

    from nebula_async.images.display import MimeBundle


def _size_only(data: bytes | None) -> str:
    return "None" if data is None else f"<{len(data)} bytes>"


@frozen(kw_only=True)
class Image:
    """A picture: `data` are its bytes, `media_type`, `width`, `height` (pixels) and `extension` are read from them.

    One that came as a `url` and was not fetched has that instead of `data`; it is valid until `expires_at` (an hour
    after generation), and `nebula.download(image)` fetches it. `provenance` is how it was made.
    """

    data: bytes | None = field(default=None, repr=_size_only)
    media_type: str | None = None
    width: int | None = None
    height: int | None = None
    extension: str | None = None
    url: str | None = field(default=None, repr=lambda url: "None" if url is None else "<url>")
    expires_at: datetime | None = None
    stored: str | None = None
    provenance: Provenance | None = field(
        default=None, repr=lambda provenance: "None" if provenance is None else "<provenance>"
    )

    async def save(self, path: str | PathLike[str], *, overwrite: bool = False, provenance: bool = False) -> Path:
        """Write the picture to a file and return its path; missing folders are made.

        Without an extension in `path` the one of the bytes is added; one of another picture type is refused with a
        `ValueError`. The file appears whole or not at all. Raises `FileExistsError` where there is one, unless
        `overwrite`. A cancelled call ends when the file is written.

        The file holds the bytes as they came; with `provenance`, also how the picture was made (`with_provenance`).
        """
        target = self._target(Path(path))
        picture = await anyio.to_thread.run_sync(self.with_provenance) if provenance else self
        await anyio.to_thread.run_sync(_write, picture.content, target, overwrite)
        return target

    def with_provenance(self) -> Image:
        """Return the picture with how it was made in its bytes: prompt, parameters, model, seed, time and cost.

        `nebula-async inspect` and `read_provenance` read it; pixels stay as they are. Prompts can be private, so ask
        those whom they belong to. Blocks for some milliseconds. Raises `ValueError` for a picture whose making is not
        known, and for one that has no place for it: a GIF, an AVIF, or 64 KiB of prompt in a JPEG.
        """
        if self.provenance is None:
            raise ValueError("how this picture was made is not known; save it without provenance=True")
        settled = self.provenance.settled(self.content)
        return evolve(self, data=write_provenance(self.content, settled), provenance=settled)

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

    def _repr_mimebundle_(self, **_options: Any) -> MimeBundle:
        from nebula_async.images.display import show_image  # only notebooks need it

        return show_image(self)

    @property
    def is_here(self) -> bool:
        """Whether its bytes are here, or where `stored` says: not where it was left at its URL."""
        return self.data is not None or self.stored is not None

    @property
    def content(self) -> bytes:
        """The picture's bytes. Raises `ValueError` for one that is in a sink, or was left at its URL."""
        if self.data is None:
            if self.stored is not None:
                raise ValueError(f"this picture has no bytes here: its sink stored it as {self.stored}; read it there")
            until = f" before {self.expires_at:%H:%M} UTC" if self.expires_at else ""
            raise ValueError(f"this picture has no bytes here, only a URL: fetch it with nebula.download(image){until}")
        return self.data

    def _target(self, path: Path) -> Path:
        if path.suffix.lower() in EXTENSIONS.get(self.media_type or "", ()):
            return path
        if any(path.suffix.lower() in suffixes for suffixes in EXTENSIONS.values()):
            raise ValueError(f"{path.name}: the picture is {self.media_type}; save it as {path.stem}{self.extension}")
        return path.with_name(path.name + (self.extension or ""))


def describe_image(media: Media, **facts: Any) -> Image:
    """Return the picture that was read as `media`, with what else is known of it."""
    return Image(
        media_type=media.media_type, width=media.width, height=media.height, extension=media.extension, **facts
    )


def read_image(data: bytes, **facts: Any) -> Image:
    """Return the picture that the bytes of a file are. Raises `ValueError` for what is no whole picture."""
    return describe_image(read_media(data), data=data, **facts)


def _write(data: bytes, target: Path, overwrite: bool) -> None:
    part = PartFile.beside(target)
    try:
        part.write(data)
        if overwrite:
            part.replace(target)
        else:
            part.link(target)
    except FileExistsError:
        raise FileExistsError(f"{target} exists; give another name, or overwrite=True") from None
    finally:
        part.discard()
