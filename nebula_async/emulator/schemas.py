"""What the emulator reads and writes, as JSON Schemas by the names that code generated from them will bear."""

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence

from nebula_async.emulator.catalogue import INFERENCE_MODELS, MODELS, Model
from nebula_async.emulator.codes import CODES
from nebula_async.emulator.fields import Field
from nebula_async.emulator.inference import INFERENCE_FIELDS
from nebula_async.emulator.validation import SERVERLESS_FIELDS

Schema = dict[str, object]

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGP4DwABAQEAG7buVgAAAABJRU5ErkJggg=="
"""A picture small enough for an example: one white pixel."""

# No keyword says "a picture". A format of our own names it, and a pattern demands base64 of what begins like a PNG,
# JPEG or WebP file. Its look-ahead is there for fuzzers: they would make up texts that fit, and that hold no picture.
PICTURE: Schema = {
    "format": "picture",
    "pattern": "^(?=[A-Za-z0-9+/]+={0,2}$)(iVBORw0KGgo|/9j/|UklGR)",
    "examples": [PIXEL],
}
KINDS: Mapping[str, tuple[str, ...]] = {"TextToImage": (), "ImageToImage": ("image",), "Inpainting": ("image", "mask")}
"""The kinds of models, by the pictures that they take."""


def make_schemas() -> dict[str, Schema]:
    """Return every schema by its name."""
    return dict((*_serverless_requests(), *_serverless_replies(), *_inference(), *_account(), *_refusals()))


def refer(name: str) -> Schema:
    """Return a reference to the schema of this name."""
    return {"$ref": f"#/components/schemas/{name}"}


def _serverless_requests() -> Iterator[tuple[str, Schema]]:
    forms = {f"{kind}Request": ("model", pictures) for kind, pictures in KINDS.items()}
    forms |= {f"Legacy{kind}Request": ("model_name", pictures) for kind, pictures in KINDS.items()}
    yield "ServerlessImagesRequest", {"anyOf": [refer(name) for name in forms]}
    for name, (spelling, pictures) in forms.items():
        yield name, _serverless_request(spelling, pictures)


def _serverless_request(spelling: str, pictures: tuple[str, ...]) -> Schema:
    models = [model for model in MODELS.values() if pictures == tuple(filter(model.honours, ("image", "mask")))]
    required = {spelling, *_required(SERVERLESS_FIELDS), *pictures[:1]}
    fields = {field.name: _field(field, required) for field in SERVERLESS_FIELDS}
    fields |= {name: {**fields[name], **PICTURE} for name in pictures}
    if spelling == "model_name":
        fields["model"] = {"type": "null", "description": "Left out, as `model_name` stands in its place."}
    description = f"A request to {' or '.join(model.title for model in models)}."
    if all(model.answers_empty_prompt for model in models):
        fields[spelling]["enum"] = [model.id for model in models]
        return _record(description, fields, required)
    return {**_record(description, fields, required), **_models_by_prompt(spelling, models)}


def _models_by_prompt(spelling: str, models: Sequence[Model]) -> Schema:
    # A condition, and in this place, because fuzzers break it without naming a model that there is. With an enum of the
    # model, or with the condition beside the properties, they would find the server error that is Seedream's answer to
    # an empty prompt.
    able = [model.id for model in models if model.answers_empty_prompt]
    by_prompt = {
        "if": {"properties": {"prompt": {"const": ""}}},
        "then": {"properties": {spelling: {"enum": able}}},
        "else": {"properties": {spelling: {"enum": [model.id for model in models]}}},
    }
    return {"dependentSchemas": {"prompt": by_prompt}}


def _serverless_replies() -> Iterator[tuple[str, Schema]]:
    yield (
        "ServerlessImages",
        _record(
            "Pictures, as dialect A sends them.",
            {
                "model": _text("The model that made them."),
                "object": {"const": "list"},
                "data": _list(refer("ServerlessImage"), at_least=1),
                **_success(),
            },
        ),
    )
    yield (
        "ServerlessImage",
        _record(
            "One picture.",
            {
                "timings": _record("How long it took.", {"inference": _number("In seconds.")}),
                "index": _integer("Its place among the pictures of this reply, from 0."),
                "b64_json": _text("The file of the picture, in base64."),
            },
        ),
    )


def _inference() -> Iterator[tuple[str, Schema]]:
    required = _required(INFERENCE_FIELDS)
    fields = {field.name: _field(field, required) for field in INFERENCE_FIELDS}
    fields["model"]["examples"] = list(INFERENCE_MODELS)
    yield "GenerateImageRequest", _record("A request for pictures in dialect B.", fields, required)
    images = {"images": _list(refer("GeneratedImage"), at_least=1), "usage": refer("ImageUsage")}
    yield (
        "GeneratedImages",
        _record("Pictures, as dialect B sends them.", {"status": {"const": "success"}, "data": _record("", images)}),
    )
    yield (
        "GeneratedImage",
        _record(
            "One picture: by its URL or, where `b64_json` was asked for, in full.",
            {
                "url": _nullable(_text("Where its file can be fetched, without a key, for an hour.")),
                "b64_json": _nullable(_text("The file of the picture, in base64.")),
            },
        ),
    )
    yield (
        "ImageUsage",
        _record(
            "What was made.", {"images_generated": _integer("How many pictures."), "resolution": _text("WIDTHxHEIGHT.")}
        ),
    )


def _account() -> Iterator[tuple[str, Schema]]:
    # In an anyOf, because schemathesis puts the `model_name` of a plain list into requests, whatever else is in them:
    # an empty prompt, which Seedream answers with a server error.
    listed = _list({"anyOf": [refer("Model")]})
    yield "Models", _record("The models.", {"data": _record("", {"models": listed}), **_success()})
    yield "Model", _record("One model.", _listing())
    balance = _text("In USD, as a decimal number.", pattern=r"^-?[0-9]+\.[0-9]{5}$")
    yield "Credits", _record("The credit.", {"data": _record("", {"available_balance": balance}), **_success()})


def _listing() -> dict[str, Schema]:
    return {
        "model_name": _text("The id, which requests give as `model`."),
        "model_alias": _text("The name that the vendor's console shows."),
        "model_type": _text("What it makes.", enum=["Image", "Text", "Embedding"]),
        "context_length": _nullable(_integer("Of a text model.")),
        "max_completion_tokens": _integer("Of a text model."),
        "description": _text(),
        "price": _number("In USD for one picture."),
        "huggingface_url": _text("Where the model is described."),
    }


def _refusals() -> Iterator[tuple[str, Schema]]:
    yield "ServerlessError", {"anyOf": [refer(name) for name in ("FailedReply", "DetailReply", "ErrorReply")]}
    failed = {"status": {"const": "failed"}, "message": _text(), "data": {"type": "null"}}
    yield "FailedReply", _record("A refusal in the platform's envelope.", failed)
    yield "DetailReply", _record("The same in the other envelope, if the emulator was started so.", {"detail": _text()})
    error = {
        "code": _text(f"Such as {', '.join(f'`{code}`' for code in CODES)}."),
        "message": _text(),
        "details": {"type": "object", "description": "More about it.", "additionalProperties": True},
    }
    coded = {"status": {"const": "error"}, "error": _record("", error)}
    yield "ErrorReply", _record("A refusal with a code, as dialect B words it.", coded)
    yield "ValidationFailure", _record("What is wrong with a body.", {"detail": _list(refer("Problem"), at_least=1)})
    problem = {"loc": _list(_text()), "msg": _text(), "type": _text("What kind of error it is.")}
    yield "Problem", _record("What is wrong with one field, which `loc` names last.", problem)


def _required(table: Iterable[Field]) -> set[str]:
    return {field.name for field in table if field.required}


def _field(field: Field, required: Container[str]) -> Schema:
    # A default is told, not declared: generated code would take a field that has one for a field that is always there.
    default = "" if field.default is None else f" `{field.default}` unless given."
    limits = {"minimum": field.minimum, "maximum": field.maximum, "pattern": field.pattern}
    schema: Schema = {"type": field.type, "description": field.description + default}
    schema |= {keyword: limit for keyword, limit in limits.items() if limit is not None}
    schema |= {"enum": list(field.enum)} if field.enum else {}
    return schema if field.name in required else _nullable(schema)


def _nullable(schema: Schema) -> Schema:
    enum = schema.get("enum")
    return {**schema, "type": [schema["type"], "null"], **({"enum": [*enum, None]} if isinstance(enum, list) else {})}


def _record(description: str, properties: Mapping[str, object], required: Container[str] | None = None) -> Schema:
    names = list(properties) if required is None else [name for name in properties if name in required]
    told = {"description": description} if description else {}
    return {"type": "object", **told, "properties": dict(properties), "required": names}


def _success() -> dict[str, Schema]:
    return {"message": _text(), "status": {"const": "success"}}


def _list(items: Schema, *, at_least: int = 0) -> Schema:
    return {"type": "array", "items": items, "minItems": at_least}


def _text(description: str = "", **more: object) -> Schema:
    return {"type": "string", **({"description": description} if description else {}), **more}


def _integer(description: str) -> Schema:
    return {"type": "integer", "description": description, "minimum": 0}


def _number(description: str) -> Schema:
    return {"type": "number", "description": description, "minimum": 0}
