"""The serverless dialect: what is sent is exactly this JSON."""

from __future__ import annotations

import json

import pytest
from bodies import BLUE, RED, as_input, b64, json_of

from nebula_async.api.messages import HttpRequest, Reply
from nebula_async.api.posting import MAX_REQUEST_BYTES
from nebula_async.api.serverless import encode_request
from nebula_async.errors import InvalidRequestError
from nebula_async.requests import ImageRequest

BASE_URL = "https://api.example/api/v1"
MODEL = "stabilityai/stable-diffusion-xl-base-1.0"


def encoded(request: ImageRequest, *, model_field: str = "model", **options) -> HttpRequest:
    """Return the HTTP request for a request."""
    return encode_request(request, base_url=BASE_URL, model_field=model_field, **options)


def test_the_smallest_request():
    """With nothing but a prompt and a model, nothing but these is sent, as a POST to the documented path."""
    sent = encoded(ImageRequest("a cat", model=MODEL))
    assert ("POST", "https://api.example/api/v1/images/generation", 1) == (sent.method, sent.url, sent.pictures)
    assert b'{"prompt":"a cat","model":"%s"}' % MODEL.encode() == sent.body


@pytest.mark.parametrize(
    ("name", "value", "written"),
    [
        ("width", 1024, b"1024"),
        ("height", 768, b"768"),
        ("num_steps", 25, b"25"),
        ("guidance_scale", 9, b"9"),
        ("guidance_scale", 3.5, b"3.5"),
        ("guidance_scale", 0, b"0"),
        ("seed", 0, b"0"),
        ("seed", -1, b"-1"),
        ("seed", 2**63 - 1, b"9223372036854775807"),
        ("negative_prompt", "dogs", b'"dogs"'),
        ("negative_prompt", "", b'""'),
    ],
)
def test_each_field_is_sent_as_it_was_given(name, value, written):
    """Every field that is set is one member of the JSON, under its own name; zero and empty text are values too."""
    sent = encoded(ImageRequest("x", model="m", **{name: value}))
    assert b'{"prompt":"x","model":"m","%s":%s}' % (name.encode(), written) == sent.body


@pytest.mark.parametrize("prompt", ["猫 🐈", 'quote " and \\', "a\0\x1b[31m\n", "\u202ea", "a" * 10_000])
def test_prompts_arrive_unchanged(prompt):
    """Whatever is in a prompt, the server reads the very same text from UTF-8 JSON (B9)."""
    body = encoded(ImageRequest(prompt, model="m")).body
    assert prompt == json.loads(body)["prompt"]
    assert b"\\u" not in body.replace(b"\\u00", b"")


def test_the_legacy_name_of_the_model():
    """For servers of the earlier documentation the model is sent as `model_name`, and not as `model`."""
    sent = encoded(ImageRequest("x", model="m", width=512), model_field="model_name")
    assert {"prompt": "x", "model_name": "m", "width": 512} == json.loads(sent.body)


def test_what_is_for_us_is_not_sent():
    """The id that a user gives a request, and where its pictures are on this machine, stay here."""
    request = ImageRequest("x", model="m", id="7", image="/home/me/cat.png", mask=b"bytes")
    assert {"prompt": "x", "model": "m"} == json.loads(encoded(request).body)


def test_pictures_are_sent_as_bare_base64():
    """Image and mask are sent as base64 without any prefix."""
    request = ImageRequest("x", model="m", image=RED, mask=BLUE)
    sent = json_of(encoded(request, pictures=(as_input("image", RED), as_input("mask", BLUE))))
    assert {"prompt": "x", "model": "m", "image": b64(RED), "mask": b64(BLUE)} == sent


def test_fields_that_are_not_known_are_passed_on():
    """`extra` is merged into the JSON as it is, nested values and nulls too."""
    sent = encoded(ImageRequest("x", model="m", extra={"scheduler": {"name": "é", "list": [1, None]}, "n": None}))
    expected = {"prompt": "x", "model": "m", "scheduler": {"name": "é", "list": [1, None]}, "n": None}
    assert expected == json.loads(sent.body)


@pytest.mark.parametrize(("extra", "pictures"), [(None, 1), ({}, 1), ({"other": 5}, 1), ({"num_images": 3}, 3)])
def test_the_number_of_pictures_is_counted(extra, pictures):
    """A request counts for as many pictures as it asks for, so that charges and limits do."""
    request = ImageRequest("x", model="m", extra=extra)
    assert pictures == request.pictures
    assert pictures == encoded(request).pictures


def test_a_body_that_is_too_large_is_refused():
    """A body of more than 64 MiB is refused before sending; its size is in the message, its content is not (B7)."""
    most = MAX_REQUEST_BYTES // 4 * 3
    request = ImageRequest("x", model="m", image=RED)
    with pytest.raises(InvalidRequestError, match=f"at most {MAX_REQUEST_BYTES} are sent"):
        encoded(request, pictures=(as_input("image", RED + bytes(most - len(RED))),))


def test_printing_a_request_does_not_print_its_body():
    """The repr of a request and of a reply stays short."""
    assert len(repr(encoded(ImageRequest("x" * 10_000, model="m")))) < 300
    assert len(repr(Reply(status=200, body=b"x" * 10_000))) < 300
