"""The body that visitors send: the fields of `ImageRequest`, and the limits of an application."""

from __future__ import annotations

import base64

import pytest
from attrs import fields
from pydantic import ValidationError

from nebula_async import ConfigurationError, ImageRequest, InvalidRequestError
from nebula_async.integrations.fastapi import BodyLimits, ImageBody
from nebula_async.integrations.web.bodies import BOUNDS

MODEL = "black-forest-labs/FLUX.1-schnell"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(40)


class Wish(
    ImageBody,
    models=[MODEL, "other/model"],
    most_side=1024,
    most_pixels=512 * 1024,
    most_steps=8,
    most_prompt=20,
    most_picture_bytes=64,
):
    """What visitors of a careful application may ask for."""


def refusals(kind: type[ImageBody], **given: object) -> dict[str, str]:
    """Return what is said of a body: sentences, by the place where they stand."""
    with pytest.raises(ValidationError) as caught:
        kind(**given)
    return {".".join(map(str, each["loc"])): each["msg"] for each in caught.value.errors()}


def test_the_fields_are_those_of_the_request():
    """A field that `ImageRequest` gets is one of the body, too; only `extra` is not for visitors."""
    assert {field.name for field in fields(ImageRequest)} - {"extra"} == set(ImageBody.model_fields)
    for field in fields(ImageRequest):
        if field.name != "extra":
            assert (field.name in ("prompt", "model")) == ImageBody.model_fields[field.name].is_required()


GIVEN = {
    "prompt": "a cat",
    "model": MODEL,
    "width": 64,
    "height": 128,
    "num_steps": 4,
    "guidance_scale": 3.5,
    "seed": 7,
    "negative_prompt": "dogs",
    "id": "order-17",
}


def test_a_body_becomes_the_same_request():
    """Whatever is given arrives in the request as it is, and what is left out is left out."""
    assert ImageRequest(**GIVEN) == ImageBody(**GIVEN).to_request()
    assert ImageRequest("a cat", model=MODEL) == ImageBody(prompt="a cat", model=MODEL).to_request()
    assert ImageRequest("a cat", model=MODEL, seed=1) == ImageBody(prompt="a cat", model=MODEL).to_request(seed=1)


@pytest.mark.parametrize(
    "wrong",
    [
        {"prompt": ""},
        {"prompt": 7},
        {"prompt": "lone \ud800"},
        {"prompt": ["{braces}"]},
        {"model": ""},
        {"width": 15},
        {"width": 64.0},
        {"width": "64"},
        {"width": True},
        {"height": 2**70},
        {"num_steps": 0},
        {"guidance_scale": -1},
        {"guidance_scale": float("inf")},
        {"seed": -2},
        {"seed": "{seed}"},
        {"negative_prompt": 3},
        {"id": ""},
        {"id": "x" * 300},
    ],
    ids=ascii,
)
def test_a_wrong_value_has_the_sentence_of_the_request(wrong):
    """Body and request refuse the same values, with the same sentence, at the place of the field."""
    ((name, value),) = wrong.items()
    with pytest.raises(InvalidRequestError) as caught:
        ImageRequest(**{"prompt": "a cat", "model": MODEL} | wrong)
    assert {name: str(caught.value)} == refusals(ImageBody, **{"prompt": "a cat", "model": MODEL, name: value})


@pytest.mark.parametrize("name", BOUNDS)
def test_the_bounds_of_the_documents_are_those_of_the_request(name):
    """What /docs shows as the least and the greatest value is accepted, and what is beyond is not."""
    low, high = BOUNDS[name]
    given = {"prompt": "a cat", "model": MODEL}
    for value in (low, high):
        assert value == getattr(ImageRequest(**given, **{name: value}), name)
    for value in (low - 1, high + 1):
        with pytest.raises(InvalidRequestError):
            ImageRequest(**given, **{name: value})
    numbers = {field.name for field in fields(ImageRequest) if "int" in str(field.type) or "float" in str(field.type)}
    assert numbers == set(BOUNDS)


@pytest.mark.parametrize(
    ("given", "place", "sentence"),
    [
        ({"model": "big/model"}, "model", f"model must be one of {MODEL}, other/model; got 'big/model'"),
        ({"width": 1025}, "width", "width must be at most 1024 here; got 1025"),
        ({"height": 2048}, "height", "height must be at most 1024 here; got 2048"),
        ({"num_steps": 9}, "num_steps", "num_steps must be at most 8 here; got 9"),
        ({"prompt": "x" * 21}, "prompt", "prompt must have at most 20 characters here"),
        ({"negative_prompt": "x" * 21}, "negative_prompt", "negative_prompt must have at most 20 characters here"),
        (
            {"width": 1024, "height": 1024},
            "",
            "width times height must be at most 524288 here; got 1024 x 1024",
        ),
        ({"image": base64.b64encode(PNG * 2).decode()}, "image", "image must have at most 64 bytes here"),
        ({"num_images": 10}, "num_images", "Extra inputs are not permitted"),
        ({"extra": {"num_images": 10}}, "extra", "Extra inputs are not permitted"),
    ],
    ids=str,
)
def test_an_application_bounds_what_its_visitors_spend(given, place, sentence):
    """Models, size, steps, length of texts and of pictures are bounded where a class says so."""
    assert {place: sentence} == refusals(Wish, **{"prompt": "a cat"} | given)


def test_the_first_model_is_meant_where_none_is_named():
    """With `models` a visitor need not name one."""
    assert MODEL == Wish(prompt="a cat").model
    schema = Wish.model_json_schema()
    assert (["prompt"], [MODEL, "other/model"]) == (schema["required"], schema["properties"]["model"]["enum"])
    assert 1024 == schema["properties"]["width"]["anyOf"][0]["maximum"]
    assert 20 == schema["properties"]["prompt"]["maxLength"]


UNKNOWN = "other/model"
KONTEXT = "black-forest-labs/FLUX.1-Kontext-dev"


@pytest.mark.parametrize(
    ("limits", "given", "filled"),
    [
        ({"most_side": 256}, {}, (256, 256, None)),
        ({"most_side": 2048}, {}, (1024, 1024, None)),
        ({"most_side": 1000}, {"height": 500}, (992, 500, None)),
        ({"most_pixels": 256 * 256}, {}, (256, 256, None)),
        ({"most_pixels": 256 * 256}, {"width": 1024}, (1024, 64, None)),
        ({"most_pixels": 256 * 256}, {"height": 64, "width": None}, (1024, 64, None)),
        ({"most_pixels": 300 * 300, "most_side": 200}, {}, (192, 192, None)),
        ({"most_steps": 2}, {}, (None, None, 2)),
        ({"most_steps": 8}, {}, (None, None, 4)),
        ({"most_steps": 8}, {"num_steps": 7}, (None, None, 7)),
        ({"most_steps": 8}, {"model": UNKNOWN}, (None, None, 8)),
        ({"most_steps": 8}, {"model": KONTEXT}, (None, None, None)),
        ({}, {}, (None, None, None)),
    ],
    ids=str,
)
def test_what_is_bounded_and_left_out_is_filled_in(limits, given, filled):
    """An application that bounds size or steps never pays for what the API would have chosen."""
    kind = type("Body", (ImageBody,), {}, **limits)
    request = kind(**{"prompt": "a cat", "model": MODEL} | given).to_request()
    assert filled == (request.width, request.height, request.num_steps)


def test_a_side_that_leaves_no_room_for_the_other_is_refused():
    """What cannot be filled in within the limit is the refusal of the size."""
    kind = type("Body", (ImageBody,), {}, most_pixels=1024)
    sentence = "width times height must be at most 1024 here; got 1024 x 16"
    assert {"": sentence} == refusals(kind, prompt="a cat", model=MODEL, width=1024)


def test_limits_of_a_kind_are_in_its_documents_alone():
    """What an application documents for one kind of bodies says nothing of its other kinds."""
    usual = ImageBody.model_json_schema()["properties"]
    small = type("Small", (ImageBody,), {}, most_side=64, models=[MODEL], most_prompt=10).model_json_schema()
    assert 64 == small["properties"]["width"]["anyOf"][0]["maximum"]
    assert ([MODEL], 10) == (small["properties"]["model"]["enum"], small["properties"]["prompt"]["maxLength"])
    assert usual == type("Usual", (ImageBody,), {}).model_json_schema()["properties"]


def test_limits_are_inherited_and_do_not_go_up():
    """A class of a class has the limits of both, and the class above keeps its own."""

    class Smaller(Wish, most_side=256):
        """Less."""

        note: str = ""

    assert (256, 8) == (Smaller.limits.most_side, Smaller.limits.most_steps)
    assert (1024, None) == (Wish.limits.most_side, ImageBody.limits.most_side)
    assert "mine" == Smaller(prompt="a cat", note="mine").note


@pytest.mark.parametrize(
    ("given", "data"),
    [
        (base64.b64encode(PNG).decode(), PNG),
        ("data:image/png;base64," + base64.b64encode(PNG).decode(), PNG),
        (PNG, PNG),
    ],
    ids=["base64", "data URL", "bytes"],
)
def test_a_picture_is_handed_in_as_base64(given, data):
    """Bytes arrive, and are not shown in what is printed of a body."""
    body = ImageBody(prompt="a cat", model=MODEL, image=given, mask=given)
    assert (data, data) == (body.to_request().image, body.to_request().mask)
    assert "PNG" not in repr(body)


@pytest.mark.parametrize(
    "given",
    [
        "/etc/passwd",
        "../secret.png",
        "file:///etc/passwd",
        "https://a.example/x.png",
        "data:image/png,abc",
        "",
        7,
        "%%%",
    ],
    ids=repr,
)
def test_no_path_and_no_url_is_opened_for_a_visitor(given):
    """What is no base64 is refused, whatever else it may be."""
    assert refusals(ImageBody, prompt="a cat", model=MODEL, image=given)["image"].startswith(
        "image must be a picture in base64, or a data: URL; got"
    )


def test_pictures_can_be_refused_altogether():
    """With `most_picture_bytes=0` there are none, in the documents neither."""

    class Plain(ImageBody, most_picture_bytes=0):
        """No pictures."""

    given = {"prompt": "a cat", "model": MODEL}
    assert {"image": "image is not taken here: leave it out"} == refusals(Plain, **given, image="aaaa")
    assert not {"image", "mask"} & Plain.model_json_schema()["properties"].keys()


def test_what_goes_together_is_told_of_the_whole():
    """A mask without an image is refused with the request's own sentence."""
    mask = base64.b64encode(PNG).decode()
    assert "mask needs an image" in refusals(ImageBody, prompt="a cat", model=MODEL, mask=mask)[""]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"most_sides": 3}, "most_sides is no limit of a body; those are models, most_side, "),
        ({"models": MODEL}, "models must be a list of names of models"),
        ({"models": []}, "models must be a list of names of models"),
        ({"most_side": 8}, "most_side must be a whole number from 16 to 8192"),
        ({"most_steps": True}, "most_steps must be a whole number"),
    ],
    ids=str,
)
def test_a_limit_that_cannot_be_meant_is_refused(given, sentence):
    """A mistake in the limits is one sentence, when the class is made."""
    with pytest.raises(ConfigurationError) as caught:
        type("Body", (ImageBody,), {}, **given)
    assert sentence in str(caught.value)
    assert BodyLimits() == ImageBody.limits
