"""What a picture may ask for: pixels, and the parts that it is made of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

MAX_PIXELS = 64 * 2**20
"""Larger pictures are refused: a few kilobytes of PNG can ask a decoder for gigabytes."""

MOST_PARTS, MOST_GIF_PARTS = 20_000, 300_000
"""Many small parts take long to read. Real pictures have some thousands; those of a GIF have 255 bytes at most."""

Size: TypeAlias = tuple[int, int]
"""Width and height in pixels."""


def acceptable(width: int, height: int) -> Size:
    """Return the size; raise `ValueError` for a picture that shows nothing, or is larger than `MAX_PIXELS`."""
    if not 0 < width * height <= MAX_PIXELS:
        limit = f"more than {MAX_PIXELS >> 20} megapixels" if width * height else "which shows nothing"
        raise ValueError(f"it is {width} × {height} pixels, {limit}")  # noqa: RUF001 - a real ×
    return width, height


def part_numbers(most: int = MOST_PARTS) -> Iterator[int]:
    """Number the parts of a picture as they are read; raise `ValueError` instead of a number above `most`."""
    yield from range(1, most + 1)
    raise ValueError(f"it is made of more than {most} parts")
