"""Real processes share an account: its day, its holds and its rate; one that is killed or stopped holds up nobody."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import anyio
import pytest
from host import Meeting, attempts

from nebula_async.client import AsyncNebula
from nebula_async.config import Config
from nebula_async.emulator import Emulator
from nebula_async.errors import RateLimitError

pytestmark = pytest.mark.anyio

HERE = Path(__file__).parent
MODEL = "black-forest-labs/FLUX.1-schnell"

GENERATE = """
import sys
from nebula_async import Config, NebulaError
from nebula_async.sync import NebulaClient
url, count = sys.argv[1:]
with NebulaClient("sk-emulator", config=Config(base_url=url, shared_by="host", timeouts=5)) as nebula:
    for number in range(int(count)):
        try:
            nebula.generate("a cat", model="black-forest-labs/FLUX.1-schnell", width=64, height=64)
        except NebulaError as error:
            print(type(error).__name__)
"""

SEND = """
import sys, time, anyio
from pathlib import Path
from host import Meeting
async def send(folder, per_minute):
    gate = Meeting(Path(folder)).gate(float(per_minute))
    async with gate.slot():
        pass
    with anyio.move_on_after(0.01):
        async with gate.slot():  # leaves a turn that is reserved
            pass
    print(time.monotonic(), flush=True)
    await anyio.sleep(0.2)
    while True:
        async with gate.slot():
            print(time.monotonic(), flush=True)
            await gate.accepted()
anyio.run(send, *sys.argv[1:])
"""


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a process that runs some Python code; it is killed when the test ends."""
    with ExitStack() as stack:

        def run(code: str, *arguments: object, **environment: str) -> subprocess.Popen[str]:
            paths = {"PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent)])}
            process = subprocess.Popen(
                [sys.executable, "-c", code, *map(str, arguments)],
                stdout=subprocess.PIPE,
                text=True,
                env={**os.environ, **paths, **environment},
            )
            stack.callback(_end, process)
            return process

        yield run


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    process.stdout.close()


async def test_processes_count_one_day(start, emulator, monkeypatch, tmp_path):
    """What other processes used of the day is known to the next one, after they have ended as well."""
    monkeypatch.setenv("NEBULA_STATE_DIR", str(tmp_path))
    processes = [start(GENERATE, emulator.base_url, 2) for _ in range(2)]
    for process in processes:
        assert ("", 0) == (process.communicate(timeout=60)[0], process.returncode)
    config = Config(base_url=emulator.base_url, shared_by="host")
    assert 4 == AsyncNebula(emulator.key, config=config).limits.used_today


async def test_what_one_process_is_refused_holds_the_other(start, monkeypatch, tmp_path):
    """After a refusal of one process, with a wait named, another sends nothing until then."""
    monkeypatch.setenv("NEBULA_STATE_DIR", str(tmp_path))
    with Emulator(per_minute=1, burst=1, retry_after="seconds") as emulator:
        process = start(GENERATE, emulator.base_url, 2)
        assert "RateLimitError\n" == process.communicate(timeout=60)[0]
        config = Config(base_url=emulator.base_url, shared_by="host", timeouts=5)
        async with AsyncNebula(emulator.key, config=config) as nebula:
            with pytest.raises(RateLimitError, match="held for longer than this call may take") as caught:
                await nebula.generate("a cat", model=MODEL)
        assert 0 == caught.value.attempts
        assert 2 == len(emulator.journal.generations)


async def test_a_process_that_was_killed_holds_up_nobody(start, tmp_path):
    """The turn that was reserved for a process that was killed, and its slots, need no cleaning up."""
    process = start(SEND, tmp_path / "state", 600)
    process.stdout.readline()
    process.kill()
    process.wait()
    gate = Meeting(tmp_path / "state").gate(600)
    begun = anyio.current_time()
    await attempts(gate, 3)
    assert anyio.current_time() - begun < 2
    assert 3 == gate.limits.used_today


async def test_a_process_that_was_stopped_saves_up_nothing(start, tmp_path):
    """While one process is stopped the other has all of the rate; when it goes on, both together keep to it (F56)."""
    process = start(SEND, tmp_path / "state", 600)
    process.stdout.readline()
    gate, sent = Meeting(tmp_path / "state").gate(600), []
    process.send_signal(signal.SIGSTOP)
    begun = time.monotonic()
    await attempts(gate, 15)
    assert time.monotonic() - begun < 2.5
    process.send_signal(signal.SIGCONT)
    await attempts(gate, 5)
    ended = time.monotonic()
    process.kill()
    sent = [float(line) for line in process.communicate()[0].split()]
    count = 20 + sum(begun < moment < ended for moment in sent)
    assert count <= 9.8 * (ended - begun) + 2
