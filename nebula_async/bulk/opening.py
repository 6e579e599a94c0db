"""How a job is begun, or gone on with: its folder is locked, its input checked, and what was left open is settled."""

from __future__ import annotations

import hmac
import json
import os
import time
from collections.abc import Hashable
from contextlib import suppress
from functools import partial
from threading import Event

from attrs import define, evolve, field

from nebula_async.bulk.bucket import STORE, Bucket, check_store
from nebula_async.bulk.budget import DuplicateBudget, Spent
from nebula_async.bulk.command import COMMAND, Command
from nebula_async.bulk.folder import JobFolder, Shelf
from nebula_async.bulk.ledger import COMMITS, Ledger
from nebula_async.bulk.ledger_file import Durability, damaged
from nebula_async.bulk.lock import JobLock
from nebula_async.bulk.manifest.census import Census, Selection, rest_of, take_census
from nebula_async.bulk.manifest.source import Source
from nebula_async.bulk.metadata import Metadata
from nebula_async.bulk.recovery import Recoverer, Recovery, check_ours, list_items, note_ours
from nebula_async.bulk.spool import Spool
from nebula_async.bulk.states import FAILED, State
from nebula_async.bulk.storing import Storing
from nebula_async.config import Config
from nebula_async.engine.host_account import boot_id
from nebula_async.errors import JobError

METADATA = "metadata_bytes"
"""Under this the ledger notes how large the metadata are when they are whole and closed."""


INPUT = "input"
"""What input that can be read once only is called once it is written down; before that, a number follows."""


@define(eq=False, kw_only=True)
class OpenJob:
    """A job's files, open for one process. Its methods block."""

    folder: JobFolder
    source: Source
    selection: Selection
    durability: Durability
    is_told: bool
    config: Config
    bucket: Bucket | None = None
    again: tuple[State, ...] = ()
    """Items in these states are sent again by a run, once it begins."""

    command: Command | None = None

    stamp: tuple[int, ...] = field(init=False)
    """What the input was when it was counted."""

    lock: JobLock = field(init=False)
    ledger: Ledger = field(init=False)
    census: Census = field(init=False)
    storing: Storing = field(init=False)
    duplicates: DuplicateBudget = field(init=False)
    secret: bytes = field(init=False)
    recovery: Recovery = field(init=False)
    is_stopped: Event = field(factory=Event, init=False)
    """Set where nobody waits for a long opening any more."""

    def open(self, *, server: str, account: Hashable, is_new_key: bool) -> None:
        """Open all, check that the input is the job's, settle what was left open. Raises `JobError`."""
        self.stamp = self.source.stamp()
        try:
            if not self.folder.ledger.exists():  # nothing is made where the input is wrong
                self.census = self._checked_census()
            self.folder.prepare(is_synced=self.durability == "power")
            self.lock = JobLock.take(self.folder.lock)
            try:
                self.folder.try_out()
                self._keep_input()
                self._open_ledger(server, account, is_new_key=is_new_key)
            except BaseException:
                self.lock.release()
                raise
        finally:
            self._remove_input()

    def _keep_input(self) -> None:
        """Let input that was written down for this run take the place of that of the runs before."""
        path = self.source.path
        if self._is_written_down:
            kept = path.with_name(f"{INPUT}{path.suffix}")
            path.replace(kept)
            self.source = evolve(self.source, path=kept)
        for stale in self.folder.state.glob(f"{INPUT}-*"):  # of runs that were killed
            stale.unlink(missing_ok=True)

    def _remove_input(self) -> None:
        if self._is_written_down:
            self.source.path.unlink(missing_ok=True)

    @property
    def _is_written_down(self) -> bool:
        path = self.source.path
        return path.parent == self.folder.state and path.name.startswith(f"{INPUT}-")

    def close(self) -> None:
        """Close all; what fails now, the next start looks at more closely."""
        try:
            with suppress(JobError, OSError):
                if not self.storing.is_untold:
                    self.ledger.note(METADATA, str(self.storing.metadata.size))
        finally:
            self._close_ledger()
            self.lock.release()

    @property
    def commits(self) -> int:
        """How often the ledger was written to, as it says itself."""
        return int(self.ledger.fact(COMMITS) or 0)

    def spent(self) -> Spent:
        """Return what all runs of the job may have spent."""
        return Spent.of(self.ledger.priced(), self.ledger.sends())

    @property
    def pictures(self) -> str:
        """Where the pictures are: a folder, or a URL."""
        return str(self.folder.images) if self.bucket is None else self.bucket.address("images")

    def tell_store(self) -> None:
        """Put the metadata beside pictures that are elsewhere. Raises `JobError`."""
        try:
            if self.bucket is not None:
                self.bucket.tell(self.ledger, self.storing.metadata)
        except OSError as error:
            text = f"the metadata could not be put beside the pictures: {error}; mend that, then repeat"
            raise JobError(text) from error

    def left(self) -> int:
        """Return how many items a run would send."""
        counts = self.ledger.counts()
        return self.census.total - sum(number for state, number in counts.items() if state not in self._to_be_sent)

    def rest(self) -> Census:
        """Return the census of what a run would send."""
        ledger, settled = self.ledger, self.ledger.counts()
        return rest_of(
            self.census,
            self.source,
            self.selection,
            is_waiting=lambda key: ledger.state(key) in self._to_be_sent,
            settled={state.value: number for state, number in settled.items() if state not in self._to_be_sent},
        )

    @property
    def _to_be_sent(self) -> tuple[State, ...]:
        return (State.PENDING, *self.again)

    def put_back(self) -> None:
        """Let the items be sent again that a run is to send although they have ended."""
        with self.ledger.together():
            self.ledger.put_back(*(state for state in self.again if state in FAILED), is_anew=True)
            self.ledger.put_back(*(state for state in self.again if state not in FAILED), is_anew=False)

    def _open_ledger(self, server: str, account: Hashable, *, is_new_key: bool) -> None:
        self.ledger = Ledger.open(self.folder.ledger, self.durability)
        try:
            self._begin(server, account, is_new_key=is_new_key)
        except BaseException:
            self._close_ledger()
            raise

    def _close_ledger(self) -> None:
        self.lock.closed()
        self.ledger.close()

    def _begin(self, server: str, account: Hashable, *, is_new_key: bool) -> None:
        self.secret = self._secret()
        known_account = self._name_of(account)
        check_ours(self.folder, self.ledger, server=server, account=None if is_new_key else known_account)
        if self.commits < self.lock.commits:
            raise JobError(damaged(self.folder.ledger, "it lacks what was last written to it"))
        check_store(self.ledger, self.folder.path, self.bucket)
        self._check_input()
        if self.bucket is not None:
            self.bucket.begin(self.secret)
            self.ledger.note(STORE, self.bucket.url)
        self.ledger.tell(time.time(), "opened", f"process {os.getpid()}")
        if self.command is not None:
            self.ledger.note(COMMAND, self.command.noted(self.folder.path))
        self.lock.opened()
        note_ours(self.ledger, server=server, account=known_account)
        self._recover()

    def _secret(self) -> bytes:
        secret = self.ledger.fact("secret")
        if secret is None:
            secret = os.urandom(32).hex()
            self.ledger.note("secret", secret)
        return bytes.fromhex(secret)

    def _name_of(self, account: Hashable) -> str | None:
        """Return what the ledger notes of an account; of keys that rotate nothing can be noted."""
        return hmac.digest(self.secret, account.encode(), "sha256").hex() if isinstance(account, str) else None

    def _check_input(self) -> None:
        """Compare the input with what the ledger knows, unless it is the same as the last time."""
        selected = [self.selection.limit, self.selection.sample]
        fingerprint = json.dumps([self.source.fingerprint(), *selected])
        if self.ledger.fact("input") == fingerprint:
            self.census = _census_of(self.ledger.fact("census") or "")
            return
        self.census = getattr(self, "census", None) or self._checked_census()
        list_items(self.source, self.census, self.selection, self.folder, self.ledger)
        with self.ledger.together():
            self.ledger.note("census", _noted(self.census))
            self.ledger.note("total", str(self.census.total))
            self.ledger.note("input", fingerprint)

    def _checked_census(self) -> Census:
        census = take_census(self.source, self.selection, settled_as=self._unless_stopped)
        census.check(self.source.name)
        return census

    def _unless_stopped(self, _key: str) -> None:
        if self.is_stopped.is_set():
            raise JobError("interrupted while the input was read; nothing was sent")

    def _recover(self) -> None:
        is_synced = self.durability == "power"
        spool, shelf = Spool(self.folder.spool, is_synced), self.bucket or Shelf(self.folder.path, is_synced)
        self.storing = Storing(spool, shelf, Metadata(self.folder.images), self.is_told)
        self.duplicates = DuplicateBudget(self.census.pictures, self.ledger.duplicates())
        boot = boot_id()
        is_same_boot = self.ledger.fact("boot") == boot != ""
        recoverer = Recoverer(self.ledger, self.storing, self.duplicates, self.config, is_same_boot)
        try:
            was_told = self._was_told()
            self.recovery = recoverer.run()
            self.ledger.note("boot", boot)
            if self._has_changed or not was_told:
                self.storing.metadata.replace(output.row for output in self.ledger.outputs() if output.row)
        except OSError as error:
            reason, place = error.strerror or error, error.filename2 or error.filename or self.folder.path
            raise JobError(f"what was received cannot be stored: {reason} ({place}); mend that, then repeat") from error

    def _was_told(self) -> bool:
        """Return whether the metadata were left whole, and note that they are not until a close says so again."""
        noted = self.ledger.fact(METADATA)
        self.ledger.note(METADATA, "")
        return noted == str(self.storing.metadata.size) and self.lock.was_closed

    @property
    def _has_changed(self) -> bool:
        return self.recovery.adopted + self.recovery.gone > 0


def _noted(census: Census) -> str:
    chosen = None if census.chosen is None else sorted(census.chosen)
    return json.dumps([census.total, census.pictures, sorted(census.repeated), chosen])


def _census_of(noted: str) -> Census:
    total, pictures, repeated, chosen = json.loads(noted)
    make = partial(Census, settled={}, models={}, problems={}, bad=(), bad_count=0)
    picked = None if chosen is None else frozenset(chosen)
    return make(total=total, pictures=pictures, repeated=frozenset(repeated), chosen=picked)
