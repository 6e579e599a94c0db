"""Colours that go together, from dark to light, the last one to be seen from afar."""

import colorsys
import hashlib
import random

import attrs

Colour = tuple[int, int, int]

_PALETTES = (
    "0b132b 1c2541 3a506b 5bc0be f4d35e",
    "2d1e2f 6d2e46 a26769 d5b9b2 f7c59f",
    "03254c 1167b1 2a9df4 9fd8fb ffe8a3",
    "132a13 31572c 4f772d 90a955 ecf39e",
    "22223b 4a4e69 9a8c98 c9ada7 f2b880",
    "001219 005f73 0a9396 94d2bd ee9b00",
    "370617 8a1119 d0412a f48c06 ffd166",
    "10002b 3c096c 7b2cbf c77dff ffb3c6",
    "1a1423 3d314a 684756 ab7b62 f2cc8f",
    "16323d 264653 2a9d8f e9c46a e76f51",
    "142338 1d3557 457b9d a8dadc e63946",
    "231942 5e548e 9f86c0 e0b1cb ffd6a5",
    "0d1b2a 1b4965 62b6cb cae9ff ff9f1c",
    "1f2033 3f4a6b 7d8db5 d9e2f2 ef476f",
    "081c15 1b4332 2d8a5f 95d5b2 ffb4a2",
    "2b0b3f 842e6b d65a7e f6a57b ffe3a8",
    "102a43 243b53 627d98 bcccdc f7b267",
    "2f1b0c 6f4518 a47148 d4a276 f6e7cb",
)
_HUE_SWING = 0.035


@attrs.frozen
class Palette:
    """Five colours that go together."""

    dark: Colour
    deep: Colour
    middle: Colour
    light: Colour
    accent: Colour

    def pick(self, position: float) -> Colour:
        """Return the colour at a position between 0 (dark) and 1 (light)."""
        steps = (self.dark, self.deep, self.middle, self.light)
        place = min(max(position, 0.0), 1.0) * (len(steps) - 1)
        left = min(int(place), len(steps) - 2)
        return mix(steps[left], steps[left + 1], place - left)


def choose_palette(prompt: str) -> Palette:
    """Return the palette of a prompt: all its pictures share one, whatever their seed."""
    source = random.Random(hashlib.sha256(prompt.encode("utf-8", "surrogatepass")).digest())
    swing = source.uniform(-_HUE_SWING, _HUE_SWING)
    return Palette(*(_turn_hue(_read_colour(text), swing) for text in source.choice(_PALETTES).split()))


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """Return a colour between two, `share` of it the second one."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return red, green, blue


def _read_colour(text: str) -> Colour:
    red, green, blue = bytes.fromhex(text)
    return red, green, blue


def _turn_hue(colour: Colour, swing: float) -> Colour:
    hue, lightness, saturation = colorsys.rgb_to_hls(*(part / 255 for part in colour))
    red, green, blue = (round(part * 255) for part in colorsys.hls_to_rgb((hue + swing) % 1, lightness, saturation))
    return red, green, blue
