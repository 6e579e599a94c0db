"""One scene per model, so that a gallery shows at a glance who painted what; chance decides the rest."""

import math
import random
from collections.abc import Callable

from PIL import Image

from nebula_async.emulator.canvas import PaperCut, Point, Size, mesh, stamp
from nebula_async.emulator.palettes import Colour, Palette, mix

Scene = Callable[[Size, Palette, random.Random], Image.Image]
Wave = Callable[[float], float]
Box = tuple[float, float, float, float]

TALLEST_HOUSE = 40


def mountains(size: Size, palette: Palette, source: random.Random) -> Image.Image:
    """Paint ridges under a sun, or under a moon and stars."""
    height = size[1]
    night = source.random() < 0.4
    picture = _sky(size, palette, source, night=night)
    if night:
        _stars(picture, palette, source)
    _sun(picture, palette, source, night=night)
    cut = PaperCut(size, palette.middle)
    ridges = source.randint(4, 6)
    for ridge in range(ridges):
        share = ridge / (ridges - 1)
        crest = _crest(source, height * (0.46 + 0.4 * share), height * (0.13 - 0.05 * share))
        shade = palette.pick((0.62 if night else 0.8) * (1 - share) ** 1.1)
        cut.polygon(_below(crest, size), mix(shade, palette.accent, 0.12 * (1 - share)))
    return cut.over(picture)


def lights(size: Size, palette: Palette, source: random.Random) -> Image.Image:
    """Paint translucent discs of light in the dark."""
    picture = _dusk(size, palette, source)
    reach = math.sqrt(size[0] * size[1])
    for _ in range(source.randint(3, 5)):
        stamp(
            picture, "glow", _anywhere(size, source), reach * source.uniform(0.25, 0.5), _bright(palette, source), 0.55
        )
    for number in range(source.randint(15, 24)):
        radius = reach * (0.025 + 0.17 * source.random() ** 2)
        centre, colour = _anywhere(size, source), _bright(palette, source)
        stamp(picture, "disc", centre, radius, colour, source.uniform(0.18, 0.6))
        if number % 2:
            stamp(picture, "ring", centre, radius, mix(colour, (255, 255, 255), 0.4), 0.55)
    return picture


def ribbons(size: Size, palette: Palette, source: random.Random) -> Image.Image:
    """Paint bands that flow across the picture."""
    width, height = size
    picture = _dusk(size, palette, source)
    cut = PaperCut(size, palette.middle)
    turn = _turned(source.uniform(-0.7, 0.7), size)
    bands = source.randint(7, 11)
    bright = source.randrange(bands // 3, bands)
    crest = _crest(source, 0.0, height * 0.13, octaves=2)
    reach = math.hypot(width, height)
    top, left, right = height / 2 - reach * 0.45, width / 2 - reach * 0.75, width / 2 + reach * 0.75
    for band in range(bands):
        level = top + reach * 0.9 * (band + source.uniform(-0.25, 0.25)) / bands
        swell = _crest(source, level, height * 0.03, octaves=1)
        edge = [(x, crest(x / width) + swell(x / width)) for x in _steps(left, right)]
        colour = palette.accent if band == bright else palette.pick(1 - band / (bands - 1))
        outline = [*edge, (right, height + reach), (left, height + reach)]
        cut.polygon([turn(point) for point in outline], colour, 0.9)
    return cut.over(picture)


def tiles(size: Size, palette: Palette, source: random.Random) -> Image.Image:
    """Paint a floor of geometric tiles."""
    width, height = size
    picture = _dusk(size, palette, source)
    cut = PaperCut(size, palette.deep)
    side = max(width, height) / source.randint(5, 8)
    colours = (palette.dark, palette.deep, palette.middle, palette.light, palette.accent)
    for row in range(math.ceil(height / side)):
        for column in range(math.ceil(width / side)):
            ground, figure = source.sample(colours, 2)
            _tile(cut, (column * side, row * side), side, ground, figure, source)
    return Image.blend(picture, cut.over(picture), 0.88)


def flowers(size: Size, palette: Palette, source: random.Random) -> Image.Image:
    """Paint large blossoms."""
    picture = _dusk(size, palette, source)
    cut = PaperCut(size, palette.middle)
    reach = math.sqrt(size[0] * size[1])
    for _ in range(source.randint(5, 8)):
        _blossom(cut, _anywhere(size, source), reach * source.uniform(0.1, 0.3), palette, source)
    return cut.over(picture)


def skyline(size: Size, palette: Palette, source: random.Random) -> Image.Image:
    """Paint a town at dusk, with lights in its windows."""
    width, height = size
    picture = _sky(size, palette, source, night=True)
    _sun(picture, palette, source, night=False)
    cut = PaperCut(size, palette.deep)
    for row, tallest in enumerate((0.62, 0.46, 0.3)):
        left, shade = 0.0, palette.pick(0.5 - 0.22 * row)
        while left < width:
            right = left + max(width * source.uniform(0.05, 0.12), 1)
            house = (left, height * (1 - tallest * source.uniform(0.55, 1.0)), right, float(height))
            cut.polygon(_corners(house), shade)
            _windows(cut, house, mix(shade, palette.accent, 0.35 + 0.2 * row), source)
            left = right
    return cut.over(picture)


def _sky(size: Size, palette: Palette, source: random.Random, *, night: bool) -> Image.Image:
    levels = (0.0, 0.12, 0.3, 0.55, 0.6) if night else (0.45, 0.65, 0.85, 1.0, 1.0)
    warmth = (0.0, 0.0, 0.1, 0.3, 0.4) if night else (0.0, 0.1, 0.25, 0.45, 0.5)
    rows = [
        [mix(palette.pick(level + source.uniform(-0.08, 0.08)), palette.accent, warm) for _ in range(4)]
        for level, warm in zip(levels, warmth, strict=True)
    ]
    return mesh(size, rows)


def _dusk(size: Size, palette: Palette, source: random.Random) -> Image.Image:
    # A patch for every quarter of the short side, so that none is drawn out into a stripe.
    across, down = (min(16, round(4 * side / min(size)) + 1) for side in size)
    rows = [[palette.pick(source.uniform(0.0, 0.62)) for _ in range(across)] for _ in range(down)]
    rows[source.randrange(down)][source.randrange(across)] = mix(palette.accent, palette.middle, 0.4)
    return mesh(size, rows)


def _sun(picture: Image.Image, palette: Palette, source: random.Random, *, night: bool) -> None:
    width, height = picture.size
    radius = math.sqrt(width * height) * source.uniform(0.05, 0.11)
    centre = (width * source.uniform(0.15, 0.85), height * source.uniform(0.14, 0.4))
    colour = mix(palette.light if night else palette.accent, (255, 255, 255), 0.5 if night else 0.15)
    stamp(picture, "glow", centre, radius * 4.5, colour, 0.5)
    stamp(picture, "disc", centre, radius, colour, 1.0)


def _stars(picture: Image.Image, palette: Palette, source: random.Random) -> None:
    width, height = picture.size
    unit = math.sqrt(width * height) / 1000
    for _ in range(source.randint(30, 60)):
        centre = (source.uniform(0, width), source.uniform(0, height * 0.5))
        stamp(picture, "disc", centre, unit * source.uniform(1.0, 2.6), palette.light, source.uniform(0.3, 0.9))


def _windows(cut: PaperCut, house: Box, colour: Colour, source: random.Random) -> None:
    left, top, right, bottom = house
    columns = source.randint(2, 4)
    step = (right - left) / (columns + 1)
    for floor in range(1, min(math.ceil((bottom - top) / step), TALLEST_HOUSE)):
        for column in range(columns):
            x, y = left + (column + 0.75) * step, top + floor * step
            if source.random() < 0.5:
                cut.polygon(_corners((x, y, x + step * 0.5, y + step * 0.5)), colour)


def _corners(box: Box) -> list[Point]:
    left, top, right, bottom = box
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def _tile(cut: PaperCut, corner: Point, side: float, ground: Colour, figure: Colour, source: random.Random) -> None:
    (x, y), middle = corner, side / 2
    corners = [(x, y), (x + side, y), (x + side, y + side), (x, y + side)]
    cut.polygon(corners, ground)
    turn = source.randrange(4)
    match source.randrange(5):
        case 0:
            cut.disc((x + middle, y + middle), side * 0.36, figure)
        case 1:
            cut.slice(corners[turn], side, (turn * 90, turn * 90 + 90), figure)
        case 2:
            cut.polygon([corners[turn], corners[turn - 1], corners[turn - 2]], figure)
        case 3:
            for number in (turn, turn - 2):
                cut.slice(corners[number], middle, (number % 4 * 90, number % 4 * 90 + 90), figure)
        case _:
            cut.slice(corners[turn], side, (turn * 90, turn * 90 + 90), figure)
            cut.slice(corners[turn], middle, (turn * 90, turn * 90 + 90), ground)


def _blossom(cut: PaperCut, centre: Point, radius: float, palette: Palette, source: random.Random) -> None:
    petals, start = source.randint(6, 11), source.uniform(0, math.tau)
    outer, inner = _bright(palette, source), palette.pick(source.uniform(0.25, 0.7))
    for scale, colour, shift in ((1.0, outer, 0.0), (0.68, mix(outer, inner, 0.75), 0.5)):
        for petal in range(petals):
            angle = start + (petal + shift) * math.tau / petals
            cut.polygon(_petal(centre, radius * scale, angle, math.pi / petals), mix(colour, inner, 0.12 * (petal % 2)))
    cut.disc(centre, radius * 0.2, palette.dark)
    cut.disc(centre, radius * 0.13, palette.accent)


def _petal(centre: Point, length: float, angle: float, spread: float) -> list[Point]:
    # Along the petal its half-width rises and falls like a sine, fuller towards the tip.
    along = [step / 12 for step in range(13)]
    spine = [(share * length, math.sin(math.pi * share**1.4) * length * math.tan(spread) * 0.62) for share in along]
    outline = [*spine, *((x, -y) for x, y in reversed(spine))]
    cos, sin = math.cos(angle), math.sin(angle)
    return [(centre[0] + x * cos - y * sin, centre[1] + x * sin + y * cos) for x, y in outline]


def _crest(source: random.Random, level: float, swing: float, octaves: int = 4) -> Wave:
    waves = [
        (source.uniform(1, 2.4) * 2**octave, source.uniform(0, math.tau), 0.55**octave) for octave in range(octaves)
    ]

    def crest(share: float) -> float:
        return level + swing * sum(math.sin(share * speed * 2.6 + shift) * size for speed, shift, size in waves)

    return crest


def _below(crest: Wave, size: Size) -> list[Point]:
    width, height = size
    return [*((x, crest(x / width)) for x in _steps(0, width)), (width, height), (0, height)]


def _steps(start: float, end: float) -> list[float]:
    count = round(min(max((end - start) / 6, 8), 128))
    return [start + (end - start) * step / count for step in range(count + 1)]


def _turned(angle: float, size: Size) -> Callable[[Point], Point]:
    cos, sin, x, y = math.cos(angle), math.sin(angle), size[0] / 2, size[1] / 2
    return lambda point: (
        x + (point[0] - x) * cos - (point[1] - y) * sin,
        y + (point[0] - x) * sin + (point[1] - y) * cos,
    )


def _anywhere(size: Size, source: random.Random) -> Point:
    return source.uniform(0, size[0]), source.uniform(0, size[1])


def _bright(palette: Palette, source: random.Random) -> Colour:
    return source.choice((palette.accent, palette.light, palette.pick(source.uniform(0.5, 1.0))))
