"""Where tests and programs run: without a network, and with an odd locale, time zone, umask and options of Python."""

from __future__ import annotations

import errno
import json
import os
import shutil
import socket
import stat
import subprocess
import sys

import pytest
from invariants import SMALL
from one_machine import is_here
from places import announced

from nebula_async import AsyncNebula, Config, NotSentError, RetryPolicy

ELSEWHERE = "192.0.2.1"
"""Nobody's address: https://www.rfc-editor.org/rfc/rfc5737"""


# No other machine


@pytest.mark.nebula_live
@pytest.mark.anyio
async def test_no_test_reaches_another_machine():
    """A client of this suite that calls another machine meets what it would without a network: it says that it could
    not send, and costs nothing (F63).
    """
    config = Config(base_url=f"https://{ELSEWHERE}/api/v1", retry=RetryPolicy(attempts=1))
    async with AsyncNebula("sk-1", config=config) as nebula:
        with pytest.raises(NotSentError, match="unreachable"):
            await nebula.generate("a dog", **SMALL)


@pytest.mark.nebula_live
def test_no_socket_reaches_another_machine():
    """Nor does any socket of Python's own (F63)."""
    with pytest.raises(OSError, match=os.strerror(errno.ENETUNREACH)):
        socket.create_connection((ELSEWHERE, 443), timeout=1)


@pytest.mark.parametrize(
    ("family", "address", "expected"),
    [
        (socket.AF_INET, ("127.0.0.1", 80), True),
        (socket.AF_INET, ("localhost", 80), True),
        (socket.AF_INET6, ("::1", 80, 0, 0), True),
        (socket.AF_UNIX, "/run/some.socket", True),
        (socket.AF_INET, ("8.8.8.8", 53), False),
        (socket.AF_INET, ("10.0.0.1", 80), False),
        (socket.AF_INET, ("api.example", 443), False),
        (socket.AF_INET6, ("2001:db8::1", 443, 0, 0), False),
    ],
)
def test_which_addresses_are_here(family, address, expected):
    """The guard knows this machine by its loopback addresses alone (F63)."""
    assert expected == is_here(family, address)


def has_unshare() -> bool:
    """Whether a process can be left without a network here."""
    found = shutil.which("unshare") and shutil.which("ip")
    return bool(found) and subprocess.run(["unshare", "-n", "true"], capture_output=True, check=False).returncode == 0


ALONE = """
import subprocess, sys
import anyio
from nebula_async import AsyncNebula
from nebula_async.emulator import Emulator

subprocess.run(["ip", "link", "set", "lo", "up"], check=True)

async def main():
    with Emulator() as emulator:
        async with AsyncNebula(emulator.key, base_url=emulator.base_url) as nebula:
            made = await nebula.generate("a dog", model="black-forest-labs/FLUX.1-schnell", width=16, height=16)
        print(made.image.width, emulator.journal.charged)

anyio.run(main)
"""


@pytest.mark.skipif(not has_unshare(), reason="no network can be taken away here (unshare, ip)")
def test_client_and_emulator_need_no_network():
    """On a machine without any network but its own loopback the emulator serves, and the client is served (F63)."""
    program = ["unshare", "-n", sys.executable, "-W", "error", "-c", ALONE]
    ended = subprocess.run(program, capture_output=True, text=True, timeout=60, check=False)

    assert (0, "16 1\n", "") == (ended.returncode, ended.stdout, ended.stderr)


# Odd surroundings

JOB = """
import os, sys
os.umask(0)
from nebula_async.cli import main
sys.exit(main())
"""

ODD = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "TZ": "Pacific/Chatham"}
STRICT = ("-bb", "-X", "dev", "-W", "error")
CASES = {"B54-optimised": ("-O",), "B54-strict": STRICT}

MANIFEST, OUT = "pr\u00f6mpts.jsonl".encode(), "\u00e9t\u00e9".encode()
PROMPTS = ("a cat in Zürich", "\u732b \U0001f408", "e\u0301t\u00e9")


@pytest.mark.parametrize("options", CASES.values(), ids=CASES)
def test_a_job_in_odd_surroundings(emulator, tmp_path, options):
    """Whatever the locale, the time zone, the umask and the options of Python, a job is done, says what it did, warns
    of nothing, and keeps its ledger to its owner, also where its ids and the names of its input and of its folder have
    letters that this locale has not.
    """
    rows = [{"prompt": prompt, "id": f"\u00e9{number}"} for number, prompt in enumerate(PROMPTS)]
    manifest, out = tmp_path / os.fsdecode(MANIFEST), tmp_path / os.fsdecode(OUT)
    manifest.write_text("".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows), encoding="utf-8")
    command = [sys.executable, *options, "-c", JOB, "bulk", MANIFEST, "--out", OUT]
    given = ["--model", SMALL["model"], "--width", "16", "--height", "16"]
    ended = subprocess.run(
        [*command, *given], cwd=tmp_path, env=os.environ | announced(emulator) | ODD, capture_output=True, timeout=120
    )
    said = ended.stderr.decode("utf-8", "replace")

    assert 0 == ended.returncode, said
    assert b"3 of 3 items done" in ended.stdout
    assert not [line for line in said.splitlines() if "Warning" in line or "Traceback" in line]
    told = [json.loads(line) for line in (out / "images/metadata.jsonl").read_bytes().splitlines()]
    assert [row["prompt"] for row in rows] == [row["prompt"] for row in sorted(told, key=lambda row: row["number"])]
    assert 3 == len([*(out / "images").glob("*/*.png")])
    kept = [out / ".nebula", *(out / ".nebula").rglob("*")]
    assert {0} == {stat.S_IMODE(path.stat().st_mode) & 0o077 for path in kept}, kept
    emulator.assert_charged(3)
