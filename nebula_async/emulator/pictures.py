"""Pictures as the models make them: real files of exactly the asked size, the same for the same request."""

import base64
import binascii
import io
import random

import attrs
from PIL import Image, ImageEnhance, ImageOps

from nebula_async.emulator.caption import Box, set_caption
from nebula_async.emulator.palettes import Palette, choose_palette
from nebula_async.emulator.refusals import invalid
from nebula_async.emulator.request import GenerationRequest
from nebula_async.emulator.scenes import Scene, flowers, lights, mountains, ribbons, skyline, tiles

# A scene is smooth: beyond this side it is enlarged instead of painted, and only the words are set at full size.
LARGEST_PAINTED_SIDE = 1024
PATTERN_SHARE = 0.4
INPUT_FORMATS = ("JPEG", "PNG", "WEBP")
VIVIDNESS = 1.7
POSTER_BITS = 3
SAVE_OPTIONS: dict[str, dict[str, int]] = {
    "png": {"compress_level": 1},
    "jpeg": {"quality": 90},
    "webp": {"quality": 85, "method": 0},
}
SCENES: dict[str, Scene] = {
    "SDXL 1.0": mountains,
    "FLUX.1 schnell": lights,
    "Seedream 3.0": ribbons,
    "FLUX.1 Fill": tiles,
    "FLUX.1 Kontext": flowers,
    "DALL-E 3": skyline,
}


@attrs.frozen
class Sources:
    """The pictures a request came with, decoded."""

    image: Image.Image | None
    mask: Image.Image | None


def decode_sources(request: GenerationRequest) -> Sources:
    """Decode what a request came with; what is no picture is refused with 422."""
    return Sources(_decode("image", request.image, "RGB"), _decode("mask", request.mask, "L"))


def render(request: GenerationRequest, sources: Sources, image_format: str, index: int) -> bytes:
    """Return one picture as the bytes of a file."""
    picture = _compose(request, sources, index)
    file = io.BytesIO()
    picture.save(file, image_format, **SAVE_OPTIONS[image_format])
    return file.getvalue()


def _compose(request: GenerationRequest, sources: Sources, index: int) -> Image.Image:
    palette = choose_palette(request.prompt)
    picture = _paint(request, palette, index)
    everywhere = (0, 0, *picture.size)
    if sources.image is None:
        _caption(picture, everywhere, request, palette, index)
        return picture
    kept = sources.image.resize(picture.size, Image.Resampling.BICUBIC)
    if sources.mask is None:
        blended = Image.blend(kept, picture, PATTERN_SHARE)
        _caption(blended, everywhere, request, palette, index)
        return blended
    # The words go where the mask is white: what it keeps is kept to the pixel.
    mask = sources.mask.resize(picture.size, Image.Resampling.BICUBIC)
    repainted = mask.getbbox()
    if repainted is not None:
        _caption(picture, repainted, request, palette, index)
    return Image.composite(picture, kept, mask)


def _paint(request: GenerationRequest, palette: Palette, index: int) -> Image.Image:
    size = (request.width, request.height)
    scale = min(1.0, LARGEST_PAINTED_SIDE / max(size))
    painted = (max(1, round(size[0] * scale)), max(1, round(size[1] * scale)))
    scene = SCENES[request.model.title](painted, palette, random.Random(request.digest(index)))
    picture = _stylise(scene, request.style)
    return picture if painted == size else picture.resize(size, Image.Resampling.BICUBIC)


def _stylise(picture: Image.Image, style: str | None) -> Image.Image:
    match style:
        case "vivid":
            return ImageEnhance.Color(picture).enhance(VIVIDNESS)
        case "artistic":
            return ImageOps.posterize(picture, POSTER_BITS)
    return picture


def _caption(picture: Image.Image, area: Box, request: GenerationRequest, palette: Palette, index: int) -> None:
    number = f" · {index + 1} of {request.num_images}" if request.num_images > 1 else ""
    how = f"seed {request.seed}" if request.style is None else f"{request.style} · {request.quality}"
    small_print = f"{request.model.title} · {how}{number}"
    set_caption(picture, area, request.prompt, small_print, palette)


def _decode(field: str, text: str | None, mode: str) -> Image.Image | None:
    if text is None:
        return None
    try:
        with Image.open(io.BytesIO(base64.b64decode(text, validate=True)), formats=INPUT_FORMATS) as picture:
            return ImageOps.exif_transpose(picture).convert(mode)
    except (binascii.Error, OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        raise invalid((field, "Input should be a base64-encoded JPEG, PNG or WebP picture", "value_error")) from None
