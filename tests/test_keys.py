"""The API key is found, checked, and never shown."""

from __future__ import annotations

import copy
import logging
import pickle
import traceback
from functools import partial

import pytest

import nebula_async
from nebula_async.errors import ConfigurationError
from nebula_async.keys import ApiKey, find_key, hide, looks_like_key

SECRET = "sk-TOPSECRET-0123456789"

MALFORMED = {
    "empty": "",
    "blanks": "   ",
    "line break at the end, as from a .env file": SECRET + "\n",
    "carriage return at the end": SECRET + "\r",
    "blank in front": " " + SECRET,
    "header injection": SECRET + "\r\nX-Other: 1",
    "NUL": SECRET + "\0x",
    "DEL": SECRET + "\x7fx",
    "blank inside": SECRET + " x",
    "not ASCII": SECRET + "é",
    "lone surrogate": SECRET + "\ud800",
}


def refusal(source: object) -> ConfigurationError:
    """Return the error for a key that is refused."""
    with pytest.raises(ConfigurationError) as caught:
        find_key(source)
    return caught.value


def our_frames(error: BaseException) -> str:
    """Return what an error report shows of the frames of this library, local variables and all."""
    report = traceback.TracebackException.from_exception(error, capture_locals=True)
    ours = [frame for frame in report.stack if nebula_async.__path__[0] in frame.filename]
    assert ours
    return "".join(f"{frame.line} {frame.locals}" for frame in ours)


@pytest.mark.parametrize("key", ["ak_123", SECRET, "anything-else", "~!$%&*()"])
def test_no_prefix_is_required(key):
    """Any key that a header can carry is accepted: the published prefixes contradict each other (B3)."""
    assert key == find_key(key)().reveal()


def test_a_callable_is_asked_each_time():
    """Keys that rotate are given as a callable, which is asked anew for each request."""
    keys = iter(["checked-at-once", "first", "second"])
    current = find_key(lambda: next(keys))
    assert ["first", "second"] == [current().reveal(), current().reveal()]


def test_the_environment_is_read_each_time(monkeypatch):
    """Without `api_key` the key is `NEBULA_API_KEY`, and a new value there is used without a new client."""
    monkeypatch.setenv("NEBULA_API_KEY", "old")
    current = find_key(None)
    monkeypatch.setenv("NEBULA_API_KEY", "new")
    assert "new" == current().reveal()


def test_a_given_key_wins_over_the_environment(monkeypatch):
    """An explicit key is used whatever the environment says."""
    monkeypatch.setenv("NEBULA_API_KEY", "other")
    assert SECRET == find_key(SECRET)().reveal()


def test_a_missing_key_is_said_with_the_variable_to_set():
    """Without any key the message names `NEBULA_API_KEY` and the argument, before anything is sent."""
    message = str(refusal(None))
    assert "NEBULA_API_KEY" in message
    assert "api_key=" in message


@pytest.mark.parametrize("name", MALFORMED)
@pytest.mark.parametrize("wrap", [lambda key: key, lambda key: lambda: key], ids=["text", "callable"])
def test_a_malformed_key_is_refused_and_not_repaired(name, wrap):
    """A key that no header can carry is refused when the client is made, with a message that does not hold it
    (B1, B2).
    """
    error = refusal(wrap(MALFORMED[name]))
    assert str(error).startswith("the API key ")
    assert "NEBULA_API_KEY" in str(error)
    assert "SECRET" not in f"{error!r} {error.args} {error.__cause__} {error.__context__}"


@pytest.mark.parametrize("key", ["", " ", SECRET + "\n", SECRET + " x", SECRET + "é"])
def test_a_malformed_key_in_the_environment_is_refused(key, monkeypatch):
    """The environment is held to the same rules (B1)."""
    monkeypatch.setenv("NEBULA_API_KEY", key)
    assert "SECRET" not in str(refusal(None))


@pytest.mark.parametrize("key", [123, b"sk-1", True, ["sk-1"]])
def test_a_key_that_is_no_text_is_refused_by_its_type(key):
    """A key of another type is a clear error that names the type."""
    assert f"must be text, not {type(key).__name__}" in str(refusal(key))


@pytest.mark.parametrize("make", [ApiKey, find_key, lambda key: find_key(hide(key)), lambda key: find_key(lambda: key)])
def test_error_reports_with_local_variables_do_not_show_a_refused_key(make):
    """A report that prints the variables of each frame shows nothing of the key in the frames of this library (B2)."""
    with pytest.raises(ConfigurationError) as caught:
        make(SECRET + "\n")
    assert "SECRET" not in our_frames(caught.value)


def test_error_reports_do_not_show_a_key_when_its_callable_fails():
    """A callable that breaks is named, its own error is the cause, and our frames show nothing of what it knows."""

    def broken(secret: str) -> str:
        raise LookupError("the vault is closed")

    with pytest.raises(ConfigurationError, match="callable, and it failed: LookupError") as caught:
        find_key(partial(broken, SECRET))
    assert isinstance(caught.value.__cause__, LookupError)
    assert "SECRET" not in our_frames(caught.value)


@pytest.mark.parametrize(
    "show",
    [
        repr,
        str,
        format,
        ascii,
        "{}".format,
        "{!r:>30}".format,
        "%s".__mod__,
        "%r".__mod__,
        lambda key: str([key, {1: key}]),
    ],
)
@pytest.mark.parametrize("make", [ApiKey, hide])
def test_a_key_is_shown_as_stars(show, make):
    """However a key is turned into text, the text is three stars."""
    text = show(make(SECRET))
    assert "SECRET" not in text
    assert "***" in text


@pytest.mark.parametrize("make", [ApiKey, hide, find_key])
def test_a_key_has_no_attributes_to_look_into(make):
    """`vars`, which debuggers and serialisers use, finds no key."""
    hidden = make(SECRET)
    assert "SECRET" not in str(getattr(hidden, "__dict__", {}))
    assert "SECRET" not in repr(hidden)


def test_a_key_is_logged_as_stars(caplog):
    """A key that is logged by mistake leaves three stars in the log."""
    logging.getLogger("test").warning("the key is %s %r", ApiKey(SECRET), hide(SECRET))
    assert "the key is *** ***" == caplog.messages[0]


@pytest.mark.parametrize("make", [ApiKey, hide])
@pytest.mark.parametrize("duplicate", [pickle.dumps, copy.deepcopy, partial(pickle.dumps, protocol=0)])
def test_a_key_is_not_pickled(make, duplicate):
    """A key refuses to be sent to another process, and says where that process finds its own."""
    with pytest.raises(TypeError, match="NEBULA_API_KEY"):
        duplicate(make(SECRET))


def test_a_source_of_keys_is_not_pickled():
    """What a client holds of its key cannot be pickled either."""
    with pytest.raises((TypeError, AttributeError, pickle.PicklingError)):
        pickle.dumps(find_key(SECRET))


KEYS = ("sk-1", " sk-canary-5cXq0Wv7\n", "ak_live.x", "Bearer sk-canary", "a1B2c3D4e5F6g7H8i9J0k1L2")
NO_KEYS = ("engineer-1", "", "https://api.example/api/v1", "s3.example.com:443", "ask-me", None, 3.5)


@pytest.mark.parametrize(("value", "expected"), [*((key, True) for key in KEYS), *((no, False) for no in NO_KEYS)])
def test_what_may_be_a_key_is_known_as_one(value, expected):
    """A key that stands where another setting belongs is not repeated in a message; other values are."""
    assert expected == looks_like_key(value)
