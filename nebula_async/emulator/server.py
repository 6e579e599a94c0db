"""The emulator: its options, and its lifetime in a thread of its own or in the caller's."""

import functools
import socket
import threading
import time
from collections.abc import Callable, Iterable
from decimal import Decimal
from types import TracebackType
from typing import Self

from nebula_async.emulator.account import Account
from nebula_async.emulator.app import build_app
from nebula_async.emulator.dialects import ErrorBody
from nebula_async.emulator.faults import Fault
from nebula_async.emulator.journal import Journal
from nebula_async.emulator.limits import Window
from nebula_async.emulator.origins import Origin
from nebula_async.emulator.script import Script
from nebula_async.emulator.service import Service
from nebula_async.emulator.serving import Server, listen, run
from nebula_async.emulator.settings import (
    FORBIDDEN_WORDS,
    ExpiredStatus,
    ImageFormat,
    RetryAfter,
    Settings,
    read_choice,
    read_credit,
    read_faults,
    read_keys,
    read_latency,
    read_limits,
    read_ports,
    read_seconds,
    read_words,
)


class Emulator:
    """A local Nebula Block, serving while its `with` block is entered or `serve_forever` runs.

    `tier` is engineer-1, engineer-2, engineer-3, expert-1, expert-2 or None for no limits; `per_minute` and
    `per_day` replace its limits. `window` is how a minute is counted: as a `bucket` that refills, by the `fixed`
    minutes of the clock, or as any `sliding` 60 seconds; `burst`, the bucket's, is how many calls may come at once
    (a minute's worth unless given). `latency` is a factor on the models' inference times, 0 switches it off;
    `image_format` is png, jpeg or webp; `faults` are `Fault` values or their text form; `credit` is in USD; `clock`
    returns seconds since the epoch and decides limits and expiry; `error_body` chooses between dialect A's
    `{"status", "message", "data"}` and `{"detail"}`; `retry_after` (seconds, http-date, ms) adds that header to a 429.
    With `replays`, who comes again with an `Idempotency-Key` is told the same again, and pays nothing.

    Dialect B refuses prompts with a word of `forbidden_words`, and its pictures are fetched from another port,
    `storage_port`, for `url_seconds`; then they are a 404, or 403 by `expired_status`. Port 0 is any free one.
    A bad option raises `ValueError`.
    """

    def __init__(
        self,
        *,
        tier: str | None = None,
        per_minute: int | None = None,
        per_day: int | None = None,
        window: Window = "bucket",
        burst: int | None = None,
        latency: float = 0.0,
        image_format: ImageFormat = "png",
        seed: int = 0,
        faults: Iterable[str | Fault] = (),
        keys: Iterable[str] = ("sk-emulator",),
        credit: Decimal | int | str = Decimal(100),
        clock: Callable[[], float] = time.time,
        host: str = "127.0.0.1",
        port: int = 0,
        storage_port: int = 0,
        url_seconds: float = 3600,
        expired_status: ExpiredStatus = 404,
        forbidden_words: Iterable[str] = FORBIDDEN_WORDS,
        error_body: ErrorBody = "status",
        retry_after: RetryAfter | None = None,
        replays: bool = False,
    ) -> None:
        accepted = read_keys(keys)
        self.key = accepted[0]
        self._host = host
        self._ports = read_ports(port, storage_port)
        self._service = Service(
            Settings(
                latency=read_latency(latency),
                image_format=read_choice("image_format", image_format, "png", "jpeg", "webp"),
                seed=seed,
                faults=read_faults(faults),
                error_body=read_choice("error_body", error_body, "status", "detail"),
                url_seconds=read_seconds("url_seconds", url_seconds),
                expired_status=read_choice("expired_status", expired_status, 404, 403),
                forbidden=read_words(forbidden_words),
                replays=replays,
            ),
            Account(
                keys=frozenset(accepted),
                limits=read_limits(tier, per_minute, per_day, window, burst),
                credit=read_credit(credit),
                retry_after=read_choice("retry_after", retry_after, "seconds", "http-date", "ms", None),
                clock=clock,
            ),
        )
        self._origins: tuple[Origin, Origin] | None = None
        self._server: Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def base_url(self) -> str:
        """The URL of dialect A to give a client, with `/api/v1`; known once the emulator runs."""
        return f"{self._running[0].url}/api/v1"

    @property
    def inference_url(self) -> str:
        """The URL of dialect B to give a client, with `/v1`; known once the emulator runs."""
        return f"{self._running[0].url}/v1"

    @property
    def storage_host(self) -> str:
        """Host and port of dialect B's pictures, as in their URLs; a client that guards addresses has to allow it."""
        return self._running[1].netloc

    @property
    def journal(self) -> Journal:
        """What was asked, answered and charged; it can be read after the emulator has stopped, too."""
        return self._service.journal

    @property
    def script(self) -> Script:
        """Faults for the requests that come next, and for prompts: `script.next("429", "cut")`."""
        return self._service.script

    def reset(self) -> None:
        """Go back to the start: empty journal and script, full credit, fresh limits, no pictures, requests from 1.

        What clients had sent before belongs to the time before, even if they left without an answer.
        """
        if self._server is not None:
            self._server.read_what_came()
        self._service.reset()

    def serve_forever(self, *, ready: Callable[["Emulator"], None] | None = None) -> None:
        """Serve in this thread until SIGINT or SIGTERM, then return; `ready` is called once connections are accepted.

        Raises `OSError` when an address cannot be bound; its `filename` is that address.
        """
        server, listeners = self._bind(ready)
        try:
            run(server, listeners)
        finally:
            self._origins = None

    def __enter__(self) -> Self:
        self._server, listeners = self._bind(None)
        server = self._server
        self._thread = threading.Thread(target=run, args=(server, listeners), name="nebula-emulator", daemon=True)
        self._thread.start()
        server.up.wait()
        if not server.started:
            self._leave()
            raise RuntimeError("the emulator could not start; its thread has printed why")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._leave()

    @property
    def _running(self) -> tuple[Origin, Origin]:
        if self._origins is None:
            raise RuntimeError("the emulator is not running; enter its `with` block first")
        return self._origins

    def _leave(self) -> None:
        assert self._server is not None  # noqa: S101 - __enter__ came first
        assert self._thread is not None  # noqa: S101 - and made both
        self._server.stop()
        self._thread.join()
        self._server = self._thread = self._origins = None

    def _bind(self, ready: Callable[["Emulator"], None] | None) -> tuple[Server, list[socket.socket]]:
        if self._origins is not None:
            raise RuntimeError("the emulator is already running")
        listeners = listen(self._host, *self._ports)
        api, storage = (Origin(self._host, listener.getsockname()[1]) for listener in listeners)
        self._origins = (api, storage)
        build = functools.partial(build_app, self._service, api=api, storage=storage)
        return Server(build, lambda: ready(self) if ready else None), listeners
