"""What a doctor finds without any network: the key's shape, versions, folders, limits of the machine."""

from __future__ import annotations

import resource
from importlib.metadata import metadata, version
from pathlib import Path

import pytest

from nebula_async.cli.completion import place_for, script_for
from nebula_async.cli.doctor.completed import look_at_completion
from nebula_async.cli.doctor.finding import concealed, fine
from nebula_async.cli.doctor.key import look_at_key
from nebula_async.cli.doctor.machine import look_at_disk, look_at_open_files
from nebula_async.cli.doctor.settings import read_settings
from nebula_async.cli.doctor.state import look_at_state
from nebula_async.cli.doctor.versions import is_within, look_at_extras, look_at_libraries
from nebula_async.config import Config

SHAPES = {
    "good": ("sk-4hJ9wQx2Tz7Lm5Vb8Nc1", "ok", "23 characters in NEBULA_API_KEY"),
    "other prefix": ("ak_4hJ9wQx2Tz7Lm5Vb8Nc1", "ok", "23 characters"),
    "token": ("eyJhbGciOi.eyJzdWIiOiIx.SflKxwRJSM", "ok", "34 characters"),
    "empty": ("", "problem", "nothing"),
    "blank": ("   ", "problem", "white space alone"),
    "line break": ("sk-4hJ9wQx2Tz7Lm5Vb\n", "problem", "a line break at its end"),
    "carriage return": ("sk-4hJ9wQx2Tz7Lm5Vb\r\n", "problem", "a line break at its end"),
    "two lines": ("sk-4hJ9wQx2Tz7Lm\nsk-Vb8Nc1Rr5Yt3P", "problem", "more than one line"),
    "leading blank": (" sk-4hJ9wQx2Tz7Lm5Vb", "problem", "white space at its beginning or end"),
    "quotes": ('"sk-4hJ9wQx2Tz7Lm5Vb"', "problem", "quotes"),
    "one quote": ("sk-4hJ9wQx2Tz7Lm5Vb'", "problem", "quotes"),
    "bearer": ("Bearer sk-4hJ9wQx2Tz7Lm5Vb", "problem", "Bearer"),
    "assignment": ("NEBULA_API_KEY=sk-4hJ9wQx2Tz7Lm", "problem", "the variable's name"),
    "dash of a word processor": ("sk\u20134hJ9wQx2Tz7Lm5Vb", "problem", "not ASCII"),
    "no-break space": ("sk-4hJ9wQx2Tz7Lm5Vb\u00a0", "problem", "white space"),
    "blank within": ("sk-4hJ9wQx2 Tz7Lm5Vb", "problem", "a blank or a control character"),
    "control": ("sk-4hJ9\x07wQx2Tz7Lm5Vb", "problem", "a blank or a control character"),
    "YOUR_API_KEY": ("YOUR_API_KEY", "problem", "what samples have"),
    "your-key-here": ("sk-your-key-here", "problem", "what samples have"),
    "<key>": ("<key>", "problem", "what samples have"),
    "sk-...": ("sk-...", "problem", "what samples have"),
    "xxx": ("sk-xxxxxxxxxxxxxxxx", "problem", "what samples have"),
    "not expanded": ("${NEBULA_API_KEY}", "problem", "what samples have"),
    "short": ("sk-4hJ9", "note", "short for a key"),
}


@pytest.mark.parametrize(("key", "state", "text"), SHAPES.values(), ids=SHAPES)
def test_the_shape_of_a_key(key, state, text):
    """What is wrong with a key is told, with what to do and without any part of it."""
    found = look_at_key({"NEBULA_API_KEY": key})

    assert (state, True) == (found.state, text in found.text)
    assert bool(found.advice) == (state != "ok")
    assert not {part for part in _parts_of(key) if part in f"{found.text} {found.advice}"}


def _parts_of(key: str) -> set[str]:
    """Return each stretch of a key that says something of it: four of its random characters."""
    secret = "4hJ9wQx2Tz7Lm5Vb8Nc1Rr5Yt3P"
    return {secret[at : at + 4] for at in range(len(secret) - 3) if secret[at : at + 4] in key}


def test_a_key_that_is_missing(monkeypatch, tmp_path):
    """Without a key the variable is named; with a .env file or a misspelt variable, that it is not read."""
    monkeypatch.chdir(tmp_path)
    assert "export NEBULA_API_KEY=" in look_at_key({}).advice
    assert 'export NEBULA_API_KEY="$NEBULABLOCK_API_KEY"' in look_at_key({"NEBULABLOCK_API_KEY": "sk-1"}).advice
    Path(".env").write_text("NEBULA_API_KEY=sk-1\n")
    assert "a .env file is here, and not read" in look_at_key({}).advice


@pytest.mark.parametrize(
    ("installed", "supported", "within"),
    [
        ("0.28.1", "<0.29,>=0.28.1", True),
        ("0.28.0", "<0.29,>=0.28.1", False),
        ("0.29.0", "<0.29,>=0.28.1", False),
        ("0.29.0rc1", "<0.29,>=0.28.1", False),
        ("1.10", ">=1.9", True),
        ("25.4.0", ">=25.4", True),
        ("26.1.0.post1", ">=26.1", True),
        ("3", "", True),
    ],
)
def test_supported_versions(installed, supported, within):
    """Versions are compared as numbers, with the ranges of this package's own metadata."""
    assert within == is_within(installed, supported)


def test_libraries_and_extras_are_those_of_the_metadata():
    """What is installed is told with its version, and for each optional part what it is for."""
    _, libraries = look_at_libraries()
    extras = {found.about: found for found in look_at_extras()}

    assert ("ok", version("httpx")) == (libraries.state, libraries.facts["versions"]["httpx"])
    assert {"anyio", "attrs", "cattrs", "httpcore", "httpx", "pybase64"} == libraries.facts["versions"].keys()
    offered = set(metadata("nebula_async").get_all("Provides-Extra")) - {"all", "dev"}
    assert {f"extra {name}" for name in offered} == extras.keys()
    assert ("ok", {"cyclopts", "rich", "textual-image"}) == (
        extras["extra cli"].state,
        extras["extra cli"].facts["versions"].keys(),
    )


def test_a_library_of_a_wrong_version(monkeypatch):
    """A library outside of the supported range is a problem, with the line that mends it."""
    monkeypatch.setattr("nebula_async.cli.doctor.versions.version", lambda name: "0.1" if name == "httpx" else "99")
    libraries = look_at_libraries()[1]

    assert "problem" == libraries.state
    assert "httpx 0.1, where" in libraries.text
    assert libraries.advice.startswith("pip install ")


def test_variables_that_nothing_reads():
    """A variable that looks like a setting and is none is told with the one likely meant, and without its value."""
    settings = read_settings({"NEBULA_TEIR": "expert-1", "NEBULA_COLOUR": "blue-canary", "HOME": "/root"})
    found = {each.about: each for each in settings.findings}

    assert "if you meant NEBULA_TIER, set that" == found["NEBULA_TEIR"].advice
    assert "those that are read: NEBULA_BASE_URL" in found["NEBULA_COLOUR"].advice
    assert "blue-canary" not in str(settings.findings)
    assert "those that are built in" in found["settings"].text


def test_secrets_are_hidden_wherever_they_stand():
    """A secret is replaced in texts, advice and facts alike, the longer of two that overlap first."""
    finding = fine("key", "the server said sk-canary-longer and sk-canary", said=["sk-canary-longer", 3])
    hidden = concealed(finding, {"sk-canary", "sk-canary-longer", ""})

    assert ("the server said *** and ***", ["***", 3]) == (hidden.text, hidden.facts["said"])


HOST = Config(shared_by="host")


def test_the_folder_that_commands_share(tmp_path):
    """It is told where commands meet, and when that folder cannot be used why not."""
    folder = tmp_path / "state"
    environ = {"NEBULA_STATE_DIR": str(folder)}
    assert "once there is something to share" in look_at_state(HOST, environ).text
    folder.mkdir(mode=0o700)
    (folder / "accounts-1.db").write_bytes(b"x" * 2048)
    assert ("ok", True) == ((found := look_at_state(HOST, environ)).state, "accounts-1.db (2.05 kB)" in found.text)
    folder.chmod(0o777)
    found = look_at_state(HOST, environ)
    assert ("note", True) == (found.state, "writable by nobody else" in found.text)
    assert "none is shared" in look_at_state(Config(), environ).text


def test_a_state_folder_that_is_a_file(tmp_path):
    """A file in the folder's place is told."""
    (tmp_path / "state").write_text("")

    assert "note" == look_at_state(HOST, {"NEBULA_STATE_DIR": str(tmp_path / "state" / "below")}).state


def test_too_few_open_files():
    """Where the limit of open files is below what the tier is worth, the command that raises it is told."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (120, hard))
    try:
        found = look_at_open_files(Config(tier="expert-2"))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    assert ("note", "ulimit -n 792") == (found.state, found.advice)
    assert "ok" == look_at_open_files(Config(concurrency=1)).state


def test_disk_that_is_full(monkeypatch, tmp_path):
    """A folder without room is a problem, one with little a note."""
    states = []
    for free in (10_000_000, 1_000_000_000, 50_000_000_000):
        monkeypatch.setattr("shutil.disk_usage", lambda _, free=free: type("Usage", (), {"free": free}))
        states.append(look_at_disk(tmp_path).state)

    assert ["problem", "note", "ok"] == states


def test_completion_is_there_and_of_this_version(tmp_path):
    """The doctor knows whether the user's shell completes the command, and whether it is this version's."""
    environ = {"SHELL": "/usr/bin/fish", "XDG_CONFIG_HOME": str(tmp_path)}
    assert ("note", "nebula-async completion fish --install") == (
        (found := look_at_completion(environ)).state,
        found.advice,
    )
    place = place_for("fish", environ)
    place.parent.mkdir(parents=True)
    place.write_text(script_for("fish"))
    assert "ok" == look_at_completion(environ).state
    place.write_text("# old")
    assert "another version" in look_at_completion(environ).text
    assert "ok" == look_at_completion({"SHELL": "/bin/tcsh"}).state
