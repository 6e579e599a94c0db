"""Commands on any machine keep to one limit and count one day, where they name the same Redis."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from places import announced

COMMAND = Path(sys.executable).parent / "nebula-async"
SMALL = ("--model", "black-forest-labs/FLUX.1-schnell", "--width", "64", "--height", "64")


@pytest.fixture
def generate(emulator, tmp_path):
    """Run `generate` once, at the emulator, with some more environment."""

    def run(name: str, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [COMMAND, "generate", "a cat", *SMALL, "--output", f"{name}.png", *options],
            env={"PATH": "", **announced(emulator), **environment},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def test_commands_of_several_machines_count_one_day(generate, emulator, redis_server):
    """The day's limit of the tier is that of all commands together: after the last request nothing more is sent."""
    settings = {"NEBULA_REDIS_URL": redis_server.url, "NEBULA_TIER": "engineer-1"}
    assert 0 == generate("one", **settings).returncode
    [turns] = [key for key in redis_server.run("KEYS", "*") if key.endswith("turns")]
    redis_server.run("hset", turns, "used", "200")
    ended = generate("two", **settings)
    assert (3, 1) == (ended.returncode, emulator.journal.charged)
    assert "the daily quota is used up" in ended.stderr


def test_an_emulator_of_its_own_is_shared_with_nobody(generate):
    """A tour asks no Redis, not even one that is away."""
    assert 0 == generate("one", "--emulator", NEBULA_REDIS_URL="redis://127.0.0.1:1").returncode


@pytest.mark.parametrize("url", ["127.0.0.1:6379", "http://127.0.0.1:6379", "redis://"])
def test_a_wrong_url_is_said(generate, emulator, url):
    """What is no address of a Redis ends the command with a sentence that names the variable; nothing is sent."""
    ended = generate("one", NEBULA_REDIS_URL=url)
    assert (2, 0) == (ended.returncode, emulator.journal.charged)
    assert ended.stderr.startswith("nebula-async: environment variable NEBULA_REDIS_URL: ")
    assert 1 == len(ended.stderr.splitlines())
