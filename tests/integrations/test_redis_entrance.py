"""Who a Redis is entered as, and over which way: URLs, certificates, and members that have ended."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest
import trustme
from anyio.pytest_plugin import FreePortFactory
from members import ACCOUNT, Members, attempts, until
from redis_server import RedisServer, why_not

from nebula_async.errors import ConfigurationError
from nebula_async.events import SharingRegained
from nebula_async.integrations.redis import RedisGate
from nebula_async.integrations.redis_names import ended_members, host

SHOWN_TO_NOBODY = """
import os, subprocess
from nebula_async.integrations.redis_names import ended_members, host
subprocess.run(["mount", "-o", "remount,hidepid=2", "/proc"], check=True)
alive, ended = subprocess.Popen(["sleep", "60"]), subprocess.Popen(["true"])
ended.wait()
names = [f"{host()}-{child.pid}-0" for child in (alive, ended)]
os.setgroups([]), os.setgid(65534), os.setuid(65534)
assert not os.path.exists(f"/proc/{alive.pid}"), "it is shown"
assert names[1:] == ended_members(names), ended_members(names)
"""

HIDDEN = ("unshare", "--mount", "--pid", "--fork", "--mount-proc")
"""Runs a command with a /proc of its own, which may hide what it likes; only an administrator can."""


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """Who signs the certificate of the Redis."""
    return trustme.CA()


@pytest.fixture
def secured(tmp_path: Path, authority: trustme.CA, free_tcp_port_factory: FreePortFactory) -> Iterator[Members]:
    """The members of an account in a Redis that speaks TLS, who trust what `trusted.pem` says."""
    if reason := why_not():
        pytest.skip(reason)
    port, certificate = free_tcp_port_factory(), authority.issue_cert("127.0.0.1")
    certificate.private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    for file in ("trusted.pem", "authority.pem"):
        authority.cert_pem.write_to_path(tmp_path / file)
    files = {"tls-cert-file": "server.pem", "tls-key-file": "server.pem", "tls-ca-cert-file": "authority.pem"}
    options = {name: str(tmp_path / file) for name, file in files.items()}
    with RedisServer({"tls-port": str(port), "tls-auth-clients": "no", **options}) as server:
        url = f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={tmp_path / 'trusted.pem'}"
        yield Members(server, url=url)


# The URL


@pytest.mark.parametrize(
    "url",
    [
        "redis://user:123456/5678@host/0",
        "redis://:12?5678=@host",
        "redis://user:12?5678@host",
        "redis://user:12#5678@host:1/0",
        "redis://user:5678[@host/0",
        "redis://user:x5678/@host/0",
    ],
)
def test_a_password_that_is_not_quoted_is_not_shown(url):
    """What may be the end of a password is refused, also where it could mean a host, and is in no message."""
    with pytest.raises(ConfigurationError, match="in a password") as caught:
        RedisGate(url, account=ACCOUNT)
    assert "5678" not in str(caught.value)
    assert "%23" in str(caught.value)


# Certificates


@pytest.mark.asyncio
async def test_no_session_key_is_written(secured, tmp_path, monkeypatch):
    """The variable `SSLKEYLOGFILE`, with which others read what is said, is not followed."""
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys.log"))
    async with secured.gate(600) as gate:
        await attempts(gate, 1)
    assert not (tmp_path / "keys.log").exists()


@pytest.mark.asyncio
async def test_certificates_are_read_once(secured, tmp_path):
    """Certificates are not read whenever a Redis that is away is tried: that would hold up the event loop."""
    async with secured.gate(600) as gate:
        await attempts(gate, 1)
        trusted = tmp_path / "trusted.pem"
        changed_at = trusted.stat().st_mtime_ns
        trusted.write_text("not read any more")
        os.utime(trusted, ns=(changed_at, changed_at))
        secured.server.stop()
        await until(lambda: secured.events)
        secured.server.start()
        await until(lambda: SharingRegained() in secured.events)


@pytest.mark.anyio
async def test_certificates_that_change_are_read_again(secured, tmp_path, authority):
    """A member that trusts the wrong ones joins when its file names the right ones."""
    trustme.CA().cert_pem.write_to_path(tmp_path / "trusted.pem")
    async with secured.gate(600) as gate:
        authority.cert_pem.write_to_path(tmp_path / "trusted.pem")
        with anyio.fail_after(10):
            await attempts(gate, 1)


@pytest.mark.anyio
@pytest.mark.parametrize("option", ["ssl_ca_certs", "ssl_certfile"])
async def test_a_certificate_that_is_not_there_is_said_at_the_entrance(option, tmp_path):
    """A wrong path is one sentence, instead of calls that wait."""
    gate = RedisGate(f"rediss://127.0.0.1:1/0?{option}={tmp_path / 'none.pem'}", account=ACCOUNT)
    with anyio.fail_after(10), pytest.raises(ConfigurationError, match=r"cannot be read: .*none\.pem") as caught:
        await gate.__aenter__()
    assert str(caught.value).startswith("a certificate that the URL of Redis names cannot be read")


# Members that have ended


def test_a_process_has_ended_when_it_is_gone_or_a_zombie():
    """Of the processes of this host those that run stay members, and those of other hosts are not judged."""
    if not host():
        pytest.skip("the system does not tell its processes apart")
    with subprocess.Popen(["true"]) as gone:
        pass
    zombie = subprocess.Popen(["true"])
    os.waitid(os.P_PID, zombie.pid, os.WEXITED | os.WNOWAIT)
    ended = [f"{host()}-{child.pid}-0" for child in (gone, zombie)]
    others = [f"{host()}-{os.getpid()}-0", f"{host()}-1-0", f"elsewhere-{gone.pid}-0", f"{host()}-{10**30}-0", "cats"]
    assert ended == ended_members([*others, *ended])
    zombie.wait()


def test_a_process_that_is_hidden_has_not_ended():
    """Where /proc shows no processes of other users (`hidepid`), as on shared hosts, their members stay members."""
    is_possible = os.getuid() == 0 and shutil.which(HIDDEN[0])
    if not is_possible or subprocess.run([*HIDDEN, "true"], capture_output=True, check=False).returncode:
        pytest.skip("only an administrator can hide processes")
    subprocess.run([*HIDDEN, sys.executable, "-c", SHOWN_TO_NOBODY], check=True)
