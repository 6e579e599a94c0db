"""Where a Redis is: its URL, checked, and a client for it."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from anyio import TASK_STATUS_IGNORED
from anyio.abc import TaskStatus
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from attrs import define, field
from coredis import Redis
from coredis.connection import BaseConnection, TCPConnection, UnixDomainSocketConnection
from coredis.connection._tcp import TCPLocation
from coredis.connection._uds import UnixDomainSocketLocation
from coredis.pool import ConnectionPool
from coredis.retry import NoRetryPolicy

from nebula_async.engine.tls import verifying_context
from nebula_async.errors import ConfigurationError

SCHEMES = ("redis", "rediss", "unix")
FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
OPTIONS = ("db", *FILES)
USUAL_PORT = 6379
MOST_CHARACTERS, DATABASE_DIGITS = 4096, 9

QUOTING = "; in a password / ? # [ ] are written %2F %3F %23 %5B %5D"
"""Said instead of what was given where that may be the end of a password."""


class _Tidy(BaseConnection):
    """A connection that closes its streams when it could not be made, too; coredis leaves them to a warning."""

    async def run(self, *, task_status: TaskStatus[None] = TASK_STATUS_IGNORED) -> None:
        try:
            await super().run(task_status=task_status)
        finally:
            for part in vars(self).values():
                if isinstance(part, MemoryObjectSendStream | MemoryObjectReceiveStream):
                    part.close()


class _OverTCP(_Tidy, TCPConnection):
    pass


class _OverSocket(_Tidy, UnixDomainSocketConnection):
    pass


@define(eq=False, repr=False)
class Address:
    """Where Redis is, by its URL; shown without the password.

    `redis://user:password@host:port/db`, `rediss://` for TLS, by whose certificate the host is known, or
    `unix:///path?db=`. `ssl_ca_certs`, `ssl_certfile` and `ssl_keyfile` name files. Raises `ConfigurationError` for a
    URL that is none.
    """

    url: str
    _parts: SplitResult = field(init=False)
    _options: dict[str, str] = field(init=False)
    _trust: tuple[list[int], ssl.SSLContext] | None = field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        problem = _problem(self.url)
        if problem:
            raise ConfigurationError(f"the URL of Redis {problem}; give one such as redis://127.0.0.1:6379/0")
        self._parts = urlsplit(self.url)
        self._options = {name: values[-1] for name, values in parse_qs(self._parts.query).items()}

    def __str__(self) -> str:
        parts = self._parts
        return parts.path if parts.scheme == "unix" else f"{parts.hostname}:{parts.port or USUAL_PORT}"

    @property
    def names_password(self) -> bool:
        """Whether there is a password in the URL."""
        return bool(self._parts.password)

    def client(self, connect_seconds: float) -> Redis[str]:
        """Return a client that has connected to nothing yet. Raises `ConfigurationError` for files of no use."""
        parts, options = self._parts, self._options
        settings: dict[str, Any] = {
            "db": int(options.get("db") or _database(parts) or 0),
            "username": parts.username and unquote(parts.username),
            "password": parts.password and unquote(parts.password),
            "ssl_context": self._context() if parts.scheme == "rediss" else None,
            "connect_timeout": connect_seconds,
            "decode_responses": True,
        }
        pool: ConnectionPool[Any] = ConnectionPool(**self._place(), **settings)
        return Redis(connection_pool=pool, decode_responses=True, retry_policy=NoRetryPolicy())

    def _place(self) -> dict[str, Any]:
        if self._parts.scheme == "unix":
            location = UnixDomainSocketLocation(path=unquote(self._parts.path))
            return {"location": location, "connection_class": _OverSocket}
        host = TCPLocation(host=str(self._parts.hostname), port=self._parts.port or USUAL_PORT)
        return {"location": host, "connection_class": _OverTCP}

    def _context(self) -> ssl.SSLContext:
        """Return whom to trust, made once, as it takes 20 ms of the event loop, and anew when its files change."""
        try:
            changed_at = [Path(path).stat().st_mtime_ns for name, path in self._options.items() if name in FILES]
            if self._trust is None or self._trust[0] != changed_at:
                self._trust = changed_at, self._new_context()
        except (OSError, ssl.SSLError) as error:
            raise ConfigurationError(f"a certificate that the URL of Redis names cannot be read: {error}") from error
        return self._trust[1]

    def _new_context(self) -> ssl.SSLContext:
        context = verifying_context()
        if "ssl_ca_certs" in self._options:
            context.load_verify_locations(self._options["ssl_ca_certs"])
        else:
            context.load_default_certs()
        if "ssl_certfile" in self._options:
            context.load_cert_chain(self._options["ssl_certfile"], self._options.get("ssl_keyfile"))
        return context


def _database(parts: SplitResult) -> str:
    return "" if parts.scheme == "unix" else parts.path.strip("/")


def _problem(url: object) -> str | None:
    if not isinstance(url, str):
        return f"must be a str; got {type(url).__name__}"
    if len(url) > MOST_CHARACTERS:
        return f"has {len(url)} characters, more than {MOST_CHARACTERS}"
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return f"has a host or a port that is none{QUOTING}"
    return _problem_of(parts)


def _problem_of(parts: SplitResult) -> str | None:
    if parts.scheme not in SCHEMES:
        return f"begins with none of {', '.join(f'{scheme}://' for scheme in SCHEMES)}"
    if parse_qs(parts.query, keep_blank_values=True).keys() - set(OPTIONS):
        return f"has an option that is none of {', '.join(OPTIONS)}{QUOTING}"
    if parts.fragment:
        return f"has a # with something behind it{QUOTING}"
    if not (parts.path.strip("/") if parts.scheme == "unix" else parts.hostname):
        return "names no file of a socket" if parts.scheme == "unix" else "names no host"
    database = parse_qs(parts.query).get("db", [_database(parts)])[-1]
    is_number = database.isascii() and database.isdecimal() and len(database) <= DATABASE_DIGITS
    return None if is_number or not database else f"names a database that is no number{QUOTING}"
