"""The key in a server's own words: one may repeat what it was sent, and proxies in front of models do."""

from __future__ import annotations

import re
from collections import deque

from attrs import define, evolve, field

from nebula_async.api.messages import Reply
from nebula_async.errors import NebulaError, chain_of
from nebula_async.keys import SHORTEST_SECRET, ApiKey, without_secrets

MOST_KEYS = 8
"""Keys rotate, and a reply may come after another one was told."""

SAID_BY_SERVER = ("message", "code", "request_id", "details")
"""What an error holds of a reply."""


@define(eq=False)
class RepeatedKeys:
    """The keys that were sent, which nothing that comes back may show."""

    _keys: deque[ApiKey] = field(factory=lambda: deque(maxlen=MOST_KEYS), init=False)

    def remember(self, key: ApiKey) -> None:
        """Look for this key from now on."""
        if key.reveal() not in self._secrets:
            self._keys.append(key)

    def concealed(self, reply: Reply) -> Reply:
        """Return a reply without the keys, of which a message that is cut could show a part."""
        body = reply.body
        for secret in self._secrets:
            body = body.replace(secret.encode(), b"***") if len(secret) >= SHORTEST_SECRET else body
        return evolve(reply, body=body)

    def without_keys(self, text: bytes) -> bytes:
        """Return what a server wrote without the keys, also where JSON has their letters as escapes."""
        for secret in self._secrets if text else ():
            text = re.sub(_however_escaped(secret), b"***", text) if len(secret) >= SHORTEST_SECRET else text
        return text

    def conceal(self, error: NebulaError) -> None:
        """Take the keys out of an error and of what led to it, however the reply wrote them."""
        for name in SAID_BY_SERVER:
            if (said := getattr(error, name, None)) is not None:
                setattr(error, name, without_secrets(said, self._secrets))
        for link in chain_of(error):
            link.args = tuple(without_secrets(link.args, self._secrets))  # what it was made with is kept there

    @property
    def _secrets(self) -> list[str]:
        return [key.reveal() for key in self._keys]


def _however_escaped(secret: str) -> bytes:
    letters = (rf"(?:\\?{re.escape(letter)}|\\u00(?i:{ord(letter):02x}))" for letter in secret)
    return "".join(letters).encode()
