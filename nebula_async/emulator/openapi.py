"""The OpenAPI document of the emulator."""

from collections.abc import Mapping

from nebula_async.emulator.journal import INFERENCE_PATH, SERVERLESS_PATH
from nebula_async.emulator.schemas import PIXEL, Schema, make_schemas, refer

Part = dict[str, object]

OVERVIEW = """\
A local Nebula Block: both dialects of its image API, the list of models, and the credit.

Unknown fields of a request are ignored, and null means that a field is left out. `GET` with a body at the same path, and
the path doubled to `/api/v1/api/v1/images/generation`, are answered like `POST /api/v1/images/generation`, because the
vendor's samples ask so; OpenAPI has no words for that. Faults that the emulator was started with may answer with other
statuses and bodies than stand here, or not at all.
"""
SERVERLESS_EXAMPLES = {
    "textToImage": {
        "model": "stabilityai/stable-diffusion-xl-base-1.0",
        "prompt": "insert your prompt here",
        "num_steps": 25,
        "guidance_scale": 9,
        "width": 1024,
        "height": 1024,
        "negative_prompt": None,
    },
    "imageToImage": {
        "model": "black-forest-labs/FLUX.1-Fill-dev",
        "prompt": "a red baseball cap",
        "num_steps": 40,
        "guidance_scale": 4.5,
        "width": 1024,
        "height": 1024,
        "image": PIXEL,
        "mask": PIXEL,
    },
}
INFERENCE_EXAMPLES = {
    "textToImage": {
        "model": "dall-e-3",
        "prompt": "A serene mountain lake at sunset",
        "n": 1,
        "size": "1024x1024",
        "quality": "hd",
        "style": "natural",
    },
}
SERVERLESS_REPLY = {
    "model": "black-forest-labs/FLUX.1-schnell",
    "object": "list",
    "data": [{"timings": {"inference": 13.366829872131348}, "index": 0, "b64_json": PIXEL}],
    "message": "Image generated successfully",
    "status": "success",
}
INFERENCE_REPLY = {
    "status": "success",
    "data": {
        "images": [{"url": "https://storage.nebulablock.com/generated/abc123.png", "b64_json": None}],
        "usage": {"images_generated": 1, "resolution": "1024x1024"},
    },
}
BAD_KEY = {401: "The key is missing or malformed.", 404: "The key is not known."}
BAD_UPLOAD = {408: "The body did not arrive within a minute.", 413: "The body is larger than 64 MiB."}
BAD_DAY = {503: "The service is not available.", 504: "The service did not answer in time."}
NO_CREDIT = "The credit does not cover the price."
TOO_MANY = "The account has asked for more pictures than its tier allows."
SERVERLESS_REFUSALS = {400: "There is no such model.", 402: NO_CREDIT, 429: TOO_MANY} | BAD_KEY | BAD_UPLOAD | BAD_DAY
SERVERLESS_REFUSALS |= {500: "The model failed, as Seedream does at an empty prompt."}
INFERENCE_REFUSALS = {
    400: "The request is wrong (`invalid_request`, `invalid_prompt`, `invalid_size`) or breaks the content policy.",
    401: "The key is missing or not known.",
    402: NO_CREDIT,
    404: "There is no such model.",
    429: TOO_MANY,
    500: "The service failed.",
    **BAD_UPLOAD,
    **BAD_DAY,
}


def document(server_url: str) -> dict[str, object]:
    """Return the OpenAPI 3.1 document of an emulator, given its origin: its URL without `/api/v1`."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "Nebula Block image API, emulated", "version": "1", "description": OVERVIEW},
        "servers": [{"url": server_url}],
        "security": [{"key": []}],
        "paths": {
            SERVERLESS_PATH: {"post": _generate_serverless_images(), "get": {**_generate_serverless_images(), "operationId": "generateServerlessImagesByGet"}},
            INFERENCE_PATH: {"post": _generate_image()},
            "/api/v1/serverless/models": {"get": _read("listModels", "List the models.", "Models")},
            "/api/v1/users/credits": {"get": _read("getCredits", "Tell the credit that is left.", "Credits")},
        },
        "components": {
            "schemas": make_schemas(),
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _generate_serverless_images() -> Part:
    return {
        "operationId": "generateServerlessImages",
        "summary": "Make pictures (dialect A).",
        "requestBody": _body("ServerlessImagesRequest", SERVERLESS_EXAMPLES),
        "responses": {
            "200": _reply("The pictures.", refer("ServerlessImages"), SERVERLESS_REPLY),
            **_refusals(SERVERLESS_REFUSALS, "ServerlessError"),
            "422": _reply("The body is not what it should be.", refer("ValidationFailure")),
            "502": _gateway("ServerlessError"),
        },
    }


def _generate_image() -> Part:
    return {
        "operationId": "generateImage",
        "summary": "Make pictures (dialect B).",
        "requestBody": _body("GenerateImageRequest", INFERENCE_EXAMPLES),
        "responses": {
            "200": _reply("The pictures, or their URLs.", refer("GeneratedImages"), INFERENCE_REPLY),
            **_refusals(INFERENCE_REFUSALS, "ErrorReply"),
            "502": _gateway("ErrorReply"),
        },
    }


def _read(operation: str, summary: str, schema: str) -> Part:
    replies = {"200": _reply(summary, refer(schema)), **_refusals(BAD_KEY, "ServerlessError")}
    return {"operationId": operation, "summary": summary, "responses": replies}


def _body(schema: str, examples: Mapping[str, object]) -> Part:
    named = {name: {"value": value} for name, value in examples.items()}
    return {"required": True, "content": {"application/json": {"schema": refer(schema), "examples": named}}}


def _reply(description: str, schema: Schema, example: object = None, *, status: int = 200) -> Part:
    content = {"schema": schema, **({} if example is None else {"example": example})}
    return {"description": description, "headers": _headers(status), "content": {"application/json": content}}


def _refusals(descriptions: Mapping[int, str], schema: str) -> dict[str, Part]:
    told = sorted(descriptions.items())
    return {str(status): _reply(text, refer(schema), status=status) for status, text in told}


def _gateway(schema: str) -> Part:
    reply = _reply("A gateway in front of the service failed.", refer(schema))
    return {**reply, "content": {"text/html": {"schema": {"type": "string"}}, "application/json": {"schema": refer(schema)}}}


def _headers(status: int) -> Part:
    headers: Part = {"X-Request-Id": {"description": "Names this request.", "required": True, "schema": {"type": "string"}}}
    if status == 429:
        told = "when the emulator was started so"
        headers["Retry-After"] = {"description": f"Seconds, or a date: {told}.", "schema": {"type": "string"}}
        headers["Retry-After-Ms"] = {"description": f"Milliseconds: {told}.", "schema": {"type": "integer", "minimum": 1}}
    return headers
