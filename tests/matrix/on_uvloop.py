"""Run tests that run on asyncio on uvloop instead: `PYTHONPATH=tests/matrix pytest -p on_uvloop …`."""

import asyncio

import uvloop

asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())


def pytest_sessionstart() -> None:
    """Fail where something has put another policy in place."""
    with asyncio.Runner() as runner:
        assert isinstance(runner.get_loop(), uvloop.Loop)
