"""Commands that run side by side keep to the limit of their account together."""

from __future__ import annotations

import pytest

from nebula_async.cli.connection import Connection, configured
from nebula_async.client import AsyncNebula
from nebula_async.config import Config

MODEL = "black-forest-labs/FLUX.1-schnell"


@pytest.fixture
def generate(shell, emulator):
    """Run `generate` once, at the emulator."""

    def run(name: str, *options: str, **environment: str):
        sized = ("--model", MODEL, "--width", "64", "--height", "64", "--output", f"{name}.png")
        return shell.run("generate", "a cat", *sized, *options, at=emulator, **environment)

    return run


def test_commands_count_one_day(generate, emulator, monkeypatch, tmp_path):
    """Two commands that are told to share count together, and a program that shares as well sees it."""
    monkeypatch.setenv("NEBULA_STATE_DIR", str(tmp_path / "state"))
    for name in ("one", "two"):
        ended = generate(name, NEBULA_SHARED_BY="host", NEBULA_STATE_DIR=str(tmp_path / "state"))
        assert (0, "") == (ended.code, ended.err)
    config = Config(base_url=emulator.base_url, inference_url=emulator.inference_url, shared_by="host")
    assert 2 == AsyncNebula(emulator.key, config=config).limits.used_today


@pytest.mark.parametrize(
    ("options", "environment", "shared_by"),
    [
        ({}, {}, "host"),
        ({"base_url": "https://api.example/api/v1"}, {}, "host"),
        ({}, {"NEBULA_SHARED_BY": "process"}, "process"),
        ({"base_url": "http://127.0.0.1:8000/api/v1"}, {}, "process"),
        ({"base_url": "http://127.0.0.1:8000/api/v1"}, {"NEBULA_SHARED_BY": "host"}, "host"),
        ({"emulator": True}, {"NEBULA_SHARED_BY": "host"}, "process"),
    ],
)
def test_commands_share_the_limit_unless_told(options, environment, shared_by, monkeypatch):
    """All commands of a host share the limit of their account, but for what is called on this machine."""
    for name, text in environment.items():
        monkeypatch.setenv(name, text)
    assert shared_by == configured(Connection(**options)).shared_by


def test_an_emulator_is_nobodys_account(generate, tmp_path):
    """Nothing is kept of a server on this machine unless that is asked for: it begins anew whenever it is started."""
    assert 0 == generate("one", XDG_STATE_HOME=str(tmp_path / "state")).code
    assert not (tmp_path / "state").exists()


def test_where_nothing_can_be_kept_the_command_goes_on(generate, tmp_path):
    """A folder that cannot be used costs one line, and the picture is made."""
    (tmp_path / "file").touch()
    ended = generate("one", NEBULA_SHARED_BY="host", NEBULA_STATE_DIR=str(tmp_path / "file"))
    assert 0 == ended.code
    [line] = ended.err.splitlines()
    assert line.startswith("note: the rate limit cannot be shared with other commands now (")
    assert str(tmp_path / "file") in line
    assert (tmp_path / "one.png").exists()


def test_a_wrong_choice_is_said(generate):
    """A word that is no choice ends the command before anything is sent."""
    ended = generate("one", NEBULA_SHARED_BY="galaxy")
    assert 2 == ended.code
    assert "environment variable NEBULA_SHARED_BY: shared_by must be one of host, process; got 'galaxy'" in ended.err
