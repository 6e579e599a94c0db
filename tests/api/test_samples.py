"""The samples that the vendor printed, read byte for byte: what they show is what this library says and understands."""

from __future__ import annotations

import base64
import io
import json
import re
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from bodies import as_input, json_of, read_reply
from PIL import Image as Pillow

from nebula_async.api.envelope import read_error
from nebula_async.api.messages import Reply
from nebula_async.api.serverless import encode_request
from nebula_async.errors import ContentPolicyError, UnusableReplyError
from nebula_async.requests import ImageRequest

SAMPLES = Path(__file__).parent.parent / "samples"

PARAMETERS = {"num_steps": 25, "guidance_scale": 9, "width": 1024, "height": 1024, "negative_prompt": None}


def sample(name: str) -> bytes:
    """Return a sample as it was printed."""
    return (SAMPLES / name).read_bytes()


def sent_by_curl(name: str) -> dict[str, Any]:
    """Return the JSON that a sample hands to curl."""
    found = re.search(rb"'(\{\n.*\})'", sample(name), re.DOTALL)
    assert found
    return json.loads(found[1])


def sent_by_us(request: ImageRequest, model_field: str = "model", **pictures: bytes) -> dict[str, Any]:
    """Return the JSON that this library sends."""
    given = tuple(as_input(name, data) for name, data in pictures.items())
    return json_of(encode_request(request, base_url="https://a.example", model_field=model_field, pictures=given))


@pytest.mark.parametrize(
    ("name", "model_field"),
    [
        ("serverless_text_to_image.curl.sh", "model"),
        ("serverless_legacy_text_to_image.curl.sh", "model_name"),
    ],
)
def test_text_to_image_is_sent_as_printed(name, model_field):
    """The parameters of the sample give the JSON of the sample, without the null, in both spellings of `model`."""
    printed = sent_by_curl(name)
    request = ImageRequest("insert your prompt here", model="stabilityai/stable-diffusion-xl-base-1.0", **PARAMETERS)
    assert printed.pop("negative_prompt") is None
    assert printed == sent_by_us(request, model_field)


def test_image_to_image_is_sent_as_printed():
    """The image-to-image sample is what this library sends, with real base64 where the sample has dots."""
    buffer = io.BytesIO()
    Pillow.new("RGB", (16, 16), "red").save(buffer, "JPEG")
    picture = buffer.getvalue()
    request = ImageRequest(
        "a red baseball cap",
        model="black-forest-labs/FLUX.1-Fill-dev",
        num_steps=40,
        guidance_scale=4.5,
        width=1024,
        height=1024,
        image=picture,
        mask=picture,
    )
    encoded = base64.b64encode(picture).decode()
    printed = sent_by_curl("serverless_image_to_image.curl.sh")
    assert ("/9j/4", "/9j/4") == (printed["image"][:5], encoded[:5])
    assert {**printed, "image": encoded, "mask": encoded} == sent_by_us(request, image=picture, mask=picture)


@pytest.mark.parametrize("name", ["serverless_reply.json", "serverless_legacy_reply.json"])
def test_the_printed_reply_holds_no_picture(name):
    """The base64 that the page prints is a placeholder: it is refused instead of being decoded to something."""
    with pytest.raises(UnusableReplyError, match="no usable picture: the base64 has characters"):
        read_reply(Reply(status=200, body=sample(name)), asked=1, now=0)


@pytest.mark.parametrize("name", ["serverless_reply.json", "serverless_legacy_reply.json"])
def test_the_printed_reply_is_understood_with_a_picture_in_it(name):
    """With a real picture in place of the placeholder, everything that the printed reply says is read."""
    buffer = io.BytesIO()
    Pillow.new("RGB", (16, 16), "red").save(buffer, "PNG")
    body = sample(name).replace(b"sdj23kjjk2...", base64.b64encode(buffer.getvalue()))
    answer = read_reply(Reply(status=200, body=body), asked=1, now=0)
    assert [buffer.getvalue()] == [image.data for image in answer.images]
    assert 13.366829872131348 == answer.inference_seconds
    assert "black-forest-labs/FLUX.1-schnell" == answer.facts.model
    assert "Image generated successfully" == answer.facts.message


def test_the_inference_reply_is_an_image_with_a_url():
    """The inference page's reply gives an image by its URL, and what was used."""
    answer = read_reply(Reply(status=200, body=sample("inference_reply.json")), asked=1, now=0)
    (image,) = answer.images
    assert ("https://storage.nebulablock.com/generated/abc123.png", None) == (image.url, image.data)
    assert {"images_generated": 1, "resolution": "1024x1024"} == answer.facts.usage


@pytest.mark.parametrize("status", [400, 403, 500])
def test_the_inference_error_is_a_content_policy_error(status):
    """The inference page's error is recognised by its code on any status, with message and details."""
    error = read_error(Reply(status=status, body=sample("inference_error.json")), now=0)
    assert ContentPolicyError is type(error)
    assert "content_policy_violation" == error.code
    assert {"reason": "Contains prohibited content"} == error.details
    assert "Your request was rejected as it violates our content policy" in str(error)


def test_the_inference_error_is_one_on_success_too():
    """Sent with status 200 it is the same error."""
    with pytest.raises(ContentPolicyError):
        read_reply(Reply(status=200, body=sample("inference_error.json")), asked=1, now=0)


def test_the_samples_are_the_bytes_that_were_printed():
    """The files are what the pages show: nobody has tidied them up."""
    printed = b"".join(path.read_bytes() for path in sorted(SAMPLES.iterdir()))
    assert "f829b0281673c3b4da37fb4062a8b0778b3db1119a0ab9cc743c9746030a6c22" == sha256(printed).hexdigest()
