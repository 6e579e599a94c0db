"""What users get back."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from attrs import evolve, field, frozen

from nebula_async.charges import Charges
from nebula_async.errors import NebulaError
from nebula_async.images.image import Image
from nebula_async.images.provenance import Provenance
from nebula_async.requests import InferenceRequest, Request

if TYPE_CHECKING:
    from nebula_async.images.display import MimeBundle


@frozen(kw_only=True)
class RateLimit:
    """What a reply's headers said about the limit: requests allowed, requests left, and seconds until more are."""

    limit: int | None = None
    remaining: int | None = None
    reset_seconds: float | None = None


@frozen(kw_only=True)
class Generation:
    """A request that was answered with pictures. Picklable; carries its request and needs no client.

    `request.seed` is the seed that was sent. `cost` is the estimate in USD, by the account's own price list once
    `models()` has read it, else by the built-in one; `None` where the price is not known. `attempts` and `charges` are
    sums over the call. `missing` counts pictures asked for and not here; one that came as a URL and could not be
    fetched is among `images`, without bytes. `usage` is what the inference API says was used.
    """

    request: Request
    images: tuple[Image, ...]
    index: int = 0
    model: str | None = None
    message: str | None = None
    usage: Mapping[str, Any] | None = None
    inference_seconds: float | None = None
    attempts: int = 1
    charges: Charges = field(factory=Charges)
    cost: Decimal | None = None
    request_id: str | None = None
    idempotency_key: str | None = None
    rate_limit: RateLimit | None = None
    missing: int = 0

    @property
    def image(self) -> Image:
        """The first picture."""
        return self.images[0]

    def _repr_mimebundle_(self, **_options: Any) -> MimeBundle:
        from nebula_async.notebook import show_generation  # only notebooks need it

        return show_generation(self)


@frozen(kw_only=True)
class Failure:
    """A request that ended without a picture: what was asked, and the error that says why and what it may have cost."""

    request: Request
    error: NebulaError
    index: int = 0

    def _repr_mimebundle_(self, **_options: Any) -> MimeBundle:
        from nebula_async.notebook import show_failure

        return show_failure(self)


class ResultList(list[Generation | Failure]):
    """A list of results, and nothing more: a notebook shows it as its pictures, IPython as a line for each.

    `generate_all` returns one; `ResultList(results)` makes one of any results.
    """

    def _repr_mimebundle_(self, **_options: Any) -> MimeBundle:
        from nebula_async.notebook import show_results

        return show_results(self)

    def _repr_pretty_(self, printer: Any, _is_cyclic: bool) -> None:
        from nebula_async.notebook import list_results

        printer.text(list_results(self))


def provenance_of(request: Request, *, cost: Decimal | None, **said: Any) -> Provenance:
    """Return how the pictures of a request were made just now, each at this cost, by what the reply `said` of it."""
    return Provenance(
        **describe_request(request),
        **said,
        cost=None if cost is None else f"{cost:f}",
        created=datetime.now(UTC).isoformat(timespec="milliseconds"),
    )


def describe_request(request: Request) -> dict[str, Any]:
    """Return what a `Provenance` says of a request: its plain fields, and apart from them the pictures handed in."""
    if isinstance(request, InferenceRequest) or request.image is None:
        return {"request": request.to_dict(), "inputs": {}}
    handed = {"image": request.image} | ({} if request.mask is None else {"mask": request.mask})
    inputs = {name: source.content if isinstance(source, Image) else source for name, source in handed.items()}
    return {"request": evolve(request, image=None, mask=None).to_dict(), "inputs": inputs}
