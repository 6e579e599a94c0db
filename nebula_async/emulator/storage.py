"""The image storage: URLs that show a picture for an hour, to whoever has them."""

import hashlib

import attrs

from nebula_async.emulator.request import GenerationRequest

STORAGE_PATH = "/generated/"
KEPT_PICTURES = 100_000
KEPT_CHARACTERS = 256_000_000
EXTENSIONS = {"png": "png", "jpeg": "jpg", "webp": "webp"}


@attrs.frozen
class StoredPicture:
    """A picture as it is kept: not painted yet. `is_page` is a fault: a web page stands in its place."""

    request: GenerationRequest
    index: int
    made_at: float
    is_page: bool = False


@attrs.define(eq=False)
class Shelf:
    """The pictures between two resets, each for so many seconds; of very many the oldest leave early.

    Requests still in flight at a reset go on using the old shelf.
    """

    seconds: float
    _pictures: dict[str, StoredPicture] = attrs.field(factory=dict, init=False)
    _characters: int = attrs.field(default=0, init=False)

    def put(self, name: str, picture: StoredPicture) -> None:
        """Keep a picture under a name."""
        self._pictures[name] = picture
        self._characters += picture.request.characters
        while self._pictures and self._must_leave(next(iter(self._pictures.values())), picture.made_at):
            self._characters -= self._pictures.pop(next(iter(self._pictures))).request.characters

    def find(self, name: str, now: float) -> StoredPicture | None:
        """Return the picture of a name, unless it has expired or never was."""
        picture = self._pictures.get(name)
        return None if picture is None or self._is_over(picture, now) else picture

    def _must_leave(self, oldest: StoredPicture, now: float) -> bool:
        is_overfull = len(self._pictures) > KEPT_PICTURES or self._characters > KEPT_CHARACTERS
        return is_overfull or self._is_over(oldest, now)

    def _is_over(self, picture: StoredPicture, now: float) -> bool:
        return now - picture.made_at >= self.seconds


def picture_name(seed: int, generation: int, index: int, image_format: str) -> str:
    """Return the name of a picture's file: nobody can guess it, yet the same run gives the same names."""
    digest = hashlib.sha256(f"{seed}/{generation}/{index}".encode()).hexdigest()
    return f"{digest[:32]}.{EXTENSIONS[image_format]}"
