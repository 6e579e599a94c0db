"""What the emulator answers to requests that are right, and to those that are wrong."""

import statistics
import time

import httpx
import pytest

SCHNELL = "black-forest-labs/FLUX.1-schnell"
SDXL = "stabilityai/stable-diffusion-xl-base-1.0"
SEEDREAM = "Bytedance/seedream-3-0-t2i-250415"
FILL = "black-forest-labs/FLUX.1-Fill-dev"
KONTEXT = "black-forest-labs/FLUX.1-Kontext-dev"


def test_a_reply_has_the_documented_shape(rig):
    """A picture comes in exactly the envelope of the vendor's page, and nothing else is in it."""
    reply = rig.ask().json()
    (picture,) = reply.pop("data")
    assert {
        "model": SCHNELL,
        "object": "list",
        "message": "Image generated successfully",
        "status": "success",
    } == reply
    assert {"timings", "index", "b64_json"} == set(picture)
    assert {"inference"} == set(picture["timings"])
    assert 0 == picture["index"]


def test_the_legacy_spelling_is_served(rig):
    """A request that says `model_name` is answered like one that says `model`."""
    assert rig.file() == rig.file(model=None, model_name=SCHNELL)


def test_model_wins_over_model_name(rig):
    """With both spellings, `model` decides."""
    assert SCHNELL == rig.ask(model_name=SDXL).json()["model"]


@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        (None, 401),
        ("", 401),
        ("Bearer", 401),
        ("sk-emulator", 401),
        ("Basic sk-emulator", 401),
        ("Bearer INVALID_TOKEN", 401),
        ("Bearer sk-unknown", 404),
        ("Bearer ak_unknown", 404),
        ("Bearer sk-emulator", 200),
        ("bearer sk-emulator", 200),
    ],
)
def test_keys_are_refused_as_observed(start, authorization, status):
    """A missing or malformed key is a 401 and an unknown one a 404, as the live service was seen to answer."""
    rig = start()
    headers = {} if authorization is None else {"Authorization": authorization}
    with httpx.Client(base_url=rig.emulator.base_url, trust_env=False) as http:
        body = {"model": SCHNELL, "prompt": "a cat", "width": 8, "height": 8}
        reply = http.post("/images/generation", json=body, headers=headers)
        assert status == reply.status_code
        assert status == http.get("/users/credits", headers=headers).status_code
    if status != 200:
        assert "failed" == reply.json()["status"]
        assert reply.json()["data"] is None
        assert reply.json()["message"]


def test_the_key_is_checked_before_everything_else(start):
    """A bad key is told as such even when the body is nonsense and the account is throttled and broke."""
    rig = start(per_minute=1, credit="0", faults=("500:1",))
    reply = rig.http.post("/images/generation", content=b"{", headers={"Authorization": "Bearer sk-no"})
    assert 404 == reply.status_code


@pytest.mark.parametrize("name", ["width", "height", "num_steps", "seed", "num_images"])
def test_an_integer_may_be_written_with_a_fraction_of_nothing(rig, name):
    """16.0 is an integer, as JSON Schema has it, and makes the same picture as 16."""
    fields = {"model": SEEDREAM} | {name: 8}
    assert rig.file(**fields) == rig.file(**fields | {name: 8.0})


@pytest.mark.parametrize(
    "value", ["1e400", "-1e400", "1e300", "9" * 4000, "-" + "9" * 4000, "NaN", "-0.5", "true", '"8"', "[8]", "{}"]
)
@pytest.mark.parametrize("name", ["width", "num_steps", "seed", "num_images", "guidance_scale"])
def test_no_number_is_too_strange(start, name, value):
    """Numbers beyond all bounds, and what only looks like one, are a 422 that names the field; nothing breaks."""
    rig = start(credit="1e5000")
    body = f'{{"model": "{SEEDREAM}", "prompt": "x", "{name}": {value}}}'
    reply = rig.http.post("/images/generation", content=body)
    assert (422, [["body", name]]) == (reply.status_code, [problem["loc"] for problem in reply.json()["detail"]])
    assert 0 == rig.emulator.journal.charged


def test_any_of_several_keys_is_accepted(start):
    """Keys can rotate: every registered key works, and `key` is the first."""
    rig = start(keys=("ak_first", "sk-second"))
    assert "ak_first" == rig.emulator.key
    rig.http.headers["Authorization"] = "Bearer sk-second"
    assert 200 == rig.ask().status_code


@pytest.mark.parametrize(
    ("fields", "loc", "kind"),
    [
        ({"prompt": None}, ["body", "prompt"], "missing"),
        ({"model": None}, ["body", "model"], "missing"),
        ({"prompt": 7}, ["body", "prompt"], "string_type"),
        ({"width": "64"}, ["body", "width"], "int_type"),
        ({"width": True}, ["body", "width"], "int_type"),
        ({"width": 0}, ["body", "width"], "greater_than_equal"),
        ({"height": 4097}, ["body", "height"], "less_than_equal"),
        ({"num_steps": 1.5}, ["body", "num_steps"], "int_type"),
        ({"guidance_scale": "high"}, ["body", "guidance_scale"], "float_type"),
        ({"guidance_scale": float("nan")}, ["body", "guidance_scale"], "greater_than_equal"),
        ({"seed": -2}, ["body", "seed"], "greater_than_equal"),
        ({"seed": 2**63}, ["body", "seed"], "less_than_equal"),
        ({"model": KONTEXT}, ["body", "image"], "missing"),
        ({"model": FILL}, ["body", "image"], "missing"),
        ({"model": KONTEXT, "image": "not base64!"}, ["body", "image"], "value_error"),
        ({"model": KONTEXT, "image": "bm8gcGljdHVyZQ=="}, ["body", "image"], "value_error"),
        ({"model": KONTEXT, "image": "https://example.com/cat.png"}, ["body", "image"], "value_error"),
    ],
)
def test_a_wrong_field_is_named(rig, fields, loc, kind):
    """A field that is missing, of a wrong type or out of range is a 422 that names it, and costs nothing."""
    reply = rig.ask(**fields)
    assert 422 == reply.status_code
    (problem,) = reply.json()["detail"]
    assert {"loc", "msg", "type"} == set(problem)
    assert (loc, kind) == (problem["loc"], problem["type"])
    assert 0 == rig.emulator.journal.charged


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b'"prompt"', b"null", b"\xff\xfe\xfd", b"[" * 100_000, b'{"a":' * 100_000, b"9" * 5_000],
    ids=["empty", "open", "array", "string", "null", "binary", "deep-array", "deep-object", "huge-number"],
)
def test_a_body_that_is_no_object_is_refused(rig, body):
    """Whatever bytes arrive, the answer is a clear 422 and the emulator goes on."""
    reply = rig.http.post("/images/generation", content=body)
    assert 422 == reply.status_code
    assert ["body"] == reply.json()["detail"][0]["loc"]
    assert 200 == rig.ask().status_code


def test_a_body_beyond_64_mib_is_refused(rig):
    """A body too large for the service is a 413, and the connection remains usable."""
    megabyte = b" " * 1024 * 1024
    reply = rig.http.post("/images/generation", content=(megabyte for _ in range(65)))
    assert 413 == reply.status_code
    assert 200 == rig.ask().status_code


def test_an_unknown_model_is_a_400(rig):
    """A model nobody knows is a 400, since 404 is kept for keys."""
    reply = rig.ask(model="nobody/knows")
    assert 400 == reply.status_code
    assert {"status": "failed", "message": "Model not found", "data": None} == reply.json()


def test_errors_can_be_told_as_detail(start):
    """With `error_body="detail"` errors are told in the other envelope that was seen in use."""
    assert {"detail": "Model not found"} == start(error_body="detail").ask(model="nobody/knows").json()


@pytest.mark.parametrize(("model", "status"), [(SDXL, 200), (SCHNELL, 200), (SEEDREAM, 500)])
def test_an_empty_prompt_is_answered_as_observed(rig, model, status):
    """SDXL and schnell make a picture of an empty prompt, Seedream fails; only pictures are charged."""
    assert status == rig.ask(model=model, prompt="").status_code
    assert (status == 200) == bool(rig.emulator.journal.charged)


def test_a_field_that_is_not_honoured_changes_nothing(rig):
    """A field its model does not know is ignored, as are fields nobody knows."""
    assert rig.file() == rig.file(num_images=2, size="1024x1024", nested={"a": [1]})


def test_seedream_makes_several_pictures(rig):
    """Seedream honours `num_images`: so many different pictures, indexed, each of them charged."""
    data = rig.ask(model=SEEDREAM, num_images=3).json()["data"]
    assert [0, 1, 2] == [picture["index"] for picture in data]
    assert 3 == len({picture["b64_json"] for picture in data})
    assert 3 == rig.emulator.journal.charged
    assert "0.0630" == str(rig.emulator.journal.spent)


def test_models_are_listed_as_documented(rig):
    """The list names five models under `model_name`, with a numeric price, in the documented envelope."""
    reply = rig.http.get("/serverless/models").json()
    prices = {model["model_name"]: model["price"] for model in reply["data"]["models"]}
    assert {SDXL: 0.009, SCHNELL: 0.0019, SEEDREAM: 0.021, FILL: 0.0, KONTEXT: 0.025} == prices
    assert {"Image"} == {model["model_type"] for model in reply["data"]["models"]}
    assert ("Get models list successfully.", "success") == (reply["message"], reply["status"])


def test_credit_is_told_and_spent(start):
    """The balance is text with five decimals, and falls by what pictures cost."""
    rig = start(credit="1228.556")
    rig.ask()
    expected = {
        "data": {"available_balance": "1228.55410"},
        "message": "User credit balance successfully retrieved",
        "status": "success",
    }
    assert expected == rig.http.get("/users/credits").json()


@pytest.mark.parametrize(
    ("credit", "model", "status"), [("0.02", SEEDREAM, 402), ("0.02", SDXL, 200), ("0.009", SDXL, 402)]
)
def test_no_credit_no_picture(start, credit, model, status):
    """A balance below the price, or below one cent, is a 402."""
    assert status == start(credit=credit).ask(model=model).status_code


def test_a_lone_surrogate_is_survived(rig):
    """A prompt that is no valid Unicode is painted and journalled like any other."""
    body = b'{"model": "%s", "prompt": "\\ud800 cat", "width": 200, "height": 200}' % SCHNELL.encode()
    assert 200 == rig.http.post("/images/generation", content=body).status_code
    assert "\ud800 cat" == _control(rig, "GET", "journal").json()["requests"][0]["prompt"]


def test_inference_times_follow_the_model_and_the_seed(start):
    """Inference times scatter around the model's median, the same for the same seed, and are told without a wait."""
    first, second = start(seed=3), start(seed=3)
    times = [[_inference_seconds(rig.ask()) for _ in range(50)] for rig in (first, second)]
    assert times[0] == times[1]
    assert 3.2 < statistics.median(times[0]) < 3.8
    assert min(times[0]) < 3 < 4 < max(times[0])


def test_latency_scales_the_wait(start):
    """With a latency factor, a reply takes that share of the inference time it tells."""
    rig = start(latency=0.05)
    started = time.monotonic()
    reply = rig.ask()
    assert time.monotonic() - started >= 0.05 * _inference_seconds(reply)


def _inference_seconds(reply):
    return reply.json()["data"][0]["timings"]["inference"]


def _control(rig, method, name):
    url = rig.emulator.base_url.removesuffix("/api/v1") + f"/_emulator/{name}"
    return httpx.request(method, url, trust_env=False)
