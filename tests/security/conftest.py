"""The commands, in this process, against the echoing server, with everything that is logged."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
from canaries import KEY
from command_line import Ended
from echoing import Echo


@pytest.fixture
def command(shell, tmp_path) -> Callable[..., Ended]:
    """Run a command in an empty folder, with the canary as its key."""

    def call(server: Echo, *words: object) -> Ended:
        return shell.run(*words, NEBULA_STATE_DIR=str(tmp_path / "state"), **settings(server))

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
