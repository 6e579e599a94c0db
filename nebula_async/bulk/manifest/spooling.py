"""Input that cannot be read twice, standard input and the items of a program, written into a file that can."""

from __future__ import annotations

import codecs
import json
import os
import sys
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, aclosing, suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any, TypeAlias, TypeVar, TypeVarTuple

import anyio
import anyio.to_thread
from attrs import define, field

from nebula_async.bulk.manifest.entries import DAMAGE, MAX_LINE, open_bytes
from nebula_async.bulk.manifest.items import BadLine
from nebula_async.checks import shown
from nebula_async.errors import InvalidRequestError, JobError
from nebula_async.images.sources import as_text, is_source
from nebula_async.requests import PICTURE_FIELDS, ImageRequest, InferenceRequest

STANDARD_INPUT = "standard input"
GIVEN_ITEMS = "the given items"

BATCH = 2**16
"""Characters, or bytes, that are written at a time."""

Value = TypeVar("Value")
Arguments = TypeVarTuple("Arguments")

GivenItem: TypeAlias = str | Mapping[str, Any] | ImageRequest | InferenceRequest
GivenItems: TypeAlias = Iterable[GivenItem] | AsyncIterable[GivenItem]


async def spool_stdin(spool: Path, kind: str | None) -> tuple[Path, str]:
    """Copy standard input into a file beside `spool`, and return it with its kind: `kind`, or what it looks like.

    JSON lines begin with a brace or a quote; anything else is text. Cancellation leaves no file. Raises `JobError`.
    """
    try:
        source = sys.stdin.fileno()
    except (AttributeError, OSError, ValueError):
        raise JobError("standard input is closed; give a file, or send the prompts through a pipe") from None
    async with _Part(spool) as part:
        while data := await _read_some(source):
            await part.write(data)
        found = kind or await part.sniffed()
        return await part.publish(found), found


async def spool_items(items: GivenItems, spool: Path) -> Path:
    """Write a program's items into a file of JSON lines beside `spool`, as they come, and return it.

    They are taken in the event loop; a file is written beside it. Their own exception passes. Cancellation leaves no
    file. Raises `JobError` that says which item cannot be written down.
    """
    async with _Part(spool) as part, aclosing(_taken(items)) as taken:
        batch: list[str] = []
        size = number = 0
        async for item in taken:
            number += 1
            batch.append(_line(number, item))
            size += len(batch[-1])
            if size >= BATCH:
                await part.write("".join(batch).encode())
                batch, size = [], 0
        await part.write("".join(batch).encode())
        return await part.publish("jsonl")


async def _taken(items: GivenItems) -> AsyncGenerator[GivenItem]:
    """Yield the items of either kind of iterable, and close an async one that is left early."""
    if not isinstance(items, AsyncIterable):
        for item in items:
            yield item
        return
    async with AsyncExitStack() as ending:
        source = aiter(items)
        if hasattr(source, "aclose"):
            ending.push_async_callback(source.aclose)
        async for item in source:
            yield item


def _line(number: int, item: object) -> str:
    """Return an item as a line of JSON. Raises `JobError` for what JSON does not hold."""
    try:
        text = f"{json.dumps(_plain(item), allow_nan=False)}\n"
    except (InvalidRequestError, TypeError, ValueError, RecursionError) as error:
        raise JobError(str(BadLine(number, f"this item cannot be written down: {error}", GIVEN_ITEMS))) from error
    if len(text) > MAX_LINE:
        problem = f"the item is longer than {MAX_LINE} characters; give the path of a picture instead of its bytes"
        raise JobError(str(BadLine(number, problem, GIVEN_ITEMS)))
    return text


def _plain(item: object) -> object:
    if isinstance(item, ImageRequest | InferenceRequest):
        return {"dialect": item.dialect, **item.to_dict()}
    if isinstance(item, Mapping):
        return {name: as_text(value) if _is_picture(name, value) else value for name, value in item.items()}
    if isinstance(item, str):
        return item
    raise TypeError(f"give a prompt, a mapping of fields or a request; got {shown(item)}")


def _is_picture(name: object, value: object) -> bool:
    return name in PICTURE_FIELDS and is_source(value)


async def _read_some(source: int) -> bytes:
    """Read what is there. The wait for it can be cancelled: a thread that reads a silent pipe could not be."""
    try:
        if sys.platform != "win32":
            with suppress(PermissionError):  # a plain file is always ready, and cannot be waited for
                await anyio.wait_readable(source)
        return await anyio.to_thread.run_sync(os.read, source, BATCH)
    except OSError as error:
        raise JobError(f"{STANDARD_INPUT} cannot be read: {error.strerror}; give a file") from error


@define(eq=False)
class _Part:
    """A file that is being written, under another name until it is whole."""

    spool: Path
    path: Path = field(init=False)
    file: IO[bytes] = field(init=False)

    async def __aenter__(self) -> _Part:
        self.path = self.spool.with_name(f"{self.spool.name}.part")
        with anyio.CancelScope(shield=True):
            await self._beside_the_loop(self._open)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with anyio.CancelScope(shield=True):
            await self._beside_the_loop(self._remove)

    async def write(self, data: bytes) -> None:
        await self._beside_the_loop(self.file.write, data)

    async def sniffed(self) -> str:
        return await self._beside_the_loop(self._sniff)

    async def publish(self, kind: str) -> Path:
        """Give the file its name, and return it."""
        return await self._beside_the_loop(self._rename, self.spool.with_name(f"{self.spool.name}.{kind}"))

    def _open(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.file = self.path.open("wb")

    def _remove(self) -> None:
        for step in (self.file.close, self.path.unlink):
            with suppress(OSError):  # the error that led here says more than that this failed too
                step()

    def _sniff(self) -> str:
        self.file.flush()
        with suppress(*DAMAGE), open_bytes(self.path) as file:  # who reads it next tells of the damage
            while data := file.read(BATCH):
                if text := data.removeprefix(codecs.BOM_UTF8).lstrip():
                    return "jsonl" if text[:1] in {b"{", b'"'} else "txt"
        return "txt"

    def _rename(self, target: Path) -> Path:
        self.file.close()
        return self.path.replace(target)

    async def _beside_the_loop(self, work: Callable[[*Arguments], Value], *arguments: *Arguments) -> Value:
        try:
            return await anyio.to_thread.run_sync(work, *arguments)
        except OSError as error:
            reason = error.strerror or error
            raise JobError(f"{self.path} cannot be written: {reason}; make room, or use another folder") from error
