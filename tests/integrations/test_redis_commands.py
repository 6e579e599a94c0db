"""Commands on any machine keep to one limit and count one day, where they name the same Redis."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from places import announced
from redis_server import RedisServer, why_not

COMMAND = Path(sys.executable).parent / "nebula-async"
SMALL = ("--model", "black-forest-labs/FLUX.1-schnell", "--width", "64", "--height", "64")


@pytest.fixture
def generate(emulator, tmp_path):
    """Run `generate` once, at the emulator, with some more environment."""

    def run(name: str, *options: str, **environment: str | None) -> subprocess.CompletedProcess[str]:
        given = {"PATH": "", **announced(emulator), **environment}
        return subprocess.run(
            [COMMAND, "generate", "a cat", *SMALL, "--output", f"{name}.png", *options],
            env={variable: text for variable, text in given.items() if text is not None},
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


@pytest.mark.skipif(why_not() is not None, reason=str(why_not()))
@pytest.mark.parametrize(
    ("given", "words"), [(":wrong-one@", "refuses: "), ("", "refuses whoever gives no password; the URL names none")]
)
def test_a_redis_that_refuses_is_said(generate, emulator, given, words):
    """A wrong password and a missing one end the command with a sentence that names the variable."""
    with RedisServer({"requirepass": "right-one"}) as server:
        ended = generate("one", NEBULA_REDIS_URL=server.url.replace(":right-one@", given))
    assert (2, 0) == (ended.returncode, emulator.journal.charged)
    start = f"nebula-async: environment variable NEBULA_REDIS_URL: Redis at 127.0.0.1:{server.port} {words}"
    assert ended.stderr.startswith(start)
    assert "-one" not in ended.stderr


def test_a_missing_key_is_not_the_fault_of_the_url(generate, redis_server):
    """Without a key the command says which variable is not set, as it does without a Redis."""
    ended = generate("one", NEBULA_REDIS_URL=redis_server.url, NEBULA_API_KEY=None)
    assert 2 == ended.returncode
    assert ended.stderr.startswith("nebula-async: no API key: set NEBULA_API_KEY")
