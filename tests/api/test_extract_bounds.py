"""Large replies: pictures are read in every form, and what lies beside them is bounded, as is what reading costs."""

from __future__ import annotations

import json
import os
import re
import time
import tracemalloc

import pybase64
import pytest
from bodies import RED, b64, read_reply, reply
from reference import REFUSED, extract, in_pieces_of, read_pieces, split

from nebula_async.api.base64_stream import FIRST_BYTES
from nebula_async.api.extract import (
    JSON_STEP,
    MAX_JSON_BYTES,
    MAX_KEYS,
    MAX_LISTS,
    MAX_LOOKS,
    MAX_SALVAGED,
    MOST_PICTURES,
    PICTURE_STEP,
    Extractor,
    parse_json,
)
from nebula_async.errors import ContentPolicyError, UnusableReplyError

DATA = os.urandom(2 * PICTURE_STEP)
TEXT = pybase64.b64encode(DATA).decode()
LONGEST_SECONDS = 1.0
SIZES = [1000, PICTURE_STEP, 4 * PICTURE_STEP]


class Discarding:
    """Counts what is written, and keeps nothing."""

    def __init__(self):
        self.size = 0

    def write(self, data):
        """Take what is never nothing."""
        assert data
        self.size += len(data)


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
@pytest.mark.parametrize("size", SIZES)
def test_large_base64_is_read_in_all_its_forms(text, size):
    """Whatever JSON allows a server to write, the bytes of a large picture come out, as those of a small one do."""
    body = f'{{"data": [{{"b64_json": "{text}", "index": 0}}]}}'.encode()

    assert {"data": [{"b64_json": DATA, "index": 0}]} == read_pieces(in_pieces_of(size, body))


@pytest.mark.parametrize("size", [FIRST_BYTES, PICTURE_STEP, PICTURE_STEP + FIRST_BYTES])
@pytest.mark.parametrize("before", range(14))
@pytest.mark.parametrize("escape", ["\\n", "\\/", "\\u002b", "\\u000a\\u002F\\n"], ids=["\\n", "\\/", "\\u", "three"])
def test_no_escape_is_split(escape, before, size):
    """However much is looked at in one go, an escape that lies across its end is read as any other (B28)."""
    head = "A" * (size - before)
    letters = json.loads(f'"{head}{escape}"').replace("\n", "")
    tail = "A" * (80 - len(letters) % 4)

    assert (
        pybase64.b64decode(letters + tail)
        == read_pieces([f'{{"b64_json":"{head}{escape}{tail}"}}'.encode()])["b64_json"]
    )


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
@pytest.mark.parametrize("size", SIZES)
def test_large_base64_that_is_wrong_is_refused_alone(text, size):
    """What strict base64 or JSON does not allow is refused in a large picture too, and costs no other picture."""
    body = f'{{"data": [{{"b64_json": "{text}"}}, {{"b64_json": "{TEXT}"}}], "x": 1}}'.encode()

    assert {"data": [{"b64_json": REFUSED}, {"b64_json": DATA}], "x": 1} == read_pieces(in_pieces_of(size, body))


@pytest.mark.parametrize("size", SIZES)
def test_nothing_of_a_picture_is_kept(size):
    """What reading a picture takes beside its writer does not grow with it, whatever is wrong with its end."""
    body = memoryview(b'{"data":[{"b64_json":"' + pybase64.b64encode(bytes(30 * PICTURE_STEP)) + b'"},')
    extractor = Extractor(Discarding)
    extractor.feed(body[:size])
    tracemalloc.start()
    try:
        for start in range(size, len(body), size):
            extractor.feed(body[start : start + size])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert 5 * PICTURE_STEP > peak


def test_the_writer_is_opened_for_the_first_byte():
    """A picture without a byte has no writer, and the bytes of others are written while they arrive."""
    opened = []

    def open_writer():
        opened.append(Discarding())
        return opened[-1]

    extractor = Extractor(open_writer)
    extractor.feed(b'{"b64_json":"","image_b64":"!!!!!!!!","image_file":"QUJD')
    assert [] == opened
    extractor.feed(b"QUJD" + b"QUJD" * 100)
    assert [303] == [writer.size for writer in opened]
    extractor.feed(b'QQ"}')
    found = extractor.finish()

    assert [None, None, opened[0]] == [cut.writer for cut in found.pictures.values()]
    assert [307] == [writer.size for writer in opened]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("place", [0, 3, 50, FIRST_BYTES + 1, PICTURE_STEP + 10])
def test_nothing_is_written_behind_what_is_wrong(place, size):
    """A refused picture ends where its first wrong character is found; what follows is skipped."""
    body = f'{{"b64_json": "{TEXT[:place]}!{TEXT[place:]}", "x": 1}}'.encode()
    (cut,) = extract(in_pieces_of(size, body)).pictures.values()
    written = cut.writer.getvalue() if cut.writer else b""

    assert DATA.startswith(written)
    assert place >= len(written)


def test_what_a_writer_raises_is_the_callers():
    """A full disk is not mistaken for wrong base64."""

    class Full:
        def write(self, _data):
            raise ValueError("the disk is full")

    for text in (TEXT, lines(TEXT, "\\n"), "QUJD"):
        extractor = Extractor(Full)
        with pytest.raises(ValueError, match="the disk is full"):
            extractor.feed(f'{{"b64_json": "{text}"}}'.encode())


@pytest.mark.parametrize("key", ["b64_json", "image_b64", "image_file"])
@pytest.mark.parametrize("gap", ["", " ", "\n\t "])
def test_any_order_of_keys_will_do(key, gap):
    """Pictures are found before and after everything else, several of them, in objects and lists."""
    picture = f'"{key}"{gap}:{gap}"{TEXT}"'
    body = f'{{{picture}, "a": [{{"index": 0, {picture}}}, {{{picture}}}], "b": {{{picture}, "c": "d"}}}}'.encode()

    assert {key: DATA, "a": [{"index": 0, key: DATA}, {key: DATA}], "b": {key: DATA, "c": "d"}} == read_pieces([body])


def test_other_long_texts_stay_as_they_are():
    """A long message is a message, though it looks like base64, or quotes a picture."""
    text = TEXT[:100_000]
    quoting = f'see "b64_json":"{text}" above'
    value = {"message": text, "b64": text, "model": quoting, "x": [text, quoting], "b64_json": 5}
    for body in (json.dumps(value), json.dumps(value, indent=2), json.dumps(value, separators=(",", ":"))):
        assert value == read_pieces([body.encode()])


def test_of_equal_keys_the_last_wins():
    """B19: a picture that is followed by another one under the same key is dropped, large or small."""
    for first, last, data in ((TEXT, b64(DATA[::-1]), DATA[::-1]), (b64(RED), TEXT, DATA)):
        body = f'{{"b64_json": "{first}", "b64_json": "{last}"}}'.encode()
        assert {"b64_json": data} == read_pieces([body])


def test_a_text_cannot_stand_for_a_picture():
    """What stands for a picture in the JSON is drawn anew each time, so no reply can name it."""
    body = json.dumps({"b64_json": TEXT}).encode()

    assert extract([body]).pictures.keys().isdisjoint(extract([body]).pictures)


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
    "empty texts": b'"",' * 2**20,
    "a key and white space": b'{"b64_json"' + b" " * 2**22,
    "backslashes": b'"' + b"\\" * 2**22,
    "keys": b"{" + b",".join(b'"%d":1' % number for number in range(10**6)) + b"}",
}


@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE)
def test_what_is_beside_the_pictures_is_bounded(body):
    """JSON of more than a megabyte beside its pictures is refused before it is read, in no time."""
    extractor, started = Extractor(Discarding), time.process_time()
    for start in range(0, len(body), PICTURE_STEP):
        extractor.feed(body[start : start + PICTURE_STEP])
        if start < MAX_JSON_BYTES - PICTURE_STEP:
            assert extractor.problem is None
    assert extractor.problem == "there are more than 1048576 bytes beside its pictures"
    with pytest.raises(ValueError, match="more than 1048576 bytes"):
        extractor.finish()

    assert LONGEST_SECONDS > time.process_time() - started


@pytest.mark.parametrize("text", [b'"b64_json",', b'"b64_json":1,', b'"b64\\u005fjson",', b'"\\u0061aaaaaaa",'])
def test_what_may_be_the_key_of_a_picture_is_bounded(text):
    """Keys of pictures without pictures, each of which costs a look, are refused where there are too many of them."""
    extractor = Extractor(Discarding)
    extractor.feed(b"[" + text * MAX_LOOKS)
    assert extractor.problem is None
    extractor.feed(text)

    assert "there are more than 5000 texts in it that may be keys of pictures" == extractor.problem


@pytest.mark.parametrize("rest", [b"x", b'\\"', b"\\\\"])
@pytest.mark.parametrize("value", [b"", b"QUJD", b'\\"', b"\\\\", b"\\n"])
def test_short_pictures_are_read_in_no_time(value, rest):
    """A thousand pictures in one piece are not each looked for in all that follows them, whatever that is."""
    body = b"[" + b'"b64_json":"%s",' % value * MOST_PICTURES + b'"'
    body += rest * (2**19 // len(rest))
    extractor, started = Extractor(Discarding), time.process_time()
    extractor.feed(body)

    assert extractor.problem is None
    assert LONGEST_SECONDS / 4 > time.process_time() - started


LENGTH = 2**15
SLOW = {
    "quotes": b'"' * LENGTH,
    "escaped quotes": b'"' + b'\\"' * (LENGTH // 2),
    "backslashes": b'"' + b"\\" * LENGTH,
    "white space behind a key": b'{"b64_json"' + b" " * LENGTH,
    "a text": b'{"a": "' + b"x" * LENGTH,
    "half a key": b'{"' + b"\\u0062" * (LENGTH // 6),
    "a picture": b'{"b64_json": "' + b"A" * LENGTH,
    "a picture of escapes": b'{"b64_json": "' + b"\\u0041" * (LENGTH // 6),
    "a picture of line breaks": b'{"b64_json": "' + b"\\n" * (LENGTH // 2),
    "a picture of backslashes": b'{"b64_json": "' + b"\\" * LENGTH,
    "a picture of escaped quotes": b'{"b64_json": "' + b'\\"' * (LENGTH // 2),
    "a data URL without an end": b'{"b64_json": "data:' + b"x" * LENGTH,
}


@pytest.mark.parametrize("body", SLOW.values(), ids=SLOW)
@pytest.mark.parametrize("size", [1, 7])
def test_the_smallest_pieces_cost_no_more_than_their_number(body, size):
    """No body makes what was read before be read again, though it arrives byte by byte and nothing in it ever ends."""
    extractor, seconds = Extractor(Discarding), []
    for quarter in split(body, [len(body) * part // 4 for part in (1, 2, 3)]):
        started = time.process_time()
        for piece in in_pieces_of(size, quarter):
            extractor.feed(piece)
        seconds.append(time.process_time() - started)

    assert LONGEST_SECONDS > sum(seconds)
    assert 5 * (min(seconds[:2]) + 0.01) > seconds[3]
    with pytest.raises(ValueError, match=r"."):
        extractor.finish()


def test_the_bound_is_for_what_is_beside_the_pictures():
    """A picture of any size may lie beside a whole megabyte of JSON, and not beside a byte more."""
    start, end = b'{"data": [{"b64_json": "', b'"}], "x": "'
    room = MAX_JSON_BYTES - 100
    for size, is_read in ((room, True), (room + 100, False)):
        body = start + b64(RED * 1000).encode() + end + b"x" * size + b'"}'
        if is_read:
            assert size == len(extract([body]).value["x"])
        else:
            with pytest.raises(ValueError, match="beside its pictures"):
                extract([body])


def test_nothing_is_taken_behind_a_problem():
    """A caller that goes on feeding loses nothing but time: nothing more is kept, and nothing is written."""
    opened = []
    extractor = Extractor(lambda: opened.append(1))
    extractor.feed(b'{"message": "' + b"x" * MAX_JSON_BYTES)
    kept = extractor.json_bytes
    extractor.feed(b'", "b64_json": "QUJDQUJD"}')

    assert extractor.problem
    assert (kept, []) == (extractor.json_bytes, opened)
    with pytest.raises(ValueError, match="beside its pictures"):
        extractor.finish()


def test_what_is_left_of_a_reply_is_read_only_where_there_is_little():
    """A body that broke off after more than a picture's own words is not searched for whole values."""
    little, much = Extractor(list), Extractor(list)
    little.feed(b'{"message": "' + b"x" * (MAX_SALVAGED - 20))
    much.feed(b'{"message": "' + b"x" * MAX_SALVAGED)
    assert {} == little.salvage().value
    with pytest.raises(ValueError, match=f"it broke off, and there are more than {MAX_SALVAGED} bytes"):
        much.salvage()
    much.feed(b"x" * MAX_JSON_BYTES)
    with pytest.raises(ValueError, match="beside its pictures"):
        much.salvage()


def test_a_body_without_pictures_has_the_same_bound():
    """An error's body, or a list of models, is not parsed beyond a megabyte."""
    assert MAX_JSON_BYTES - 2 == len(parse_json(b'"' + b"x" * (MAX_JSON_BYTES - 2) + b'"'))
    with pytest.raises(ValueError, match=f"there are more than {MAX_JSON_BYTES} bytes of it"):
        parse_json(b'"' + b"x" * (MAX_JSON_BYTES - 1) + b'"')


@pytest.mark.parametrize("gap", [b"", b" " * (JSON_STEP - 40), b" " * JSON_STEP])
def test_pictures_have_a_highest_number(gap):
    """S38: a thousand pictures are read, of whatever is in them, one more is refused."""
    picture = b'{"b64_json":"QUJD"},' + gap[:900]
    full = extract([b"[" + gap + picture * MOST_PICTURES + b"1]"])
    assert MOST_PICTURES == len(full.pictures)
    with pytest.raises(ValueError, match="more than 1000 pictures"):
        extract([b"[" + gap + picture * (MOST_PICTURES + 1) + b"1]"])


@pytest.mark.parametrize("form", ['"{}":1', '"{}" : 1', '"{}"\n:1'])
def test_keys_are_bounded(form):
    """S38: an object of 10 000 keys is read, one of more is refused, wherever they are."""
    keys = [form.format(number) for number in range(MAX_KEYS)]

    assert MAX_KEYS == len(parse_json(f"{{{','.join(keys)}}}".encode()))
    for body in (f'{{{",".join(keys)},"x":1}}', f'[{{{",".join(keys)}}},{{"x":1}}]', f'{{"x":{{{",".join(keys)}}}}}'):
        with pytest.raises(ValueError, match="more than 10000 keys"):
            parse_json(body.encode())


@pytest.mark.parametrize("empty", ["[]", "{}"])
def test_lists_and_objects_are_bounded(empty):
    """A hundred thousand lists and objects are read, which take fifty times their size; more are refused."""
    most = ",".join([empty] * (MAX_LISTS - 1))

    assert MAX_LISTS - 1 == len(parse_json(f"[{most}]".encode()))
    with pytest.raises(ValueError, match="more than 100000 lists and objects"):
        parse_json(f"[{most},{empty}]".encode())


def test_pictures_are_bounded():
    """Of a reply with more pictures than anyone can ask for the first thousand are looked at."""
    picture = {"b64_json": b64(RED)}

    assert 1 == len(read_reply(reply({"data": [{}] * (MOST_PICTURES - 1) + [picture]}), asked=1, now=0).images)
    with pytest.raises(UnusableReplyError):
        read_reply(reply({"data": [{}] * MOST_PICTURES + [picture]}), asked=1, now=0)
