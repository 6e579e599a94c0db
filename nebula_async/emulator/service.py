"""What the emulator remembers, and the pages that show it."""

import asyncio

import attrs
from starlette.requests import Request
from starlette.responses import Response

from nebula_async.emulator.account import Account
from nebula_async.emulator.catalogue import MODELS
from nebula_async.emulator.dialects import Serverless
from nebula_async.emulator.journal import Journal
from nebula_async.emulator.refusals import Refusal
from nebula_async.emulator.replays import Replays
from nebula_async.emulator.replies import json_reply
from nebula_async.emulator.script import Script
from nebula_async.emulator.settings import Settings
from nebula_async.emulator.storage import Shelf


@attrs.define(eq=False)
class Service:
    """Everything the emulator remembers: its settings, its one account, its journal and the pictures it hands out."""

    settings: Settings
    account: Account
    journal: Journal = attrs.field(factory=Journal, init=False)
    shelf: Shelf = attrs.field(init=False)
    replays: Replays = attrs.field(factory=Replays, init=False)
    script: Script = attrs.field(factory=Script, init=False)

    def __attrs_post_init__(self) -> None:
        self.shelf = Shelf(self.settings.url_seconds)

    def reset(self) -> None:
        """Go back to the start: journal, credit, limits, pictures, script, and the numbers that chance follows."""
        self.account.reset()
        self.journal.clear()
        self.shelf = Shelf(self.settings.url_seconds)
        self.replays = Replays()
        self.script.clear()

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
            return Serverless(self.settings.error_body).refusal(refusal)
        return json_reply({**content, "message": message, "status": "success"})
