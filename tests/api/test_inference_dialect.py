"""The inference dialect: what is sent is exactly the documented JSON, and what comes back is read as documented."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from bodies import RED, b64, read_reply, reply

from nebula_async.api.inference import encode_request
from nebula_async.api.messages import HttpRequest
from nebula_async.api.posting import MAX_REQUEST_BYTES
from nebula_async.errors import InvalidRequestError
from nebula_async.requests import InferenceRequest

SAMPLES = Path(__file__).parent.parent / "samples"


def encoded(request: InferenceRequest) -> HttpRequest:
    """Return the HTTP request for a request."""
    return encode_request(request, inference_url="https://api.example/v1")


def test_the_documented_request():
    """The parameters of the vendor's sample give the JSON of the sample, at the URL that it is printed with."""
    sample = (SAMPLES / "inference_request.curl.sh").read_text()
    endpoint = (SAMPLES / "inference_endpoint.txt").read_text().split()
    request = InferenceRequest(
        "A serene mountain lake at sunset", model="dall-e-3", n=1, size="1024x1024", quality="hd", style="natural"
    )
    sent = encode_request(request, inference_url="https://api.inference.nebulablock.com/v1")
    assert ["POST", sample.split()[1]] == endpoint == [sent.method, sent.url]
    assert json.loads(re.search(r"'(\{.*\})'", sample, re.DOTALL)[1]) == json.loads(sent.body)


def test_the_smallest_request():
    """With nothing but a prompt and a model, nothing but these is sent, as a POST to the documented path."""
    sent = encoded(InferenceRequest("a lake", model="sdxl"))
    assert ("POST", "https://api.example/v1/images/generate", 1) == (sent.method, sent.url, sent.pictures)
    assert b'{"prompt":"a lake","model":"sdxl"}' == sent.body


@pytest.mark.parametrize(
    ("name", "value", "written"),
    [
        ("n", 1, b"1"),
        ("n", 10, b"10"),
        ("size", "1792x1024", b'"1792x1024"'),
        ("quality", "standard", b'"standard"'),
        ("quality", "hd", b'"hd"'),
        ("style", "natural", b'"natural"'),
        ("style", "artistic", b'"artistic"'),
        ("response_format", "url", b'"url"'),
        ("response_format", "b64_json", b'"b64_json"'),
        ("negative_prompt", "dogs", b'"dogs"'),
        ("negative_prompt", "", b'""'),
    ],
)
def test_each_field_is_sent_as_it_was_given(name, value, written):
    """Every field that is set is one member of the JSON, also where it says the documented default."""
    sent = encoded(InferenceRequest("x", model="m", **{name: value}))
    assert {"prompt": "x", "model": "m", name: value} == json.loads(sent.body)
    assert b'"%s":%s' % (name.encode(), written) in sent.body


@pytest.mark.parametrize("prompt", ["猫 🐈", 'quote " and \\', "a\0\x1b[31m\n", "a" * 10_000])
def test_prompts_arrive_unchanged(prompt):
    """Whatever is in a prompt, the server reads the very same text from UTF-8 JSON."""
    assert prompt == json.loads(encoded(InferenceRequest(prompt, model="m")).body)["prompt"]


def test_what_is_for_us_is_not_sent():
    """The id that a user gives a request, and the name of the dialect, stay here."""
    sent = json.loads(encoded(InferenceRequest("x", model="m", id="7")).body)
    assert {"prompt": "x", "model": "m"} == sent


def test_fields_that_are_not_known_are_passed_on():
    """`extra` is merged into the JSON as it is, nested values and nulls too, and does not count pictures."""
    extra = {"user": {"name": "é", "list": [1, None]}, "width": 64, "num_images": 5, "x": None}
    sent = encoded(InferenceRequest("x", model="m", extra=extra))
    assert {"prompt": "x", "model": "m", **extra} == json.loads(sent.body)
    assert 1 == sent.pictures


@pytest.mark.parametrize(("count", "pictures"), [(None, 1), (1, 1), (4, 4), (10, 10)])
def test_the_number_of_pictures_is_counted(count, pictures):
    """A request counts for as many pictures as it asks for, so that charges and limits do."""
    assert pictures == encoded(InferenceRequest("x", model="m", n=count)).pictures


def test_a_body_that_is_too_large_is_refused():
    """A body of more than 64 MiB is refused before sending; its size is in the message, its content is not."""
    request = InferenceRequest("x", model="m", extra={"x": "A" * MAX_REQUEST_BYTES})
    with pytest.raises(InvalidRequestError, match=f"^the request has [0-9]+ bytes; at most {MAX_REQUEST_BYTES} are"):
        encoded(request)


def test_the_documented_reply():
    """The vendor's reply gives a picture at its URL for an hour, and what was used."""
    body = json.loads((SAMPLES / "inference_reply.json").read_bytes())
    answer = read_reply(reply(body), asked=1, now=1_700_000_000.5)
    (image,) = answer.images
    assert ("https://storage.nebulablock.com/generated/abc123.png", None) == (image.url, image.data)
    assert datetime(2023, 11, 14, 23, 13, 20, 500_000, tzinfo=UTC) == image.expires_at
    assert ({"images_generated": 1, "resolution": "1024x1024"}, 0) == (answer.facts.usage, answer.missing)


def test_a_reply_with_bytes():
    """Asked for `b64_json`, the same reply brings the bytes, and there is nothing to fetch and nothing to expire."""
    body = {"status": "success", "data": {"images": [{"url": None, "b64_json": b64(RED)}] * 3, "usage": None}}
    answer = read_reply(reply(body), asked=4, now=0)
    assert [(RED, None, None)] * 3 == [(image.data, image.url, image.expires_at) for image in answer.images]
    assert (1, None) == (answer.missing, answer.facts.usage)
