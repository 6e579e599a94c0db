"""Pictures that are sent: what cannot be meant is found before anything is paid for."""

from __future__ import annotations

import base64
import io

import pytest
from PIL import Image as Pillow

from nebula_async import AsyncNebula, Config, Failure, ImageRequest, InvalidRequestError, RetryPolicy
from nebula_async.events import ParameterIgnored

pytestmark = pytest.mark.anyio

SCHNELL = "black-forest-labs/FLUX.1-schnell"
SDXL = "stabilityai/stable-diffusion-xl-base-1.0"
FILL = "black-forest-labs/FLUX.1-Fill-dev"
KONTEXT = "black-forest-labs/FLUX.1-Kontext-dev"
SMALL = {"width": 32, "height": 32}


def client(emulator, **settings) -> AsyncNebula:
    """Return a client of an emulator."""
    config = Config(base_url=emulator.base_url, retry=RetryPolicy(backoff=0), **settings)
    return AsyncNebula(emulator.key, config=config)


def picture(form: str = "PNG", size: tuple[int, int] = (32, 32), colour: str = "white") -> bytes:
    """Return the file of a picture in one colour."""
    file = io.BytesIO()
    Pillow.new("RGB", size, colour).save(file, form)
    return file.getvalue()


def given_as(kind: str, data: bytes, folder) -> object:
    """Return a picture in one of the ways in which users hand one in."""
    path = folder / "picture"
    path.write_bytes(data)
    ways = {
        "path": lambda: path,
        "text": lambda: str(path),
        "bytes": lambda: data,
        "file": lambda: io.BytesIO(data),
        "pil": lambda: Pillow.open(io.BytesIO(data)),
    }
    return ways[kind]()


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("kind", ["path", "text", "bytes", "file", "pil"])
async def test_inpainting(emulator, tmp_path, kind, form):
    """An image and its mask are sent as base64 of their own bytes, a PIL image as PNG, however they are handed in."""
    data = picture(form, colour="red")
    async with client(emulator) as nebula:
        hat = await nebula.generate(
            "a red hat", model=FILL, image=given_as(kind, data, tmp_path), mask=given_as(kind, data, tmp_path), **SMALL
        )

    record = emulator.journal.generations[0]
    assert (32, 1) == (hat.image.width, record.images_charged)
    assert {"image", "mask"} <= record.fields.keys()
    if kind != "pil":
        assert len(base64.b64encode(data)) == record.fields["image"]["length"] == record.fields["mask"]["length"]


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "HSV", "LAB", "F", "RGBA", "LA", "P", "1", "I;16"])
async def test_a_pil_image_of_any_colours(emulator, mode):
    """A PIL image in colours that PNG does not have is converted."""
    async with client(emulator) as nebula:
        made = await nebula.generate("at night", model=KONTEXT, image=Pillow.new(mode, (32, 32)), **SMALL)

    assert 32 == made.image.width


async def test_a_picture_that_came_back_can_be_sent(emulator):
    """What was generated can be handed in as it is, and the request written down with it."""
    async with client(emulator) as nebula:
        cat = (await nebula.generate("a cat", model=SCHNELL, **SMALL)).image
        night = await nebula.generate("at night", model=KONTEXT, image=cat, **SMALL)

    assert base64.b64encode(cat.data).decode() == night.request.to_dict()["image"].partition(",")[2]
    sent = emulator.journal.generations[1].fields["image"]["length"]
    assert len(base64.b64encode(cat.data)) == sent


async def test_the_mask_says_what_is_repainted(emulator):
    """What a mask keeps is kept to the pixel, what it leaves white is painted anew."""
    half = Pillow.new("L", (32, 32), 0)
    half.paste(255, (0, 0, 16, 32))
    async with client(emulator) as nebula:
        made = await nebula.generate("a hat", model=FILL, image=picture(colour="red"), mask=half, **SMALL)

    pixels = made.image.to_pil().convert("RGB")
    assert {(255, 0, 0)} == {pixels.getpixel((column, row)) for column in range(18, 32) for row in range(32)}
    assert (255, 0, 0) != pixels.getpixel((4, 4))


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"image": b"no picture"}, "image cannot be used: it is no picture"),
        ({"image": b""}, "image cannot be used: it is no picture"),
        ({"image": picture()[:60]}, "image cannot be used: it is a PNG cut short"),
        ({"image": picture("GIF")}, "image cannot be used: it is image/gif; the API takes PNG, JPEG and WebP"),
        ({"image": picture(), "mask": b"<svg/>"}, "mask cannot be used: it is no picture"),
        ({"image": "/does/not/exist.png"}, "image cannot be used: No such file or directory"),
        ({"image": "https://pictures.example/cat.png"}, "image cannot be used: it is a URL"),
        (
            {"image": picture(), "mask": picture(size=(32, 16))},
            "the mask is 32x16 pixels and the image 32x32; give a mask of the image's size",
        ),
    ],
)
@pytest.mark.parametrize("rules", ["warn", "strict", "off"])
async def test_pictures_that_cannot_be_meant(emulator, given, problem, rules):
    """What is no picture, and a mask of another size, is refused by name before anything is sent (B51)."""
    async with client(emulator, parameter_rules=rules) as nebula:
        with pytest.raises(InvalidRequestError, match=problem):
            await nebula.generate("a hat", model=FILL, **given, **SMALL)

    assert () == emulator.journal.requests


@pytest.mark.parametrize("model", [SCHNELL, SDXL])
@pytest.mark.parametrize("rules", ["warn", "strict"])
async def test_a_model_that_makes_pictures_from_text(emulator, model, rules):
    """An image for a model that would pass over it, at full price, is refused; the message names models to use."""
    request = ImageRequest("a hat", model=model, image=picture(), **SMALL)
    async with client(emulator, parameter_rules=rules) as nebula:
        with pytest.raises(InvalidRequestError, match=f"{model} makes pictures from text and takes no image") as caught:
            await nebula.generate(request)
        (failure,) = await nebula.generate_all([request])

    assert FILL in str(caught.value)
    assert isinstance(failure, Failure)
    assert () == emulator.journal.requests


async def test_whoever_knows_better(emulator):
    """Rules are of documents, and can be switched off; of a model that is not known nothing is believed."""
    async with client(emulator, parameter_rules="off") as nebula:
        made = await nebula.generate("a hat", model=SCHNELL, image=picture(), **SMALL)

    assert "image" in emulator.journal.generations[0].fields
    assert 32 == made.image.width


async def test_sides_that_would_be_rounded(emulator):
    """Sides that FLUX.1-Fill rounds are told; the picture has the size that the API makes of them."""
    events = []
    config = Config(base_url=emulator.base_url)
    async with AsyncNebula(emulator.key, config=config, observer=events.append) as nebula:
        made = await nebula.generate("a hat", model=FILL, image=picture(), width=40, height=33)

    assert [
        f"{FILL} rounds width 40 to a multiple of 16: the picture will differ in size",
        f"{FILL} rounds height 33 to a multiple of 16: the picture will differ in size",
    ] == [event.problem for event in events if isinstance(event, ParameterIgnored)]
    assert (32, 32) == (made.image.width, made.image.height)
