"""A job's folder: where its pictures and its ledger lie."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

from attrs import field, frozen

from nebula_async.errors import JobError
from nebula_async.images.image import Image
from nebula_async.images.media import read_media
from nebula_async.requests import ImageRequest
from nebula_async.sinks.names import relative_key

MOST_NAMES = 100


@frozen
class JobFolder:
    """`images/` holds the pictures in folders of a thousand, `.nebula/` what the job knows of them."""

    path: Path
    images: Path = field(init=False)
    state: Path = field(init=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "images", self.path / "images")
        object.__setattr__(self, "state", self.path / ".nebula")

    @property
    def ledger(self) -> Path:
        """The ledger's file."""
        return self.state / "ledger.db"

    def relative(self, path: Path) -> str:
        """Return a picture's path as the ledger notes it: the folder may be moved as a whole."""
        return path.relative_to(self.path).as_posix()

    def prepare(self) -> None:
        """Make the folders and try to write into them. Raises `JobError` naming the folder."""
        try:
            for folder in (self.images, self.state):
                folder.mkdir(parents=True, exist_ok=True)
                probe = folder / f".{uuid4().hex}.part"
                probe.touch(exist_ok=False)
                probe.unlink()
        except OSError as error:
            reason = error.strerror or str(error)
            raise JobError(f"cannot write to the output folder {self.path}: {reason}; give another --out") from error

    def find(self, number: int, request: ImageRequest) -> Path | None:
        """Return the whole picture that a run which was killed has stored for an item."""
        key = self.images / relative_key(number, request.prompt, request.id)
        candidates = sorted(key.parent.glob(f"{key.name}.*")) if key.parent.is_dir() else []
        return next((path for path in candidates if _is_whole(path)), None)

    async def store(self, number: int, request: ImageRequest, image: Image) -> Path:
        """Store a picture under the item's name, next to any other file that has it. Raises `OSError`."""
        key = relative_key(number, request.prompt, request.id)
        for name in (key, *(f"{key}-{copy}" for copy in range(1, MOST_NAMES))):
            try:
                return await image.save(self.images / f"{name}{image.extension}")
            except FileExistsError:
                continue  # not ours: the ledger would know it
        raise FileExistsError(f"{MOST_NAMES} files are named {key} already")


def _is_whole(path: Path) -> bool:
    try:
        read_media(path.read_bytes())
    except (OSError, ValueError):
        return False
    return True
