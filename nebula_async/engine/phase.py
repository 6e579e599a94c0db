"""How far an attempt came."""

from __future__ import annotations

from enum import IntEnum
from typing import Any

from attrs import define

from nebula_async.api.messages import RawHeaders


class Phase(IntEnum):
    """What has begun; each includes those before it."""

    ADMITTED = 0
    CONNECTING = 1
    SENDING = 2
    SENT = 3
    HEADERS = 4
    BODY = 5
    COMPLETE = 6


BEGINS = {
    "connect_tcp.started": Phase.CONNECTING,
    "send_request_headers.started": Phase.SENDING,
    "send_request_body.complete": Phase.SENT,
    "receive_response_headers.complete": Phase.HEADERS,
    "receive_response_body.started": Phase.BODY,
    "receive_response_body.complete": Phase.COMPLETE,
}
"""httpcore's trace events without the layer that they name first (connection, http11, and http2 in a transport of the
user's own); names and order are the same on httpx and httpx2.
"""


@define(eq=False)
class Progress:
    """The phase of one attempt, kept up to date by httpcore's `trace` extension.

    A transport that emits no events cannot be told from one that sent at once, so until the first event an attempt
    through a transport of the user's own counts as sent. `is_cut` says that the body of an error broke off.
    """

    phase: Phase = Phase.ADMITTED
    status: int | None = None
    headers: RawHeaders = ()
    is_traced: bool = True
    is_cut: bool = False
    _is_tunnelling: bool = False

    async def trace(self, event: str, info: dict[str, Any]) -> None:
        """Take note of an event. What a proxy is asked for a tunnel is no part of the request."""
        self.is_traced = True
        begun = BEGINS.get(event.partition(".")[2])
        if begun is None:
            return
        if begun is Phase.SENDING:
            self._is_tunnelling = getattr(info.get("request"), "method", None) == b"CONNECT"
        if not self._is_tunnelling and begun > self.phase:
            self.phase = begun

    @property
    def may_be_sent(self) -> bool:
        """Whether a byte of the request may have left."""
        return not self.is_traced or self.phase >= Phase.SENDING

    @property
    def is_refused(self) -> bool:
        """Whether the API said 4xx: nothing was made."""
        return self.status is not None and 400 <= self.status < 500

    @property
    def is_accepted(self) -> bool:
        """Whether the API said 2xx: what it made is paid for."""
        return self.status is not None and 200 <= self.status < 300
