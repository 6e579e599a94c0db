"""Servers of other people as fixtures."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from collected import Collected
from redis_server import RedisServer, why_not


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    """A Redis of the test's own, empty; skipped with the reason where none can be started."""
    if reason := why_not():
        pytest.skip(reason)
    with RedisServer() as server:
        yield server


@pytest.fixture
def collected() -> Collected:
    """What OpenTelemetry's SDK collects of the test."""
    return Collected()
