"""Soft backgrounds and clean-edged shapes: what every scene is painted with."""

import functools
from collections.abc import Sequence

from PIL import Image, ImageChops, ImageDraw

from nebula_async.emulator.palettes import Colour

Size = tuple[int, int]
Point = tuple[float, float]

# Shapes are drawn at twice the size and averaged down, which is what smooths their edges.
_OVERSIZE = 2
_STAMP_PIXELS = 256
_RING_HOLE = 0.93


class PaperCut:
    """Shapes cut out of coloured paper and laid over a picture; later ones cover earlier ones."""

    def __init__(self, size: Size, paper: Colour) -> None:
        large = (size[0] * _OVERSIZE, size[1] * _OVERSIZE)
        # The paper shows through at smoothed edges only.
        self._colours = Image.new("RGB", large, paper)
        self._shapes = Image.new("L", large, 0)
        self._colour_pen = ImageDraw.Draw(self._colours)
        self._shape_pen = ImageDraw.Draw(self._shapes)

    def polygon(self, points: Sequence[Point], colour: Colour, opacity: float = 1.0) -> None:
        """Lay down a polygon."""
        large = [(x * _OVERSIZE, y * _OVERSIZE) for x, y in points]
        self._colour_pen.polygon(large, fill=colour)
        self._shape_pen.polygon(large, fill=round(255 * opacity))

    def disc(self, centre: Point, radius: float, colour: Colour, opacity: float = 1.0) -> None:
        """Lay down a disc."""
        self.slice(centre, radius, (0, 360), colour, opacity)

    def slice(
        self, centre: Point, radius: float, angles: tuple[float, float], colour: Colour, opacity: float = 1.0
    ) -> None:
        """Lay down a slice of a disc, clockwise between two angles in degrees."""
        x, y = (part * _OVERSIZE for part in centre)
        reach = radius * _OVERSIZE
        box = (x - reach, y - reach, x + reach, y + reach)
        self._colour_pen.pieslice(box, *angles, fill=colour)
        self._shape_pen.pieslice(box, *angles, fill=round(255 * opacity))

    def over(self, background: Image.Image) -> Image.Image:
        """Return the background with the shapes on it."""
        return Image.composite(self._colours.reduce(_OVERSIZE), background, self._shapes.reduce(_OVERSIZE))


def mesh(size: Size, rows: Sequence[Sequence[Colour]]) -> Image.Image:
    """Return a smooth picture through a grid of colours."""
    grid = Image.new("RGB", (len(rows[0]), len(rows)))
    grid.putdata([colour for row in rows for colour in row])
    return grid.resize(size, Image.Resampling.BICUBIC)


def stamp(picture: Image.Image, kind: str, centre: Point, radius: float, colour: Colour, opacity: float) -> None:
    """Press a round translucent shape into a picture: a `disc`, a `ring` or a `glow`."""
    side = max(1, round(radius * 2))
    shape = _stamp_shape(kind, min(_STAMP_PIXELS, 1 << side.bit_length())).resize(
        (side, side), Image.Resampling.BILINEAR
    )
    faded = ImageChops.multiply(shape, Image.new("L", shape.size, round(255 * opacity)))
    picture.paste(colour, (round(centre[0] - radius), round(centre[1] - radius)), faded)


@functools.cache
def _stamp_shape(kind: str, side: int) -> Image.Image:
    if side < _STAMP_PIXELS:
        return _stamp_shape(kind, side * 2).reduce(2)
    if kind == "glow":
        ramp = ImageChops.invert(Image.radial_gradient("L"))
        return ramp.point([round(255 * max(0.0, (value / 255 - 0.3) / 0.7) ** 2) for value in range(256)])
    return _disc(hole=_RING_HOLE if kind == "ring" else 0.0)


def _disc(*, hole: float) -> Image.Image:
    side = _STAMP_PIXELS * 4
    large = Image.new("L", (side, side), 0)
    pen = ImageDraw.Draw(large)
    pen.ellipse((0, 0, side - 1, side - 1), fill=255)
    edge = side * (1 - hole) / 2
    if hole:
        pen.ellipse((edge, edge, side - edge, side - edge), fill=0)
    return large.reduce(4)
