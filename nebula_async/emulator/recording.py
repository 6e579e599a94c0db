"""The journal sees every request on its way in and every status on its way out."""

import attrs
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nebula_async.emulator.journal import Entry, Origin
from nebula_async.emulator.service import Service

CONTROL_PREFIX = "/_emulator/"
LONGEST_PATH = 200
REQUEST_ID = b"x-request-id"


@attrs.frozen
class Recorded:
    """An ASGI application all of whose requests stand in the journal, each reply with the number of its record."""

    app: ASGIApp
    service: Service
    origin: Origin

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if self.origin == "api" and scope["path"].startswith(CONTROL_PREFIX):
            return await self.app(scope, receive, send)
        # The shelf first: a request that a reset finds in the journal has that journal's shelf, not the next one's.
        shelf = self.service.shelf
        entry = self._open_entry(scope)
        scope["state"] |= {"entry": entry, "shelf": shelf}

        async def send_noting(message: Message) -> None:
            # Noted before it is sent: whoever has the reply finds it in the journal.
            if message["type"] == "http.response.start":
                entry.note(status=message["status"])
                message = _with_id(message, entry)
            await send(message)

        return await self.app(scope, receive, send_noting)

    def _open_entry(self, scope: Scope) -> Entry:
        headers = dict(reversed(scope["headers"]))
        key = headers.get(b"idempotency-key")
        return self.service.journal.open(
            at=self.service.account.clock(),
            method=scope["method"],
            path=scope["path"][:LONGEST_PATH],
            connection=scope["client"][1] if scope.get("client") else 0,
            idempotency_key=None if key is None else key.decode("latin-1"),
            origin=self.origin,
            authorized=b"authorization" in headers,
        )


def _with_id(message: Message, entry: Entry) -> Message:
    headers = list(message.get("headers", ()))
    # A fault may have been given a header of its own.
    if all(name.lower() != REQUEST_ID for name, _ in headers):
        headers.append((REQUEST_ID, f"emulator-{entry.record.number}".encode()))
    return {**message, "headers": headers}
