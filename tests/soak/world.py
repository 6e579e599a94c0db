"""Where a seed takes place: a service that can be disturbed, a line before it that breaks, and a disk that can be full.

The service is the emulator; it stops and starts again at the same address with all that it knows.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from decimal import Decimal
from functools import cache
from itertools import islice
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

from attrs import define, field, frozen
from chaos import ChaosProxy
from nemesis import Nemesis, Workload
from small_job import quick_folder
from test_lost_folders import can
from weather import Weather

from nebula_async.emulator import Emulator, RequestRecord, Tier
from nebula_async.emulator.account import Account
from nebula_async.emulator.limits import Limits

CREDIT = Decimal(100_000)
DISK_BYTES = 2**30
"""More than a job wants free before it sends anything; of memory it takes what is written to it, and no more."""

LEFT_BYTES = 48 * 2**10
"""So much room is left on a disk that fills up: what is under way may find some, and then none."""

PORTS = range(18_000, 32_000)

UNLIMITED = Limits(Tier(), "bucket", 1)


@frozen
class Door:
    """Where a job finds the service: behind the line, but for the pictures at URLs."""

    key: str
    base_url: str
    inference_url: str
    storage_host: str


@define(eq=False)
class World:
    """A service behind a line; `disk` is for the job, `beside` for what must not be lost with it."""

    emulator: Emulator
    line: ChaosProxy
    weather: Weather
    disk: Path
    beside: Path
    is_mounted: bool
    _serving: ExitStack
    skipped: list[str] = field(factory=list, init=False)

    @property
    def door(self) -> Door:
        """Where the job is to go."""
        inference = urlsplit(self.emulator.inference_url)._replace(netloc=self.line.place).geturl()
        return Door(self.emulator.key, self.line.url, inference, self.emulator.storage_host)

    @property
    def exchanges(self) -> int:
        """How many exchanges the line has seen begin."""
        return self.line.sends

    @property
    def records(self) -> tuple[RequestRecord, ...]:
        """What the service wrote down of the requests for pictures."""
        return self.emulator.journal.generations

    def restart(self, seconds: float) -> None:
        """Break off what the service is asked, and let it be away for so long; it knows afterwards what it knew."""
        self._serving.close()
        time.sleep(seconds)
        self._serving.enter_context(self.emulator)

    def limit(self, *, per_minute: int | None = None, per_day: int | None = None, burst: int = 1) -> None:
        """Let the account have these limits, none of them used yet."""
        self._account.limits = Limits(Tier(per_minute, per_day), "bucket", burst)
        self._account.reset()

    def say_waits(self, form: str) -> None:
        """Let refusals say in some form how long to wait, or not at all."""
        self._account.retry_after = None if form == "None" else form

    def impoverish(self) -> None:
        """Let the account have next to no money."""
        self._account.balance = Decimal("0.0001")

    def refill(self) -> None:
        """Let the account have money, and a day without a limit."""
        self._account.limits = Limits(Tier(self._account.limits.tier.per_minute), "bucket", self._account.limits.burst)
        self._account.reset()

    def calm(self) -> None:
        """End all that is wrong with line, service and disk."""
        self.weather.share = 0.0
        self.emulator.script.clear()
        self._account.limits = UNLIMITED
        self._account.reset()

    @contextmanager
    def full_disk(self) -> Iterator[None]:
        """Leave next to no room on the job's disk; where it has none of its own, this is skipped."""
        if not self.is_mounted:
            self.skipped.append("disk is full: nothing can be mounted here")
            yield
            return
        while not self._resize(used(self.disk) + LEFT_BYTES):
            pass  # more was written meanwhile than there would have been room for
        try:
            yield
        finally:
            self._resize(DISK_BYTES)

    @property
    def _account(self) -> Account:
        return self.emulator._service.account  # as no user could

    def _resize(self, size: int) -> bool:
        given = ["mount", "-o", f"remount,size={size}", str(self.disk)]
        return subprocess.run(given, capture_output=True).returncode == 0


@contextmanager
def world_of(nemesis: Nemesis) -> Iterator[World]:
    """Give the world of a seed; nothing is left of it."""
    workload = nemesis.workload()
    with ExitStack() as stack:
        emulator = emulator_of(nemesis.seed, workload)
        beside = Path(stack.enter_context(TemporaryDirectory(prefix="nebula-soak-")))
        disk = stack.enter_context(_disk(beside))
        weather, serving = Weather(nemesis.seed), stack.enter_context(ExitStack())
        serving.enter_context(emulator)
        line = stack.enter_context(ChaosProxy(emulator.base_url, weather, nemesis.seed))
        yield World(emulator, line, weather, disk, beside, is_mounted=can_mount(), serving=serving)


def emulator_of(seed: int, workload: Workload) -> Emulator:
    """Return the service of a seed, at an address that it keeps."""
    ports = free_ports()
    return Emulator(
        seed=seed,
        image_format=workload.image_format,
        replays=workload.is_replaying,
        credit=CREDIT,
        port=ports[0],
        storage_port=ports[1],
    )


def free_ports() -> list[int]:
    """Return two ports that are free now, and that the system gives to nobody who connects."""
    free = (port for port in Random().sample(PORTS, len(PORTS)) if _is_free(port))  # noqa: S311 - any will do
    return list(islice(free, 2))


def _is_free(port: int) -> bool:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


@cache
def can_mount() -> bool:
    """Whether a disk of its own can be made for a job."""
    return os.geteuid() == 0 and can("unshare", "-m", "mount", "-t", "tmpfs", "none", "/mnt")


@contextmanager
def _disk(beside: Path) -> Iterator[Path]:
    if not can_mount():
        with quick_folder() as folder:
            yield Path(folder)
        return
    place = beside / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "none", str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def used(folder: Path) -> int:
    """Return how many bytes of a folder's disk are taken."""
    return shutil.disk_usage(folder).used
