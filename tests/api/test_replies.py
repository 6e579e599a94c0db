"""Replies of every dialect: each one that can be used is used, and any other is one clear error."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from bodies import BLUE, GREEN, RED, b64, picture, read_reply, reply
from hypothesis import given
from hypothesis import strategies as st

from nebula_async.api.replies import Answer
from nebula_async.errors import (
    AuthenticationError,
    BadRequestError,
    ContentPolicyError,
    NebulaError,
    QuotaExhaustedError,
    RateLimitError,
    UnusableReplyError,
)

MODEL = "stabilityai/stable-diffusion-xl-base-1.0"


def read(body: object, asked: int = 1) -> Answer:
    """Read a successful reply."""
    return read_reply(reply(body), asked=asked, now=0)


def unusable(body: object) -> str:
    """Return why a reply cannot be used."""
    with pytest.raises(UnusableReplyError) as caught:
        read(body)
    return str(caught.value)


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
    """The picture is found in each shape that this API has, or once had, whichever was asked for (B21)."""
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
    assert (None, None, None) == (image.media_type, image.width, image.extension)


@pytest.mark.parametrize(
    "body",
    [
        {"data": [{"url": "https://a.example/1.png"}]},
        {"data": {"images": [{"url": "https://a.example/1.png", "b64_json": None}]}},
        {"image_url": "https://a.example/1.png"},
    ],
    ids=json.dumps,
)
@pytest.mark.parametrize("now", [0, 1_700_000_000, 1_763_251_199.25])
def test_a_url_expires_an_hour_after_the_reply(body, now):
    """A URL is documented to be valid for an hour: the moment of its end, in UTC, stands beside it."""
    (image,) = read_reply(reply(body), asked=1, now=now).images
    assert datetime.fromtimestamp(now, UTC) + timedelta(hours=1) == image.expires_at
    assert timedelta(0) == image.expires_at.utcoffset()


def test_bytes_do_not_expire():
    """A picture that is here has no URL and no end, also where the reply gave it both ways."""
    (image,) = read({"data": [{"b64_json": b64(RED), "url": "https://a.example/1.png"}]}).images
    assert (RED, None, None) == (image.data, image.url, image.expires_at)


def test_bytes_and_urls_may_come_together():
    """Of several pictures each comes as it is, in their order, and only what is neither is missing."""
    entries = [{"url": "https://a.example/1.png", "index": 1}, {"b64_json": b64(RED), "index": 0}, {"index": 2}]
    answer = read({"data": entries}, asked=3)
    assert [(RED, None), (None, "https://a.example/1.png")] == [(image.data, image.url) for image in answer.images]
    assert 1 == answer.missing


def test_a_url_is_not_shown():
    """A URL, with which anyone could fetch the picture, is in no repr of an answer."""
    assert "canary" not in repr(read({"data": [{"url": "https://a.example/1.png?sig=canary"}]}))


def test_a_damaged_picture_that_has_a_url():
    """Where the base64 of a picture is damaged and there is a URL as well, the picture is still to be had."""
    (image,) = read({"data": [{"b64_json": "!!!", "url": "https://a.example/1.png"}]}).images
    assert (None, "https://a.example/1.png") == (image.data, image.url)


def test_usage_is_kept():
    """What the inference API says it used is in the answer."""
    usage = {"images_generated": 1, "resolution": "1024x1024"}
    assert usage == read({"data": {"images": [{"b64_json": b64(RED)}]}, "usage": usage}).facts.usage
    assert usage == read({"data": {"images": [{"b64_json": b64(RED)}], "usage": usage}}).facts.usage


def test_a_null_does_not_hide_what_is_used():
    """A `usage` that is null beside the pictures' own says nothing."""
    body = {"usage": None, "data": {"images": [{"b64_json": b64(RED)}], "usage": {"images_generated": 1}}}
    assert {"images_generated": 1} == read(body).facts.usage


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
    """What came is returned, and how many are missing; more than asked for are kept, for they are there (B13)."""
    answer = read({"data": [{"b64_json": b64(RED)}] * delivered}, asked=asked)
    assert (delivered, missing) == (len(answer.images), missing)
    assert missing == answer.missing


def test_one_bad_picture_does_not_spoil_the_others():
    """Of several pictures the usable ones are returned and the others count as missing."""
    answer = read({"data": [{"b64_json": "!!"}, {"b64_json": b64(RED)}, {"b64_json": b64(b"<html>")}]}, asked=3)
    assert ([RED], 2) == ([image.data for image in answer.images], answer.missing)


@pytest.mark.parametrize("wrong", [None, 5, True, [], {}, "text", 1.5, -1, 10**400])
def test_members_of_a_wrong_type_are_passed_over(wrong):
    """A paid picture is not lost because something beside it has an unexpected type (B22)."""
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
    """A time of inference is a finite number or it is not known; the picture is there all the same (B26)."""
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
        json.dumps(DOCUMENTED).encode()[:-100],
        b"[" * 200_000,
    ],
    ids=lambda body: repr(body[:12]),
)
def test_a_success_without_an_object_is_unusable(body):
    """A success that is no JSON object is one error that says so, whatever it is (B20)."""
    assert unusable(body).startswith("the reply is no JSON")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "latin-1"])
def test_only_utf8_is_read(encoding):
    """A reply in another encoding is unusable, not guessed at (B24, B25)."""
    assert unusable(json.dumps({"é": 1, **DOCUMENTED}, ensure_ascii=False).encode(encoding)).startswith(
        "the reply is no JSON"
    )


def test_a_byte_order_mark_is_skipped():
    """A mark in front of UTF-8 does no harm (B25)."""
    assert read(b"\xef\xbb\xbf" + json.dumps(DOCUMENTED).encode()).images


@pytest.mark.parametrize(
    ("header", "value"), [(b"content-type", b"text/html; charset=utf-16"), (b"content-type", b"image/png"), (b"x", b"")]
)
def test_the_content_type_does_not_matter(header, value):
    """What the headers claim about the body is not believed (B24)."""
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
        ({"data": [{"b64_json": "", "url": ""}]}, "the base64 is empty"),
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
    """A paid reply without one usable picture is an error that says what is wrong with it (B21, B32, B33)."""
    assert unusable(body).startswith("the reply holds no usable picture: ")
    assert problem in unusable(body)


@pytest.mark.parametrize(
    ("form", "extension"), [("PNG", ".png"), ("JPEG", ".jpg"), ("WEBP", ".webp"), ("GIF", ".gif"), ("AVIF", ".avif")]
)
def test_the_bytes_decide_what_a_picture_is(form, extension):
    """Type and extension are read from the picture itself: the API does not document what it sends (B32)."""
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
    assert "success in the status, failure in the body: the API answered: why (HTTP 200" in unusable(body)


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
