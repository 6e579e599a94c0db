"""The way to a host, step by step: its name, a connection, a proxy's tunnel, TLS."""

from __future__ import annotations

import ssl
import time
from datetime import UTC, datetime

from anyio.abc import ByteStream
from attrs import define, field, frozen

from nebula_async.cli.doctor.finding import Finding, fine, note, problem
from nebula_async.cli.doctor.untrusted import what_to_trust
from nebula_async.cli.doctor.within import reason, within
from nebula_async.engine.proxy import Proxy
from nebula_async.engine.quota import DAY_SECONDS
from nebula_async.engine.reach import (
    Secured,
    address_of,
    ask_for_tunnel,
    connect,
    find_addresses,
    hang_up,
    speak_tls,
)
from nebula_async.quantities import counted, in_milliseconds
from nebula_async.urls import is_loopback, place_of, port_of, read_url

STEP_SECONDS, NAME_SHARE = 3.0, 4 / 3
"""What a step may take, and how much more a name server may, which asks others."""

SOON_DAYS = 7
"""A certificate that ends within so many days was not renewed when it should have been."""

PROXY_AUTHENTICATION_REQUIRED = 407

BY_A_PROXY = "if a firewall wants a proxy: export NEBULA_PROXY=http://host:port"


class BlockedError(Exception):
    """The way ends here; `finding` says why."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.text)
        self.finding = finding


@frozen
class Origin:
    """A host that is called, its port, whether TLS is spoken there, and what it is for."""

    host: str
    port: int
    is_tls: bool
    purpose: str

    @classmethod
    def of(cls, url: str, purpose: str) -> Origin:
        """Return where a URL of the configuration leads."""
        parts = read_url(url)
        return cls(parts.hostname or "", port_of(parts), parts.scheme == "https", purpose)

    @classmethod
    def of_proxy(cls, proxy: Proxy) -> Origin:
        """Return where a proxy is."""
        return cls(proxy.host, proxy.port, proxy.is_tls, "proxy")

    def __str__(self) -> str:
        return place_of(self.host, self.port)


@define(eq=False)
class Way:
    """The way to a host, as far as it has been gone: what was found, and the addresses, best first. Each step may take
    `step_seconds`.
    """

    origin: Origin
    context: ssl.SSLContext
    findings: list[Finding] = field(factory=list)
    addresses: list[str] = field(factory=list)
    step_seconds: float = STEP_SECONDS

    async def go(self) -> ByteStream:
        """Return a connection to the host that is as it has to be, with TLS where it speaks that.

        Raises `BlockedError`. Cancellation leaves what was found.
        """
        self.addresses = await self._look_up()
        stream = await self._connect()
        return await self._secure(stream) if self.origin.is_tls else stream

    async def go_through(self, proxy: Proxy, way: Way) -> ByteStream:
        """Return a connection as `go` does, through a proxy whose own way was gone before."""
        again = Way(way.origin, way.context, addresses=way.addresses, step_seconds=way.step_seconds)
        stream = await again._connect()
        if proxy.is_tls:
            stream = await again._secure(stream)
        stream = await self._tunnel(stream, proxy)
        return await self._secure(stream) if self.origin.is_tls else stream

    async def _secure(self, stream: ByteStream) -> ByteStream:
        """Return the stream with TLS spoken over it. Raises `BlockedError`."""
        about = f"{self.origin.purpose}: TLS"
        try:
            secured, agreed = await within(self.step_seconds, speak_tls, stream, self.origin.host, self.context)
        except (OSError, ValueError) as error:
            await hang_up(stream)
            raise BlockedError(problem(about, *what_to_trust(error, self.origin.host))) from error
        self.findings.append(_of_certificate(about, agreed))
        return secured

    async def _look_up(self) -> list[str]:
        about = f"{self.origin.purpose}: name"
        try:
            found = await within(NAME_SHARE * self.step_seconds, find_addresses, self.origin.host, self.origin.port)
        except (OSError, ValueError) as error:
            text = f"{self.origin.host} has no address: {reason(error)}"
            raise BlockedError(problem(about, text, self._remedy())) from error
        is_name = found != [self.origin.host]
        text = f"{self.origin.host} is {', '.join(found)}" if is_name else f"{found[0]} is an address"
        self.findings.append(fine(about, text, addresses=found))
        return found

    async def _connect(self) -> ByteStream:
        about, began = f"{self.origin.purpose}: connection", time.monotonic()
        try:
            stream = await within(self.step_seconds, connect, self.addresses, self.origin.port)
        except OSError as error:
            text = f"{self.origin} does not answer: {reason(error)}"
            raise BlockedError(problem(about, text, self._remedy())) from error
        address, seconds = address_of(stream), time.monotonic() - began
        self.addresses = [address, *(other for other in self.addresses if other != address)]
        text = f"port {self.origin.port} of {address} answers in {in_milliseconds(seconds)}"
        self.findings.append(fine(about, text, address=address, seconds=round(seconds, 4)))
        return stream

    async def _tunnel(self, stream: ByteStream, proxy: Proxy) -> ByteStream:
        about = f"{self.origin.purpose}: tunnel"
        try:
            status = await within(self.step_seconds, ask_for_tunnel, stream, proxy, self.origin.host, self.origin.port)
        except (OSError, ValueError) as error:
            await hang_up(stream)
            text = f"the proxy gives no tunnel to {self.origin}: {reason(error)}"
            raise BlockedError(problem(about, text, "check NEBULA_PROXY: it must be an HTTP proxy")) from error
        if not 200 <= status < 300:
            await hang_up(stream)
            raise BlockedError(problem(about, *_refused(status, self.origin), status=status))
        self.findings.append(fine(about, f"the proxy lets us pass to {self.origin}", status=status))
        return stream

    def _remedy(self) -> str:
        if is_loopback(self.origin.host):
            return f"start what is to answer there (nebula-async emulator), or check {self._option}"
        return f"check the network and {self._option}; {BY_A_PROXY}"

    @property
    def _option(self) -> str:
        return {"serverless": "--base-url", "inference": "--inference-url"}.get(self.origin.purpose, "NEBULA_PROXY")


def _refused(status: int, origin: Origin) -> tuple[str, str]:
    text = f"the proxy refuses to let us pass to {origin} (HTTP {status})"
    if status == PROXY_AUTHENTICATION_REQUIRED:
        return text, "put user and password into NEBULA_PROXY, percent-encoded: http://user:password@host:port"
    return text, f"ask whoever runs the proxy to allow {origin}"


def _of_certificate(about: str, agreed: Secured) -> Finding:
    days = int((agreed.expires_at - time.time()) // DAY_SECONDS)
    end = f"{datetime.fromtimestamp(agreed.expires_at, UTC):%Y-%m-%d}"
    text = f"{agreed.version}; the certificate is trusted, and ends on {end}"
    if days < SOON_DAYS:
        advice = "calls fail from then on: it is for whoever runs the server to renew it"
        return note(about, f"{text}, in {counted(days, 'day')}", advice, days_left=days)
    return fine(about, text, days_left=days)
