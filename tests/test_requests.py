"""A request is checked when it is made, before anything can cost something."""

from __future__ import annotations

import base64
import io
import json
import math
import pickle
from pathlib import Path
from traceback import TracebackException

import pytest
from attrs import evolve
from attrs.exceptions import FrozenInstanceError
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pillow

from nebula_async.checks import MAX_TEXT_BYTES
from nebula_async.errors import InvalidRequestError
from nebula_async.requests import MAX_DEPTH, ImageRequest, field_names

MODEL = "black-forest-labs/FLUX.1-schnell"

FIELDS = field_names(ImageRequest)


def picture(form: str = "PNG") -> bytes:
    """Return a small picture."""
    buffer = io.BytesIO()
    Pillow.new("RGB", (16, 16), "red").save(buffer, form)
    return buffer.getvalue()


PNG = picture()


def request(prompt="a cat", **fields) -> ImageRequest:
    """Return a request that is right but for the fields given."""
    return ImageRequest(prompt, **{"model": MODEL, **fields})


def refusal(make, *arguments, **fields) -> str:
    """Return the message with which something is refused."""
    with pytest.raises(InvalidRequestError) as caught:
        make(*arguments, **fields)
    assert len(str(caught.value)) < 1_000
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Prompts


@pytest.mark.parametrize(
    "prompt",
    ["a cat", "猫 🐈", "a\0b", "\u202ea cat", "\x1b[31mred", "line\nbreak", " x ", "a" * 10_000, "x" * 2**20],
    ids=lambda prompt: ascii(prompt[:12]),
)
def test_prompts_are_sent_as_they_are(prompt):
    """Any prompt with something to see in it is taken, unchanged: long, with control characters, in any script (B7,
    B9).
    """
    assert prompt == request(prompt).prompt


@pytest.mark.parametrize("prompt", ["", " ", "\t\r\n", "\u200b", "\u200b\ufeff\u2060 \u00a0", "\u3000", "\u200d" * 9])
def test_blank_prompts_are_refused(prompt):
    """A prompt that shows nothing would be paid for: it is refused, also where it is made of zero-width characters
    (B6).
    """
    assert refusal(request, prompt).startswith("prompt must be text that is not blank, ")


@pytest.mark.parametrize("prompt", [None, 5, b"a cat", ["a cat"], True, Path("cat")])
def test_prompts_are_text(prompt):
    """A prompt of another type is refused with its type."""
    assert refusal(request, prompt).endswith(f"({type(prompt).__name__})" if prompt is not None else "got None")


@pytest.mark.parametrize("field", ["prompt", "negative_prompt", "model", "id"])
def test_text_that_utf8_cannot_carry_is_refused(field):
    """A lone surrogate, which JSON files can hold, is refused at once and not when the request is sent (B8)."""
    assert refusal(request, **{field: "a \ud800"}).startswith(f"{field} must be text")


def test_a_prompt_larger_than_any_request_is_refused():
    """A prompt of more than 64 MiB is refused, and the message does not repeat it (B7)."""
    assert "(67108865 characters)" in refusal(request, "x" * (MAX_TEXT_BYTES + 1))


@pytest.mark.parametrize("text", ["", "  "])
def test_a_negative_prompt_may_be_blank(text):
    """An empty negative prompt is a way to say none."""
    assert text == request(negative_prompt=text).negative_prompt


@pytest.mark.parametrize("model", ["", " ", None, 5, "x" * 257])
def test_a_model_is_a_short_text(model):
    """A model that is no short, visible text is refused."""
    assert refusal(request, model=model).startswith("model must be ")


# Numbers


@pytest.mark.parametrize("name", ["width", "height", "num_steps", "seed"])
@pytest.mark.parametrize(
    "value", [True, 1024.0, math.nan, [1024], pytest.param(10**5000, id="5000 digits"), -2, 2**63, b"1"]
)
def test_whole_numbers_are_strict(name, value):
    """No flag, text or float passes for a whole number, and none is out of range; the message says which field
    (B11).
    """
    message = refusal(request, **{name: value})
    assert message.startswith(f"{name} must be a whole number from ")
    assert message.endswith(f"({type(value).__name__})")
    assert refusal(request, **{name: "1024"}).endswith("; got '1024'")


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [("width", 16, 8192), ("height", 16, 8192), ("num_steps", 1, 1_000), ("seed", -1, 2**63 - 1)],
)
def test_the_bounds_of_whole_numbers(name, low, high):
    """The bounds themselves are allowed, and what lies beyond is refused with both of them named (B12)."""
    assert (low, high) == (getattr(request(**{name: low}), name), getattr(request(**{name: high}), name))
    for beyond in (low - 1, high + 1):
        assert f"{name} must be a whole number from {low} to {high}; got {beyond}" in refusal(request, **{name: beyond})


@pytest.mark.parametrize("value", [0, 0.0, 3.5, 9, 1_000])
def test_guidance_is_any_finite_number(value):
    """Guidance takes whole and broken numbers, and keeps them as they are given."""
    kept = request(guidance_scale=value).guidance_scale
    assert (value, type(value)) == (kept, type(kept))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -0.0, -1, 1e300, True, "3.5", 3j])
def test_guidance_that_json_cannot_carry_or_nobody_means_is_refused(value):
    """Not a number, infinite, negative zero and huge guidance are refused before sending (B10)."""
    assert refusal(request, guidance_scale=value).startswith("guidance_scale must be a number from 0 to 1000; got ")


# The value


def test_requests_are_frozen_and_changed_copies_are_checked():
    """A request never changes; a changed copy is held to the same rules."""
    made = request()
    with pytest.raises(FrozenInstanceError):
        made.width = 5
    assert 512 == evolve(made, width=512).width
    assert "width" in refusal(evolve, made, width=5)


def test_only_the_prompt_is_positional():
    """Parameters are named, so that none can be taken for another."""
    with pytest.raises(TypeError):
        ImageRequest("a cat", MODEL)
    assert request() == ImageRequest(prompt="a cat", model=MODEL)


def test_requests_are_compared_by_value_and_pickled():
    """Equal requests are equal, in this process and in another."""
    made = request(width=512, extra={"a": [1]}, image=PNG, mask="mask.png", id="7")
    assert made == request(width=512, extra={"a": [1]}, image=PNG, mask="mask.png", id="7")
    assert made == pickle.loads(pickle.dumps(made))  # noqa: S301 - our own bytes


def test_printing_a_request_does_not_print_its_pictures():
    """The repr of a request stays short, however large its pictures."""
    assert len(repr(request(image=b"x" * 10**6, mask="data:image/png;base64," + "x" * 10**6))) < 1_000


@pytest.mark.parametrize("fields", [{"extra": {1: 2}}, {"extra": {"x": {1}}}, {"width": 5}, {"image": 5}, {"id": ""}])
def test_a_refusal_can_be_reported_with_local_variables(fields):
    """A report that prints the variables of each frame can print the request that is refused."""
    with pytest.raises(InvalidRequestError) as caught:
        request(**fields)
    assert TracebackException.from_exception(caught.value, capture_locals=True).stack


# Fields that are not known


def test_extra_is_copied():
    """What happens to a dictionary after it was given does not change the request."""
    mine = {"nested": {"list": [1]}}
    made = request(extra=mine)
    mine["nested"]["list"].append(object())
    assert {"nested": {"list": [1]}} == made.extra


@pytest.mark.parametrize(
    "extra", [{1: 2}, ["a"], "a", 5, {"x": {1, 2}}, {"x": math.nan}, {"x": b"1"}, {"x": "\ud800"}, {"\ud800": 1}]
)
def test_extra_holds_what_json_can_carry(extra):
    """Extra fields that the request body could not carry are refused at once."""
    assert refusal(request, extra=extra).startswith("extra must ")


def test_extra_that_has_no_end_is_refused():
    """A structure that contains itself, or is too deep for JSON, is refused like any other."""
    endless: dict[str, object] = {}
    endless["x"] = endless
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    assert "JSON values only" in refusal(request, extra=endless)
    assert "JSON values only" in refusal(request, extra={"x": deep})
    assert "JSON values only" in refusal(request, extra={"x": 10**5000})


def test_extra_has_a_depth_that_can_be_shown_and_pickled():
    """Extra fields a hundred levels deep are taken; what could be sent, and then not be pickled, is refused at once."""
    deep: object = 1
    for _ in range(MAX_DEPTH - 2):
        deep = [deep]
    made = request(extra={"x": deep})

    assert made == pickle.loads(pickle.dumps(made))  # noqa: S301 - our own
    assert "nested at most 100 deep" in refusal(request, extra={"x": [[deep]]})


@pytest.mark.parametrize("name", [*sorted(FIELDS), "model_name"])
def test_extra_does_not_override_what_has_an_argument(name):
    """A field that has an argument of its own cannot be smuggled past its checks."""
    assert f"extra must not hold {name}" in refusal(request, extra={name: "x"})


@pytest.mark.parametrize("count", [0, -1, 11, 10**9, True, "2", 2.0, None])
def test_the_number_of_pictures_is_bounded(count):
    """`num_images` decides what is paid and how much memory a reply may take: 1 to 10 (B13)."""
    assert refusal(request, extra={"num_images": count}).startswith("num_images must be a whole number from 1 to 10; ")


@pytest.mark.parametrize("count", [1, 10])
def test_several_pictures_can_be_asked_for(count):
    """From one to ten pictures can be asked for."""
    assert {"num_images": count} == request(extra={"num_images": count}).extra


# To plain values and back

any_text = st.text(st.characters(codec="utf-8"), max_size=20)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | any_text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(any_text, inner, max_size=3),
    max_leaves=6,
)
visible = any_text.map(lambda text: text + "x")
pictures = st.none() | visible | st.binary(max_size=20)
requests = st.builds(
    lambda prompt, image, mask, **fields: ImageRequest(prompt, image=image, mask=image and mask, **fields),
    visible,
    model=visible,
    width=st.none() | st.integers(16, 8192),
    height=st.none() | st.integers(16, 8192),
    num_steps=st.none() | st.integers(1, 1_000),
    guidance_scale=st.none() | st.floats(0, 1_000).map(abs),
    seed=st.none() | st.integers(-1, 2**63 - 1),
    negative_prompt=st.none() | any_text,
    image=pictures,
    mask=pictures,
    id=st.none() | visible,
    extra=st.none()
    | st.dictionaries(visible, json_values, max_size=3).filter(
        lambda extra: not extra.keys() & {*FIELDS, "num_images"}
    ),
)


@given(requests)
def test_a_request_survives_being_written_down(made):
    """`to_dict` gives plain JSON without the fields left out, and `from_dict` makes the same request of it."""
    plain = made.to_dict()
    assert None not in plain.values()
    again = ImageRequest.from_dict(json.loads(json.dumps(plain)))
    assert plain == again.to_dict()
    if not isinstance(made.image, bytes) and not isinstance(made.mask, bytes):
        assert made == again


def test_pictures_are_written_down_as_text():
    """A path stays a path and bytes become a data URL, both of which can be read again."""
    made = request(image=Path("cat.png"), mask=PNG)
    plain = made.to_dict()
    assert "cat.png" == plain["image"]
    assert "data:application/octet-stream;base64," + base64.b64encode(PNG).decode() == plain["mask"]


async def pieces():
    """Yield the bytes of a picture."""
    yield PNG


@pytest.mark.parametrize(
    "source", [io.BytesIO(PNG), Pillow.new("RGB", (16, 16)), pieces()], ids=["file", "PIL image", "async iterator"]
)
def test_an_open_file_is_not_written_down(source):
    """What exists in this process only is refused, with what to give instead."""
    assert "give its path or its bytes" in refusal(request(image=source).to_dict)


def test_unknown_fields_are_named():
    """A field that does not exist is refused by its name, and the message lists those that do."""
    message = refusal(ImageRequest.from_dict, {"prompt": "x", "model": MODEL, "widht": 5, "sise": 6})
    assert message.startswith("unknown field sise, widht; known are ")
    assert all(name in message for name in FIELDS)
    refusal(ImageRequest.from_dict, {"prompt": "x", "model": MODEL, "\n" * 10_000: 5})


@pytest.mark.parametrize(
    ("fields", "missing"), [({"prompt": "x"}, "model"), ({"model": "x"}, "prompt"), ({}, "prompt and model")]
)
def test_missing_fields_are_named(fields, missing):
    """Without a prompt or a model there is no request; the message says which."""
    assert f"{missing} must be given" == refusal(ImageRequest.from_dict, fields)


@pytest.mark.parametrize("given_value", [None, [], "x", 5, [("prompt", "x")]])
def test_fields_come_as_a_mapping(given_value):
    """Anything but a mapping of fields is refused as such."""
    assert refusal(ImageRequest.from_dict, given_value).startswith("a request must be a mapping of fields; got ")


# Pictures to start from


def test_a_mask_needs_an_image():
    """A mask alone says nothing: it is refused."""
    assert refusal(request, mask=PNG).startswith("mask needs an image")
    assert PNG == request(image=PNG, mask=PNG).mask


# Dialects


def test_a_request_is_of_the_serverless_dialect():
    """A request names its dialect, and is written down without it: it is the one that is meant where none is named."""
    assert "serverless" == request().dialect
    assert "dialect" not in request().to_dict()
    assert request() == ImageRequest.from_dict({**request().to_dict(), "dialect": "serverless"})


@pytest.mark.parametrize(("extra", "count"), [(None, 1), ({}, 1), ({"n": 4}, 1), ({"num_images": 10}, 10)])
def test_a_request_knows_how_many_pictures_it_asks_for(extra, count):
    """One picture is asked for, unless `num_images` says otherwise."""
    assert count == request(extra=extra).pictures
