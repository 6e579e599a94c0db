"""Tests of your own: a local Nebula Block as pytest fixtures, and fakes for what no test should need.

`plugin.py` is what pytest loads by itself; the names here are imported when they are first asked for, so that a run of
pytest that uses none of them loads none.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nebula_async.testing.emulator import NebulaEmulator
    from nebula_async.testing.offline import only_this_machine
    from nebula_async.testing.replies import FakeFailure, FakeReply
    from nebula_async.testing.sink import RecordingSink, SinkStep, Stall
    from nebula_async.testing.transport import FakeTransport, SeenRequest
    from nebula_async.testing.waits import NO_WAIT, OpenGate

__all__ = [
    "NO_WAIT",
    "FakeFailure",
    "FakeReply",
    "FakeTransport",
    "NebulaEmulator",
    "OpenGate",
    "RecordingSink",
    "SeenRequest",
    "SinkStep",
    "Stall",
    "only_this_machine",
]

_PLACES = {
    "NO_WAIT": "waits",
    "FakeFailure": "replies",
    "FakeReply": "replies",
    "FakeTransport": "transport",
    "NebulaEmulator": "emulator",
    "OpenGate": "waits",
    "RecordingSink": "sink",
    "SeenRequest": "transport",
    "SinkStep": "sink",
    "Stall": "sink",
    "only_this_machine": "offline",
}
"""The module that each name is in."""


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
    return value
