"""Errors form the documented tree, and survive being copied and sent to another process."""

from __future__ import annotations

import copy
import pickle

import attrs
import pytest

from nebula_async import errors
from nebula_async.api.envelope import read_error
from nebula_async.api.messages import Reply
from nebula_async.api.replies import AnswerReader
from nebula_async.charges import Charges
from nebula_async.images.arriving import ArrivingPicture
from nebula_async.images.image import Image

CLASSES = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Exception)]

VALUES = {
    "message": "what was wrong",
    "attempts": 3,
    "charges": Charges(1, 2),
    "retryable": True,
    "request_id": "req-1",
    "idempotency_key": "key-1",
    "details": {"reason": ["nested", 1, None]},
    "status": 429,
    "code": "rate_limit_exceeded",
    "retry_after": 7.5,
    "scope": "day",
    "images": (Image(url="https://a.example/1.png"),),
    "is_forbidden": True,
}


def drawn_tree() -> dict[str, str]:
    """Return the parent of each class in the drawing on top of the module."""
    parents, path = {}, []
    for line in (errors.__doc__ or "").splitlines():
        words = line.replace("│", " ").replace("├──", "   ").replace("└──", "   ")
        name = words.split(maxsplit=1)[0] if words.strip() else ""
        if not name.endswith("Error"):
            continue
        depth = (len(words) - len(words.lstrip())) // 4
        path[depth:] = [name]
        if depth:
            parents[name] = path[depth - 1]
    return parents


def filled(kind: type[errors.NebulaError]) -> errors.NebulaError:
    """Return an error with a value in each field."""
    return kind(*(VALUES[field.name] for field in attrs.fields(kind)))


def test_the_drawing_is_the_tree():
    """Each class that the module draws exists with the parent it is drawn under, and no other class does."""
    assert drawn_tree() == {
        kind.__name__: kind.__mro__[1].__name__ for kind in CLASSES if kind is not errors.NebulaError
    }


def test_two_are_also_the_errors_that_python_has_for_them():
    """Code that catches `TimeoutError` or `ValueError` catches a deadline and a request refused before sending."""
    assert issubclass(errors.DeadlineError, TimeoutError)
    assert issubclass(errors.InvalidRequestError, ValueError)


@pytest.mark.parametrize("kind", CLASSES)
def test_errors_are_pickled_whole(kind):
    """An error crosses process borders with every field, under every pickle protocol."""
    error = filled(kind)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        twin = pickle.loads(pickle.dumps(error, protocol))  # noqa: S301 - our own bytes
        assert kind is type(twin)
        assert attrs.asdict(error) == attrs.asdict(twin)
        assert (error.args, str(error), repr(error)) == (twin.args, str(twin), repr(twin))


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy])
def test_errors_are_copied_whole(kind, duplicate):
    """A copy of an error has every field, also those that were set after it was made."""
    error = kind("what was wrong")
    error.attempts, error.charges = 2, Charges(0, 1)
    twin = duplicate(error)
    assert kind is type(twin)
    assert attrs.asdict(error) == attrs.asdict(twin)


@pytest.mark.parametrize("kind", CLASSES)
def test_an_error_says_nothing_that_is_not_known(kind):
    """With only a message, an error claims no attempt, no charge and no second chance."""
    error = kind("what was wrong")
    assert (error.attempts, error.charges, error.retryable) == (0, Charges(0, 0), False)


@pytest.mark.parametrize("kind", CLASSES)
def test_errors_keep_their_identity(kind):
    """Two errors that say the same are still two: they can be put into sets, and compared by `is`."""
    assert len({kind("x"), kind("x")}) == 2


def read(reply: Reply) -> None:
    """Read a reply that came in one piece."""
    reader = AnswerReader(ArrivingPicture)
    reader.feed(reply.body)
    reader.finish(reply, asked=1, now=0)


@pytest.mark.parametrize(
    "body", [b"\x89PNG\r\n\x1a\n\x00", b'{"detail": [{"msg": "x"}]}', b'{"data": [{"b64_json": "QQ=="}]}']
)
def test_no_error_holds_bytes(body):
    """What a reply was made of never travels in its error: only text, numbers and decoded JSON do."""
    broken = Reply(status=500, body=body)
    with pytest.raises(errors.UnusableReplyError) as unusable:
        read(Reply(status=200, body=body))
    for error in (read_error(broken, now=0), unusable.value):
        assert "\\x" not in repr(error)
        assert not any(isinstance(value, bytes) for value in attrs.asdict(error).values())
