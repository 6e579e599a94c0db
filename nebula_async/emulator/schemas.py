"""What the emulator reads and writes, as JSON Schemas under the names that code generated from them will bear."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from nebula_async.emulator.catalogue import MODELS, Model
from nebula_async.emulator.codes import CODES
from nebula_async.emulator.fields import Field
from nebula_async.emulator.inference import INFERENCE_FIELDS
from nebula_async.emulator.validation import SERVERLESS_FIELDS

Schema = dict[str, object]

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGP4DwABAQEAG7buVgAAAABJRU5ErkJggg=="
"""A picture small enough for an example: one white pixel."""

# No keyword says "a picture", so a format of our own names what a pattern only begins to check: base64, of what begins
# like a PNG, JPEG or WebP file. The look-ahead keeps tools from making up texts that fit and hold no picture.
PICTURE: Schema = {
    "format": "picture",
    "pattern": "^(?=[A-Za-z0-9+/]+={0,2}$)(iVBORw0KGgo|/9j/|UklGR)",
    "examples": [PIXEL],
}
PICTURES_OF_KINDS: Mapping[str, tuple[str, ...]] = {
    "TextToImage": (),
    "ImageToImage": ("image",),
    "Inpainting": ("image", "mask"),
}
"""The kinds of models, by the pictures that they take."""


def make_schemas() -> dict[str, Schema]:
    """Return every schema by its name."""
    return dict((*_serverless_requests(), *_serverless_replies(), *_inference(), *_account(), *_refusals()))


def refer(name: str) -> Schema:
    """Return a reference to the schema of this name."""
    return {"$ref": f"#/components/schemas/{name}"}


def _serverless_requests() -> Iterator[tuple[str, Schema]]:
    kinds = {f"{kind}Request": ("model", kind) for kind in PICTURES_OF_KINDS}
    kinds |= {f"Legacy{kind}Request": ("model_name", kind) for kind in PICTURES_OF_KINDS}
    yield "ServerlessImagesRequest", {"anyOf": [refer(name) for name in kinds]}
    for name, (spelling, kind) in kinds.items():
        yield name, _serverless_request(spelling, PICTURES_OF_KINDS[kind])


def _serverless_request(spelling: str, pictures: tuple[str, ...]) -> Schema:
    models = [model for model in MODELS.values() if pictures == tuple(filter(model.honours, ("image", "mask")))]
    required = {spelling, *(field.name for field in SERVERLESS_FIELDS if field.required)}
    required |= {"image"} if models[0].needs_image else set()
    fields = {field.name: _field(field, required) for field in SERVERLESS_FIELDS}
    fields |= {name: {**fields[name], **PICTURE} for name in pictures}
    if pictures:
        fields[spelling] = {**fields[spelling], "enum": [model.id for model in models]}
    if spelling == "model_name":
        fields["model"] = {"type": "null"}
    titles = ", ".join(model.title for model in models)
    spelled = "" if spelling == "model" else ", in its older spelling"
    return {**_record(f"A request to {titles}{spelled}.", fields, required), **({} if pictures else _wordless(spelling, models))}


def _wordless(spelling: str, models: Sequence[Model]) -> Schema:
    able = [model.id for model in models if model.answers_empty_prompt]
    if len(able) == len(models):
        return {"properties": {spelling: {"enum": able}}}
    return {
        "if": {"properties": {"prompt": {"const": ""}}},
        "then": {"properties": {spelling: {"enum": able}}},
        "else": {"properties": {spelling: {"enum": [model.id for model in models]}}},
    }


def _serverless_replies() -> Iterator[tuple[str, Schema]]:
    yield "ServerlessImages", _record(
        "Pictures, as dialect A sends them.",
        {
            "model": _text("The model that made them."),
            "object": {"const": "list"},
            "data": _list(refer("ServerlessImage"), at_least=1),
            "message": _text(),
            "status": {"const": "success"},
        },
    )
    yield "ServerlessImage", _record(
        "One picture.",
        {
            "timings": _record("How long it took.", {"inference": _number("In seconds.")}),
            "index": _integer("Its place among the pictures of this reply, from 0."),
            "b64_json": _text("The file of the picture, in base64."),
        },
    )


def _inference() -> Iterator[tuple[str, Schema]]:
    required = {field.name for field in INFERENCE_FIELDS if field.required}
    fields = {field.name: _field(field, required) for field in INFERENCE_FIELDS}
    yield "GenerateImageRequest", _record("A request for pictures in dialect B.", fields, required)
    images = {"images": _list(refer("GeneratedImage"), at_least=1), "usage": refer("ImageUsage")}
    yield "GeneratedImages", _record(
        "Pictures, as dialect B sends them.", {"status": {"const": "success"}, "data": _record("", images)}
    )
    yield "GeneratedImage", _record(
        "One picture: by its URL or, where `b64_json` was asked for, in full.",
        {
            "url": _text("Where its file can be fetched, without a key, for an hour.", type=["string", "null"]),
            "b64_json": _text("The file of the picture, in base64.", type=["string", "null"]),
        },
    )
    yield "ImageUsage", _record(
        "What was made.", {"images_generated": _integer("How many pictures."), "resolution": _text("WIDTHxHEIGHT.")}
    )


def _account() -> Iterator[tuple[str, Schema]]:
    said = {"message": _text(), "status": {"const": "success"}}
    yield "Models", _record("The models.", {"data": _record("", {"models": _list(refer("Model"))}), **said})
    yield "Model", _record("One model.", _model_fields())
    balance = _text("In USD, as a decimal number.", pattern=r"^-?[0-9]+\.[0-9]{5}$")
    yield "Credits", _record("The credit.", {"data": _record("", {"available_balance": balance}), **said})


def _model_fields() -> dict[str, Schema]:
    return {
        "model_name": _text("The id, which requests give as `model`."),
        "model_alias": _text("The name that the vendor's console shows."),
        "model_type": _text("What it makes.", enum=["Image", "Text", "Embedding"]),
        "context_length": _integer("Of a text model.", type=["integer", "null"]),
        "max_completion_tokens": _integer("Of a text model."),
        "description": _text(),
        "price": _number("In USD for one picture."),
        "huggingface_url": _text("Where the model is described."),
    }


def _refusals() -> Iterator[tuple[str, Schema]]:
    yield "ServerlessError", {"anyOf": [refer(name) for name in ("FailedReply", "DetailReply", "ErrorReply")]}
    failed = {"status": {"const": "failed"}, "message": _text(), "data": {"type": "null"}}
    yield "FailedReply", _record("A refusal in the platform's own words.", failed)
    yield "DetailReply", _record("A refusal in its other form, which the emulator is started with.", {"detail": _text()})
    yield "ValidationFailure", _record("What is wrong with a body.", {"detail": _list(refer("Problem"), at_least=1)})
    problem = {"loc": _list(_text()), "msg": _text(), "type": _text("What kind of error this is.")}
    yield "Problem", _record("What is wrong with one field, which is named last in `loc`.", problem)
    error = {
        "code": _text(f"Such as {', '.join(f'`{code}`' for code in CODES)}."),
        "message": _text(),
        "details": {"type": "object", "description": "More about it.", "additionalProperties": True},
    }
    coded = {"status": {"const": "error"}, "error": _record("", error)}
    yield "ErrorReply", _record("A refusal with a code, as dialect B words it.", coded)


def _field(field: Field, required: Iterable[str]) -> Schema:
    # A default is told and not declared: generated code would take the field for one that is always there.
    default = "" if field.default is None else f" {field.default} unless given."
    limits = {"minimum": field.minimum, "maximum": field.maximum, "pattern": field.pattern}
    schema = {"type": field.type, "description": field.description + default}
    schema |= {keyword: value for keyword, value in limits.items() if value is not None}
    if field.name in required:
        return {**schema, **({"enum": list(field.enum)} if field.enum else {})}
    return {**schema, "type": [field.type, "null"], **({"enum": [*field.enum, None]} if field.enum else {})}


def _record(description: str, properties: Mapping[str, object], required: Iterable[str] | None = None) -> Schema:
    names = list(properties if required is None else filter(set(required).__contains__, properties))
    said = {"description": description} if description else {}
    return {"type": "object", **said, "properties": dict(properties), "required": names}


def _list(items: Schema, *, at_least: int = 0) -> Schema:
    return {"type": "array", "items": items, **({"minItems": at_least} if at_least else {})}


def _text(description: str = "", **more: object) -> Schema:
    return {"type": "string", **({"description": description} if description else {}), **more}


def _integer(description: str, **more: object) -> Schema:
    return {"type": "integer", "description": description, "minimum": 0, **more}


def _number(description: str) -> Schema:
    return {"type": "number", "description": description, "minimum": 0}
