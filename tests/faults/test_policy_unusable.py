"""A success that holds no picture: it was paid for, it is said why, and it is not bought again."""

from __future__ import annotations

import json

import pybase64
import pytest
from scripted import PICTURE, Answer, Scripted, all_of, in_turn, meet

from nebula_async import Charges, Failure, Generation, RetryPolicy, UnusableReplyError

pytestmark = pytest.mark.anyio

PNG = pybase64.b64decode(json.loads(PICTURE)["data"][0]["b64_json"])


def holding(text: object, **members: object) -> bytes:
    """Return a reply with this in the place of its picture."""
    return json.dumps({"data": [{"b64_json": text, **members}]}).encode()


def encoded(data: bytes) -> bytes:
    """Return a reply with these bytes in the place of its picture."""
    return holding(pybase64.b64encode_as_string(data))


TEXT = pybase64.b64encode_as_string(PNG)

UNUSABLE = {
    "B20-empty": b"",
    "B20-null": b"null",
    "B20-list": b"[]",
    "B20-text": b'"x"',
    "B20-number": b"1",
    "B20-page": b"<html></html>",
    "B20-cut": PICTURE[:-5],
    "B21-neither": b'{"data": [{"b64_json": null, "url": null}]}',
    "B21-no-pictures": b'{"data": []}',
    "B25-utf-16": PICTURE.decode().encode("utf-16"),
    "B26-number": holding(5),
    "B26-nan": b'{"data": [{"b64_json": NaN}]}',
    "B27-junk": holding(TEXT[:40] + "!!<>" + TEXT[40:]),
    "B31-early-padding": holding(TEXT[:40] + "=" + TEXT[40:]),
    "B31-empty": holding(""),
    "B31-one-too-many": holding(TEXT.rstrip("=") + "A" * (-len(TEXT.rstrip("=")) % 4 + 1)),
    "B32-html": encoded(b"<!doctype html><html></html>"),
    "B32-svg": encoded(b"<svg xmlns='http://www.w3.org/2000/svg'/>"),
    "B32-zeros": encoded(bytes(5000)),
    "B33-cut": encoded(PNG[:-9]),
}


@pytest.mark.parametrize("resend_unknown", [0, 1])
@pytest.mark.parametrize("body", UNUSABLE.values(), ids=UNUSABLE)
async def test_it_is_not_bought_again(body, resend_unknown):
    """A paid reply without a picture ends the call at its first attempt, whatever may be sent again (B20-B33, D12)."""
    server = Scripted(in_turn(Answer(body=body, is_billed=True)))
    ended = await meet(server, retry=RetryPolicy(backoff=0, resend_unknown=resend_unknown))

    assert (UnusableReplyError, 1, Charges(1, 1), False) == (
        type(ended),
        ended.attempts,
        ended.charges,
        ended.retryable,
    )
    assert len(str(ended)) < 500


USABLE = {
    "B20-cut-behind-it": PICTURE[:-3],
    "B22-members": holding(TEXT, index="none", timings=[], extra={"a": [1]}),
    "B25-mark": b"\xef\xbb\xbf" + PICTURE,
    "B26-beside": PICTURE[:-1] + b', "seconds": NaN, "others": [Infinity, 1e999]}',
    "B28-line-breaks": holding("\r\n".join(TEXT[at : at + 76] for at in range(0, len(TEXT), 76))),
    "B28-escapes": PICTURE.replace(b"/", b"\\/").replace(b"+", b"\\u002b"),
    "B29-data-url": holding(f"data:image/png;base64,{TEXT}"),
    "B30-other-alphabet": holding(TEXT.replace("+", "-").replace("/", "_")),
    "B31-no-padding": holding(TEXT.rstrip("=")),
}


@pytest.mark.parametrize("headers", [{}, {"Content-Type": "text/html; charset=utf-16"}], ids=["", "B24"])
@pytest.mark.parametrize("body", USABLE.values(), ids=USABLE)
async def test_what_is_odd_and_can_be_read(body, headers):
    """A paid picture is not lost because it comes in another of the forms that servers write (B22-B31)."""
    ended = await meet(Scripted(in_turn(Answer(body=body, headers=headers, is_billed=True))))

    assert (Generation, 1, Charges(1, 1)) == (type(ended), ended.attempts, ended.charges)
    assert PNG == ended.image.data


async def test_a_hundred_of_them():
    """Of many items those that were paid for in vain are failures that say so, each paid once, and nothing is sent
    again (D12).
    """
    bodies = [body for bad in UNUSABLE.values() for body in (PICTURE, bad)]
    server = Scripted(lambda asked: Answer(body=bodies[int(asked.prompt) % len(bodies)], is_billed=True))
    ends = await all_of(server, [str(number) for number in range(100)])

    assert [Generation, Failure] * 50 == [type(ended) for ended in ends]
    assert 100 == len(server.asked)
    assert {(UnusableReplyError, Charges(1, 1))} == {(type(each.error), each.error.charges) for each in ends[1::2]}
