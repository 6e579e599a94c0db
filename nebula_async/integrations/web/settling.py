"""What is done when a call ends whose visitor has left: its pictures are stored, and its operator hears of it."""

from __future__ import annotations

import hashlib
import inspect
import logging
from functools import partial

import anyio
from attrs import define, field

from nebula_async.errors import InvalidRequestError
from nebula_async.images.image import Image
from nebula_async.integrations.web.leaving import Departed, Finish, Teller
from nebula_async.integrations.web.outcome import outcome_of
from nebula_async.integrations.web.visit import Visit
from nebula_async.requests import Request
from nebula_async.results import Generation
from nebula_async.sinks.names import slug
from nebula_async.sinks.sink import Sink

logger = logging.getLogger(__name__)

STORING_SECONDS = 60.0
FORGETTING_SECONDS = 2.0
"""How long a sink may take for a picture, and to forget one that it did not take."""

PIECE_BYTES = 256 * 1024

FOLDER = "finished"
"""No picture that was named by a prompt, or by the number of an item, is below it."""

DIGEST_LETTERS = 24


@define(eq=False)
class Settlement:
    """Ends a call whose visitor has left."""

    visit: Visit
    request: Request
    generation: Generation | None
    stored: tuple[str, ...] = field(default=(), init=False)
    error: BaseException | None = field(default=None, init=False)

    async def settle(self, policy: Finish) -> None:
        """Store the pictures, log how the call ended, and tell whoever wants to know. Raises nothing."""
        self.error = self.visit.error
        if self.generation is not None:
            await self._store(self.generation, policy.sink)
        departed = self._departed()
        log_departed(departed, self.visit.stopped_by)
        if policy.told is not None:
            await self._tell(policy.told, departed)

    async def _store(self, generation: Generation, sink: Sink) -> None:
        with self.visit.storing as storing:  # a shield: what is here is paid for
            self.error = await outcome_of(partial(self._keep_all, generation, sink))
        if storing.cancelled_caught:
            self.error = TimeoutError("the application ended before the sink had taken the pictures")

    async def _keep_all(self, generation: Generation, sink: Sink) -> None:
        for image in generation.images:
            self.stored += (image.stored or await keep(sink, key_for(self.request, self.visit), image),)

    async def _tell(self, told: Teller, departed: Departed) -> None:
        async def tell() -> None:
            answer = told(departed)
            if inspect.isawaitable(answer):
                await answer

        telling, error = self.visit.telling, None
        telling.deadline = anyio.current_time() + self.visit.telling_seconds
        with telling:
            error = await outcome_of(tell)
        if error is not None or telling.cancelled_caught:
            why = "took too long, and was cancelled" if error is None else "failed"
            logger.error("reference=%s: what tells of departed calls %s", departed.reference, why, exc_info=error)

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
    """Return the key of pictures whose visitor left: `finished_key` of what the request was named, else the reference
    of the log.

    A prompt may be private.
    """
    return f"{FOLDER}/{visit.reference}" if request.id is None else finished_key(request.id)


def finished_key(identity: str) -> str:
    """Return the key under which `Finish` stores the pictures of a request with this `id`; no other id has the same.

    It is what `DirectorySink(folder).find` and `stored_image_response(folder, …)` take:
    `"finished/order-17-5f0c…"`. Whoever knows the id knows the key.
    """
    digest = hashlib.sha256(identity.encode("utf-8", "surrogatepass")).hexdigest()[:DIGEST_LETTERS]
    return f"{FOLDER}/" + "-".join(filter(None, (slug(identity), digest)))


async def keep(sink: Sink, key: str, image: Image) -> str:
    """Write a picture into a sink, and return where it is. Raises what the sink does, and `TimeoutError`."""
    if image.data is None or image.media_type is None:
        raise InvalidRequestError("the picture was left at its URL: there are no bytes to store")
    with anyio.fail_after(STORING_SECONDS):
        writer = await sink.open(key)
        try:
            for start in range(0, len(image.data), PIECE_BYTES):
                await writer.write(image.data[start : start + PIECE_BYTES])
            return await writer.publish(image.media_type, image.extension or "")
        except BaseException:
            with anyio.move_on_after(FORGETTING_SECONDS, shield=True):
                await outcome_of(writer.discard)  # what is raised already says more
            raise


def log_departed(departed: Departed, stopped_by: str | None) -> None:
    """Log how a call ended whose visitor had left."""
    facts = {"reference": departed.reference, "id": departed.request.id, "charges": str(departed.charges)}
    call = getattr(departed.generation, "idempotency_key", None) or getattr(departed.error, "idempotency_key", None)
    facts |= {"call": call} if call else {}
    text = " ".join(f"{name}={value!r}" for name, value in facts.items() if value is not None)
    extra = {"nebula": facts}
    if departed.error is None and departed.generation is not None:
        logger.info("a call was finished without its visitor: %s", text, extra=extra)
        return
    why = stopped_by if departed.error is None else type(departed.error).__name__
    logger.warning("a call without its visitor came to nothing, by %s: %s", why, text, extra=extra)
