"""The OpenAPI document of the emulator, held against what the emulator does."""

import base64
import io
import json

import jsonschema_rs
import pytest
import schemathesis
from hypothesis import strategies
from PIL import Image

from nebula_async.emulator import Emulator
from nebula_async.emulator.catalogue import INFERENCE_MODELS, MODELS
from nebula_async.emulator.openapi import document

SERVERLESS = "/api/v1/images/generation"
INFERENCE = "/v1/images/generate"
SCHNELL = "black-forest-labs/FLUX.1-schnell"
SEEDREAM = "Bytedance/seedream-3-0-t2i-250415"
FILL = "black-forest-labs/FLUX.1-Fill-dev"
KONTEXT = "black-forest-labs/FLUX.1-Kontext-dev"

DOCUMENT = document("http://127.0.0.1")
CONFIG = {"generation": {"max-examples": 25, "deterministic": True, "database": "none"}}
QUICK = {SERVERLESS: {"width": 16, "height": 16}, INFERENCE: {"model": "dall-e-3", "size": "16x16"}}

schema = schemathesis.openapi.from_dict(DOCUMENT, config=schemathesis.Config.from_dict(CONFIG))


def _file(file_format):
    file = io.BytesIO()
    Image.new("RGB", (8, 8), "white").save(file, file_format)
    return base64.b64encode(file.getvalue()).decode()


PICTURES = {name: _file(name) for name in ("png", "jpeg", "webp")}
schemathesis.openapi.format("picture", strategies.sampled_from(list(PICTURES.values())))


@pytest.fixture(scope="module")
def rich():
    """Start an emulator whose account can pay for any number of pictures that a fuzzer thinks of."""
    with Emulator(credit=10**60) as emulator:
        yield emulator


def _answer(case, emulator):
    """Check that what the document allows is accepted, what it forbids is refused, and that it describes the reply."""
    if case.meta.generation.mode.is_positive and isinstance(case.body, dict):
        # Large pictures take long to paint, and of a made-up model there are none; both are tested below.
        case.body |= QUICK[case.path]
    origin = emulator.base_url.removesuffix("/api/v1")
    case.call_and_validate(base_url=origin, headers={"Authorization": f"Bearer {emulator.key}"})


# One function for each operation: made by a single one, all their tests would have the same name.


@schema.include(path=SERVERLESS, method="POST").parametrize()
def test_dialect_a_answers_as_the_document_says(case, rich):
    """Whatever request for pictures of dialect A a fuzzer makes of the document, it is answered as described."""
    _answer(case, rich)


@schema.include(path=INFERENCE).parametrize()
def test_dialect_b_answers_as_the_document_says(case, rich):
    """Whatever request for pictures of dialect B a fuzzer makes of the document, it is answered as described."""
    _answer(case, rich)


@schema.include(path="/api/v1/serverless/models").parametrize()
def test_the_models_are_listed_as_the_document_says(case, rich):
    """The list of models is what the document describes, and nothing else can be done with it."""
    _answer(case, rich)


@schema.include(path="/api/v1/users/credits").parametrize()
def test_the_credit_is_told_as_the_document_says(case, rich):
    """The credit is told as the document describes it, and nothing else can be done with it."""
    _answer(case, rich)


def test_the_document_is_valid():
    """Every tool that reads OpenAPI 3.1 can read the document."""
    schema.validate()


def test_the_document_is_served_at_the_origin(rig):
    """Whoever has a URL of the emulator can fetch the document without a key, and it names the server it came from."""
    origin = rig.emulator.base_url.removesuffix("/api/v1")
    served = rig.stranger.get(f"{origin}/openapi.json").json()
    assert document(origin) == served
    assert [{"url": origin}] == served["servers"]


def test_get_is_described_as_post_is():
    """Whoever asks by GET, as the vendor's samples do, finds the same request and the same replies as for POST."""
    methods = DOCUMENT["paths"][SERVERLESS]
    assert {"get", "post"} == set(methods)
    assert methods["get"]["deprecated"]
    for part in ("requestBody", "responses"):
        assert methods["post"][part] == methods["get"][part]


def test_the_operations_keep_their_names():
    """Code generated from the document keeps the names it calls."""
    operations = {
        (method, path): operation["operationId"]
        for path, methods in DOCUMENT["paths"].items()
        for method, operation in methods.items()
    }
    expected = {
        ("post", SERVERLESS): "generateServerlessImages",
        ("get", SERVERLESS): "generateServerlessImagesByGet",
        ("post", INFERENCE): "generateImage",
        ("get", "/api/v1/serverless/models"): "listModels",
        ("get", "/api/v1/users/credits"): "getCredits",
    }
    assert expected == operations


def _assert_described(path, reply):
    method = reply.request.method
    assert str(reply.status_code) in DOCUMENT["paths"][path][method.lower()]["responses"]
    schema[path][method].validate_response(reply)


def _validator(name):
    return jsonschema_rs.Draft202012Validator(
        {"$ref": f"#/components/schemas/{name}", "components": DOCUMENT["components"]}
    )


FAULTS = {status: ({"faults": f"{status}:1"}, {}) for status in (408, 413, 429, 502, 503, 504)}
SERVERLESS_REPLIES = {
    **FAULTS,
    200: ({}, {}),
    400: ({}, {"model": "nobody/knows"}),
    402: ({"credit": "0"}, {}),
    422: ({}, {"width": 0}),
    500: ({}, {"model": SEEDREAM, "prompt": ""}),
}
INFERENCE_REPLIES = {
    **FAULTS,
    200: ({}, {}),
    400: ({}, {"prompt": ""}),
    402: ({"credit": "0"}, {}),
    404: ({}, {"model": "nobody/knows"}),
    500: ({"faults": "500:1"}, {}),
}
BAD_KEYS = {SERVERLESS: {"nonsense": 401, "sk-unknown": 404}, INFERENCE: {"nonsense": 401, "sk-unknown": 401}}


@pytest.mark.parametrize("error_body", ["status", "detail"])
@pytest.mark.parametrize("status", SERVERLESS_REPLIES)
def test_every_status_of_dialect_a_is_described(start, status, error_body):
    """Each status of dialect A comes with the body and the headers that the document promises."""
    options, fields = SERVERLESS_REPLIES[status]
    reply = start(**options, error_body=error_body).ask(**fields)
    assert status == reply.status_code
    _assert_described(SERVERLESS, reply)


@pytest.mark.parametrize("status", INFERENCE_REPLIES)
def test_every_status_of_dialect_b_is_described(start, status):
    """Each status of dialect B comes with the body and the headers that the document promises."""
    options, fields = INFERENCE_REPLIES[status]
    reply = start(**options).infer(**fields)
    assert status == reply.status_code
    _assert_described(INFERENCE, reply)


@pytest.mark.parametrize("key", ["nonsense", "sk-unknown"])
def test_refused_keys_are_described(rig, key):
    """What each dialect says to a bad key stands in the document."""
    rig.http.headers["Authorization"] = f"Bearer {key}"
    for path, reply in ((SERVERLESS, rig.ask()), (INFERENCE, rig.infer())):
        assert BAD_KEYS[path][key] == reply.status_code
        _assert_described(path, reply)


@pytest.mark.parametrize(
    ("path", "replies"), [(SERVERLESS, SERVERLESS_REPLIES), (INFERENCE, INFERENCE_REPLIES)], ids=["A", "B"]
)
def test_no_other_status_is_described(path, replies):
    """The document promises no status that cannot come."""
    possible = {*replies, *BAD_KEYS[path].values()}
    assert possible == {int(status) for status in DOCUMENT["paths"][path]["post"]["responses"]}


@pytest.mark.parametrize("fault", ["429=rate_limit_exceeded:1", "500=insufficient_quota:1", "502=unknown:1"])
def test_refusals_with_a_code_are_described(start, fault):
    """An error code may come with any status that the document has, in either dialect."""
    rig = start(faults=fault)
    _assert_described(SERVERLESS, rig.ask())
    _assert_described(INFERENCE, rig.infer())


@pytest.mark.parametrize("retry_after", ["seconds", "http-date", "ms"])
def test_hints_when_to_come_again_are_described(start, retry_after):
    """Each header that can come with a 429 stands in the document."""
    rig = start(per_minute=1, retry_after=retry_after)
    _, reply = rig.ask(), rig.ask()
    hints = {name for name in reply.headers if name.startswith("retry-after")}
    described = DOCUMENT["paths"][SERVERLESS]["post"]["responses"]["429"]["headers"]
    assert 1 == len(hints)
    assert hints < {name.lower() for name in described}


@pytest.mark.parametrize(("path", "schema_name"), [(SERVERLESS, "ServerlessImages"), (INFERENCE, "GeneratedImages")])
def test_the_documented_samples_fit(rig, path, schema_name):
    """The vendor's sample requests are answered as described, and the vendor's sample reply is described as well."""
    operation = DOCUMENT["paths"][path]["post"]
    for sample in operation["requestBody"]["content"]["application/json"]["examples"].values():
        origin = rig.emulator.base_url.removesuffix("/api/v1")
        reply = rig.http.post(f"{origin}{path}", json=sample["value"])
        assert 200 == reply.status_code
        _assert_described(path, reply)
    _validator(schema_name).validate(operation["responses"]["200"]["content"]["application/json"]["example"])


@pytest.mark.parametrize("spelling", ["model", "model_name"])
@pytest.mark.parametrize("model", MODELS)
def test_every_model_can_be_asked(rig, model, spelling):
    """Each model of dialect A can be asked as the document describes it, in both spellings."""
    pictures = {"image": PICTURES["png"], "mask": PICTURES["png"]} if MODELS[model].needs_image else {}
    body = {spelling: model, "prompt": "a cat", "width": 16, "height": 16, **pictures}
    _validator("ServerlessImagesRequest").validate(body)
    assert 200 == rig.http.post("/images/generation", json=body).status_code


@pytest.mark.parametrize("model", INFERENCE_MODELS)
def test_every_model_of_dialect_b_can_be_asked(rig, model):
    """Each model of dialect B can be asked as the document describes it."""
    body = {"model": model, "prompt": "a cat", "size": "16x16"}
    _validator("GenerateImageRequest").validate(body)
    assert 200 == rig.post(json.dumps(body)).status_code


@pytest.mark.parametrize("file_format", PICTURES)
def test_pictures_are_described(rig, file_format):
    """A picture of each format can be sent as the document describes it, for the picture and for the mask."""
    body = {"model": FILL, "prompt": "a cat", "image": PICTURES[file_format], "mask": PICTURES[file_format]}
    _validator("ServerlessImagesRequest").validate(body)
    assert 200 == rig.ask(**body).status_code


@pytest.mark.parametrize("image", ["", "not base64!", "bm8gcGljdHVyZQ==", f"data:image/png;base64,{PICTURES['png']}"])
def test_what_is_no_picture_is_not_described(rig, image):
    """What holds no picture is neither described nor accepted."""
    body = {"model": KONTEXT, "prompt": "a cat", "image": image}
    assert not _validator("ServerlessImagesRequest").is_valid(body)
    assert 422 == rig.ask(**body).status_code


@pytest.mark.parametrize(
    ("prompt", "model", "described"), [("", SCHNELL, True), ("", SEEDREAM, False), (" ", SEEDREAM, True)]
)
def test_empty_prompts_are_described(rig, prompt, model, described):
    """An empty prompt is described for the models that answer it, and for no other."""
    body = {"model": model, "prompt": prompt}
    assert described == _validator("ServerlessImagesRequest").is_valid(body)
    assert described == (200 == rig.ask(**body).status_code)


@pytest.mark.parametrize("side", [0, 1, 1.0, 1.5, 4096, 4097, "16", None])
def test_sizes_are_described(rig, side):
    """A size is accepted exactly if the document allows it."""
    body = {"model": SCHNELL, "prompt": "a cat", "width": side, "height": 16}
    allowed = _validator("ServerlessImagesRequest").is_valid(body)
    assert allowed == (200 == rig.http.post("/images/generation", json=body).status_code)


@pytest.mark.parametrize("size", ["0x16", "1x1", "4096x1", "16x4097", "016x16", "16x16\n", "16 x 16", "16", "", None])
def test_sizes_of_dialect_b_are_described(rig, size):
    """A size of dialect B is accepted exactly if the document allows it."""
    body = {"model": "sdxl", "prompt": "a cat", "size": size}
    allowed = _validator("GenerateImageRequest").is_valid(body)
    assert allowed == (200 == rig.post(json.dumps(body)).status_code)


def test_what_has_a_default_may_be_left_out():
    """Code generated from the document demands a model and a prompt and nothing else that has a default."""
    schemas = DOCUMENT["components"]["schemas"]
    assert ["model", "prompt"] == schemas["GenerateImageRequest"]["required"]
    assert ["model", "prompt"] == schemas["TextToImageRequest"]["required"]
    # Generators take a property with a default for one that is always there.
    assert "'default':" not in str(schemas)
