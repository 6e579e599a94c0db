"""What the program around a client does to it: a loop that is blocked, a process that is out of descriptors."""

from __future__ import annotations

import functools
import io
import json
import subprocess
import sys
import time

import anyio
import anyio.to_thread
import pybase64
import pytest
from broken_exchange import Fault
from invariants import check_all, client_of, end_of
from PIL import Image
from replies import with_body

from nebula_async import Charges, Generation, Timeouts

BLOCKED_SECONDS = 1.4

SHORT = Timeouts(connect=1, write=1, read=0.8, attempt=30, total=30)
"""Shorter than the loop is blocked, where it is about one operation."""


@functools.cache
def large_reply(_body: bytes) -> bytes:
    """Return a reply of three megabytes, which is more than the buffers of two sockets hold."""
    file = io.BytesIO()
    Image.effect_noise((900, 900), 90).convert("RGB").save(file, format="PNG", compress_level=0)
    return json.dumps({"data": [{"b64_json": pybase64.b64encode_as_string(file.getvalue())}]}).encode()


FAULTS = {"small": Fault(latency=0.3), "large": Fault(latency=0.3, rewrite=with_body(large_reply))}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
@pytest.mark.anyio
async def test_a_loop_that_is_blocked(chaos, emulator, fault):
    """A reply that came while the program blocked its own event loop is read when it goes on: that this took longer
    than the timeouts is no fault of the server (F46).
    """
    proxy, ends = chaos(then=fault), []

    async def ask(number: int) -> None:
        ends.append(await end_of(nebula, f"cat {number}"))

    async with client_of(proxy, timeout=SHORT) as nebula, anyio.create_task_group() as group:
        for number in range(4):
            group.start_soon(ask, number)
        assert await anyio.to_thread.run_sync(proxy.wait_for, "request", 4)
        time.sleep(BLOCKED_SECONDS)  # noqa: ASYNC251 - what is tested

    check_all(ends, emulator, proxy.sends)
    assert [(Generation, 1, Charges(1, 1))] * 4 == [(type(ended), ended.attempts, ended.charges) for ended in ends]


FEW_DESCRIPTORS = """
import anyio, os, resource, sys
from nebula_async import AsyncNebula, Config, Failure, Generation, NotSentError, RetryPolicy

SMALL = {"model": "black-forest-labs/FLUX.1-schnell", "width": 16, "height": 16}

def open_descriptors():
    return len(os.listdir("/proc/self/fd"))

async def main(url, key, room):
    config = Config(base_url=url, concurrency=24, retry=RetryPolicy(attempts=1, backoff=0))
    async with AsyncNebula(key, config=config) as nebula:
        await nebula.generate("warm", **SMALL)
        before = open_descriptors()
        usual = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (before + room, usual[1]))
        first = await nebula.generate_all([f"first {n}" for n in range(24)], **SMALL)
        resource.setrlimit(resource.RLIMIT_NOFILE, usual)
        failed = [each for each in first if isinstance(each, Failure)]
        again = await nebula.generate_all([each.request for each in failed])
    assert failed, "there were descriptors enough"
    assert all(type(each.error) is NotSentError and each.error.retryable for each in failed), failed[0].error
    assert {(0, 0)} == {(each.error.charges.at_least, each.error.charges.at_most) for each in failed}
    assert all(isinstance(each, Generation) for each in again), again
    assert open_descriptors() < before
    print(len(failed))

anyio.run(main, sys.argv[1], sys.argv[2], int(sys.argv[3]), backend=sys.argv[4])
"""


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("room", [3, 12])
def test_out_of_descriptors(emulator, backend, room):
    """Where the process may open no more descriptors, what got no connection was not sent, costs nothing and can be
    sent again; what got one is made, and nothing is lost or left open (F50).
    """
    program = [sys.executable, "-W", "error", "-c", FEW_DESCRIPTORS]
    given = [emulator.base_url, emulator.key, str(room), backend]
    ended = subprocess.run([*program, *given], capture_output=True, text=True, timeout=60, check=False)

    assert (0, "") == (ended.returncode, ended.stderr)
    assert 0 < int(ended.stdout) < 24
    assert 25 == emulator.journal.charged == len(emulator.journal.generations)
