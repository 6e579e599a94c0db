"""The routes of the emulator, and the journal that sees every request on its way in and every status on its way out."""

import asyncio
from collections.abc import Callable

import attrs
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nebula_async.emulator.account import Account
from nebula_async.emulator.catalogue import MODELS
from nebula_async.emulator.generation import Generations
from nebula_async.emulator.journal import GENERATION_PATH, Entry, Journal
from nebula_async.emulator.refusals import Refusal
from nebula_async.emulator.replies import json_reply, refusal_reply
from nebula_async.emulator.settings import Settings

CONTROL_PREFIX = "/_emulator/"
LONGEST_PATH = 200


@attrs.define(eq=False)
class Service:
    """Everything the emulator remembers: its settings, its one account and its journal."""

    settings: Settings
    account: Account
    journal: Journal = attrs.field(factory=Journal)

    def reset(self) -> None:
        """Go back to the start: journal, credit, limits, and the numbers that faults and chance follow."""
        self.account.reset()
        self.journal.clear()

    async def models(self, request: Request) -> Response:
        """List the models."""
        return self._for_key_holder(
            request,
            {"data": {"models": [model.listing() for model in MODELS.values()]}},
            "Get models list successfully.",
        )

    async def credits(self, request: Request) -> Response:
        """Tell the balance, as text with five decimals."""
        balance = f"{self.account.balance:.5f}"
        return self._for_key_holder(
            request, {"data": {"available_balance": balance}}, "User credit balance successfully retrieved"
        )

    async def show_journal(self, request: Request) -> Response:  # noqa: ARG002 - a route's signature
        """Show the journal."""
        return await asyncio.to_thread(lambda: json_reply(self.journal.as_dict()))

    async def start_over(self, request: Request) -> Response:  # noqa: ARG002 - a route's signature
        """Reset the emulator."""
        self.reset()
        return json_reply({"message": "The emulator was reset", "status": "success"})

    def _for_key_holder(self, request: Request, content: dict[str, object], message: str) -> Response:
        try:
            self.account.check_key(request.headers.get("authorization"))
        except Refusal as refusal:
            return refusal_reply(refusal, self.settings.error_body)
        return json_reply({**content, "message": message, "status": "success"})


def build_app(service: Service, closing: asyncio.Event) -> ASGIApp:
    """Return the emulator as an ASGI application; setting `closing` ends every wait in it."""
    generations = Generations(service.settings, service.account, closing)
    routes = [
        Route(GENERATION_PATH, generations.serve, methods=["POST"]),
        Route("/api/v1/serverless/models", service.models),
        Route("/api/v1/users/credits", service.credits),
        Route("/_emulator/journal", service.show_journal),
        Route("/_emulator/reset", service.start_over, methods=["POST"]),
    ]
    app = Starlette(routes=routes, exception_handlers={HTTPException: _explain, Exception: _apologise})
    # A redirect to the path without a slash would repeat the path to the client.
    app.router.redirect_slashes = False
    return _journalled(app, service.journal, service.account.clock)


async def _explain(request: Request, error: Exception) -> Response:  # noqa: ARG001 - a handler's signature
    assert isinstance(error, HTTPException)  # noqa: S101 - it is registered for no other
    return json_reply({"detail": error.detail}, error.status_code, error.headers)


async def _apologise(request: Request, error: Exception) -> Response:  # noqa: ARG001 - a handler's signature
    return json_reply({"detail": "Internal Server Error"}, 500)


def _journalled(app: ASGIApp, journal: Journal, clock: Callable[[], float]) -> ASGIApp:
    async def record(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith(CONTROL_PREFIX):
            return await app(scope, receive, send)
        entry = _open_entry(journal, clock(), scope)
        scope["state"]["entry"] = entry

        async def send_noting(message: Message) -> None:
            # Noted before it is sent: whoever has the reply finds it in the journal.
            if message["type"] == "http.response.start":
                entry.note(status=message["status"])
            await send(message)

        return await app(scope, receive, send_noting)

    return record


def _open_entry(journal: Journal, now: float, scope: Scope) -> Entry:
    keys = [value for name, value in scope["headers"] if name == b"idempotency-key"]
    return journal.open(
        at=now,
        method=scope["method"],
        path=scope["path"][:LONGEST_PATH],
        connection=scope["client"][1] if scope.get("client") else 0,
        idempotency_key=keys[0].decode("latin-1") if keys else None,
    )
