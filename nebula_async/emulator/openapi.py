"""The OpenAPI document of the emulator: its operations, and every status that they answer."""

from collections.abc import Mapping

from nebula_async.emulator.journal import INFERENCE_PATH, SERVERLESS_PATH
from nebula_async.emulator.schemas import PIXEL, Schema, make_schemas, refer

Part = dict[str, object]

OVERVIEW = """\
A local Nebula Block: both dialects of its image API, its list of models, and the credit of one account.

Unknown fields of a request are ignored, and null means that a field is left out. Dialect A is served at its path
doubled as well, `/api/v1/api/v1/images/generation`, because the vendor's samples write it so. Pictures are fetched from
another origin, which their URLs name. Faults that the emulator was started with can answer with any other status and
body, or not at all.
"""
NO_HINTS: Mapping[str, Part] = {}
REQUEST_ID: Mapping[str, Part] = {
    "X-Request-Id": {"description": "Names this request.", "required": True, "schema": {"type": "string"}},
}
RETRY_AFTER: Mapping[str, Part] = {
    "Retry-After": {
        "description": "When to come again, in seconds or as a date, if the emulator was started so.",
        "schema": {"type": "string"},
    },
    "Retry-After-Ms": {
        "description": "When to come again, in milliseconds, if the emulator was started so.",
        "schema": {"type": "integer", "minimum": 1},
    },
}
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
SERVERLESS_REPLY = {
    "model": "black-forest-labs/FLUX.1-schnell",
    "object": "list",
    "data": [{"timings": {"inference": 13.366829872131348}, "index": 0, "b64_json": PIXEL}],
    "message": "Image generated successfully",
    "status": "success",
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
INFERENCE_REPLY = {
    "status": "success",
    "data": {
        "images": [{"url": "https://storage.nebulablock.com/generated/abc123.png", "b64_json": None}],
        "usage": {"images_generated": 1, "resolution": "1024x1024"},
    },
}
KEY_REFUSALS = {401: "The key is missing or malformed.", 404: "The key is not known."}
BODY_REFUSALS = {408: "The body did not arrive in time.", 413: "The body is too large."}
LIMIT_REFUSALS = {402: "The credit does not cover the price.", 429: "The account has used up what its tier allows."}
OUTAGES = {503: "The service is not available.", 504: "The service did not answer in time."}
SERVERLESS_REFUSALS = {
    400: "There is no such model.",
    500: "The model failed, as Seedream does with an empty prompt.",
    **KEY_REFUSALS,
    **BODY_REFUSALS,
    **LIMIT_REFUSALS,
    **OUTAGES,
}
INFERENCE_REFUSALS = {
    400: "A field is wrong, or the prompt is against the content policy.",
    401: "The key is missing or not known.",
    404: "There is no such model.",
    500: "The service failed.",
    **BODY_REFUSALS,
    **LIMIT_REFUSALS,
    **OUTAGES,
}


def document(server_url: str) -> dict[str, object]:
    """Return the OpenAPI 3.1 document of an emulator, given its origin: its URL without `/api/v1`."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "Nebula Block image API, emulated", "version": "1", "description": OVERVIEW},
        "servers": [{"url": server_url}],
        "security": [{"key": []}],
        "paths": {
            SERVERLESS_PATH: {"post": _generate_serverless_images(), "get": _generate_by_get()},
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
        "summary": "Make pictures, in dialect A.",
        "requestBody": _body("ServerlessImagesRequest", SERVERLESS_EXAMPLES),
        "responses": {
            "200": _reply("The pictures.", refer("ServerlessImages"), SERVERLESS_REPLY),
            **_refusals(SERVERLESS_REFUSALS, "ServerlessError"),
            "422": _reply("A field is missing or wrong.", refer("ValidationFailure")),
            "502": _gateway_failure("ServerlessError"),
        },
    }


def _generate_by_get() -> Part:
    return {
        **_generate_serverless_images(),
        "operationId": "generateServerlessImagesByGet",
        "summary": "Make pictures as the vendor's samples ask for them, by GET with a body.",
        "description": "Served for those samples alone. HTTP gives the body of a GET no meaning; use POST.",
        "deprecated": True,
    }


def _generate_image() -> Part:
    return {
        "operationId": "generateImage",
        "summary": "Make pictures, in dialect B.",
        "requestBody": _body("GenerateImageRequest", INFERENCE_EXAMPLES),
        "responses": {
            "200": _reply("The pictures, or their URLs.", refer("GeneratedImages"), INFERENCE_REPLY),
            **_refusals(INFERENCE_REFUSALS, "ErrorReply"),
            "502": _gateway_failure("ErrorReply"),
        },
    }


def _read(operation: str, summary: str, schema: str) -> Part:
    replies = {"200": _reply("As asked for.", refer(schema)), **_refusals(KEY_REFUSALS, "ServerlessError")}
    return {"operationId": operation, "summary": summary, "responses": replies}


def _body(schema: str, examples: Mapping[str, object]) -> Part:
    named = {name: {"value": value} for name, value in examples.items()}
    return {"required": True, "content": {"application/json": {"schema": refer(schema), "examples": named}}}


def _reply(description: str, schema: Schema, example: object = None, *, hints: Mapping[str, Part] = NO_HINTS) -> Part:
    content = {"schema": schema, **({} if example is None else {"example": example})}
    return {"description": description, "headers": {**REQUEST_ID, **hints}, "content": {"application/json": content}}


def _refusals(descriptions: Mapping[int, str], schema: str) -> dict[str, Part]:
    return {
        str(status): _reply(text, refer(schema), hints=RETRY_AFTER if status == 429 else NO_HINTS)
        for status, text in sorted(descriptions.items())
    }


def _gateway_failure(schema: str) -> Part:
    reply = _reply("A gateway in front of the service failed.", refer(schema))
    page = {"text/html": {"schema": {"type": "string"}}}
    return {**reply, "content": {**page, "application/json": {"schema": refer(schema)}}}
