"""One request of either dialect, through the engine, to a `Generation`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from functools import partial
from os import PathLike
from typing import Any, TypeAlias

import anyio
from attrs import evolve, field, frozen

from nebula_async.api import inference, serverless
from nebula_async.api.catalog import Model, find_conflict, find_problems, price_of, with_seed
from nebula_async.api.headers import read_rate_limit, read_request_id
from nebula_async.api.messages import HttpRequest
from nebula_async.api.replies import Answer
from nebula_async.arrival import AnswerArrival
from nebula_async.charges import Charges
from nebula_async.config import Config
from nebula_async.delivery import Delivery
from nebula_async.engine.breaker import Breaker
from nebula_async.engine.call import NO_JOURNAL, Caller, Completed
from nebula_async.engine.journal import AttemptJournal
from nebula_async.engine.telling import abandoned
from nebula_async.errors import (
    DeadlineError,
    DownloadError,
    InvalidRequestError,
    NebulaError,
    SinkError,
    without_frames,
)
from nebula_async.events import ParameterIgnored, prompt_teller
from nebula_async.images.image import Image
from nebula_async.images.sources import read_sources
from nebula_async.images.uploads import Held, Picture
from nebula_async.items import fill_in, likeness
from nebula_async.narration import asked, failed, generated
from nebula_async.requests import InferenceRequest, Request
from nebula_async.results import Failure, Generation, provenance_of
from nebula_async.sinks.keeping import IntoSink, Keeping, Streaming, in_memory
from nebula_async.sinks.names import key_of, relative_key
from nebula_async.sinks.sink import Sink

Pictures: TypeAlias = tuple[Picture, ...]
"""The pictures of a request, checked and ready to be sent."""

MOST_TOLD = 1_000
"""A job of a hundred thousand requests says each problem once."""


@frozen
class Generator:
    """Generates pictures, one call each, in the task of whoever asks."""

    caller: Caller
    delivery: Delivery
    told: set[str] = field(factory=set)
    prices: dict[str, Decimal] = field(factory=dict)
    streaming: Streaming = field(factory=Streaming)

    async def generate(
        self,
        request: Request,
        *,
        index: int = 0,
        download: bool = True,
        sink: Sink | None = None,
        keep: Callable[[int], Keeping] = in_memory,
        is_patient: bool = False,
        journal: AttemptJournal = NO_JOURNAL,
        breaker: Breaker | None = None,
    ) -> Generation:
        """Generate the pictures of a request; observers hear how it ended. Raises the `NebulaError` of the call.

        With a `sink` they are streamed into it: those of one of many under its index, of another under its words.
        Without, `keep` says where they are kept: told 0 for each reply, else the number of a picture that is fetched.
        """
        if sink is not None:
            name = partial(relative_key, index) if is_patient else key_of
            keep = partial(self._into, sink, name(request.prompt, request.id))
        started, total, key = anyio.current_time(), self.caller.config.timeouts.total, journal.call_key
        request = self._seeded(request)
        self._tell(key, request)
        try:
            outgoing, pictures = await self._encoded(key, request)
            left = started + total - anyio.current_time()
            done = await self.caller.call(
                outgoing,
                lambda: AnswerArrival(outgoing.pictures, keep(0), self._conceal),
                key=key,
                seconds=left,
                is_patient=is_patient,
                journal=journal,
                breaker=breaker,
            )
            generation = self._generation(_with_bytes(request, pictures), index, done)
            if download:
                left = started + total - anyio.current_time()
                generation = await self.deliver(generation, seconds=total if is_patient else left, keep=keep)
        except NebulaError as error:
            self.caller.notify(failed(key, request, error, anyio.current_time() - started))
            raise
        self.caller.notify(generated(generation, anyio.current_time() - started))
        return generation

    async def result(
        self,
        parameters: Mapping[str, Any],
        index: int,
        item: object,
        journal: AttemptJournal = NO_JOURNAL,
        *,
        breaker: Breaker | None = None,
        download: bool = True,
        sink: Sink | None = None,
        keep: Callable[[int], Keeping] = in_memory,
    ) -> Generation | Failure:
        """Generate the pictures of one item of many: it waits for the rate limit, and its failure is a value."""
        try:
            request = fill_in(item, parameters)
            return await self.generate(
                request,
                index=index,
                download=download,
                sink=sink,
                keep=keep,
                is_patient=True,
                journal=journal,
                breaker=breaker,
            )
        except NebulaError as error:
            return Failure(request=likeness(item, parameters), error=without_frames(error), index=index)

    def learn_prices(self, models: Iterable[Model]) -> None:
        """Take the account's own list of prices for those that are built in."""
        self.prices.update({model.id: model.price for model in models if model.price is not None})

    def price_of(self, model_id: str) -> Decimal | None:
        """Return USD for one picture: by the account's own list where it is known, else as built in, else `None`."""
        return self.prices.get(model_id, price_of(model_id))

    def _seeded(self, request: Request) -> Request:
        if isinstance(request, InferenceRequest) or not self.caller.config.choose_seed:
            return request
        return with_seed(request, self.caller.random)

    def _tell(self, key: str, request: Request) -> None:
        """Tell that a call begins; what is asked for in words only where an observer wants to know that."""
        notify, telling = self.caller.notify, self.caller.telling
        notify(asked(key, request, self.caller.config, telling.per_minute, telling.concurrency))
        if tell_prompt := prompt_teller(notify):
            tell_prompt(key, request.prompt, request.negative_prompt)

    async def _encoded(self, key: str, request: Request) -> tuple[HttpRequest, Pictures]:
        """Return what is to be sent, and the pictures in it. Raises `InvalidRequestError`."""
        try:
            self._check(request)
            pictures = await self._read_pictures(request)
            return _encode(request, self.caller.config, pictures), pictures
        except NebulaError:
            raise
        except BaseException as error:
            self.caller.notify(abandoned(key, error))
            raise

    def _check(self, request: Request) -> None:
        rules = self.caller.config.parameter_rules
        if rules == "off" or isinstance(request, InferenceRequest):  # whose API documents no rules for single models
            return
        if conflict := find_conflict(request):
            raise InvalidRequestError(conflict)
        problems = find_problems(request)
        if problems and rules == "strict":
            raise InvalidRequestError("; ".join(problems))
        for problem in problems:
            self._tell_once(request.model, problem)

    @property
    def _conceal(self) -> Callable[[bytes], bytes]:
        # Nothing that holds the client: an arrival may outlive its call, and the client is to go when it is let go.
        credentials = self.caller.transport.credentials
        return bytes if credentials is None else credentials.repeated.without_keys

    def _tell_once(self, model: str, problem: str) -> None:
        if problem not in self.told and len(self.told) < MOST_TOLD:
            self.told.add(problem)
            self.caller.notify(ParameterIgnored(model=model, problem=problem))

    async def _read_pictures(self, request: Request) -> Pictures:
        if isinstance(request, InferenceRequest) or request.image is None:
            return ()
        total = self.caller.config.timeouts.total
        with anyio.move_on_after(total):  # the thread of a source that never ends is left to itself
            return await read_sources(request.image, request.mask)
        raise DeadlineError(f"the given pictures could not be read within {total:g} s")

    def _into(self, sink: Sink, key: str, number: int = 0) -> Keeping:
        return IntoSink(sink, f"{key}-{number}" if number else key, self.streaming)

    def _generation(self, request: Request, index: int, done: Completed[Answer]) -> Generation:
        answer, price = done.value, self.price_of(request.model)
        said: dict[str, Any] = {
            "model": answer.facts.model,
            "inference_seconds": answer.inference_seconds,
            "request_id": read_request_id(done.headers),
        }
        made = provenance_of(request, cost=price, **said)
        return Generation(
            request=request,
            images=tuple(evolve(image, provenance=made) for image in answer.images),
            index=index,
            message=answer.facts.message,
            usage=answer.facts.usage,
            attempts=done.attempts,
            charges=Charges(done.charges.at_least - answer.missing, done.charges.at_most),
            cost=None if price is None else price * len(answer.images),
            idempotency_key=done.key,
            rate_limit=read_rate_limit(done.headers, now=time.time()),
            missing=answer.missing,
            **said,
        )

    async def download(self, image: Image, sink: Sink | None) -> Image:
        """Return a picture that was left at its URL with its bytes, or where the sink stored it.

        Raises `DownloadError`, `InvalidRequestError` for one that has no URL, and `SinkError`.
        """
        asked = {} if image.provenance is None else image.provenance.request
        key = key_of(str(asked.get("prompt", "")), asked.get("id"))
        keep = in_memory if sink is None else partial(self._into, sink, key)
        config = self.caller.config
        return await self.delivery.fetch(image, config, seconds=config.timeouts.total, keep=keep)

    async def deliver(
        self, generation: Generation, *, seconds: float, keep: Callable[[int], Keeping] = in_memory
    ) -> Generation:
        """Return a generation with the bytes of its pictures, kept where `keep` says; those that cannot be fetched
        count as missing.

        Raises `DownloadError`, with what the call cost, where no picture is here, and `SinkError`.
        """
        if all(image.is_here for image in generation.images):
            return generation
        sums: dict[str, Any] = {"attempts": generation.attempts, "charges": generation.charges}
        try:
            images = await self.delivery.fetch_all(generation.images, self.caller.config, seconds=seconds, keep=keep)
        except (DownloadError, SinkError) as error:
            key, request_id = generation.idempotency_key, generation.request_id
            raise evolve(error, **sums, idempotency_key=key, request_id=request_id) from error.__cause__
        except BaseException as error:
            self.caller.notify(abandoned(generation.idempotency_key or "", error, **sums))
            raise
        lost = sum(not image.is_here for image in images)
        return evolve(generation, images=images, missing=generation.missing + lost)


def _encode(request: Request, config: Config, pictures: Pictures) -> HttpRequest:
    url = config.url_of(request.dialect)
    if isinstance(request, InferenceRequest):
        return inference.encode_request(request, inference_url=url)
    return serverless.encode_request(request, base_url=url, model_field=config.model_field, pictures=pictures)


def _with_bytes(request: Request, pictures: Pictures) -> Request:
    """Return the request with the bytes that were sent in place of open files and the like, which do not keep."""
    if not pictures:
        return request
    sent: dict[str, Any] = {
        picture.name: picture.content.data
        for picture in pictures
        if isinstance(picture.content, Held) and not isinstance(getattr(request, picture.name), (str, PathLike, bytes))
    }
    return evolve(request, **sent)
