"""One picture: an image request through the dialect and the engine, to a `Generation`."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

import anyio
from attrs import evolve, field, frozen

from nebula_async.api import serverless
from nebula_async.api.catalog import find_problems, price_of, with_seed
from nebula_async.api.headers import read_rate_limit, read_request_id
from nebula_async.api.messages import HttpRequest, Reply
from nebula_async.checks import shown
from nebula_async.engine.call import Caller, Completed
from nebula_async.errors import InvalidRequestError, NebulaError
from nebula_async.events import Failed, Generated, ParameterIgnored
from nebula_async.images.sources import encode_source
from nebula_async.offload import offload
from nebula_async.requests import KNOWN_FIELDS, ImageRequest
from nebula_async.results import Generation

MOST_TOLD = 1_000
"""A job of a hundred thousand requests says each problem once."""


@frozen
class Generator:
    """Generates pictures, one call each, in the task of whoever asks."""

    caller: Caller
    told: set[str] = field(factory=set)

    async def generate(self, request: ImageRequest, *, index: int = 0, is_patient: bool = False) -> Generation:
        """Generate a picture; observers hear how it ended. Raises the `NebulaError` of the call."""
        started = anyio.current_time()
        try:
            prepared = self._prepare(request)
            outgoing = await self._encode(prepared)
            done = await self.caller.call(outgoing, _reader(outgoing), is_patient=is_patient)
        except NebulaError as error:
            self.caller.notify(_failed(request, error, anyio.current_time() - started))
            raise
        generation = _generation(prepared, index, done)
        self.caller.notify(_generated(generation, anyio.current_time() - started))
        return generation

    def _prepare(self, request: ImageRequest) -> ImageRequest:
        rules = self.caller.config.parameter_rules
        problems = () if rules == "off" else find_problems(request)
        if problems and rules == "strict":
            raise InvalidRequestError("; ".join(problems))
        for problem in problems:
            self._tell_once(request.model, problem)
        return with_seed(request, self.caller.random) if self.caller.config.choose_seed else request

    def _tell_once(self, model: str, problem: str) -> None:
        if problem not in self.told and len(self.told) < MOST_TOLD:
            self.told.add(problem)
            self.caller.notify(ParameterIgnored(model=model, problem=problem))

    async def _encode(self, request: ImageRequest) -> HttpRequest:
        config = self.caller.config
        encode = partial(serverless.encode_request, base_url=config.base_url, model_field=config.model_field)
        if request.image is None:
            return encode(request)
        return await offload(_encode_with_pictures, encode, request)


def check_shared(parameters: Mapping[str, Any]) -> None:
    """Refuse what cannot be a parameter of every item. Raises `InvalidRequestError`."""
    allowed = KNOWN_FIELDS - {"prompt", "id"}
    if unknown := sorted(parameters.keys() - allowed):
        known = ", ".join(sorted(allowed))
        raise InvalidRequestError(f"{', '.join(unknown)} cannot be shared by all items; what can is {known}")


def fill_in(item: object, parameters: Mapping[str, Any]) -> ImageRequest:
    """Return a prompt, or a request, with the parameters that it leaves out. Raises `InvalidRequestError`."""
    given = {name: value for name, value in parameters.items() if value is not None}
    if isinstance(item, ImageRequest):
        return evolve(item, **{name: value for name, value in given.items() if getattr(item, name) is None})
    return ImageRequest.from_dict({"prompt": item, **given})


def likeness(item: object, parameters: Mapping[str, Any]) -> ImageRequest:
    """Return the request of an item, or the likeness of one that could not be made."""
    if isinstance(item, ImageRequest):
        return item
    try:
        return fill_in(item, parameters)
    except InvalidRequestError:
        return ImageRequest.refused(item if isinstance(item, str) else shown(item), parameters.get("model"))


def without_frames(error: NebulaError) -> NebulaError:
    """Return the error without tracebacks: whoever keeps it would keep each request and reply of the call with it."""
    link: BaseException | None = error
    while link is not None:
        link.__traceback__ = None
        link = link.__cause__ or link.__context__
    return error


def _encode_with_pictures(encode: Callable[..., HttpRequest], request: ImageRequest) -> HttpRequest:
    sources = {"image": request.image, "mask": request.mask}
    pictures = {name: encode_source(source, name) for name, source in sources.items() if source is not None}
    return encode(request, pictures=pictures)


def _reader(outgoing: HttpRequest) -> Callable[[Reply], Awaitable[serverless.Answer]]:
    async def read(reply: Reply) -> serverless.Answer:
        return await offload(partial(serverless.read_reply, reply, asked=outgoing.pictures, now=time.time()))

    return read


def _generation(request: ImageRequest, index: int, done: Completed[serverless.Answer]) -> Generation:
    answer = done.value
    price = price_of(request.model)
    return Generation(
        request=request,
        images=answer.images,
        index=index,
        model=answer.facts.model,
        message=answer.facts.message,
        usage=answer.facts.usage,
        inference_seconds=answer.inference_seconds,
        attempts=done.attempts,
        charges=done.charges,
        cost=None if price is None else price * len(answer.images),
        request_id=read_request_id(done.headers),
        idempotency_key=done.key,
        rate_limit=read_rate_limit(done.headers, now=time.time()),
        missing=answer.missing,
    )


def _generated(generation: Generation, seconds: float) -> Generated:
    return Generated(
        call=generation.idempotency_key or "",
        model=generation.request.model,
        pictures=len(generation.images),
        attempts=generation.attempts,
        charges=generation.charges,
        seconds=seconds,
    )


def _failed(request: ImageRequest, error: NebulaError, seconds: float) -> Failed:
    return Failed(
        call=error.idempotency_key,
        model=request.model,
        error=type(error).__name__,
        attempts=error.attempts,
        charges=error.charges,
        seconds=seconds,
    )
