"""The prompt's words over a picture, as large as they fit, on a panel of frosted glass."""

import functools
import unicodedata
from collections.abc import Iterator

import attrs
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from nebula_async.emulator.palettes import Palette, mix

MOST_CHARACTERS = 400
MOST_WORDS = 36
LONGEST_WORD = 24
SMALLEST_FONT = 9
SMALLEST_SIDE = 72
# Font height as a share of the picture's side, largest first, and how many lines may be set in it.
_SIZES = ((0.068, 2), (0.06, 3), (0.052, 4), (0.045, 5), (0.039, 6))
_FEWER_WORDS = (12, 6, 3)
_NARROWER = (0.6, 0.7, 0.8, 0.9)
_TALLEST_PANEL = 0.5
_SMALL_PRINT = 0.6
_LEADING = 1.28
# No text sets narrower than this, as a share of the font height by the character; measuring is slow.
_NARROW = 0.3
_MARGIN = 0.04
_NO_CHARACTER = "\U0010fffd"
_UNKNOWN_GLYPH = "·"

Box = tuple[int, int, int, int]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@attrs.frozen
class _Setting:
    """A caption laid out: its lines, their fonts, and the panel they need."""

    lines: tuple[str, ...]
    font: Font
    font_pixels: int
    print_line: str
    print_font: Font
    width: float

    @property
    def padding(self) -> int:
        return _padding(self.font_pixels)

    @property
    def text_height(self) -> int:
        return round(len(self.lines) * self.font_pixels * _LEADING)

    @property
    def panel(self) -> tuple[int, int]:
        small = round(self.font_pixels * _SMALL_PRINT * 1.5) if self.print_line else 0
        return round(self.width) + 2 * self.padding, self.text_height + small + 2 * self.padding


def set_caption(picture: Image.Image, area: Box, words: str, small_print: str, palette: Palette) -> None:
    """Draw the words, and the small print below them, into the lower left of an area; nothing where nothing fits."""
    left, upper, right, lower = area
    size = (right - left, lower - upper)
    setting = _fit(size, readable(words), small_print) if min(size) >= SMALLEST_SIDE else None
    if setting is None:
        return
    margin = round(min(size) * _MARGIN)
    corner = (left + margin, lower - margin - setting.panel[1])
    _frost(picture, corner, setting.panel, setting.padding, palette)
    _write(picture, (corner[0] + setting.padding, corner[1] + setting.padding), setting, palette)


def readable(text: str) -> str:
    """Return a text as the font can show it: accents and control characters dropped, pictographs named."""
    pieces = (_shown(character) for character in unicodedata.normalize("NFKC", text[:MOST_CHARACTERS]))
    words = "".join(pieces).split()
    shortened = [word if len(word) <= LONGEST_WORD else f"{word[: LONGEST_WORD - 1]}…" for word in words]
    if len(words) > MOST_WORDS or len(text) > MOST_CHARACTERS:
        return f"{' '.join(shortened[:MOST_WORDS])} …"
    return " ".join(shortened)


@functools.lru_cache(4096)
def _shown(character: str) -> str:
    if _in_font(character):
        return character
    category = unicodedata.category(character)
    if category in {"So", "Sk"}:
        return f" {' '.join(unicodedata.name(character, '').lower().split()[:3])} "
    if category[0] in "CZ":
        return "" if category == "Cf" else " "
    if category[0] == "M":
        return ""
    plain = "".join(part for part in unicodedata.normalize("NFKD", character) if _in_font(part))
    return plain or _sound(character) or _UNKNOWN_GLYPH


def _sound(character: str) -> str:
    """Spell a letter of another alphabet by its Unicode name: HANGUL SYLLABLE HAN, CYRILLIC SMALL LETTER ZHE."""
    script, _, name = unicodedata.name(character, "").partition(" WITH ")[0].lower().partition(" ")
    kind, _, sound = name.rpartition(" ")
    if not kind.endswith(("letter", "syllable", "short")):
        return ""
    if script == "greek":
        return sound[0]
    # Cyrillic names add an e or a to a consonant: el, be, zhe, ka.
    return sound.strip("ea") or sound if script == "cyrillic" else sound


def _in_font(character: str) -> bool:
    if "\ud800" <= character <= "\udfff" or unicodedata.category(character)[0] == "C":
        return False
    font = _font(16)
    return bytes(font.getmask(character)) != bytes(font.getmask(_NO_CHARACTER)) or character == " "


@functools.lru_cache(64)
def _font(pixels: int) -> Font:
    font = ImageFont.load_default(pixels)
    if isinstance(font, ImageFont.FreeTypeFont):
        # Latin letters alone are drawn: the basic layout is as good, many times faster and the same everywhere.
        return font.font_variant(layout_engine=ImageFont.Layout.BASIC)
    return font


def _fit(size: tuple[int, int], words: str, small_print: str) -> _Setting | None:
    side = min(size[0], size[1] * 1.4, (size[0] * size[1]) ** 0.5)
    # Of sizes that come out the same in a small picture, the one with most lines remains.
    candidates = {max(SMALLEST_FONT, round(side * share)): most_lines for share, most_lines in _SIZES}
    tries = (
        _lay_out(size, text, small_print, pixels, most_lines)
        for text in _shorter_and_shorter(words)
        for pixels, most_lines in candidates.items()
    )
    return next((setting for setting in tries if setting is not None), None)


def _shorter_and_shorter(words: str) -> Iterator[str]:
    yield words
    for count in _FEWER_WORDS:
        if words.count(" ") >= count:
            yield f"{' '.join(words.split()[:count])} …"


def _lay_out(size: tuple[int, int], words: str, small_print: str, pixels: int, most_lines: int) -> _Setting | None:
    font, print_font = _font(pixels), _font(max(SMALLEST_FONT - 1, round(pixels * _SMALL_PRINT)))
    room = size[0] - 2 * round(min(size) * _MARGIN) - 2 * _padding(pixels)
    if len(words) * pixels * _NARROW > room * most_lines:
        return None
    lines = _balance(words, font, room)
    if len(lines) > most_lines or any(font.getlength(line) > room for line in lines):
        return None
    for text in (small_print, ""):
        widths = (print_font.getlength(text), *(font.getlength(line) for line in lines))
        setting = _Setting(lines, font, pixels, text, print_font, max(widths))
        if setting.width <= room and setting.panel[1] <= size[1] * _TALLEST_PANEL:
            return setting
    return None


def _balance(words: str, font: Font, room: float) -> tuple[str, ...]:
    """Break the words into as few lines as fit, of much the same length: no word is left alone on the last."""
    lines = tuple(_wrap(words, font, room))
    narrower = (tuple(_wrap(words, font, room * share)) for share in _NARROWER if len(lines) > 1)
    return next((even for even in narrower if len(even) == len(lines)), lines)


def _wrap(words: str, font: Font, room: float) -> Iterator[str]:
    line = ""
    for word in words.split():
        longer = f"{line} {word}".lstrip()
        if line and font.getlength(longer) > room:
            yield line
            longer = word
        line = longer
    if line:
        yield line


def _padding(pixels: int) -> int:
    return max(2, round(pixels * 0.62))


def _frost(
    picture: Image.Image, corner: tuple[int, int], panel: tuple[int, int], padding: int, palette: Palette
) -> None:
    box = (*corner, corner[0] + panel[0], corner[1] + panel[1])
    below = picture.crop(box)
    soft = below.resize((max(1, panel[0] // 8), max(1, panel[1] // 8)), Image.Resampling.BOX)
    blurred = soft.filter(ImageFilter.GaussianBlur(2)).resize(panel, Image.Resampling.BICUBIC)
    glass = Image.blend(blurred, Image.new("RGB", panel, mix(palette.dark, (0, 0, 0), 0.4)), 0.62)
    shape = Image.new("L", (panel[0] * 2, panel[1] * 2), 0)
    ImageDraw.Draw(shape).rounded_rectangle((0, 0, panel[0] * 2 - 1, panel[1] * 2 - 1), padding * 1.2, fill=255)
    picture.paste(glass, box, shape.reduce(2))


def _write(picture: Image.Image, corner: tuple[int, int], setting: _Setting, palette: Palette) -> None:
    pen = ImageDraw.Draw(picture)
    left, top = corner
    for number, line in enumerate(setting.lines):
        pen.text((left, top + round(number * setting.font_pixels * _LEADING)), line, (255, 255, 255), setting.font)
    below = top + setting.text_height + round(setting.font_pixels * 0.12)
    pen.text((left, below), setting.print_line, mix(palette.light, (255, 255, 255), 0.35), setting.print_font)
