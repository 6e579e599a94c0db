"""The network: the proxy, the way to each host that is called, and what the API says at its end."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import anyio
from anyio.abc import ByteStream
from attrs import define, field

from nebula_async.cli.doctor.account import Account
from nebula_async.cli.doctor.finding import Finding, note
from nebula_async.cli.doctor.way import STEP_SECONDS, BlockedError, Origin, Way
from nebula_async.config import Config
from nebula_async.engine.abandon import abandonable
from nebula_async.engine.connections import ConnectionStack
from nebula_async.engine.proxy import Proxy
from nebula_async.engine.reach import hang_up
from nebula_async.engine.tls import tls_context
from nebula_async.engine.transport import Credentials, Transport
from nebula_async.errors import ConfigurationError
from nebula_async.keys import ApiKey
from nebula_async.urls import is_loopback

DIALECTS = {"serverless": "NEBULA_BASE_URL", "inference": "NEBULA_INFERENCE_URL"}
"""Both APIs, and the variables that say where each is."""


@define(eq=False)
class Network:
    """Goes to all hosts at once, and asks the serverless API what is free. `refused` variables cannot be used."""

    config: Config
    key: ApiKey | None
    refused: frozenset[str] = frozenset()
    step_seconds: float = STEP_SECONDS
    _proxy: Proxy | None = field(default=None, init=False)
    _proxy_way: Way | None = field(default=None, init=False)

    async def look(self, findings: list[Finding]) -> None:
        """Add what is found. Cancellation leaves what was found until then."""
        context = await abandonable(tls_context)
        origins = self._origins(findings)
        if self.config.proxy is not None and not all(is_loopback(origin.host) for origin in origins):
            self._proxy = Proxy.at(self.config.proxy)
            self._proxy_way = Way(Origin.of_proxy(self._proxy), context, findings, step_seconds=self.step_seconds)
            if not await _is_open(self._proxy_way):
                return
        found: list[list[Finding]] = [[] for _ in origins]
        try:
            async with anyio.create_task_group() as group:
                for origin, own in zip(origins, found, strict=True):
                    group.start_soon(self._look_at, Way(origin, context, own, step_seconds=self.step_seconds))
        finally:
            findings += [finding for own in found for finding in own]

    def _origins(self, findings: list[Finding]) -> list[Origin]:
        """Return the hosts that are called, each once; one that must not be called is a note."""
        origins: dict[tuple[str, int], Origin] = {}
        for dialect, variable in DIALECTS.items():
            try:
                origin = Origin.of(self.config.url_of(dialect), dialect)
            except ConfigurationError as error:
                if variable not in self.refused:  # else it was given, and is told as a wrong one
                    findings.append(note(f"{dialect} API", error.message, "set both, or use one API alone"))
                continue
            origins.setdefault((origin.host, origin.port), origin)
        return list(origins.values())

    async def _look_at(self, way: Way) -> None:
        if await _is_open(way, self._proxy, self._proxy_way) and way.origin.purpose == "serverless":
            await self._ask(way)

    async def _ask(self, way: Way) -> None:
        """Ask the API over connections to the address that answered, with the key if there is one."""
        key = self.key
        credentials = None if key is None else Credentials((self.config.base_url,), lambda: key)
        find = partial(_known, way.addresses) if way.addresses else None
        stack = partial(ConnectionStack, make_tls_context=lambda: way.context, find_addresses=find, proxy=self._proxy)
        transport = Transport(credentials, make_stack=stack)
        account = Account(transport, self.config.base_url)
        try:
            await account.look()
        finally:
            way.findings += account.findings
            with anyio.CancelScope(shield=True):
                await transport.aclose()


async def _known(addresses: Sequence[str], _host: str, _port: int) -> Sequence[str]:
    return addresses[:1]


async def _is_open(way: Way, proxy: Proxy | None = None, proxy_way: Way | None = None) -> bool:
    """Go a way to its end and come back; whether that was possible."""
    try:
        await hang_up(await _gone(way, proxy, proxy_way))
    except BlockedError as error:
        way.findings.append(error.finding)
        return False
    return True


async def _gone(way: Way, proxy: Proxy | None, proxy_way: Way | None) -> ByteStream:
    if proxy is None or proxy_way is None or is_loopback(way.origin.host):
        return await way.go()
    return await way.go_through(proxy, proxy_way)
