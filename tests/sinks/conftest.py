"""Object stores to test against: two real S3 servers on this machine, and a proxy that makes one of them fail."""

from __future__ import annotations

import http.client
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from faulty_store import FaultProxy, serving
from s3_servers import BUCKET, START_SECONDS, Rclone, S3Server
from store_jobs import CATS, write


@pytest.fixture(autouse=True)
def _no_store_from_outside(monkeypatch):
    """Tests see no credentials and no endpoint of the machine they run on."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "AZURE_", "GOOGLE_"))]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def moto_server() -> Iterator[S3Server]:
    """A server that knows conditional puts and takes any signature."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    connection = http.client.HTTPConnection(host, port, timeout=START_SECONDS)
    connection.request("PUT", f"/{BUCKET}")
    assert 200 == connection.getresponse().status
    connection.close()
    yield S3Server("moto", f"{host}:{port}")
    server.stop()


@pytest.fixture(scope="session")
def rclone_server(tmp_path_factory) -> Iterator[S3Server]:
    """A server that checks signatures and knows no conditional puts."""
    rclone = Rclone(tmp_path_factory.mktemp("rclone"))
    yield rclone.start()
    rclone.kill()


@pytest.fixture
def own_rclone(tmp_path) -> Iterator[Rclone]:
    """Such a server for one test, which starts it and may kill it."""
    rclone = Rclone(tmp_path / "rclone")
    yield rclone
    rclone.kill()


@pytest.fixture(params=["moto", "rclone"])
def s3_server(request) -> S3Server:
    """Each of the real servers."""
    return request.getfixturevalue(f"{request.param}_server")


@pytest.fixture
def fault_proxy(moto_server) -> Iterator[FaultProxy]:
    """A proxy before the server that knows conditional puts."""
    with serving(FaultProxy(moto_server.address)) as proxy:
        yield proxy


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """The manifest of four prompts."""
    return write(tmp_path, *CATS)
