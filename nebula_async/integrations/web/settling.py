"""What is done when a call ends whose visitor has left: its pictures are stored, and its operator hears of it."""

from __future__ import annotations

import inspect
import logging

import anyio
from attrs import define, field

from nebula_async.errors import InvalidRequestError
from nebula_async.images.image import Image
from nebula_async.integrations.web.leaving import Departed, Finish
from nebula_async.integrations.web.visit import Visit
from nebula_async.requests import Request
from nebula_async.results import Generation
from nebula_async.sinks.names import slug
from nebula_async.sinks.sink import Sink

logger = logging.getLogger(__name__)

STORING_SECONDS = 60.0
PIECE_BYTES = 256 * 1024


@define(eq=False)
class Settlement:
    """Ends a call whose visitor has left."""

    visit: Visit
    request: Request
    generation: Generation | None
    stored: tuple[str, ...] = field(default=(), init=False)
    error: Exception | None = field(default=None, init=False)

    async def settle(self, policy: Finish) -> None:
        """Store the pictures, log how the call ended, and tell whoever wants to know. Raises nothing."""
        self.error = self.visit.error
        if self.generation is not None:
            with anyio.CancelScope(shield=True):  # it is here, and paid for
                await self._store(self.generation, policy.sink)
        departed = self._departed()
        log_departed(departed, self.visit.stopped_by)
        await _tell(policy, departed)

    async def _store(self, generation: Generation, sink: Sink) -> None:
        try:
            with anyio.fail_after(STORING_SECONDS):
                for image in generation.images:
                    self.stored += (image.stored or await keep(sink, key_for(self.request, self.visit), image),)
        except Exception as error:  # noqa: BLE001 - a sink is other people's code; it is told as it is
            self.error = error

    def _departed(self) -> Departed:
        return Departed(
            reference=self.visit.reference,
            request=self.request,
            generation=self.generation,
            stored=self.stored,
            charges=self.visit.charges if self.generation is None else self.generation.charges,
            error=self.error,
        )


def key_for(request: Request, visit: Visit) -> str:
    """Return the name of pictures whose visitor left: what the request was named, else the reference of the log.

    A prompt may be private.
    """
    return slug(request.id or "") or visit.reference


async def keep(sink: Sink, key: str, image: Image) -> str:
    """Write a picture into a sink, and return where it is."""
    if image.data is None or image.media_type is None:
        raise InvalidRequestError("the picture was left at its URL: there are no bytes to store")
    writer = await sink.open(key)
    try:
        for start in range(0, len(image.data), PIECE_BYTES):
            await writer.write(image.data[start : start + PIECE_BYTES])
        return await writer.publish(image.media_type, image.extension or "")
    finally:
        await writer.discard()  # which does nothing after publish


async def _tell(policy: Finish, departed: Departed) -> None:
    if policy.told is None:
        return
    try:
        answer = policy.told(departed)
        if inspect.isawaitable(answer):
            await answer
    except Exception:
        logger.exception("reference=%s: what is told of calls that ended without their visitor", departed.reference)


def log_departed(departed: Departed, stopped_by: str | None) -> None:
    """Log how a call ended whose visitor had left."""
    facts = {"reference": departed.reference, "id": departed.request.id, "charges": str(departed.charges)}
    call = getattr(departed.generation, "idempotency_key", None) or getattr(departed.error, "idempotency_key", None)
    facts |= {"call": call} if call else {}
    text = " ".join(f"{name}={value!r}" for name, value in facts.items() if value is not None)
    extra = {"nebula": facts}
    if departed.error is None and stopped_by is None:
        logger.info("a call was finished without its visitor: %s", text, extra=extra)
        return
    why = stopped_by or type(departed.error).__name__
    logger.warning("a call without its visitor came to nothing, by %s: %s", why, text, extra=extra)
