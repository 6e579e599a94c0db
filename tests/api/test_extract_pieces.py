"""A body may arrive in any pieces: what is read in it is what it means as a whole."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import PICTURE_KEYS, extract, in_pieces_of, read_parsed, read_pieces, read_whole, result, split

SPACE = st.sampled_from(["", "", "", " ", "\n\t", "\r\n  "])
WRONG = [
    "!",
    "=",
    "==",
    "\\",
    "\\\\",
    '\\"',
    '"',
    "\\x",
    "\\u12",
    "\n",
    "\0",
    "\x7f",
    "\xe4",
    "\\u00e4",
    "\\ud800",
    ",",
]
BREAKS = ["\\n", "\\r\\n", "\\u000a", "\\t", " "]


@st.composite
def spellings(draw, text):
    """Write a text as JSON may: any character of it by number, and slashes with or without an escape."""
    marks = draw(st.lists(st.sampled_from("uU/.."), max_size=8))
    if not marks:
        return text
    styles = {"u": "\\u{:04x}", "U": "\\u{:04X}", "/": "\\/", ".": ""}
    chosen = [styles[marks[place % len(marks)]] for place in range(len(text))]
    return "".join(
        style.format(ord(letter)) if style[1:2] == "u" or (style and letter == "/") else letter
        for style, letter in zip(chosen, text, strict=True)
    )


@st.composite
def pictures(draw):
    """Base64 in some form, now and then with something wrong in it, as it stands between the quotes."""
    encode = draw(st.sampled_from([base64.b64encode, base64.urlsafe_b64encode]))
    text = encode(draw(st.binary(max_size=40))).decode()
    text = text.rstrip("=") if draw(st.booleans()) else text
    prefix = draw(
        st.sampled_from(["", "", "", "data:image/png;base64,", "data:,", "data:", "data", f"data:{'x' * 110},"])
    )
    text = draw(spellings(prefix + text))
    for extra in draw(st.lists(st.sampled_from(BREAKS), max_size=3)) + draw(
        st.lists(st.sampled_from(WRONG), max_size=1)
    ):
        place = draw(st.integers(0, len(text)))
        text = text[:place] + extra + text[place:]
    return f'"{text}"'


KEYS = st.sampled_from([*sorted(PICTURE_KEYS), "b64_json", "url", "b64_jso", "image_files", 'b64_json\\"', ""])
LEAVES = st.one_of(
    st.sampled_from(
        ["null", "1", "-2.5e3", "true", "NaN", "{}", "[]", '"b64_json"', '"\\"b64_json\\":\\"QUJD\\""', "x"]
    ),
    st.text(max_size=8).map(json.dumps),
    pictures(),
)


def members(inner):
    """Objects, in which a picture's key may have any value, and lists."""
    member = st.tuples(SPACE, KEYS.flatmap(spellings), SPACE, SPACE, st.one_of(pictures(), inner), SPACE)
    written = member.map(lambda parts: '{}"{}"{}:{}{}{}'.format(*parts))
    return st.one_of(
        st.lists(written, max_size=4).map(lambda parts: "{" + ",".join(parts) + "}"),
        st.lists(inner, max_size=3).map(lambda parts: "[" + ", ".join(parts) + "]"),
    )


@st.composite
def bodies(draw):
    """Bodies of replies: nearly all of them JSON."""
    text = draw(SPACE) + draw(members(st.recursive(LEAVES, members, max_leaves=8))) + draw(SPACE)
    body = draw(st.sampled_from([b"", b"", b"\xef\xbb\xbf"])) + text.encode(
        draw(st.sampled_from(["utf-8"] * 9 + ["utf-16"]))
    )
    if draw(st.integers(0, 9)) == 0:
        place = draw(st.integers(0, len(body)))
        body = body[:place] + draw(st.sampled_from([b"", b'"', b"\\", b"\xff", b","])) + body[place + 1 :]
    return body


@settings(max_examples=100, deadline=None)
@given(bodies(), st.lists(st.integers(0, 2000), max_size=6))
def test_pieces_mean_what_the_whole_means(body, places):
    """Whatever is in a body and wherever it is split, also into single bytes, its JSON and its pictures are read.

    Where it is JSON altogether, they are what parsing it first and decoding strictly gives.
    """
    expected = result(read_whole, body)

    assert result(read_parsed, body) in ("refused", expected)
    assert expected == result(read_pieces, split(body, places))
    assert expected == result(read_pieces, in_pieces_of(1, body))


SPLIT = {
    "plain": b'{"b64_json": "QUJDREVG"}',
    "a key by number": b'{"b64\\u005fjson":"QUJD", "\\u0069mage\\u005F\\u00666ile":"x", "image\\u005ffile":"QQ"}',
    "white space": b' {\n"image_b64"\t \r\n:\n "QUJDQQ==" }\n',
    "a BOM": b'\xef\xbb\xbf{"b64_json":"QUJDRA"}',
    "a data URL": b'{"b64_json":"data:image\\/png\\u003Bbase64,QUJD\\nRA=="}',
    "a data URL with quotes": b'{"b64_json":"data:image/png;name=\\"x\\";base64,QUI="}',
    "a data URL with a backslash": b'{"b64_json":"data:image\\\\png;base64,QUI=", "image_b64":"QUI="}',
    "nothing but a data URL": b'{"b64_json":"data:image/png;base64,"}',
    "the start of a data URL": b'{"b64_json":"data", "image_b64":"dat"}',
    "escapes": b'{"b64_json":"QU\\nJD\\r\\n\\/\\u002b\\u002F-_A\\u003d"}',
    "a key as a value": b'{"a": "b64_json", "b": "QUJD", "c": ["b64_json", "QUJD"], "d": {"x": "image_b64"}}',
    "a key in a text": b'{"a": "\\"b64_json\\":\\"QUJD\\"", "b": "b64_json\\\\", "b64_json": "QUJD"}',
    "keys that are longer": b'{"xb64_json": "QUJD", "b64_jsonx": "QUJD", "b64_json\\n": "QUJD", "B64_JSON": "QUJD"}',
    "other values": b'{"b64_json": null, "image_b64": 5, "image_file": ["QUJD", {"b64_json": {"b64_json": "QUJD"}}]}',
    "equal keys": b'{"b64_json": "QUJD", "b64_json": "QQ==", "image_b64": "QUJD", "image_b64": 1}',
    "a refused one between": b'[{"b64_json": "QUJD"}, {"b64_json": "QUJD!\\"\\\\"}, {"b64_json": "QQ"}]',
    "a quote at the end": b'[{"b64_json": "QUJD\\""}, {"b64_json": "QUJD\\\\"}, {"b64_json": "\\""}, "QUJD"]',
    "no JSON string": b'[{"b64_json": "QU\nJD"}, {"b64_json": "QU\\xJD"}, {"b64_json": "QU\xff"}]',
    "half an escape": b'[{"b64_json": "QUJD\\u"}, {"b64_json": "QUJD\\u00"}, {"b64_json": "QUJD"}]',
    "none": b'{"b64_json": ""}',
    "early padding": b'[{"b64_json": "QQ==QUJD"}, {"b64_json": "QUI=QUI="}, {"b64_json": "QQ="}, {"b64_json": "QQ=="}]',
    "text": '{"a": "\u00e9\u732b\U0001f408", "b64_json": "QUJD"}'.encode(),
}


@pytest.mark.parametrize("body", SPLIT.values(), ids=SPLIT)
def test_no_split_changes_what_is_read(body):
    """A body is read alike when it is split in any two, in any three of one, two or three bytes, and not at all (B28,
    B29).
    """
    expected = read_whole(body)
    ways = [split(body, [place]) for place in range(len(body))] + [in_pieces_of(size, body) for size in (1, 2, 3)]
    middles = [split(body, [start, start + size]) for start in range(len(body)) for size in (1, 2, 3, 4, 5)]

    for pieces in [*ways, *middles]:
        assert expected == read_pieces(pieces)


UNREADABLE = {
    "nothing": b"",
    "an open picture": b'{"b64_json": "QUJD',
    "a picture that ends in a backslash": b'{"b64_json": "QUJD\\"}',
    "behind a picture": b'{"b64_json": "QUJD"',
    "no comma": b'{"b64_json": "QUJD" "b64_json": "QUJD"}',
    "a list with a key": b'["b64_json": "QUJD"]',
    "UTF-16": '{"b64_json": "QUJD"}'.encode("utf-16"),
    "UTF-16 without a BOM": '{"b64_json": "QUJD"}'.encode("utf-16-le"),
    "two BOMs": b'\xef\xbb\xbf\xef\xbb\xbf{"b64_json": "QUJD"}',
    "Latin-1": b'{"b64_json": "QUJD", "a": "\xe4"}',
    "nested": b"[" * 200_000,
    "a long number": b'{"b64_json": "QUJD", "a": ' + b"1" * 5000 + b"}",
}


@pytest.mark.parametrize("body", UNREADABLE.values(), ids=UNREADABLE)
@pytest.mark.parametrize("size", [1, 5, 10**6])
def test_a_body_that_is_no_json_is_refused(body, size):
    """What is no JSON beside its pictures is one kind of error, at the end, and the error does not hold the text."""
    with pytest.raises(ValueError, match=r".") as caught:
        extract(in_pieces_of(size, body[: 10**4 * size]))

    assert ValueError is caught.type
    assert (None, None) == (caught.value.__cause__, caught.value.__context__)
