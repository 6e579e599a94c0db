"""Large replies: pictures are decoded where they lie, in every form, and what lies beside them is bounded."""

from __future__ import annotations

import json
import os
import re
import time

import pybase64
import pytest
from bodies import RED, b64, reply
from hypothesis import given
from hypothesis import strategies as st

from nebula_async.api.extract import (
    LONG_BYTES,
    MAX_JSON_BYTES,
    MAX_KEYS,
    STEP_BYTES,
    cut_pictures,
    decode_base64,
    parse_json,
)
from nebula_async.api.replies import MOST_PICTURES, read_reply
from nebula_async.errors import ContentPolicyError, UnusableReplyError

DATA = os.urandom(2 * LONG_BYTES)
TEXT = pybase64.b64encode(DATA).decode()
LONGEST_SECONDS = 1.0


def read(body: bytes) -> object:
    """Return the JSON of a body with the bytes of its long pictures in their places."""
    cut = cut_pictures(body)

    def replaced(value: object) -> object:
        if isinstance(value, dict):
            return {name: replaced(inner) for name, inner in value.items()}
        if isinstance(value, list):
            return [replaced(inner) for inner in value]
        return decode_base64(cut.pictures[value]) if isinstance(value, str) and value in cut.pictures else value

    return replaced(parse_json(cut.json))


def lines(text: str, end: str) -> str:
    """Return the text with a line end after every 76 characters."""
    return end.join(re.findall(".{1,76}", text))


FORMS = {
    "plain": TEXT,
    "without padding": TEXT.rstrip("="),
    "URL-safe": TEXT.replace("+", "-").replace("/", "_"),
    "a data URL": f"data:image/png;base64,{TEXT}",
    "a data URL with escapes": f"data:image\\/png;base64,{TEXT}",
    "escaped slashes": TEXT.replace("/", "\\/"),
    "letters by number": TEXT.replace("+", "\\u002b").replace("/", "\\u002F").replace("=", "\\u003d"),
    "lines": lines(TEXT, "\\r\\n"),
    "lines by number": lines(TEXT, "\\u000a"),
    "blanks": lines(TEXT, " "),
    "every letter by number": "".join(f"\\u{ord(letter):04x}" for letter in TEXT),
}


@pytest.mark.parametrize("text", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("size", range(3))
def test_long_base64_is_read_in_all_its_forms(text, size):
    """Whatever JSON allows a server to write, the bytes of a large picture come out, as those of a small one do."""
    longer = text if size == 0 else text.rstrip("=") + "A" * 4 * size if "=" not in TEXT else text
    body = f'{{"data": [{{"b64_json": "{longer}", "index": 0}}]}}'.encode()
    decoded = json.loads(body)["data"][0]["b64_json"]

    assert {"data": [{"b64_json": decode_base64(decoded), "index": 0}]} == read(body)


@pytest.mark.parametrize("before", range(14))
@pytest.mark.parametrize("escape", ["\\n", "\\/", "\\u002b", "\\u000a\\u002F\\n"], ids=["\\n", "\\/", "\\u", "three"])
def test_no_escape_is_split(escape, before):
    """Large pictures are read piece by piece, and wherever an escape lies none of them ends within it."""
    head = "A" * (STEP_BYTES - before)
    letters = json.loads(f'"{head}{escape}"').replace("\n", "")
    text = head + escape + "A" * (80 - len(letters) % 4)

    assert decode_base64(json.loads(f'"{text}"')) == decode_base64(memoryview(text.encode()))


@given(
    st.binary(max_size=60), st.lists(st.integers(0, 99), max_size=5), st.sampled_from(["\\n", "\\/", "\\u002B", " "])
)
def test_a_view_and_a_text_are_the_same(data, places, escape):
    """A value is read alike where it lies in the body, and as a text of its own; what one refuses the other does."""
    text = b64(data)
    for place in places:
        text = text[: place % (len(text) + 1)] + escape + text[place % (len(text) + 1) :]
    results = []
    try:
        value = json.loads(f'"{text}"')
    except ValueError:
        return  # an escape within an escape
    for given_value in (value, memoryview(text.encode())):
        try:
            results.append(decode_base64(given_value))
        except ValueError as error:
            results.append(str(error))

    assert results[0] == results[1]


JUNK = {
    "a character that is none": TEXT[:20_000] + "!" + TEXT[20_000:],
    "a quote": TEXT[:20_000] + '\\"' + TEXT[20_000:],
    "a backslash": TEXT[:20_000] + "\\\\" + TEXT[20_000:],
    "a backslash at the end": TEXT + "\\\\",
    "an escape that is none": TEXT[:20_000] + "\\x" + TEXT[20_000:],
    "a raw line break": lines(TEXT, "\n"),
    "a NUL": TEXT[:20_000] + "\0" + TEXT[20_000:],
    "an umlaut": TEXT[:20_000] + "\u00e4" + TEXT[20_000:],
    "padding within": TEXT[:20_000] + "=" + TEXT[20_000:],
    "two in a row": TEXT[:20_001] + "==" + TEXT,
    "one letter too many": TEXT.rstrip("=")[: len(TEXT) // 4 * 4 - 4] + "A",
    "stray bits": "QUJD" * 10_000 + "QR==",
    "nothing but blanks": " " * 20_000,
    "a data URL of nothing": "data:image/png;base64," + " " * 20_000,
}


@pytest.mark.parametrize("text", JUNK.values(), ids=JUNK)
def test_long_base64_that_is_wrong_is_refused(text):
    """What strict base64 or JSON does not allow is refused in a large picture, too."""
    body = f'{{"data": [{{"b64_json": "{text}"}}]}}'.encode()
    with pytest.raises(UnusableReplyError):
        read_reply(reply(body), asked=1, now=0)


def test_a_picture_is_not_copied():
    """A large picture's base64 is decoded where it lies in the reply, and its JSON is small."""
    body = json.dumps({"data": [{"b64_json": TEXT}], "message": "ok"}).encode()
    cut = cut_pictures(body)

    assert [body] == [view.obj for view in cut.pictures.values()]
    assert 200 > len(cut.json)


@pytest.mark.parametrize("key", ["b64_json", "image_b64", "image_file"])
@pytest.mark.parametrize("gap", ["", " ", "\n\t "])
def test_any_order_of_keys_will_do(key, gap):
    """Pictures are found before and after everything else, several of them, in objects and lists."""
    picture = f'"{key}"{gap}:{gap}"{TEXT}"'
    body = f'{{{picture}, "a": [{{"index": 0, {picture}}}, {{{picture}}}], "b": {{{picture}, "c": "d"}}}}'.encode()

    assert {key: DATA, "a": [{"index": 0, key: DATA}, {key: DATA}], "b": {key: DATA, "c": "d"}} == read(body)


def test_other_long_texts_stay_as_they_are():
    """A long message is a message, though it looks like base64, or quotes a picture."""
    quoting = f'see "b64_json":"{TEXT}" above'
    value = {"message": TEXT, "b64": TEXT, "model": quoting, "x": [TEXT, quoting], "b64_json": "short"}
    for body in (json.dumps(value), json.dumps(value, indent=2), json.dumps(value, separators=(",", ":"))):
        assert value == read(body.encode())


def test_of_equal_keys_the_last_wins():
    """B19: a picture that is followed by another one under the same key is dropped, large or small."""
    for first, last, data in ((TEXT, b64(DATA[::-1]), DATA[::-1]), (b64(RED), TEXT, DATA)):
        body = f'{{"b64_json": "{first}", "b64_json": "{last}"}}'.encode()
        assert {"b64_json": data} == read(body)


def test_a_text_cannot_stand_for_a_picture():
    """What stands for a picture while the JSON is read is drawn anew each time, so no reply can name it."""
    body = json.dumps({"b64_json": TEXT}).encode()

    assert cut_pictures(body).pictures.keys().isdisjoint(cut_pictures(body).pictures)


def test_an_error_beside_a_large_picture_is_read():
    """The code of an error is found wherever it is, also behind base64 that is larger than an error may be."""
    body = {"data": [{"b64_json": b64(os.urandom(100_000))}], "error": {"code": "content_policy_violation"}}
    with pytest.raises(ContentPolicyError):
        read_reply(reply(body), asked=1, now=0)


HOSTILE = {
    "numbers": b'{"data": [' + b"0," * 2**21 + b"0]}",
    "objects in objects": b'{"a":' * 2**20,
    "lists in lists": b"[" * 2**22,
    "white space": b" " * 2**22 + b"{}",
    "a number": b'{"a": ' + b"1" * 2**22 + b"}",
    "a text": b'{"message": "' + b"x" * 2**22 + b'"}',
    "a text of quotes": b'{"message": "' + b'\\"' * 2**21 + b'"}',
    "quotes": b'"' * 2**22,
    "texts as long as short ones can be": (b'"' + b"a" * (LONG_BYTES - 1)) * 300,
    "an open picture": b'{"b64_json": "' + b"A" * 2**22,
    "keys": b"{" + b",".join(b'"%d":1' % number for number in range(10**6)) + b"}",
}


@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE)
def test_what_is_beside_the_pictures_is_bounded(body):
    """JSON of more than a megabyte beside its pictures is refused before it is read, in no time."""
    started = time.perf_counter()
    with pytest.raises(UnusableReplyError, match="more than 1048576 bytes"):
        read_reply(reply(body), asked=1, now=0)

    assert LONGEST_SECONDS > time.perf_counter() - started


def test_the_bound_is_for_what_is_beside_the_pictures():
    """A picture of any size may lie beside a whole megabyte of JSON, and not beside a byte more."""
    start, end = b'{"data": [{"b64_json": "', b'"}], "x": "'
    room = MAX_JSON_BYTES - 100
    for size, is_read in ((room, True), (room + 100, False)):
        body = start + b64(RED * 1000).encode() + end + b"x" * size + b'"}'
        if is_read:
            assert size == len(parse_json(cut_pictures(body).json)["x"])
        else:
            with pytest.raises(ValueError, match="beside its pictures"):
                cut_pictures(body)


@pytest.mark.parametrize("form", ['"{}":1', '"{}" : 1', '"{}"\n:1'])
def test_keys_are_bounded(form):
    """S38: an object of 10 000 keys is read, one of more is refused, wherever they are."""
    keys = [form.format(number) for number in range(MAX_KEYS)]

    assert MAX_KEYS == len(parse_json(f"{{{','.join(keys)}}}".encode()))
    for body in (f'{{{",".join(keys)},"x":1}}', f'[{{{",".join(keys)}}},{{"x":1}}]', f'{{"x":{{{",".join(keys)}}}}}'):
        with pytest.raises(ValueError, match="more than 10000 keys"):
            parse_json(body.encode())


def test_pictures_are_bounded():
    """Of a reply with more pictures than anyone can ask for the first thousand are looked at."""
    picture = {"b64_json": b64(RED)}

    assert 1 == len(read_reply(reply({"data": [{}] * (MOST_PICTURES - 1) + [picture]}), asked=1, now=0).images)
    with pytest.raises(UnusableReplyError):
        read_reply(reply({"data": [{}] * MOST_PICTURES + [picture]}), asked=1, now=0)
