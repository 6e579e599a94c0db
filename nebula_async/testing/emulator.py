"""The emulator as a test sees it: clients of it, what goes wrong, and what has to be true at the end."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import Any

from attrs import define, field

from nebula_async.client import AsyncNebula
from nebula_async.config import Config
from nebula_async.emulator import Emulator, Fault, Journal, RequestRecord
from nebula_async.engine.gate import Gate, workers_for
from nebula_async.events import Observer
from nebula_async.testing.seconds import check_seconds
from nebula_async.testing.story import paid_again, told
from nebula_async.testing.waits import NO_WAIT, OpenGate, never_waiting


@define(eq=False)
class Clock:
    """The time of day, put forward at will."""

    ahead_seconds: float = 0.0

    def __call__(self) -> float:
        """Tell the time, in seconds since the epoch."""
        return time.time() + self.ahead_seconds


@define(eq=False, repr=False)
class NebulaEmulator:
    """What the fixture `nebula_emulator` gives: a local Nebula Block that runs, with an empty journal.

    With `waits`, its clients wait for back-offs and rate limits as they would in production.
    """

    emulator: Emulator
    clock: Clock = field(factory=Clock)
    waits: bool = False

    def __repr__(self) -> str:
        return f"NebulaEmulator({self.base_url!r}, {len(self.journal.generations)} requests for pictures)"

    @property
    def key(self) -> str:
        """A key that it accepts."""
        return self.emulator.key

    @property
    def base_url(self) -> str:
        """Where the serverless API is."""
        return self.emulator.base_url

    @property
    def inference_url(self) -> str:
        """Where the inference API is."""
        return self.emulator.inference_url

    @property
    def storage_host(self) -> str:
        """Host and port of the pictures that come as URLs."""
        return self.emulator.storage_host

    @property
    def journal(self) -> Journal:
        """What was asked, answered and charged."""
        return self.emulator.journal

    @property
    def environ(self) -> dict[str, str]:
        """The variables that point clients here, those of other processes too."""
        return {
            "NEBULA_API_KEY": self.key,
            "NEBULA_BASE_URL": self.base_url,
            "NEBULA_INFERENCE_URL": self.inference_url,
            "NEBULA_ALLOWED_IMAGE_HOSTS": self.storage_host,
        }

    def reset(self) -> None:
        """Go back to the start: empty journal, full credit, fresh limits, no faults of a script, the time of now."""
        self.clock.ahead_seconds = 0.0
        self.emulator.reset()

    # Clients

    def config(self, **settings: Any) -> Config:
        """Return the settings of a client of this emulator, with any field of `Config` changed.

        Such a client does not wait between attempts (`NO_WAIT`), sends an `Idempotency-Key` with each request, by which
        the journal tells calls apart, and closes each connection after its reply: nobody has to close the client,
        whatever event loop it was used in.
        """
        usual: dict[str, Any] = {
            "base_url": self.base_url,
            "inference_url": self.inference_url,
            "allowed_image_hosts": [self.storage_host],
            "idempotency": "unknown",
            "keep_alive": False,
        }
        return Config(**(usual | ({} if self.waits else {"retry": NO_WAIT}) | settings))

    def client(self, *, gate: Gate | None = None, observer: Observer | None = None, **settings: Any) -> AsyncNebula:
        """Return a client of this emulator, with any field of `Config` changed.

        It waits for nothing that the API asks for: the emulator's clock is put forward instead.
        """
        config = self.config(**settings)
        if self.waits:
            return AsyncNebula(self.key, config=config, gate=gate, observer=observer)
        gate = gate or OpenGate(workers_for(config), self.pass_time)
        return never_waiting(AsyncNebula(self.key, config=config, gate=gate, observer=observer), self.pass_time)

    def pass_time(self, seconds: float) -> None:
        """Put the emulator's clock forward: limits have room again, and URLs expire. No time passes for anyone else.

        Raises `ValueError` for what is no number of seconds, 0 or more.
        """
        check_seconds(seconds)
        self.clock.ahead_seconds += seconds

    # What goes wrong

    def next(self, *faults: str | Fault, repeat: bool = False) -> None:
        """Let the requests for pictures that come next meet these, one each: `next("429 retry_after=2", "ok", "cut")`.

        Then all is well again; with `repeat` all others meet the last one. Raises `ValueError` for what is no fault.
        """
        self.emulator.script.next(*faults, repeat=repeat)

    def for_prompt(self, prompt: str | re.Pattern[str], *faults: str | Fault, repeat: bool = False) -> None:
        """Let the requests with this prompt, or one that a compiled pattern finds something in, meet these, one each.

        They go before what `next` has for everyone.
        """
        self.emulator.script.for_prompt(prompt, *faults, repeat=repeat)

    def no_faults(self) -> None:
        """Forget what `next` and `for_prompt` have scripted."""
        self.emulator.script.clear()

    # What has to be true

    def assert_charged(self, pictures: int) -> None:
        """Fail unless so many pictures were billed; a request may be billed for several, or for one it never got."""
        __tracebackhide__ = True
        charged = self.journal.charged
        if charged != pictures:
            self._fail(f"{_counted(charged, 'picture')} charged, {pictures} expected")

    def assert_asked(self, requests: int) -> None:
        """Fail unless so many requests for pictures arrived, refused ones and repeated ones among them."""
        __tracebackhide__ = True
        asked = len(self.journal.generations)
        if asked != requests:
            self._fail(f"{_counted(asked, 'request for a picture', 'requests for pictures')} seen, {requests} expected")

    def assert_nothing_asked(self) -> None:
        """Fail if any request for pictures arrived. Lists of models, balances and downloads are free, and allowed."""
        __tracebackhide__ = True
        self.assert_asked(0)

    def assert_never_paid_twice(self, repeats: Mapping[str, int] | None = None) -> None:
        """Fail if one call was charged for by two requests.

        Requests belong to one call if they came with the same `Idempotency-Key`; without a key, if all their fields are
        the same, the seed included. Without either, calls for the same picture cannot be told apart: `repeats` says how
        often a prompt was asked for on purpose, as `{"a cat": 3}`.
        """
        __tracebackhide__ = True
        again = paid_again(self.journal.generations, repeats or {})
        if again:
            self._fail(f"{_counted(len(again), 'call')} paid for more than once", again)

    def assert_faults_met(self) -> None:
        """Fail if a fault is scripted that no request has met: the test has not tested what it says."""
        __tracebackhide__ = True
        waiting = self.emulator.script.waiting
        if waiting:
            self._fail(f"{_counted(waiting, 'scripted fault')} not met by any request")

    def _fail(self, what: str, calls: list[tuple[RequestRecord, ...]] | None = None) -> None:
        __tracebackhide__ = True
        groups = calls or [self.journal.generations]
        raise AssertionError(f"{what}; the emulator's journal:\n{told(groups, are_calls=calls is not None)}")


def _counted(number: int, thing: str, things: str | None = None) -> str:
    return f"{number} {thing} was" if number == 1 else f"{number} {things or f'{thing}s'} were"
