"""What the emulator was asked, what it answered and what it charged."""

import hashlib
import itertools
import math
import threading
from collections import deque
from collections.abc import Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Literal

import attrs

SERVERLESS_PATH = "/api/v1/images/generation"
DOUBLED_PATH = "/api/v1/api/v1/images/generation"
INFERENCE_PATH = "/v1/images/generate"
GENERATIONS = {SERVERLESS_PATH: ("POST", "GET"), DOUBLED_PATH: ("POST", "GET"), INFERENCE_PATH: ("POST",)}
"""Where the API makes pictures, by which methods: GET and the doubled path stand in the vendor's samples."""

NOTHING = Decimal("0.0000")
KEPT_RECORDS = 100_000
KEPT_CHARACTERS = 20_000
KEPT_FIELDS = 100
PICTURE_FIELDS = frozenset({"image", "mask", "input_image", "mask_image"})

Origin = Literal["api", "storage"]


@attrs.frozen
class RequestRecord:
    """One request as the emulator saw it; never holds an API key or a picture.

    `origin` is where it came to, the API or the image storage; `authorized` says whether an `Authorization` header
    came with it, whatever was in that.
    """

    number: int
    at: float
    method: str
    path: str
    connection: int
    idempotency_key: str | None = None
    status: int | None = None
    model: str | None = None
    prompt: str | None = None
    seed: int | None = None
    width: int | None = None
    height: int | None = None
    images_charged: int = 0
    cost: Decimal = NOTHING
    fault: str | None = None
    fields: Mapping[str, object] = attrs.field(factory=lambda: MappingProxyType({}))
    origin: Origin = "api"
    authorized: bool = False

    @property
    def is_generation(self) -> bool:
        """Whether this request asked the API for pictures, in either dialect."""
        return self.origin == "api" and self.method in GENERATIONS.get(self.path, ())

    def as_dict(self) -> dict[str, object]:
        """Return the record as JSON values; money is text, so that no digit is lost."""
        values = {field.name: getattr(self, field.name) for field in attrs.fields(RequestRecord)}
        return values | {"cost": str(self.cost), "fields": dict(self.fields)}


@attrs.define(eq=False)
class _Page:
    """The journal between two resets; requests still in flight at a reset go on writing the old page."""

    entries: "deque[Entry]" = attrs.field(factory=lambda: deque(maxlen=KEPT_RECORDS))
    requests: int = 0
    generations: int = 0
    charged: int = 0
    spent: Decimal = NOTHING


@attrs.define(eq=False)
class Entry:
    """A request on its way: the only hand that may still change its record."""

    record: RequestRecord
    generation: int
    _page: _Page
    _lock: threading.Lock

    def note(self, **facts: Any) -> None:
        """Write down what has become known of this request."""
        with self._lock:
            self.record = attrs.evolve(self.record, **facts)

    def charge(self, images: int, cost: Decimal) -> None:
        """Write down that pictures were made and billed."""
        with self._lock:
            self.record = attrs.evolve(self.record, images_charged=images, cost=cost)
            self._page.charged += images
            self._page.spent += cost


@attrs.define(eq=False)
class Journal:
    """Every request since the start or the last reset; safe to read from any thread.

    The newest 100,000 records are kept; `charged` and `spent` count all of them.
    """

    _page: _Page = attrs.field(factory=_Page, init=False)
    _lock: threading.Lock = attrs.field(factory=threading.Lock, init=False)

    @property
    def requests(self) -> tuple[RequestRecord, ...]:
        """The kept records, oldest first."""
        with self._lock:
            return tuple(entry.record for entry in self._page.entries)

    @property
    def generations(self) -> tuple[RequestRecord, ...]:
        """The kept records of requests for pictures, oldest first."""
        return tuple(record for record in self.requests if record.is_generation)

    @property
    def charged(self) -> int:
        """How many pictures were billed."""
        return self._page.charged

    @property
    def spent(self) -> Decimal:
        """What they cost, in USD."""
        return self._page.spent

    def as_dict(self) -> dict[str, object]:
        """Return the journal as JSON values, as `GET /_emulator/journal` serves it."""
        with self._lock:
            records = tuple(entry.record for entry in self._page.entries)
            charged, spent = self._page.charged, self._page.spent
        return {"requests": [record.as_dict() for record in records], "charged": charged, "spent": str(spent)}

    def open(self, *, at: float, method: str, path: str, connection: int, **facts: Any) -> Entry:
        """Begin the record of a request that has just arrived, with what is known of it by its headers."""
        with self._lock:
            page = self._page
            page.requests += 1
            record = RequestRecord(page.requests, at, method, path, connection, **facts)
            page.generations += record.is_generation
            entry = Entry(record, page.generations if record.is_generation else 0, page, self._lock)
            page.entries.append(entry)
            return entry

    def clear(self) -> None:
        """Begin an empty page; numbers start at 1 again."""
        with self._lock:
            self._page = _Page()


def summarise(fields: Mapping[str, object]) -> Mapping[str, object]:
    """Return request fields as a journal keeps them: pictures, long texts and containers only by their measure."""
    kept = itertools.islice(fields.items(), KEPT_FIELDS)
    return MappingProxyType({name[:KEPT_CHARACTERS]: _summarise(name, value) for name, value in kept})


def _summarise(name: str, value: object) -> object:
    if isinstance(value, list | dict):
        return {"length": len(value)}
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # JSON has no word for it, although Python reads and writes one
    if not isinstance(value, str) or (name not in PICTURE_FIELDS and len(value) <= KEPT_CHARACTERS):
        return value
    digest = hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()
    return {"length": len(value), "sha256": digest}
