"""Dialect B: what `POST /v1/images/generate` answers to requests that are wrong."""

from decimal import Decimal

import pytest

FILL = "black-forest-labs/FLUX.1-Fill-dev"
NO_SIZES = ["", "16", "16x", "x16", "16X16", "16 x 16", "0x16", "16x0", "016x16", "-1x16", "4097x16", "16x4097"]
STRANGE_SIZES = ["1.0x1", "16x16\n", "16x16x16", "\u0661x16", "9" * 5000 + "x1", 16, [16, 16], True]


def _error(reply):
    body = reply.json()
    assert ("error", {"status", "error"}) == (body["status"], set(body))
    assert {"code", "message", "details"} == set(body["error"])
    assert isinstance(body["error"]["details"], dict)
    return reply.status_code, body["error"]["code"]


def _spent(rig):
    journal = rig.emulator.journal
    return [(record.images_charged, record.cost) for record in journal.generations], journal.charged, journal.spent


NOTHING = ([(0, Decimal("0.0000"))], 0, Decimal(0))


@pytest.mark.parametrize("model", ["nobody/knows", FILL, "DALL-E-3", ""])
def test_an_unknown_model_is_a_404(rig, model):
    """A model that dialect B does not have is told as such, and costs nothing."""
    assert (404, "model_not_found") == _error(rig.infer(model=model))
    assert NOTHING == _spent(rig)


@pytest.mark.parametrize("prompt", [None, "", " \n\t", 7, ["a cat"], {"text": "a cat"}, True])
def test_a_prompt_is_needed(rig, prompt):
    """A missing, empty, blank or wrongly typed prompt is the documented error, whatever else is wrong too."""
    reply = rig.infer(prompt=prompt, n=0)
    assert (400, "invalid_prompt") == _error(reply)
    assert "Prompt is empty or invalid" == reply.json()["error"]["message"]
    assert {"prompt", "n"} == set(reply.json()["error"]["details"]["fields"])
    assert NOTHING == _spent(rig)


@pytest.mark.parametrize("size", NO_SIZES + STRANGE_SIZES)
def test_a_size_has_to_be_supported(rig, size):
    """A size that is no WIDTHxHEIGHT with sides from 1 to 4096 is the documented error."""
    reply = rig.infer(size=size, style="loud")
    assert (400, "invalid_size") == _error(reply)
    assert "Requested size not supported" == reply.json()["error"]["message"]
    assert NOTHING == _spent(rig)


@pytest.mark.parametrize(
    "fields",
    [
        {"model": None},
        {"model": 3},
        {"n": 0},
        {"n": 11},
        {"n": -1},
        {"n": 1.5},
        {"n": "1"},
        {"n": True},
        {"n": 10**400},
        {"quality": "best"},
        {"quality": 1},
        {"style": "Vivid"},
        {"style": []},
        {"negative_prompt": 5},
        {"response_format": "png"},
    ],
    ids=str,
)
def test_a_wrong_field_is_named(start, fields):
    """Any other field that is missing or wrong is an invalid request that names it, and costs nothing."""
    rig = start(credit="1e1000")
    reply = rig.infer(**fields)
    assert (400, "invalid_request") == _error(reply)
    assert set(fields) == set(reply.json()["error"]["details"]["fields"])
    assert NOTHING == _spent(rig)


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b'"prompt"', b"null", b"\xff\xfe\xfd", b"[" * 100_000, b"9" * 5_000],
    ids=["empty", "open", "array", "string", "null", "binary", "deep", "huge-number"],
)
def test_a_body_that_is_no_object_is_refused(rig, body):
    """Whatever bytes arrive, the answer is an invalid request with a reason, and the emulator goes on."""
    reply = rig.post(body)
    assert (400, "invalid_request") == _error(reply)
    assert {"reason"} == set(reply.json()["error"]["details"])
    assert 200 == rig.infer().status_code


def test_a_body_beyond_64_mib_is_refused(rig):
    """A body too large for the service is a 413 in the same envelope."""
    megabyte = b" " * 1024 * 1024
    reply = rig.post(megabyte for _ in range(65))
    assert (413, "invalid_request") == _error(reply)
    assert "The request body is too large" == reply.json()["error"]["message"]


@pytest.mark.parametrize("authorization", [None, "", "Bearer", "Basic sk-emulator", "Bearer sk-unknown", "Bearer nope"])
def test_a_wrong_key_is_unauthorized(rig, authorization):
    """Any key but the account's is a 401 here, and it is checked before everything else."""
    headers = {} if authorization is None else {"Authorization": authorization}
    url = f"{rig.emulator.inference_url}/images/generate"
    assert (401, "unauthorized") == _error(rig.stranger.post(url, content=b"{", headers=headers))
    assert NOTHING == _spent(rig)


def test_checks_come_in_order(start, clock):
    """Key, then rate, credit, fields, model: each is told before those after it are looked at."""
    broke = start(per_minute=1, credit="0", clock=clock, faults="503:@3")
    assert [(402, "insufficient_quota"), (429, "rate_limit_exceeded")] == [_error(broke.infer(n=0)) for _ in range(2)]
    assert (401, "unauthorized") == _error(broke.post(b"{", headers={"Authorization": "Bearer sk-no"}))
    assert (400, "invalid_size") == _error(start().infer(size="big", model="nobody/knows"))


@pytest.mark.parametrize(
    ("credit", "count", "status"), [("0.12", 3, 200), ("0.11", 3, 402), ("0.12", 4, 402), ("0.009", 0, 402)]
)
def test_no_credit_no_pictures(start, credit, count, status):
    """All pictures of a request have to be covered by the balance."""
    assert status == start(credit=credit).infer(n=count).status_code


def test_both_dialects_spend_one_credit_and_one_rate(start, clock):
    """An account has one balance and one rate, whichever dialect is asked."""
    rig = start(credit="1.0000", per_minute=3, clock=clock, retry_after="seconds")
    assert [200, 200, 200] == [rig.infer(n=2).status_code, rig.ask().status_code, rig.infer().status_code]
    assert "0.87810" == rig.http.get("/users/credits").json()["data"]["available_balance"]
    assert 429 == rig.ask().status_code
    throttled = rig.infer()
    assert (429, "rate_limit_exceeded") == _error(throttled)
    assert ("Too many requests", "20") == (throttled.json()["error"]["message"], throttled.headers["retry-after"])


@pytest.mark.parametrize(
    "prompt",
    ["gore", "a GORE scene", "not, nsfw!", "x\nNsFw\ny", "\ud800 gore"],
    ids=["bare", "case", "comma", "line", "broken"],
)
def test_forbidden_words_are_refused(rig, prompt):
    """A prompt with a forbidden word is the documented refusal, and costs nothing."""
    reply = rig.infer(prompt=prompt)
    expected = {
        "status": "error",
        "error": {
            "code": "content_policy_violation",
            "message": "Your request was rejected as it violates our content policy",
            "details": {"reason": "Contains prohibited content"},
        },
    }
    assert (400, expected) == (reply.status_code, reply.json())
    assert NOTHING == _spent(rig)


@pytest.mark.parametrize("prompt", ["Gregory Gorey in Goretown", "nsfwish", "a category"])
def test_only_whole_words_are_forbidden(rig, prompt):
    """A word that merely contains a forbidden one is painted."""
    assert 200 == rig.infer(prompt=prompt).status_code


def test_forbidden_words_can_be_chosen(start):
    """The words are an option: others, with any characters, or none at all."""
    chosen, free = start(forbidden_words=["c++", "bad idea"]), start(forbidden_words=())
    assert [400, 400, 200] == [chosen.infer(prompt=text).status_code for text in ("Why C++?", "a BAD idea", "gore")]
    assert 200 == free.infer(prompt="gore nsfw").status_code
    assert 400 == start(forbidden_words="cats").infer(prompt="two cats").status_code


def test_forbidden_words_concern_dialect_b_alone(rig):
    """Nothing is known of a content policy of dialect A, and what is to be left out may be named."""
    assert 200 == rig.ask(prompt="gore").status_code
    assert 200 == rig.infer(negative_prompt="gore").status_code


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_only_post_makes_pictures(rig, method):
    """Any other method is a 405 that says so, makes nothing and is no request for a picture."""
    reply = rig.http.request(method, f"{rig.emulator.inference_url}/images/generate", json={"model": "sdxl"})
    assert (405, "POST") == (reply.status_code, reply.headers["allow"])
    if method != "HEAD":
        assert (405, "invalid_request") == _error(reply)
    assert ((), 0) == (rig.emulator.journal.generations, rig.emulator.journal.charged)


def test_paths_beside_it_are_unknown(rig):
    """What is beside the one path of dialect B is a 404 in its envelope, a path with a line feed too."""
    for path in ("/images/generations", "/images/generate/", "/images/generate%0A", "/models"):
        assert (404, "invalid_request") == _error(rig.http.post(f"{rig.emulator.inference_url}{path}", json={}))
    assert () == rig.emulator.journal.generations


def test_the_error_body_of_dialect_a_is_not_its_own(start):
    """Dialect B keeps its envelope, however dialect A is told to word errors."""
    assert (404, "model_not_found") == _error(start(error_body="detail").infer(model="nobody/knows"))
