"""What an error says: what happened, what it may have cost, whether trying again can help, and what to do next."""

from __future__ import annotations

import pytest

from nebula_async import errors
from nebula_async.api.envelope import read_error
from nebula_async.api.messages import Reply
from nebula_async.charges import Charges
from nebula_async.errors import (
    APIStatusError,
    AuthenticationError,
    BadRequestError,
    BudgetExceededError,
    ConfigurationError,
    ContentPolicyError,
    DeadlineError,
    DownloadError,
    InvalidRequestError,
    JobError,
    NebulaError,
    NotFoundError,
    NotSentError,
    OutcomeUnknownError,
    PermissionDeniedError,
    QuotaExhaustedError,
    RateLimitError,
    ServerError,
    SinkError,
    UnusableReplyError,
    cause_of,
    next_step_of,
)

CHECK_KEY = "Check the key in NEBULA_API_KEY, or in api_key="

TEXTS = [
    (NebulaError("it broke"), "it broke. Not charged. Trying again does not help."),
    (ConfigurationError("timeout must be above 0; got 0"), "timeout must be above 0; got 0"),
    (InvalidRequestError("prompt must not be blank; got ' '"), "prompt must not be blank; got ' '"),
    (
        InvalidRequestError("image changed while it was sent", attempts=2, charges=Charges(0, 1)),
        "image changed while it was sent. May have been paid for: 0 to 1 pictures, in 2 attempts.",
    ),
    (
        NotSentError("no connection could be made: ConnectError: refused (a.example)", attempts=3, retryable=True),
        "no connection could be made: ConnectError: refused (a.example). Not charged, in 3 attempts."
        " Trying again can help. Check the network, the proxy and the URL, as nebula-async doctor does.",
    ),
    (
        NotSentError("the proxy refused the connection: 407; check its password"),
        "the proxy refused the connection: 407; check its password. Not charged. Trying again does not help.",
    ),
    (
        OutcomeUnknownError("no complete reply came back", attempts=2, charges=Charges(0, 2), retryable=True),
        "no complete reply came back. May have been paid for: 0 to 2 pictures, in 2 attempts. Trying again can help,"
        " and may pay twice. Look at the balance, then send it again (a job: --resend-unknown).",
    ),
    (
        OutcomeUnknownError("the reply was lost", attempts=1, charges=Charges(1, 1), retryable=True),
        "the reply was lost. Paid for: 1 picture. Trying again can help, and pays again. Look at the balance,"
        " then send it again (a job: --resend-unknown).",
    ),
    (
        UnusableReplyError("the reply is no JSON", attempts=1, charges=Charges(1, 1), request_id="req-7"),
        "the reply is no JSON. Paid for: 1 picture. Trying again pays again. Ask Nebula Block if it happens again;"
        " a job asks for the picture anew with --retry-failed. The request_id is req-7.",
    ),
    (
        SinkError("the sink did not keep the picture: OSError: full", attempts=1, charges=Charges(1, 1)),
        "the sink did not keep the picture: OSError: full. Paid for: 1 picture. Trying again pays again."
        " Mend the place where the pictures go first.",
    ),
    (
        DownloadError("the picture could not be fetched within 9 s", charges=Charges(1, 1), retryable=True),
        "the picture could not be fetched within 9 s. Paid for: 1 picture. Fetching it again can help, and costs"
        " nothing. Fetch it with nebula.download(image) before its URL expires; a job does with the same command.",
    ),
    (
        DownloadError("the picture cannot be fetched: its storage answered HTTP 404"),
        "the picture cannot be fetched: its storage answered HTTP 404. It was paid for when it was made. Fetching it"
        " again does not help, and another picture is paid for anew. Ask for another one; a job does with"
        " --retry-failed.",
    ),
    (
        DownloadError("allowed_image_hosts may name a.example:80", charges=Charges(2, 2), is_forbidden=True),
        "allowed_image_hosts may name a.example:80. Paid for: 2 pictures. Fetching it later costs nothing.",
    ),
    (
        DeadlineError("the call did not end within its 5 s", attempts=1, charges=Charges(0, 1), retryable=True),
        "the call did not end within its 5 s. May have been paid for: 0 to 1 pictures. Trying again can help, and may"
        " pay twice. Allow more time (timeout=, --timeout or NEBULA_TIMEOUT).",
    ),
    (
        APIStatusError("the API answered: Too Early (HTTP 425)", status=425, retryable=True),
        "the API answered: Too Early (HTTP 425). Not charged. Trying again can help. Wait a little.",
    ),
    (
        AuthenticationError("the API answered: Unauthorized (HTTP 401)", status=401),
        f"the API answered: Unauthorized (HTTP 401). Not charged. Trying again does not help. {CHECK_KEY}.",
    ),
    (
        PermissionDeniedError("the API answered: Forbidden (HTTP 403)", status=403),
        "the API answered: Forbidden (HTTP 403). Not charged. Trying again does not help. Use a key that may do this.",
    ),
    (
        NotFoundError("the API answered: Not Found (HTTP 404)", status=404),
        f"the API answered: Not Found (HTTP 404). Not charged. Trying again does not help. {CHECK_KEY}: this API"
        " answers 404 to one that it does not know; then check base_url (ends in /api/v1) and inference_url (ends in"
        " /v1).",
    ),
    (
        NotFoundError("the API answered: No model (HTTP 404, model_not_found)", status=404, code="model_not_found"),
        "the API answered: No model (HTTP 404, model_not_found). Not charged. Trying again does not help."
        " Check the model's name: nebula-async models lists them, and so does nebula.models().",
    ),
    (
        RateLimitError("the API answered: Slow down (HTTP 429)", status=429, retryable=True, retry_after=7.0),
        "the API answered: Slow down (HTTP 429). Not charged. Trying again can help after 7 s. Send more slowly, or set"
        " the account's tier (tier=, --tier or NEBULA_TIER).",
    ),
    (
        RateLimitError("the daily quota is used up", status=429, retryable=True, retry_after=18_181, scope="day"),
        "the daily quota is used up. Not charged. Trying again can help from 00:00 UTC on, in 5 h 04 min. Wait until"
        " then, as a job does by itself, or use an account of a higher tier.",
    ),
    (
        QuotaExhaustedError("the API answered: No credit (HTTP 402, insufficient_quota)", code="insufficient_quota"),
        "the API answered: No credit (HTTP 402, insufficient_quota). Not charged. Trying again does not help."
        " Add credit in the Nebula Block console.",
    ),
    (
        ContentPolicyError("the API answered: Not that (HTTP 400, content_policy_violation)", status=400),
        "the API answered: Not that (HTTP 400, content_policy_violation). Not charged. Trying again does not help."
        " Change the prompt.",
    ),
    (
        BadRequestError("the API answered size: too large (HTTP 400, invalid_size)", status=400, code="invalid_size"),
        "the API answered size: too large (HTTP 400, invalid_size). Not charged. Trying again does not help."
        " Ask for a size that the model makes (width and height, or size).",
    ),
    (
        ServerError("the API answered: Oops (HTTP 500)", 2, Charges(0, 2), True, "req-9", status=500),
        "the API answered: Oops (HTTP 500). May have been paid for: 0 to 2 pictures, in 2 attempts. Trying again can"
        " help, and may pay twice. Wait a little, and ask Nebula Block if it stays. The request_id is req-9.",
    ),
    (JobError("cats is in use by process 7; wait for it"), "cats is in use by process 7; wait for it"),
    (
        JobError("the picture could not be saved.", charges=Charges(1, 2)),
        "the picture could not be saved. Paid for: 1 to 2 pictures.",
    ),
    (BudgetExceededError("the budget is used up; give a larger one"), "the budget is used up; give a larger one"),
]


@pytest.mark.parametrize(("error", "text"), TEXTS, ids=lambda value: getattr(type(value), "__name__", ""))
def test_an_error_says_all_that_is_known(error, text):
    """One line says what happened, what it cost, whether trying again can help, when, and what to do."""
    assert text == str(error)
    assert text.startswith(error.message.rstrip("."))


def test_every_class_has_a_text():
    """No class of error is left out of the texts above."""
    kinds = {value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Exception)}
    assert kinds == {type(error) for error, _ in TEXTS}


@pytest.mark.parametrize(("error", "text"), TEXTS, ids=lambda value: getattr(type(value), "__name__", ""))
def test_nothing_is_said_twice(error, text):
    """No sentence of an error's text repeats another one, and a text stays one line that can be read at once."""
    sentences = text.rstrip(".").split(". ")
    assert len(set(sentences)) == len(sentences)
    assert "\n" not in text
    assert len(text) - len(error.message) <= 300


@pytest.mark.parametrize("charges", [Charges(0, 0), Charges(0, 1), Charges(1, 1), Charges(1, 2)], ids=str)
@pytest.mark.parametrize("kind", dict.fromkeys(type(error) for error, _ in TEXTS), ids=lambda kind: kind.__name__)
def test_a_second_payment_is_never_left_unsaid(kind, charges):
    """Whatever may have been paid for is said, and where trying again can help, that it may be paid for twice."""
    for retryable in (False, True):
        error = kind("it broke", charges=charges, retryable=retryable)
        says_again = "pay twice" in str(error) or "pays again" in str(error)
        is_silent = isinstance(error, ConfigurationError | InvalidRequestError | JobError | DownloadError)
        assert ("aid for: " in str(error)) == (charges.at_most > 0)
        assert is_silent or says_again == (charges.at_most > 0 if retryable else charges.at_least > 0)


@pytest.mark.parametrize(
    ("seconds", "when"),
    [(0.25, "after 0.25 s"), (7.4, "after 7.4 s"), (59.2, "after 60 s"), (86_400.0, "after 86400 s"), (0.0, "help. ")],
)
def test_the_wait_that_the_api_asks_for_is_said(seconds, when):
    """Whoever reads a refusal knows for how long to wait, where the API said it."""
    reply = Reply(status=429, headers=((b"retry-after", b"%g" % seconds),), body=b"")
    error = read_error(reply, now=0)
    error.retryable = True
    assert f"Trying again can {when if when.startswith('help') else f'help {when}'}" in str(error)


def test_a_day_whose_end_is_not_known_is_still_said():
    """Where the day's limit is only inferred, the text says when a day begins, and no more than that."""
    error = RateLimitError("the daily quota is used up", retryable=True, scope="day")
    assert "Trying again can help from 00:00 UTC on. Wait" in str(error)


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (OutcomeUnknownError("x", charges=Charges(0, 1)), "OutcomeUnknownError"),
        (BadRequestError("x", status=400, code="invalid_size"), "BadRequestError invalid_size"),
        (BadRequestError("x", status=413), "BadRequestError HTTP 413"),
        (NotFoundError("x", status=404), "NotFoundError HTTP 404"),
        (NotFoundError("x", status=404, code="invalid_model"), "NotFoundError invalid_model"),
        (RateLimitError("x", status=429, code="rate_limit_exceeded", scope="day"), "RateLimitError day"),
        (ServerError("x"), "ServerError"),
        (JobError("x"), "JobError"),
    ],
)
def test_a_cause_leads_to_the_next_step(error, cause):
    """What a report groups by is the class with the API's code or status, and is enough to know what to do."""
    assert cause == cause_of(error)
    assert error.next_step == next_step_of(cause)


@pytest.mark.parametrize("kind", [OutcomeUnknownError, UnusableReplyError])
def test_what_was_free_sends_nobody_to_the_balance(kind):
    """A list of models that did not come leads to no option that asks for a picture again: none was asked for."""
    assert "--" not in str(kind("x", retryable=True))
    assert "--" in str(kind("x", retryable=True, charges=Charges(0, 1)))


@pytest.mark.parametrize("cause", ["", "JobError", "InvalidRequestError", "missing", "HTTP 404", "X HTTP ²"])
def test_a_cause_that_says_all_has_no_next_step(cause):
    """For classes whose message says what to do, and for words that name no class, there is no step to repeat."""
    assert "" == next_step_of(cause)
