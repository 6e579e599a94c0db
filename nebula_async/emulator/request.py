"""A request for pictures that can be served, in whichever dialect it came."""

import hashlib
import json

import attrs

from nebula_async.emulator.catalogue import Model

TINY_PIXELS = 64 * 64
TINY_CHARACTERS = 10_000


@attrs.frozen
class GenerationRequest:
    """A request for pictures: only what its model honours, with every default filled in.

    A dialect that has no word for `seed`, or for `quality` and `style`, leaves them None.
    """

    model: Model
    prompt: str
    negative_prompt: str
    width: int
    height: int
    num_steps: int
    guidance_scale: float
    seed: int | None
    image: str | None
    mask: str | None
    num_images: int
    quality: str | None = None
    style: str | None = None
    by_url: bool = False

    @property
    def characters(self) -> int:
        """How long its texts are."""
        return len(self.prompt) + len(self.negative_prompt)

    @property
    def is_tiny(self) -> bool:
        """Whether painting it takes less time than handing it to a thread and back."""
        pixels = self.width * self.height * self.num_images
        return self.image is None and pixels <= TINY_PIXELS and self.characters <= TINY_CHARACTERS

    def digest(self, index: int) -> bytes:
        """Return what makes this picture unlike any other: a hash over every parameter."""
        values = attrs.asdict(self, recurse=False, filter=_is_painted) | {"model": self.model.id, "index": index}
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).digest()


def _is_painted(field: "attrs.Attribute[object]", value: object) -> bool:
    # How a picture is fetched is not seen in it, and what its dialect has no word for does not take part.
    return field.name != "by_url" and (value is not None or field.name not in {"quality", "style"})
