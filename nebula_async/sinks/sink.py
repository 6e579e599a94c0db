"""What a place for pictures has to be able to do: the protocols of sinks and of their writers."""

from __future__ import annotations

from os import PathLike
from typing import Protocol, runtime_checkable

from attrs import frozen

from nebula_async.checks import shown
from nebula_async.errors import InvalidRequestError


class Writer(Protocol):
    """Takes one picture: any number of `write`, then either `publish` or `discard`.

    One task at a time uses it, the call whose picture it is; other pictures have writers of their own, at the same
    time. An exception that any of these methods raises ends that call with it, and reaches no other call.
    """

    async def write(self, data: bytes) -> None:
        """Take the next piece of the picture; when this returns, another piece may come, and `data` is done with.

        The picture is read from a reply that waits meanwhile: a slow sink slows its own call down, no other.
        """

    async def publish(self, media_type: str, extension: str) -> str:
        """Make the whole picture appear under its key and `extension`, and return where it is stored.

        Called once, after the last piece, when the bytes are known to be a picture: `"image/png"`, `".png"`. Never
        replaces anything: a name that is taken is followed by the next free one (`copies` in `sinks/names.py`). One
        that is cancelled has stored the picture or has not, never a part of it.
        """

    async def discard(self) -> None:
        """Let go of the picture: nothing of it stays. Does nothing after `publish`, nor the second time.

        Called when the call fails, when the bytes are refused (no picture, damaged, too large), when `write` or
        `publish` raises, and on cancellation: under a shield, so it should be quick. Called also where nothing was
        written, and while an operation that was cancelled may still be ending in a thread.
        """


class Sink(Protocol):
    """Where pictures go: makes a writer for each. Many calls use it at the same time."""

    async def open(self, key: str) -> Writer:
        """Return the writer of the picture that is to be stored under `key`.

        A key is a relative name without extension, with `/` between its parts, such as
        `"00000/000000042-a-flying-cat"`. Raises `ValueError` for one that could lead elsewhere (`check_key` in
        `sinks/names.py`). Leaves nothing behind by itself, also when it is cancelled.
        """


@frozen
class Stored:
    """A picture that a sink holds: `place` is what its writer's `publish` returned."""

    place: str
    media_type: str


@runtime_checkable
class SearchableSink(Sink, Protocol):
    """A sink that knows what it holds: what runs again after a kill asks it before it buys a picture."""

    async def find(self, key: str) -> Stored | None:
        """Return the picture that is stored under `key`, if it is there and whole; else `None`.

        Looks where a writer of that key publishes first: a picture that met a taken name counts where that one is
        damaged. Raises `ValueError` for an unsafe key, and `OSError` where it cannot be told: `None` would mean that
        the picture is bought.
        """


def check_sink(sink: object) -> None:
    """Refuse what is no sink, before a picture is paid for. Raises `InvalidRequestError`."""
    is_other = isinstance(sink, str | PathLike | type)  # a path can be opened too, and a class has what its sinks have
    if sink is not None and (is_other or not callable(getattr(sink, "open", None))):
        raise InvalidRequestError(f"sink must be a sink, such as DirectorySink('out'); got {shown(sink)}")
