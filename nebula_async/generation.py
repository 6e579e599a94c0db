"""One picture: an image request through the dialect and the engine, to a `Generation`."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from os import PathLike
from typing import Any, TypeAlias

import anyio
import anyio.to_thread
import pybase64
from attrs import evolve, field, frozen

from nebula_async.api import serverless
from nebula_async.api.catalog import find_problems, price_of, with_seed
from nebula_async.api.headers import read_rate_limit, read_request_id
from nebula_async.api.messages import HttpRequest, Reply
from nebula_async.charges import Charges
from nebula_async.checks import shown
from nebula_async.engine.call import NO_JOURNAL, Caller, Completed
from nebula_async.engine.journal import AttemptJournal
from nebula_async.errors import DeadlineError, InvalidRequestError, NebulaError, RateLimitError, without_frames
from nebula_async.events import Failed, Generated, ParameterIgnored
from nebula_async.images.sources import read_source
from nebula_async.offload import offload
from nebula_async.requests import KNOWN_FIELDS, ImageRequest
from nebula_async.results import Failure, Generation

Pictures: TypeAlias = dict[str, bytes]
"""The pictures of a request by field, as they were given."""

MOST_TOLD = 1_000
"""A job of a hundred thousand requests says each problem once."""


@frozen
class Generator:
    """Generates pictures, one call each, in the task of whoever asks."""

    caller: Caller
    told: set[str] = field(factory=set)

    async def generate(
        self,
        request: ImageRequest,
        *,
        index: int = 0,
        is_patient: bool = False,
        journal: AttemptJournal = NO_JOURNAL,
    ) -> Generation:
        """Generate a picture; observers hear how it ended. Raises the `NebulaError` of the call."""
        started = anyio.current_time()
        try:
            prepared = self._prepare(request)
            pictures = await self._read_pictures(prepared)
            outgoing = await self._encode(prepared, pictures)
            done = await self.caller.call(outgoing, _reader(outgoing), is_patient=is_patient, journal=journal)
        except NebulaError as error:
            self.caller.notify(_failed(request, error, anyio.current_time() - started))
            raise
        generation = _generation(_with_bytes(prepared, pictures), index, done)
        self.caller.notify(_generated(generation, anyio.current_time() - started))
        return generation

    async def result(
        self, parameters: Mapping[str, Any], index: int, item: object, journal: AttemptJournal = NO_JOURNAL
    ) -> Generation | Failure:
        """Generate the picture of one item of many: it waits for the rate limit, and its failure is a value."""
        try:
            return await self.generate(fill_in(item, parameters), index=index, is_patient=True, journal=journal)
        except NebulaError as error:
            return Failure(request=likeness(item, parameters), error=without_frames(error), index=index)

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

    async def _read_pictures(self, request: ImageRequest) -> Pictures:
        if request.image is None:
            return {}
        total = self.caller.config.timeouts.total
        with anyio.move_on_after(total):  # the thread of a source that never ends is left to itself
            return await anyio.to_thread.run_sync(_read_pictures, request, abandon_on_cancel=True)
        raise DeadlineError(f"the given pictures could not be read within {total:g} s; nothing was sent")

    async def _encode(self, request: ImageRequest, pictures: Pictures) -> HttpRequest:
        config = self.caller.config
        encode = partial(serverless.encode_request, base_url=config.base_url, model_field=config.model_field)
        return await offload(_encode, encode, request, pictures) if pictures else encode(request)


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


def end_of_day(result: Generation | Failure) -> RateLimitError | None:
    """Return the error that ends a run of many after this result, if the daily quota is used up."""
    error = result.error if isinstance(result, Failure) else None
    if not isinstance(error, RateLimitError) or not error.is_daily:
        return None
    return evolve(error, attempts=0, charges=Charges(), idempotency_key=None)


def likeness(item: object, parameters: Mapping[str, Any]) -> ImageRequest:
    """Return the request of an item, or the likeness of one that could not be made."""
    if isinstance(item, ImageRequest):
        return item
    try:
        return fill_in(item, parameters)
    except InvalidRequestError:
        return ImageRequest.refused(item if isinstance(item, str) else shown(item), parameters.get("model"))


def _read_pictures(request: ImageRequest) -> Pictures:
    sources = {"image": request.image, "mask": request.mask}
    return {name: read_source(source, name) for name, source in sources.items() if source is not None}


def _encode(encode: Callable[..., HttpRequest], request: ImageRequest, pictures: Pictures) -> HttpRequest:
    texts = {name: pybase64.b64encode_as_string(data) for name, data in pictures.items()}
    return encode(request, pictures=texts)


def _with_bytes(request: ImageRequest, pictures: Pictures) -> ImageRequest:
    """Return the request with the bytes that were sent in place of open files and the like, which do not keep."""
    sent: dict[str, Any] = {
        name: data for name, data in pictures.items() if not isinstance(getattr(request, name), (str, PathLike, bytes))
    }
    return evolve(request, **sent)


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
