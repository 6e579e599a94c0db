"""The commands, in this process, against the echoing server, with everything that is logged."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

import pytest
from attrs import frozen
from canaries import KEY
from echoing import Echo

from nebula_async.cli import main


@frozen
class Ended:
    """How a command ended, and what it wrote to both streams."""

    code: int
    text: str


@pytest.fixture
def command(tmp_path, monkeypatch, capfd) -> Callable[..., Ended]:
    """Run a command in an empty folder, with the canary as its key."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NEBULA_STATE_DIR", str(tmp_path / "state"))

    def call(server: Echo, *words: object) -> Ended:
        for name, value in settings(server).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "argv", ["nebula-async", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        told = capfd.readouterr()
        return Ended(int(ended.value.code or 0), told.out + told.err)

    return call


def settings(server: Echo) -> dict[str, str]:
    """Return the environment in which a server is the API."""
    return {
        "NEBULA_API_KEY": KEY,
        "NEBULA_BASE_URL": f"http://{server.place}/api/v1",
        "NEBULA_INFERENCE_URL": f"http://{server.place}/v1",
        "NEBULA_ALLOWED_IMAGE_HOSTS": server.place,
        "NEBULA_TIMEOUT": "2",
    }


@pytest.fixture
def open_umask():
    """Let files have all the permissions that they ask for."""
    before = os.umask(0)
    yield
    os.umask(before)
