"""A real Redis on this machine, that can be killed, stopped and started again."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from attrs import define, field

BINARY = "redis-server"
START_SECONDS = 10.0


def why_not() -> str | None:
    """Return why no Redis can be started here, `None` where one can."""
    return None if shutil.which(BINARY) else f"{BINARY} is not installed (Debian: apt-get install redis-server)"


@define(eq=False)
class RedisServer:
    """Debian's redis-server at a port of the loopback interface that nobody else uses, in a folder of its own.

    It keeps nothing on disk unless it `is_kept`, so one that was stopped comes back empty. `options` are lines of its
    configuration, such as `{"requirepass": "…"}`; the URL carries that password.
    """

    options: dict[str, str] = field(factory=dict)
    is_kept: bool = field(default=False, kw_only=True)
    port: int = field(init=False)
    _folder: Path = field(init=False)
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="redis-"))
        self.port = _free_port()
        self.start()

    def __enter__(self) -> RedisServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def url(self) -> str:
        """Where it listens."""
        password = self.options.get("requirepass")
        return f"redis://{f':{password}@' if password else ''}127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        """Its process."""
        return self._running.pid

    def start(self) -> None:
        """Start it, at the same port as before; return when it answers. One that runs is left alone."""
        if self._process is not None:
            return
        settings = {"port": str(self.port), "bind": "127.0.0.1", "dir": str(self._folder), "save": "", **self.options}
        if self.is_kept:
            settings |= {"appendonly": "yes", "appendfsync": "always"}
        arguments = [each for name, value in settings.items() for each in (f"--{name}", value)]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen([BINARY, *arguments], stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        self._wait_until_it_answers()

    def stop(self) -> None:
        """Kill it, as a crash does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(START_SECONDS)
            self._process = None

    def pause(self) -> None:
        """Stop its process for a while: connections stay, and nothing is answered."""
        self._running.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._running.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """Kill it and forget what it wrote."""
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def run(self, *command: object) -> Any:
        """Return what it answers to a command, as text; lists for lists. Raises `RuntimeError` for an error."""
        address = ("127.0.0.1", self.port)
        with socket.create_connection(address, START_SECONDS) as connection, connection.makefile("rwb") as stream:
            if password := self.options.get("requirepass"):
                _ask(stream, "AUTH", password)
            return _ask(stream, *command)

    @property
    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "it was stopped"
        return self._process

    def _wait_until_it_answers(self) -> None:
        end = time.monotonic() + START_SECONDS
        while True:
            try:
                if self.run("PING") == "PONG":
                    return
            except OSError:
                pass
            assert self._running.poll() is None, (self._folder / "log").read_text()
            assert time.monotonic() < end, "it does not answer"
            time.sleep(0.01)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _ask(stream: Any, *command: object) -> Any:
    words = [str(word).encode() for word in command]
    stream.write(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words))
    stream.flush()
    return _read(stream)


def _read(stream: Any) -> Any:
    line = stream.readline()
    if not line:
        raise OSError("it hung up")
    kind, rest = line[:1], line[1:-2]
    if kind == b"-":
        raise RuntimeError(rest.decode())
    if kind == b"$":
        return None if rest == b"-1" else stream.read(int(rest) + 2)[:-2].decode()
    if kind == b"*":
        return [_read(stream) for _ in range(int(rest))]
    return int(rest) if kind == b":" else rest.decode()
