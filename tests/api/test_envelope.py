"""Whatever an error body looks like, it becomes the right exception with a message one can act on."""

from __future__ import annotations

import json
import pickle
from http import HTTPStatus

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nebula_async.api.envelope import MAX_BODY, is_error, read_body, read_error
from nebula_async.api.messages import Reply
from nebula_async.errors import (
    APIStatusError,
    AuthenticationError,
    BadRequestError,
    ContentPolicyError,
    NotFoundError,
    PermissionDeniedError,
    QuotaExhaustedError,
    RateLimitError,
    ServerError,
)

CODES = {
    "invalid_prompt": BadRequestError,
    "invalid_size": BadRequestError,
    "invalid_request": BadRequestError,
    "invalid_input": BadRequestError,
    "invalid_image": BadRequestError,
    "image_too_large": BadRequestError,
    "unsupported_format": BadRequestError,
    "context_length_exceeded": BadRequestError,
    "batch_size_exceeded": BadRequestError,
    "content_policy_violation": ContentPolicyError,
    "model_not_found": NotFoundError,
    "invalid_model": NotFoundError,
    "rate_limit_exceeded": RateLimitError,
    "insufficient_quota": QuotaExhaustedError,
    "invalid_api_key": AuthenticationError,
    "token_not_found_in_db": AuthenticationError,
    "unauthorized": AuthenticationError,
}

STATUSES = {
    301: BadRequestError,
    307: BadRequestError,
    400: BadRequestError,
    401: AuthenticationError,
    402: QuotaExhaustedError,
    403: PermissionDeniedError,
    404: NotFoundError,
    405: BadRequestError,
    408: APIStatusError,
    409: BadRequestError,
    413: BadRequestError,
    415: BadRequestError,
    418: BadRequestError,
    422: BadRequestError,
    425: APIStatusError,
    429: RateLimitError,
    499: BadRequestError,
    500: ServerError,
    501: ServerError,
    502: ServerError,
    503: ServerError,
    504: ServerError,
    520: ServerError,
    599: ServerError,
}


def error_of(status: int, body: object, *headers: tuple[bytes, bytes]) -> APIStatusError:
    """Return the error for a reply; a body that is no bytes is sent as JSON."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return read_error(Reply(status=status, headers=headers, body=data), now=1_700_000_000)


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("status", [200, 400, 401, 403, 404, 422, 429, 500, 503])
def test_a_documented_code_decides_on_any_status(code, status):
    """What the API calls the error counts more than the status it, or a proxy, sends it with."""
    error = error_of(status, {"status": "error", "error": {"code": code, "message": "why", "details": {"n": 1}}})
    assert CODES[code] is type(error)
    assert (status, code, {"n": 1}) == (error.status, error.code, error.details)
    assert "why" in str(error)
    assert f"HTTP {status}, {code}" in str(error)


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("name", [b"X-Request-Id", b"request-id", b"CF-RAY"])
def test_an_error_of_the_inference_api_can_be_asked_about(code, name):
    """Each code of the inference API comes with its message, its details and the id of its request, on a pickle too."""
    body = {
        "status": "error",
        "error": {"code": code, "message": "Said so.", "details": {"reason": ["a", {"b": None}]}},
    }
    error = error_of(400, body, (name, b"req-7"))
    for each in (error, pickle.loads(pickle.dumps(error))):  # noqa: S301 - our own bytes
        assert (400, code, {"reason": ["a", {"b": None}]}, "req-7") == (
            each.status, each.code, each.details, each.request_id,
        )  # fmt: skip
        assert str(each).startswith(f"the API answered: Said so. (HTTP 400, {code})")


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize(
    "body", [b"", {}, {"status": "error", "error": {"code": "brand_new_code"}}], ids=["empty", "no facts", "new code"]
)
def test_without_a_known_code_the_status_decides(status, body):
    """An error without a code, or with one that nobody documented, is classed by its status."""
    assert STATUSES[status] is type(error_of(status, body))


@pytest.mark.parametrize("code", ["invalid_seed", "invalid_request_error"])
@pytest.mark.parametrize("status", STATUSES)
def test_other_invalid_codes_are_bad_requests_unless_the_status_says_more(code, status):
    """An undocumented `invalid_…` is no reason to try again, and does not hide a refused key or a rate limit."""
    means_more = status in (401, 402, 403, 404, 408, 425, 429)
    expected = STATUSES[status] if means_more else BadRequestError
    assert expected is type(error_of(status, {"error": {"code": code}}))


@pytest.mark.parametrize(
    ("body", "message", "code", "details"),
    [
        pytest.param({"status": "failed", "message": "E1 said", "data": None}, "E1 said", None, None, id="E1"),
        pytest.param({"detail": "E2 said"}, "E2 said", None, None, id="E2"),
        pytest.param(
            {"detail": [{"loc": ["body", "prompt"], "msg": "field required", "type": "missing"}]},
            "body.prompt: field required",
            None,
            [{"loc": ["body", "prompt"], "msg": "field required", "type": "missing"}],
            id="E3",
        ),
        pytest.param(
            {
                "detail": [
                    {"loc": ["body", 0], "msg": "a"},
                    {"loc": "body", "msg": "b"},
                    {"msg": "c"},
                    {"loc": ["d"]},
                    5,
                ]
            },
            "body.0: a; body: b; c; d",
            None,
            [{"loc": ["body", 0], "msg": "a"}, {"loc": "body", "msg": "b"}, {"msg": "c"}, {"loc": ["d"]}, 5],
            id="E3, several",
        ),
        pytest.param(
            {"status": "error", "error": {"code": "invalid_size", "message": "E4 said", "details": {"reason": "r"}}},
            "E4 said",
            "invalid_size",
            {"reason": "r"},
            id="E4",
        ),
        pytest.param(
            {"error": {"message": "E5 said", "type": "token_not_found_in_db", "param": "key", "code": "401"}},
            "E5 said",
            "token_not_found_in_db",
            None,
            id="E5",
        ),
        pytest.param({"error": "E6 said"}, "E6 said", None, None, id="E6"),
        pytest.param(b"<html><body>502 Bad Gateway</body></html>", "Bad Request", None, None, id="E7 HTML"),
        pytest.param(b"upstream connect error", "Bad Request", None, None, id="E7 text"),
        pytest.param(b"", "Bad Request", None, None, id="E7 empty"),
        pytest.param(b'{"error": {"code": "invalid_si', "Bad Request", None, None, id="E7 truncated"),
    ],
)
def test_every_known_envelope_is_read(body, message, code, details):
    """Message, code and details are found in each form that this API, or a proxy before it, writes errors in (B23)."""
    error = error_of(400, body, (b"x-request-id", b"req-7"))
    assert f"the API answered: {message} (HTTP 400" in error.message
    assert (400, code, details, "req-7") == (error.status, error.code, error.details, error.request_id)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"error": {"message": "inner"}, "message": "outer", "detail": "detail"}, "inner"),
        ({"error": "error", "message": "outer", "detail": "detail"}, "error"),
        ({"error": {}, "message": "outer", "detail": "detail"}, "outer"),
        ({"error": {"message": 5}, "message": " ", "detail": "detail"}, "detail"),
        ({"error": {"message": "\0\n"}, "message": None, "detail": [{"msg": "joined"}]}, "joined"),
        ({"error": None, "message": ["x"], "detail": {"x": 1}}, "Conflict"),
    ],
)
def test_the_most_specific_message_counts(body, message):
    """Of several texts the one nearest to the error is shown; what is empty or no text is passed over."""
    assert f"the API answered: {message} (HTTP 409)" == error_of(409, body).message


@pytest.mark.parametrize(
    ("error", "code"),
    [
        ({"code": "a_word", "type": "other"}, "a_word"),
        ({"code": "401", "type": "word"}, "word"),
        ({"code": 401, "type": "word"}, "word"),
        ({"code": None, "type": "word"}, "word"),
        ({"code": "401", "type": "500"}, None),
        ({"code": "", "type": ["x"]}, None),
        ({"code": "two words", "type": None}, None),
        ({"code": "x\n\x1b[31m"}, None),
        ({"code": "x" * 65}, None),
    ],
)
def test_the_code_is_a_word(error, code):
    """A status in place of the code is not one, and nor is anything that could break a line of the log."""
    assert code == error_of(400, {"error": error}).code


@pytest.mark.parametrize(
    ("status", "body", "step"),
    [
        (401, {}, "Check the key in NEBULA_API_KEY"),
        (402, {}, "Add credit"),
        (429, {}, "Send more slowly"),
        (403, {}, "Use a key that may do this"),
        (400, {"error": {"code": "content_policy_violation"}}, "Change the prompt"),
        (400, {"error": {"code": "context_length_exceeded"}}, "Shorten the prompt"),
        (413, {}, "Send smaller input pictures"),
        (307, {}, "Check base_url"),
        (
            404,
            {},
            "Check the key in NEBULA_API_KEY, or in api_key=: this API answers 404 to one that it does not know",
        ),
        (404, {"error": {"code": "model_not_found"}}, "Check the model's name"),
    ],
)
def test_the_text_says_what_to_do(status, body, step):
    """What to do about an error follows from the API's code, or else from the status."""
    error = error_of(status, body)
    assert f" {step}" in str(error)
    assert step.lower() not in error.message.lower()


def test_a_404_with_a_code_is_about_the_model():
    """Only a 404 without a code is taken for a key that is not known."""
    assert "NEBULA_API_KEY" not in str(
        error_of(404, {"error": {"code": "model_not_found", "message": "no such model"}})
    )


def test_headers_are_read_too():
    """The wait that was asked for and the id of the request are on the error."""
    error = error_of(429, {}, (b"Retry-After", b"7"), (b"X-Request-Id", b"req-1"))
    assert (7.0, "req-1") == (error.retry_after, error.request_id)


def test_no_more_than_64_kib_are_read():
    """A body without end is not read to its end: what is cut off counts as unreadable (B23)."""
    padding = " " * MAX_BODY
    assert "invalid_size" == error_of(400, b'{"error": {"code": "invalid_size"}}' + padding.encode()).code
    assert error_of(400, padding.encode() + b'{"error": {"code": "invalid_size"}}').code is None


@pytest.mark.parametrize(
    "text",
    [
        "line\nbreak\r\n",
        "\x1b[31mred\x1b[0m",
        "\u202eright to left",
        "\ud800",
        "x" * 100_000,
        "\0" * 5,
        "  spaced   out ",
    ],
)
@pytest.mark.parametrize("status", [400, 401, 404])
def test_messages_are_one_printable_line(text, status):
    """Whatever a server writes, the message is one short line that is safe in a terminal and a log."""
    message = str(error_of(status, {"error": {"message": text, "code": text}}))
    assert message.isprintable()
    assert len(message) <= 400
    assert "  " not in message


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["error", "code", "type", "message", "detail", "loc", "msg", "status", "x"]), inner
        )
    ),
    max_leaves=10,
)
bodies = st.binary(max_size=80) | json_values.map(lambda value: json.dumps(value).encode())


@given(st.integers(100, 599), bodies)
@example(500, b'{"detail": [{"loc": 5, "msg": ["x"]}]}')
@example(500, b'{"detail": [{"loc": {"a": 1}, "msg": null}]}')
@example(500, b'{"error": {"code": ["x"], "type": {"y": 1}}}')
@example(500, b"[" * 70_000)
@example(500, b'{"detail":' + b"[" * 900 + b"]" * 900 + b"}")
@example(500, b'{"x": ' + b"1" * 5_000 + b"}")
def test_reading_an_error_never_fails(status, body):
    """Any bytes on any status give an error of this library with a short printable message, never another exception
    (B23).
    """
    error = error_of(status, body)
    assert str(error).isprintable()
    assert len(str(error)) <= 400
    assert f"(HTTP {status}" in str(error)
    assert isinstance(read_body(body).is_envelope, bool)
    pickle.dumps(error)


def test_details_that_are_nested_too_deeply_are_left_out():
    """Details are plain data that can be pickled and printed; what is nested beyond reason is not kept."""
    nested = [json.loads("[" * depth + "]" * depth) for depth in (20, 21)]
    assert [nested[0], None] == [error_of(500, json.dumps({"detail": each}).encode()).details for each in nested]


@pytest.mark.parametrize("status", [0, 99, 299, 600, 999])
def test_statuses_that_do_not_exist_are_told_in_words(status):
    """A status that HTTP does not know has no phrase, and the message says so."""
    assert status not in list(HTTPStatus)
    assert "a status that HTTP does not know" in str(error_of(status, b""))


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"status": "success", "data": []}, False),
        ({"status": "failed"}, True),
        ({"status": "error"}, True),
        ({"error": {"code": "x"}}, True),
        ({"error": "x"}, True),
        ({"error": None}, False),
        ({"error": {}}, False),
        ({"error": ""}, False),
        ({"status": ["failed"]}, False),
        ({}, False),
        ([], False),
        ("error", False),
        (None, False),
    ],
)
def test_a_body_says_itself_whether_it_failed(body, expected):
    """A reply failed where its body says so, and an empty `error` says nothing."""
    assert expected is is_error(body)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"<html>", False),
        (b"", False),
        (b"{}", False),
        (b'{"error": "x"}', True),
        (b'{"status": 1}', True),
        (b'{"detail": 1}', True),
    ],
)
def test_an_envelope_of_the_api_is_told_from_a_page_of_the_gateway(body, expected):
    """JSON as the API writes it shows that the request came through to it."""
    assert expected is read_body(body).is_envelope
