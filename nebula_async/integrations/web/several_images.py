"""Several pictures in one answer."""

from __future__ import annotations

import json

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from nebula_async.integrations.web.picture_facts import Place, describe_generation
from nebula_async.offload import offload
from nebula_async.results import Generation


class PicturesResponse(Response):
    """The answer with all pictures of a generation, as JSON; it is what `images_response` returns."""

    media_type = "application/json"

    def __init__(self, generation: Generation, place: Place | None) -> None:
        self.generation, self.place = generation, place
        super().__init__(headers={"Cache-Control": "no-store"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send them; that they become base64 takes milliseconds beside the event loop."""
        self.body = await offload(self._written)
        self.headers["content-length"] = str(len(self.body))
        await super().__call__(scope, receive, send)

    def _written(self) -> bytes:
        facts = describe_generation(self.generation, place=self.place, with_data=self.place is None)
        return json.dumps(facts, separators=(",", ":")).encode()


def images_response(generation: Generation, *, place: Place | None = None) -> Response:
    """Return the answer with all pictures of a generation, as JSON: seed, cost, and for each type, size, and its bytes
    as a data URL, or the `url` that `place(image)` gives it.
    """
    return PicturesResponse(generation, place)
