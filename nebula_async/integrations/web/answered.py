"""Whether an answer has been sent: after it servers say that its visitor has left, and nobody has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import define
from starlette.applications import Starlette
from starlette.types import ASGIApp, Message, Receive, Scope, Send

SENDING = "nebula_async.sending"
"""What the scope of a request holds it as."""

WITH_END = ("http.response.body", "http.response.pathsend")


@define(eq=False)
class Sending:
    """The sending of the answer to one request."""

    is_over: bool = False


@define(eq=False)
class NotingAnswers:
    """An application that notes of each of its requests whether the answer has been sent."""

    app: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, whatever its kind."""
        sending = scope[SENDING] = Sending()

        async def noting(message: Message) -> None:
            sending.is_over |= message["type"] in WITH_END and not message.get("more_body", False)
            await send(message)

        await self.app(scope, receive, noting if scope["type"] == "http" else send)


def note_answers(app: Any) -> None:
    """Let an application note its answers from now on, outside of all its middleware."""
    if isinstance(app, Starlette) and not isinstance(app.middleware_stack, NotingAnswers):
        app.middleware_stack = NotingAnswers(app.middleware_stack or app.build_middleware_stack())


def is_answered(scope: Mapping[str, Any]) -> bool:
    """Whether the answer to a request has been sent; False where it is not noted."""
    sending = scope.get(SENDING)
    return isinstance(sending, Sending) and sending.is_over
