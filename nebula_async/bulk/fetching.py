"""The pictures of an item that were paid for and left at their URLs: fetched, and stored."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import anyio
from attrs import define, evolve, field

from nebula_async.bulk.causes import MISSING
from nebula_async.bulk.ledger import Ledger
from nebula_async.bulk.outcome import about_missing
from nebula_async.bulk.receiving import Receiving
from nebula_async.bulk.spool import Received
from nebula_async.bulk.states import Output, Row, State
from nebula_async.charges import Charges
from nebula_async.errors import DownloadError, SinkError, cause_of
from nebula_async.images.image import Image
from nebula_async.requests import read_request
from nebula_async.results import Failure, Generation
from nebula_async.sinks.keeping import Keeping

if TYPE_CHECKING:
    from nebula_async.bulk.run import Run


@define(eq=False)
class UrlFetch:
    """Fetches what an item still has at URLs; that is free, and repeated by later runs while the URLs are valid."""

    run: Run
    row: Row
    scope: anyio.CancelScope = field(factory=lambda: anyio.CancelScope(shield=True))
    is_out: bool = field(default=True, init=False)
    _receiving: dict[int, Receiving] = field(factory=dict, init=False)

    @property
    def pictures(self) -> int:
        """How many pictures are under way."""
        return self.row.asked

    def give_up(self) -> None:
        """Go on: nothing is bought."""

    async def work(self) -> Generation | Failure | None:
        """Fetch the pictures of an item of an earlier run; `None` where that was stopped."""
        outputs = await self.run.writer.read(lambda ledger: list(ledger.outputs(self.row.seq)))
        images = tuple(_image(output) for output in outputs)
        request = read_request(json.loads(self.row.request))
        known = Generation(request=request, images=images, index=self.row.seq, charges=Charges(), attempts=0)
        with self.scope:
            return await self.fetch(evolve(known, missing=max(self.row.asked - len(images), 0)), outputs)
        return None

    async def fetch(self, generation: Generation, outputs: Sequence[Output]) -> Generation | Failure:
        """Return a generation with all its pictures stored, as far as their URLs give them."""
        left = [output for output in outputs if output.path is None]
        images, error = await self._fetched(left)
        received = {left[index].index: self._received(index, image) for index, image in enumerate(images)}
        here = {index: picture for index, picture in received.items() if picture is not None}
        place = await self.run.placed(lambda: self._place(left, here))
        with anyio.CancelScope(shield=True):
            stored = await self.run.writer.write(
                lambda ledger, placed: self._note(ledger, left, here, placed, error, generation.missing), place
            )
        return self._result(generation, {output.index: output for output in (*outputs, *stored)}, error)

    async def _fetched(self, left: Sequence[Output]) -> tuple[Sequence[Image], DownloadError | SinkError | None]:
        config = self.run.config
        images, seconds = [_image(output) for output in left], config.timeouts.total
        try:
            fetch_all = self.run.generator.delivery.fetch_all
            return await fetch_all(images, config, seconds=seconds, keep=lambda index: self._keep(left, index)), None
        except (DownloadError, SinkError) as error:
            return images, error

    def _keep(self, left: Sequence[Output], index: int) -> Keeping:
        run, seq, n = self.run, self.row.seq, self.row.sends
        receiving = Receiving(run.spool, seq, n, run.streaming, run.pause, first=left[index].index)
        receiving.spool.part(seq, n, left[index].index).unlink(missing_ok=True)  # of a try that was cut
        self._receiving[index] = receiving
        return receiving

    def _received(self, index: int, image: Image) -> Received | None:
        return None if image.stored is None else self._receiving[index].received[image.stored]

    def _place(self, left: Sequence[Output], here: dict[int, Received]) -> list[Output]:
        row, rows = self.row, {output.index: output.row or "{}" for output in left}
        return [
            output
            for index, picture in here.items()
            for output in self.run.storing.place(
                row.seq, row.sends, row.name, json.loads(rows[index]), {index: picture}
            )
        ]

    def _note(
        self, ledger: Ledger, left: Sequence[Output], here: dict[int, Received], placed: list[Output],
        error: DownloadError | SinkError | None, missing: int,
    ) -> list[Output]:  # fmt: skip
        seq, lost = self.row.seq, [output for output in left if output.index not in here]
        by_index = {output.index: output for output in left}
        stored = [evolve(output, url=by_index[output.index].url) for output in placed]
        ledger.store(stored)
        about, cause = self._about(lost, error, missing)
        ledger.move(seq, _state(lost, error, missing), error=about, cause=cause)
        self.run.storing.is_stored(seq, self.row.sends, tuple(here.values()), stored)
        return stored

    def _about(
        self, lost: Sequence[Output], error: DownloadError | SinkError | None, missing: int
    ) -> tuple[str | None, str | None]:
        """Return why an item is not done, and the cause of that; `None` twice where it is."""
        if lost and error is not None:
            return error.message, cause_of(error)
        about = about_missing(missing + len(lost), self.row.asked)
        return about, MISSING if about else None

    def _result(
        self, generation: Generation, outputs: dict[int, Output], error: DownloadError | SinkError | None
    ) -> Generation | Failure:
        if error is not None and (isinstance(error, SinkError) or not any(output.path for output in outputs.values())):
            error.charges, error.attempts = generation.charges, generation.attempts
            return Failure(request=generation.request, error=error, index=generation.index)
        address = self.run.storing.address
        images = tuple(
            evolve(image, stored=address(output), media_type=output.media_type)
            for image, (_, output) in zip(generation.images, sorted(outputs.items()), strict=True)
        )
        lost = sum(output.path is None for output in outputs.values())
        return evolve(generation, images=images, missing=generation.missing + lost)


def _state(lost: Sequence[Output], error: DownloadError | SinkError | None, missing: int) -> State:
    if not lost:
        return State.BAD if missing else State.DONE
    may_come = not isinstance(error, DownloadError) or error.retryable or error.is_forbidden
    is_over = all((output.expires_at or 0) <= time.time() for output in lost) and not isinstance(error, SinkError)
    return State.URLS if may_come and not is_over else State.EXPIRED


def _image(output: Output) -> Image:
    until = None if output.expires_at is None else datetime.fromtimestamp(output.expires_at, UTC)
    return Image(url=output.url, expires_at=until, stored=output.path, media_type=output.media_type)
