"""The serverless dialect: what is sent is exactly this JSON, and every reply that can be used is used."""

from __future__ import annotations

import base64
import io
import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pillow

from nebula_async.api.catalog import CATALOG, Model
from nebula_async.api.messages import HttpRequest, Reply
from nebula_async.api.serverless import (
    MAX_REQUEST_BYTES,
    Answer,
    encode_request,
    pictures_asked,
    read_credits,
    read_models,
    read_reply,
)
from nebula_async.errors import (
    AuthenticationError,
    BadRequestError,
    ContentPolicyError,
    InvalidRequestError,
    NebulaError,
    QuotaExhaustedError,
    RateLimitError,
    UnusableReplyError,
)
from nebula_async.requests import ImageRequest

BASE_URL = "https://api.example/api/v1"
MODEL = "stabilityai/stable-diffusion-xl-base-1.0"


def picture(colour: str = "red", form: str = "PNG") -> bytes:
    """Return a small picture of one colour."""
    buffer = io.BytesIO()
    Pillow.new("RGB", (16, 16), colour).save(buffer, form)
    return buffer.getvalue()


def b64(data: bytes) -> str:
    """Return base64 as JSON carries it."""
    return base64.b64encode(data).decode()


RED, BLUE, GREEN = (picture(colour) for colour in ("red", "blue", "green"))


def encoded(request: ImageRequest, *, model_field: str = "model", **options) -> HttpRequest:
    """Return the HTTP request for a request."""
    return encode_request(request, base_url=BASE_URL, model_field=model_field, **options)


def reply(body: object, status: int = 200, headers: tuple[tuple[bytes, bytes], ...] = ()) -> Reply:
    """Return a reply; a body that is no bytes is sent as JSON."""
    return Reply(status=status, headers=headers, body=body if isinstance(body, bytes) else json.dumps(body).encode())


def read(body: object, asked: int = 1) -> Answer:
    """Read a successful reply."""
    return read_reply(reply(body), asked=asked, now=0)


def unusable(body: object) -> str:
    """Return why a reply cannot be used."""
    with pytest.raises(UnusableReplyError) as caught:
        read(body)
    return str(caught.value)


# Requests


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
    """Whatever is in a prompt, the server reads the very same text from UTF-8 JSON."""
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
    sent = json.loads(encoded(request, pictures={"image": b64(RED), "mask": b64(BLUE)}).body)
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
    assert pictures == pictures_asked(request)
    assert pictures == encoded(request).pictures


def test_a_body_that_is_too_large_is_refused():
    """A body of more than 64 MiB is refused before sending; its size is in the message, its content is not."""
    request = ImageRequest("x", model="m", image=RED)
    with pytest.raises(InvalidRequestError, match=f"at most {MAX_REQUEST_BYTES} are sent"):
        encoded(request, pictures={"image": "A" * MAX_REQUEST_BYTES})


def test_printing_a_request_does_not_print_its_body():
    """The repr of a request and of a reply stays short."""
    assert len(repr(encoded(ImageRequest("x" * 10_000, model="m")))) < 300
    assert len(repr(Reply(status=200, body=b"x" * 10_000))) < 300


# Replies

DOCUMENTED = {
    "model": MODEL,
    "object": "list",
    "data": [{"timings": {"inference": 13.366829872131348}, "index": 0, "b64_json": b64(RED)}],
    "message": "Image generated successfully",
    "status": "success",
}


def test_the_documented_reply():
    """Everything that the documented reply says is in the answer, and the picture is decoded and measured."""
    answer = read(DOCUMENTED)
    (image,) = answer.images
    assert (RED, "image/png", 16, 16, ".png") == (
        image.data, image.media_type, image.width, image.height, image.extension,
    )  # fmt: skip
    assert (MODEL, "Image generated successfully", 13.366829872131348, 0) == (
        answer.facts.model, answer.facts.message, answer.inference_seconds, answer.missing,
    )  # fmt: skip


@pytest.mark.parametrize(
    "body",
    [
        {"data": [{"b64_json": b64(RED)}]},
        {"data": [{"b64_json": b64(RED), "url": None}]},
        {"data": [{"b64_json": b64(RED), "url": "https://a.example/1.png"}]},
        {"status": "success", "data": {"images": [{"url": None, "b64_json": b64(RED)}]}},
        {"data": {"image_file": b64(RED)}},
        {"image_b64": b64(RED)},
        {"image_b64": b64(RED), "data": None},
        {"data": [{"b64_json": "data:image/png;base64," + b64(RED)}]},
        {"data": ["noise", None, {"b64_json": b64(RED)}]},
    ],
    ids=lambda body: json.dumps(body)[:40],
)
def test_every_known_shape_is_read(body):
    """The picture is found in each shape that this API has, or once had, whichever was asked for."""
    assert [RED] == [image.data for image in read(body).images]


@pytest.mark.parametrize(
    "body",
    [
        {"data": [{"url": "https://a.example/1.png"}]},
        {"data": [{"url": "https://a.example/1.png", "b64_json": None}]},
        {"data": [{"url": "https://a.example/1.png", "b64_json": ""}]},
        {"data": {"images": [{"url": "https://a.example/1.png", "b64_json": None}]}},
        {"image_url": "https://a.example/1.png"},
        {"data": {}, "image_url": "https://a.example/1.png"},
    ],
    ids=lambda body: json.dumps(body)[:50],
)
def test_a_url_is_kept_where_there_are_no_bytes(body):
    """A reply that only links to its picture gives an image with that URL."""
    (image,) = read(body).images
    assert ("https://a.example/1.png", None) == (image.url, image.data)


def test_usage_is_kept():
    """What the inference API says it used is in the answer."""
    usage = {"images_generated": 1, "resolution": "1024x1024"}
    assert usage == read({"data": {"images": [{"b64_json": b64(RED)}]}, "usage": usage}).facts.usage
    assert usage == read({"data": {"images": [{"b64_json": b64(RED)}], "usage": usage}}).facts.usage


@pytest.mark.parametrize(
    ("indices", "expected"),
    [
        ((2, 0, 1), [BLUE, GREEN, RED]),
        ((0, 1, 2), [RED, BLUE, GREEN]),
        ((None, None, None), [RED, BLUE, GREEN]),
        (("2", [0], True), [RED, BLUE, GREEN]),
        ((1, 1, 0), [GREEN, RED, BLUE]),
    ],
)
def test_pictures_are_in_the_order_of_their_index(indices, expected):
    """Pictures come in the order that the reply numbers them, else in the order they are in."""
    data = [{"index": index, "b64_json": b64(image)} for index, image in zip(indices, (RED, BLUE, GREEN), strict=True)]
    assert expected == [image.data for image in read({"data": data}, asked=3).images]


@pytest.mark.parametrize(("asked", "delivered", "missing"), [(1, 1, 0), (4, 3, 1), (4, 5, 0), (10, 1, 9)])
def test_missing_pictures_are_counted(asked, delivered, missing):
    """What came is returned, and how many are missing; more than asked for are kept, for they are there."""
    answer = read({"data": [{"b64_json": b64(RED)}] * delivered}, asked=asked)
    assert (delivered, missing) == (len(answer.images), missing)
    assert missing == answer.missing


def test_one_bad_picture_does_not_spoil_the_others():
    """Of several pictures the usable ones are returned and the others count as missing."""
    answer = read({"data": [{"b64_json": "!!"}, {"b64_json": b64(RED)}, {"b64_json": b64(b"<html>")}]}, asked=3)
    assert ([RED], 2) == ([image.data for image in answer.images], answer.missing)


@pytest.mark.parametrize("wrong", [None, 5, True, [], {}, "text", 1.5, -1, 10**400])
def test_members_of_a_wrong_type_are_passed_over(wrong):
    """A paid picture is not lost because something beside it has an unexpected type."""
    entry = {"b64_json": b64(RED), "index": wrong, "timings": wrong, "unknown": wrong}
    body = {"data": [entry], "model": wrong, "message": wrong, "usage": wrong, "object": wrong, "extra": wrong}
    answer = read(body)
    assert [RED] == [image.data for image in answer.images]
    assert isinstance(answer.facts.model, str | None)
    assert isinstance(answer.facts.usage, dict | None)


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        (b"4.77e-07", 4.77e-07),
        (b"2", 2.0),
        (b"NaN", None),
        (b"Infinity", None),
        (b"-Infinity", None),
        (b"1e999", None),
        (b"1" * 400, None),
        (b"true", None),
        (b'"3.5"', None),
        (b"null", None),
    ],
)
def test_timings_that_are_no_time_are_passed_over(written, seconds):
    """A time of inference is a finite number or it is not known; the picture is there all the same."""
    body = b'{"data": [{"timings": {"inference": %s}, "b64_json": "%s"}]}' % (written, b64(RED).encode())
    assert seconds == read(body).inference_seconds


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b'"x"',
        b"1",
        b"true",
        b"<html></html>",
        json.dumps(DOCUMENTED).encode()[:-40],
        b"[" * 200_000,
    ],
    ids=lambda body: repr(body[:12]),
)
def test_a_success_without_an_object_is_unusable(body):
    """A success that is no JSON object is one error that says so, whatever it is."""
    assert unusable(body).startswith("the reply is no JSON")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "latin-1"])
def test_only_utf8_is_read(encoding):
    """A reply in another encoding is unusable, not guessed at."""
    assert unusable(json.dumps({"é": 1, **DOCUMENTED}, ensure_ascii=False).encode(encoding)).startswith(
        "the reply is no JSON"
    )


def test_a_byte_order_mark_is_skipped():
    """A mark in front of UTF-8 does no harm."""
    assert read(b"\xef\xbb\xbf" + json.dumps(DOCUMENTED).encode()).images


@pytest.mark.parametrize(
    ("header", "value"), [(b"content-type", b"text/html; charset=utf-16"), (b"content-type", b"image/png"), (b"x", b"")]
)
def test_the_content_type_does_not_matter(header, value):
    """What the headers claim about the body is not believed."""
    assert read_reply(reply(DOCUMENTED, headers=((header, value),)), asked=1, now=0).images


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ({}, "none in it"),
        ({"data": []}, "none in it"),
        ({"data": None}, "none in it"),
        ({"data": "x"}, "none in it"),
        ({"data": {}}, "none in it"),
        ({"data": {"images": []}}, "none in it"),
        ({"data": {"images": None}}, "none in it"),
        ({"data": [None, 5, "x", []]}, "none in it"),
        ({"data": [{}]}, "neither b64_json nor a URL"),
        ({"data": [{"b64_json": None, "url": None}]}, "neither b64_json nor a URL"),
        ({"data": [{"b64_json": "", "url": ""}]}, "neither b64_json nor a URL"),
        ({"data": [{"b64_json": 5, "url": ["x"]}]}, "neither b64_json nor a URL"),
        ({"image_b64": 5}, "none in it"),
        ({"data": [{"b64_json": "sdj23kjjk2..."}]}, "do not belong there"),
        ({"data": [{"b64_json": "\ud800"}]}, "do not belong there"),
        ({"data": [{"b64_json": b64(b"")+ " "}]}, "is empty"),
        ({"data": [{"b64_json": b64(b"<html></html>")}]}, "it is no picture (HTML)"),
        ({"data": [{"b64_json": b64(b"<svg xmlns='x'/>")}]}, "it is no picture (SVG)"),
        ({"data": [{"b64_json": b64(b"\0" * 100)}]}, "it is no picture"),
        ({"data": [{"b64_json": b64(RED[:-12])}]}, "a PNG cut short"),
    ],
    ids=lambda value: json.dumps(value)[:40],
)  # fmt: skip
def test_a_success_without_a_picture_is_unusable(body, problem):
    """A paid reply without one usable picture is an error that says what is wrong with it."""
    assert unusable(body).startswith("the reply holds no usable picture: ")
    assert problem in unusable(body)


@pytest.mark.parametrize(
    ("form", "extension"), [("PNG", ".png"), ("JPEG", ".jpg"), ("WEBP", ".webp"), ("GIF", ".gif"), ("AVIF", ".avif")]
)
def test_the_bytes_decide_what_a_picture_is(form, extension):
    """Type and extension are read from the picture itself: the API does not document what it sends."""
    body = {"data": [{"b64_json": b64(picture(form=form)), "format": "png", "content_type": "image/x-wrong"}]}
    assert extension == read(body).images[0].extension


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("content_policy_violation", ContentPolicyError),
        ("rate_limit_exceeded", RateLimitError),
        ("insufficient_quota", QuotaExhaustedError),
        ("invalid_api_key", AuthenticationError),
        ("invalid_prompt", BadRequestError),
        ("invalid_something_new", BadRequestError),
    ],
)
@pytest.mark.parametrize("status", ["error", "failed", "success", None])
def test_a_success_that_says_it_failed_raises_its_own_error(code, kind, status):
    """A 2xx whose body names a known code is that error, not a success."""
    with pytest.raises(kind, match="why") as caught:
        read({"status": status, "error": {"code": code, "message": "why"}, "data": DOCUMENTED["data"]})
    assert code == caught.value.code


@pytest.mark.parametrize(
    "body",
    [
        {"status": "failed", "message": "why", "data": None},
        {"status": "error", "message": "why"},
        {"status": "error", "error": {"code": "never_seen", "message": "why"}},
        {"status": "failed", "message": "why", "data": DOCUMENTED["data"]},
        {"error": "why"},
    ],
    ids=json.dumps,
)
def test_a_success_that_failed_for_an_unknown_reason_counts_as_paid(body):
    """Without a code that is known, a failed 2xx may have been charged: it is unusable, and not sent again."""
    assert "success in the status, failure in the body: the API answered why (HTTP 200" in unusable(body)


def test_an_unusable_reply_can_be_asked_about():
    """The error for a picture that was paid and lost carries the id of its request and the API's details."""
    body = {"status": "error", "error": {"code": "never_seen", "details": {"reason": "x"}}}
    with pytest.raises(UnusableReplyError) as caught:
        read_reply(reply(body, headers=((b"x-request-id", b"req-1"),)), asked=1, now=0)
    assert ("req-1", {"reason": "x"}) == (caught.value.request_id, caught.value.details)
    for lost in (b"", b"[]", {"data": []}):
        with pytest.raises(UnusableReplyError) as caught:
            read_reply(reply(lost, headers=((b"x-request-id", b"req-1"),)), asked=1, now=0)
        assert "req-1" == caught.value.request_id


members = st.sampled_from(
    [
        "data",
        "images",
        "b64_json",
        "url",
        "index",
        "timings",
        "inference",
        "image_file",
        "image_b64",
        "status",
        "error",
        "x",
    ]
)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from([b64(RED), "failed"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(members, inner, max_size=4),
    max_leaves=12,
)


@given(
    st.dictionaries(members, json_values, max_size=4).map(lambda value: json.dumps(value).encode())
    | st.binary(max_size=60)
)
def test_any_reply_is_an_answer_or_one_of_our_errors(body):
    """Whatever a server answers, the caller gets pictures or an error of this library."""
    try:
        answer = read(body)
    except NebulaError:
        return
    assert answer.images
    assert all(image.data or image.url for image in answer.images)


# Models and credit


def test_models_are_listed():
    """The list gives id, name, kind and price of each model; what the catalogue knows of one is kept."""
    listed = read_models(
        reply(
            {
                "data": {
                    "models": [
                        {
                            "model_name": "a/new",
                            "model_alias": "New",
                            "model_type": "Image",
                            "price": 0.5,
                            "context_length": None,
                        },
                        {"model_name": MODEL, "price": 0.01},
                        {"model_name": "a/chat", "model_type": "Text", "price": 0},
                        {"model_name": "a/bare"},
                    ]
                }
            }
        )
    )
    new, known, chat, bare = listed
    assert Model(id="a/new", name="New", kind="Image", price=Decimal("0.5")) == new
    assert (Decimal("0.01"), CATALOG[MODEL].honours) == (known.price, known.honours)
    assert ("Text", Decimal(0)) == (chat.kind, chat.price)
    assert ("a/bare", None) == (bare.name, bare.price)


@pytest.mark.parametrize("price", [None, "0.009", True, [1]])
def test_a_price_that_is_none_leaves_the_known_one(price):
    """A list without a usable price does not take away the documented one."""
    (model,) = read_models(reply({"data": {"models": [{"model_name": MODEL, "price": price}]}}))
    assert Decimal("0.009") == model.price


def test_entries_that_are_no_model_are_passed_over():
    """One odd entry does not hide the rest of the list."""
    listed = read_models(reply({"data": {"models": [None, 5, {}, {"model_name": 5}, {"model_name": "a/b"}]}}))
    assert ["a/b"] == [model.id for model in listed]


@pytest.mark.parametrize("body", [{}, {"data": None}, {"data": []}, {"data": {"models": {}}}, [], b"", b"<html>"])
def test_a_list_that_is_none_is_unusable(body):
    """A reply without a list of models is one clear error."""
    with pytest.raises(UnusableReplyError, match="the reply "):
        read_models(reply(body))


@pytest.mark.parametrize(
    ("written", "balance"),
    [('"1228.55600"', "1228.55600"), ('"0"', "0"), ("-3.5", "-3.5"), ("0.1", "0.1"), ("12", "12")],
)
def test_the_balance_is_exact(written, balance):
    """The balance is a decimal number with the very digits that were sent."""
    read_balance = read_credits(reply(b'{"data": {"available_balance": %s}}' % written.encode()))
    assert (Decimal(balance), balance) == (read_balance, str(read_balance))


@pytest.mark.parametrize(
    "written",
    ['"NaN"', '"Infinity"', "NaN", "1e999", "true", "null", '"lots"', '""', "[0, [1], 2]", "{}", '"1_0"', '"\u0661"'],
)
def test_a_balance_that_is_no_number_is_unusable(written):
    """A balance that nobody can compare with a price is refused."""
    with pytest.raises(UnusableReplyError, match="the reply holds no balance"):
        read_credits(reply(b'{"data": {"available_balance": %s}}' % written.encode()))


@pytest.mark.parametrize("body", [{}, {"data": []}, {"data": {}}])
def test_a_missing_balance_is_unusable(body):
    """Without a balance in the reply there is one clear error."""
    with pytest.raises(UnusableReplyError, match="the reply holds no balance"):
        read_credits(reply(body))
