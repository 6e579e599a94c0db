"""One account, and what the processes of this host that use it know of it together."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from threading import Lock
from typing import TypeVar
from uuid import uuid4

from attrs import define, field

from nebula_async.config import Config
from nebula_async.engine.host_state import HostState, read_state, write_state
from nebula_async.engine.host_store import HostStore, StoreBusyError, StoreLostError, state_folders

Value = TypeVar("Value")

PATIENCE_SECONDS = 1.0
"""A file that is locked for longer is locked by a process that was stopped, or by something else than this library."""

AGAIN_SECONDS = 1.0
"""A file that cannot be used is tried again after so many seconds."""

CAUTION = 0.95
"""Who cannot meet the others keeps below its share."""

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def host_account(config: Config, key_digest: str) -> HostAccount:
    """Return the account of a key, the one that all clients of this process share that were given the same limits."""
    host = socket.gethostname()  # hosts may have their users' files in common, and their clocks differ
    name = sha256(f"{key_digest} {config.base_url} {config.inference_url} {host}".encode()).hexdigest()
    return known_host_account(state_folders(), name, config.per_minute, config.per_day, config.retry.backoff)


@lru_cache(maxsize=64)
def known_host_account(
    folders: tuple[Path, ...], name: str, per_minute: float | None, per_day: int | None, backoff: float
) -> HostAccount:
    """Return the account of that name, made when it is first asked for."""
    return HostAccount(HostStore(folders), name, per_minute, per_day, backoff)


@define(eq=False, repr=False)
class HostAccount:
    """What the processes of a host know of an account, changed by one of them at a time. Nothing ever waits here.

    Where they cannot meet, because their file is locked or lost, each goes on alone with less than its share of the
    rate. While the file is locked that is for those of whom all others know: who comes now is shut out until it is
    free. Where the file could never be used a process has the rate for itself.
    """

    store: HostStore
    name: str
    per_minute: float | None
    per_day: int | None
    backoff: float
    problem: str | None = field(default=None, init=False)
    is_shut_out: bool = field(default=False, init=False)
    _token: str = field(factory=lambda: uuid4().hex, init=False)
    _lock: Lock = field(factory=Lock, init=False)
    _text: str | None = field(default=None, init=False)
    _state: HostState | None = field(default=None, init=False)
    _own: HostState | None = field(default=None, init=False)
    _has_joined: bool = field(default=False, init=False)
    _untold: int = field(default=0, init=False)
    _counted_alone: int = field(default=0, init=False)
    _failing_since: float | None = field(default=None, init=False)
    _failed_at: float = field(default=0.0, init=False)
    _again_at: float = field(default=0.0, init=False)

    def known(self) -> HostState:
        """Return what was known when this process last met the others."""
        with self._lock:
            return self._known()

    def look(self) -> HostState:
        """Return what is known now, or was when the file could last be read."""
        with self._lock:
            if self._own is None:
                with suppress(StoreBusyError, StoreLostError):
                    text = self.store.read(self.name)
                    if text is not None and text != self._text:
                        self._text, self._state = text, None
            return self._known()

    def count(self) -> None:
        """One more request of today was accepted: it is told with the next change."""
        with self._lock:
            self._untold += 1

    def change(self, work: Callable[[HostState, float], Value]) -> Value:
        """Do something with the state and the host's clock, while no other process can; alone, where none can be met.

        `work` may be called more than once, the last time is the one that counts. Raises `StoreBusyError` where another
        process is at it: nothing was done, and in a moment it is worth trying again.
        """
        with self._lock:
            now = time.monotonic()
            if now >= self._again_at:
                try:
                    return self._together(now, work)
                except StoreBusyError:
                    if not self._is_locked_for_long(now):
                        raise
                    problem = "is locked by another process; if nothing of yours uses it, delete it"
                    self._go_alone(now, f"{self.store.path} {problem}", is_locked=True)
                except StoreLostError as error:
                    self._again_at = now + AGAIN_SECONDS
                    self._go_alone(now, str(error), is_locked=False)
            return self._alone(now, work)

    def _together(self, now: float, work: Callable[[HostState, float], Value]) -> Value:
        def renew(text: str | None) -> tuple[str, tuple[str, HostState, Value]]:
            state, self._state = self._state, None  # if the file fails now, this one has been changed already
            if state is None or text != self._text:
                state = self._read(now, text, self._text)  # a row that was lost comes back
            self._enter(state, now)
            value = work(state, now)
            written = write_state(state)
            return written, (written, state, value)

        self._text, self._state, value = self.store.change(self.name, renew)
        self._untold = self._counted_alone = 0
        self._own = self._failing_since = self.problem = None
        self._has_joined, self.is_shut_out = True, False
        return value

    def _enter(self, state: HostState, now: float) -> None:
        pace, quota = state.allowance.pace, state.allowance.quota
        state.enter(self._member, now, self.per_minute, self.per_day)
        pace.backoff = self.backoff
        if told := self._untold + self._counted_alone:
            quota.count(time.time(), told)
        if self._own is not None and (held := self._own.allowance.pace.held_for(now)) > pace.held_for(now):
            pace.hold(now, held)

    def _alone(self, now: float, work: Callable[[HostState, float], Value]) -> Value:
        state = self._known()
        if self._untold:
            state.allowance.quota.count(time.time(), self._untold)
            self._untold, self._counted_alone = 0, self._counted_alone + self._untold
        return work(state, now)

    def _is_locked_for_long(self, now: float) -> bool:
        if self._own is not None:
            return True
        if self._failing_since is None or now - self._failed_at > PATIENCE_SECONDS:  # nobody has tried in between
            self._failing_since = now
        self._failed_at = now
        return now - self._failing_since >= PATIENCE_SECONDS

    def _go_alone(self, now: float, problem: str, *, is_locked: bool) -> None:
        if self._own is not None:
            return
        own, since = self._read(now, self._text), self._failing_since or now
        members = 1 + len(own.others(self._member, since))
        self.problem, self.is_shut_out = problem, is_locked and not own.is_known_to_all(self._member, since)
        if self._has_joined or members > 1:
            own.allowance.pace.narrow(CAUTION / members)
        own.allowance.pace.backoff = self.backoff
        self._own = own

    def _known(self) -> HostState:
        if self._own is not None:
            return self._own
        if self._state is None:
            self._state = self._read(time.monotonic(), self._text)
        return self._state

    def _read(self, now: float, *texts: str | None) -> HostState:
        """Return the state of the first text that has one, else that of an account of which nothing is known."""
        state = HostState(boot_id() or "unknown")
        for text in texts:
            with suppress(ValueError):
                state = read_state(text or "", boot_id() or "unknown", now)
                break
        if not state.members:
            state.allowance.pace.give(self.per_minute)
            state.allowance.quota.per_day = self.per_day
        return state

    @property
    def _member(self) -> str:
        return f"{os.getpid()}-{self._token}"  # after a fork there are two


@lru_cache(maxsize=1)
def boot_id() -> str:
    """Return what names this start of the machine; empty where the system does not tell."""
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return ""
