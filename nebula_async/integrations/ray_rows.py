"""One row end to end: from the sink that may hold its picture already to what its columns tell."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import anyio
from attrs import define, evolve, field, frozen

from nebula_async.api.catalog import with_seed
from nebula_async.bulk.manifest.items import read_row
from nebula_async.bulk.outcome import stops_job
from nebula_async.charges import Charges
from nebula_async.config import BASE_URL, INFERENCE_URL
from nebula_async.engine.breaker import Breaker
from nebula_async.errors import InvalidRequestError, NebulaError, SinkError
from nebula_async.generation import Generator
from nebula_async.images.provenance import digest_file
from nebula_async.integrations.ray_batches import RowResult
from nebula_async.offload import on_disk
from nebula_async.requests import PICTURE_FIELDS, ImageRequest, Request
from nebula_async.results import Failure, Generation
from nebula_async.sinks.keeping import IntoSink, Keeping, in_memory
from nebula_async.sinks.kept_once import KeptOnce
from nebula_async.sinks.names import slug
from nebula_async.sinks.sink import SearchableSink, Sink

if TYPE_CHECKING:
    from nebula_async.engine.verdict import Verdict

MADE, ADOPTED, FAILED = "made", "adopted", "failed"
"""What the status of a row can be: bought now; nothing sent, as the sink held it or an equal row bought it; and no
picture.
"""

REST_SECONDS = 30.0
"""For so long nothing is sent after an error that every other row would meet too."""

FOLDER_DIGITS, NAME_DIGITS, KEY_DIGITS = 3, 24, 32
"""Of a request's digest, in hexadecimal: 4,096 folders, a name that no other request of a billion has, and the key of
its call.
"""


@frozen
class RowJournal:
    """Gives a row's call the same key in every run: a server that trusts idempotency keys answers as it did before."""

    call_key: str

    async def sending(self) -> None:
        """Let it be sent."""

    async def ended(self, verdict: Verdict | None, charges: Charges) -> None:
        """Let it be: the columns of the row tell."""


@define(eq=False)
class Rest:
    """Keeps rows from being sent while all would fail alike: the key, the credit, the day's quota, the sink.

    After `REST_SECONDS` one row tries; the others follow when that went well. Times are seconds of one clock.
    """

    _error: NebulaError | None = field(default=None, init=False)
    _until: float = field(default=0.0, init=False)
    _is_tried: bool = field(default=False, init=False)

    def admit(self, now: float) -> bool:
        """Let a row be sent, and return whether it is the one that tries. Raises why none is sent now."""
        if self._error is None:
            return False
        if now < self._until or self._is_tried:
            raise evolve(self._error, attempts=0, charges=Charges(), idempotency_key=None)
        self._is_tried = True
        return True

    def learn(self, error: NebulaError | None, now: float, *, is_trial: bool) -> None:
        """Learn how a row ended that was sent."""
        if is_trial:
            self._error, self._is_tried = None, False
        if error is not None and stops_job(error):
            self._error, self._until = error, now + REST_SECONDS

    def give_up(self, *, is_trial: bool) -> None:
        """Learn that a row was cancelled: another one may try."""
        self._is_tried = self._is_tried and not is_trial


@define(eq=False)
class _Asked:
    """A picture that batches ask for, and what became of it while one of them is under way."""

    lock: anyio.Lock = field(factory=anyio.Lock)
    result: RowResult | None = None
    rows: int = 0


@define(eq=False)
class RowWorker:
    """Makes the pictures of rows, so many at a time, whatever batches they came in.

    Nothing that happens to a row is raised: it is told in the row's columns.
    """

    generator: Generator
    breaker: Breaker
    sink: Sink | None
    defaults: Mapping[str, Any]
    slots: anyio.CapacityLimiter
    _rest: Rest = field(factory=Rest, init=False)
    _reading: anyio.CapacityLimiter = field(init=False)
    _asked: dict[str, _Asked] = field(factory=dict, init=False)

    def __attrs_post_init__(self) -> None:
        self._reading = anyio.CapacityLimiter(self.slots.total_tokens)

    async def work(self, rows: list[dict[str, Any]]) -> list[RowResult]:
        """Return what became of each row of a batch."""
        results: dict[int, RowResult] = {}
        digests: list[str] = []

        async def work_on(number: int) -> None:
            results[number] = await self._told(rows[number], digests)

        try:
            async with anyio.create_task_group() as group:
                for number in range(len(rows)):
                    group.start_soon(work_on, number)
        finally:
            self._forget(digests)
        return [results[number] for number in range(len(rows))]

    async def _told(self, fields: Mapping[str, Any], digests: list[str]) -> RowResult:
        try:
            async with self._reading:
                request, digest = await on_disk(self._read, fields)
            digests.append(digest)
            return await self._once(digest, lambda: self._found_or_bought(request, digest))
        except NebulaError as error:
            return _failed(error)
        except Exception as error:  # noqa: BLE001 - whatever it is, the other rows of the dataset are not to be lost
            return _failed(_unforeseen(error, Charges()))

    def _read(self, fields: Mapping[str, Any]) -> tuple[Request, str]:
        """Return the request of a row and its digest, which also chooses the seed where that is to be chosen."""
        request = read_row(fields, base=Path(), defaults=self.defaults)
        if request.pictures != 1:
            raise InvalidRequestError(f"a row is one picture; it asks for {request.pictures}: repeat the row instead")
        digest = digest_of(request, self.generator.caller.config.url_of(request.dialect))
        if isinstance(request, ImageRequest) and self.generator.caller.config.choose_seed:
            request = with_seed(request, Random(digest))  # noqa: S311 - the same in every run
        return request, digest

    async def _once(self, digest: str, work: Callable[[], Awaitable[RowResult]]) -> RowResult:
        """Work for the first of the rows that ask for the same; the others are told what became of it.

        They are rows of one batch, however late some are read, or of batches that are under way at the same time. They
        wait without a slot: rows that ask for something else have them. Where the first is cancelled, or cannot be sent
        now, the next one is the first.
        """
        asked = self._asked.setdefault(digest, _Asked())
        asked.rows += 1
        async with asked.lock:
            if asked.result is not None:
                return _shared(asked.result)
            asked.result = await work()
            return asked.result

    def _forget(self, digests: Iterable[str]) -> None:
        """Let go of what the rows of a batch asked for, where no other batch asks for it."""
        for digest in digests:
            self._asked[digest].rows -= 1
            if not self._asked[digest].rows:
                del self._asked[digest]

    async def _found_or_bought(self, request: Request, digest: str) -> RowResult:
        key = key_of(request, digest)
        async with self.slots:
            return await self._adopted(request, key) or await self._bought(request, digest, key)

    async def _adopted(self, request: Request, key: str) -> RowResult | None:
        if not isinstance(self.sink, SearchableSink):
            return None
        try:
            found = await self.sink.find(key)
        except OSError as error:
            text = f"nothing was sent: whether the picture is stored already cannot be told: {error}"
            raise SinkError(text) from error
        if found is None:
            return None
        return RowResult(status=ADOPTED, path=found.place, media_type=found.media_type, seed=request.seed, cost=0.0)

    async def _bought(self, request: Request, digest: str, key: str) -> RowResult:
        is_trial, price = self._rest.admit(anyio.current_time()), self.generator.price_of(request.model)
        try:
            result = await self._generate(request, digest, key)
        except anyio.get_cancelled_exc_class():
            self._rest.give_up(is_trial=is_trial)
            raise
        error = result.error if isinstance(result, Failure) else None
        self._rest.learn(error, anyio.current_time(), is_trial=is_trial)
        return _failed(result.error, price) if isinstance(result, Failure) else _made(result, price)

    async def _generate(self, request: Request, digest: str, key: str) -> Generation | Failure:
        journal = RowJournal(digest[:KEY_DIGITS])
        try:
            return await self.generator.result({}, 0, request, journal, breaker=self.breaker, keep=self._keep(key))
        except Exception as error:  # noqa: BLE001 - as above; by then it may have been sent
            return Failure(request=request, error=_unforeseen(error, Charges(0, 1)))

    def _keep(self, key: str) -> Callable[[int], Keeping]:
        if self.sink is None:
            return in_memory
        sink = KeptOnce(self.sink) if isinstance(self.sink, SearchableSink) else self.sink
        return lambda _number: IntoSink(sink, key, self.generator.streaming)


def digest_of(request: Request, url: str) -> str:
    """Return what tells a request from all others: everything that is asked, its `id`, and the bytes of its pictures.

    Another server than Nebula Block's own counts too: what an emulator painted is not the picture that is bought.
    Blocks while these are read. Raises `InvalidRequestError` for one that cannot be.
    """
    fields = request.to_dict()
    paths = {name: fields[name] for name in PICTURE_FIELDS if not str(fields.get(name, "data:")).startswith("data:")}
    try:
        digests = {name: digest_file(Path(path)).sha256 for name, path in paths.items()}
    except OSError as error:
        raise InvalidRequestError(f"a picture cannot be read: {error}") from error
    server = "" if url in {BASE_URL, INFERENCE_URL} else url
    return hashlib.sha256(f"{server}{json.dumps({**fields, **digests}, sort_keys=True)}".encode()).hexdigest()


def key_of(request: Request, digest: str) -> str:
    """Return where the picture of a request is stored: `"3f2/a-flying-cat-9c41…"`, by its words and its digest."""
    words = slug(request.prompt if request.id is None else request.id) or "picture"
    return f"{digest[:FOLDER_DIGITS]}/{words}-{digest[FOLDER_DIGITS:NAME_DIGITS]}"


def _shared(result: RowResult) -> RowResult:
    """Return what is told of a row that was not sent, since an equal one was."""
    told = evolve(result, attempts=0, charges_at_least=0, charges_at_most=0, cost=0.0)
    if told.status == FAILED:
        return evolve(told, error=f"not sent, as an equal row failed: {told.error}")
    return evolve(told, status=ADOPTED)


def _unforeseen(error: Exception, charges: Charges) -> NebulaError:
    return NebulaError(f"{type(error).__name__}: {error}", charges=charges)


def _made(generation: Generation, price: Decimal | None) -> RowResult:
    image = generation.image
    return RowResult(
        status=MADE,
        path=image.stored,
        bytes=image.data,
        media_type=image.media_type,
        seed=generation.request.seed,
        request_id=generation.request_id,
        **_sums(generation.attempts, generation.charges, price),
    )


def _failed(error: NebulaError, price: Decimal | None = None) -> RowResult:
    return RowResult(
        status=FAILED,
        error=str(error),
        error_type=type(error).__name__,
        retryable=error.retryable,
        request_id=error.request_id,
        **_sums(error.attempts, error.charges, price),
    )


def _sums(attempts: int, charges: Charges, price: Decimal | None) -> dict[str, Any]:
    """Return what a call cost: `cost` is that of the pictures that were certainly charged."""
    paid = None if price is None else float(price * charges.at_least)
    return {
        "attempts": attempts,
        "charges_at_least": charges.at_least,
        "charges_at_most": charges.at_most,
        "cost": 0.0 if charges.at_most == 0 else paid,
    }
