"""Work that is done and billed once a key, however often it is asked for."""

import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import attrs
from starlette.responses import Response

from nebula_async.emulator.refusals import Refusal


@attrs.frozen
class Told:
    """What was asked under a key, by the digest of its fields, and what was answered."""

    digest: bytes
    reply: Response


@attrs.define(eq=False)
class Replays:
    """The replies to requests with an `Idempotency-Key`, as the draft of that header has them (draft 07, section 2)."""

    _told: dict[str, Told] = attrs.field(factory=dict, init=False)
    _under_way: set[str] = attrs.field(factory=set, init=False)

    async def once(self, key: str, fields: Mapping[str, Any], make: Callable[[], Awaitable[Response]]) -> Response:
        """Make the reply, or return what was made for the same request under this key.

        Refuses with 409 what comes while its key is under way, and with 422 another request under a used key.
        """
        if key in self._under_way:
            raise Refusal(409, "A request with this idempotency key is still being worked on")
        digest = hashlib.sha256(json.dumps(dict(fields), sort_keys=True).encode()).digest()
        if key in self._told:
            return _again(self._told[key], digest)
        self._under_way.add(key)
        try:
            reply = await make()
        finally:
            self._under_way.discard(key)
        self._told[key] = Told(digest, reply)
        return reply


def _again(told: Told, digest: bytes) -> Response:
    if told.digest != digest:
        raise Refusal(422, "This idempotency key was used for another request")
    return told.reply
