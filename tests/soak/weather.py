"""What the line and the service of a seed do wrong: faults of the proxy by chance, and steps of the emulator's script.

Each has a name, so that a schedule can be printed and read.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping

from attrs import define, field
from broken_exchange import NO_FAULT, At, Fault, How, Slices, bandwidth
from chaos import chance
from replies import chunked, instead, reply, until_the_end, with_body

HALF_A_PICTURE = 60
"""So many bytes of a picture, at least its head, are left of one that is spoilt on its way."""


def _spoilt(body: bytes) -> bytes:
    """Return a reply whose pictures are cut off, each a whole base64 text."""
    try:
        said = json.loads(body)
    except ValueError:
        return body
    return json.dumps(_with_halves(said)).encode()


def _with_halves(value: object) -> object:
    if isinstance(value, list):
        return [_with_halves(each) for each in value]
    if not isinstance(value, dict):
        return value
    return {name: _half(each) if name == "b64_json" and each else _with_halves(each) for name, each in value.items()}


def _half(text: str) -> str:
    try:
        return base64.b64encode(base64.b64decode(text)[:HALF_A_PICTURE]).decode()
    except ValueError:
        return text  # the service spoilt it already


GATEWAY = b"<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>"

LINE: Mapping[str, Fault] = {
    "reset before the request": Fault(at=At.CONNECTED, how=How.RESET),
    "reset in the request": Fault(at=At.IN_REQUEST, how=How.RESET),
    "reset after the request": Fault(at=At.REPLY, how=How.RESET),
    "end without a reply": Fault(at=At.REPLY, how=How.FIN),
    "end in the headers": Fault(at=At.IN_HEADERS, how=How.FIN),
    "body cut": Fault(at=At.IN_BODY, how=How.FIN),
    "chunks cut": Fault(at=At.IN_BODY, how=How.FIN, rewrite=chunked),
    "cut without a length": Fault(at=At.IN_BODY, how=How.FIN, rewrite=until_the_end),
    "silence before the reply": Fault(at=At.REPLY, how=How.READ_ON),
    "silence in the body": Fault(at=At.IN_BODY, how=How.READ_ON),
    "black hole": Fault(at=At.REQUEST, how=How.READ_ON),
    "a drip in the headers": Fault(head=Slices(7, 0.05)),
    "a slow line": Fault(body=bandwidth(20_000)),
    "slow and late": Fault(latency=0.4),
    "slower than its timeout": Fault(latency=1.5),
    "odd slices": Fault(head=Slices(9, 0.0, is_drawn=True), body=Slices(99, 0.0, is_drawn=True)),
    "no HTTP": Fault(at=At.END, how=How.FIN, rewrite=instead(b"220 mail ready\r\n\r\n")),
    "no JSON": Fault(rewrite=with_body(lambda _: b"<html>It works!</html>")),
    "empty": Fault(rewrite=with_body(lambda _: b"")),
    "spoilt picture": Fault(rewrite=with_body(_spoilt)),
    "502 of a gateway": Fault(at=At.REQUEST, say=reply(502, GATEWAY)),
    "504, the work done": Fault(at=At.REPLY, say=reply(504, GATEWAY)),
}
"""What happens between client and service."""

SERVICE = (
    "429", "429 retry_after=1", "429 retry_after=0.2", "400", "500", "500 billed", "502", "503", "503 retry_after=1",
    "504 billed", "malformed", "malformed=base64", "malformed=html", "cut", "drop", "refuse", "delay=0.3", "ok",
)  # fmt: skip
"""What the service itself answers, as `nebula_async.emulator.Script` reads it."""


@define(eq=False)
class Weather:
    """The script of a proxy: a share of all exchanges meets one of some faults, drawn from a seed and their number."""

    seed: int
    share: float = 0.0
    names: tuple[str, ...] = ()
    met: dict[int, str] = field(factory=dict, init=False)

    def __call__(self, number: int) -> Fault:
        """Return what becomes of an exchange."""
        source = chance(self.seed, number)
        if not self.names or source.random() >= self.share:
            return NO_FAULT
        self.met[number] = source.choice(self.names)
        return LINE[self.met[number]]
