"""What a reply's body may look like, and what is refused in it."""

from __future__ import annotations

import base64
import json
import re
from io import BytesIO

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from nebula_async.api.extract import Extractor, parse_json

PNG_START = b"\x89PNG\r\n\x1a\n\xff\xfb\xef"


def decode_base64(text: str) -> bytes:
    """Return the bytes of a picture's value. Raises `ValueError` with what is wrong with it."""
    extractor = Extractor(BytesIO)
    extractor.feed(json.dumps({"b64_json": text}).encode())
    (cut,) = extractor.finish().pictures.values()
    if cut.problem:
        raise ValueError(cut.problem)
    return cut.writer.getvalue()


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("QUJD", b"ABC"),
        ("QUI=", b"AB"),
        ("QQ==", b"A"),
        ("QUI", b"AB"),
        ("QQ", b"A"),
        ("QQ=", b"A"),
        ("QU\nJD\r\n", b"ABC"),
        (" Q U\tJ D ", b"ABC"),
        ("QQ\n==", b"A"),
        ("QQ=\n=\n", b"A"),
        ("+/+/", b"\xfb\xff\xbf"),
        ("-_-_", b"\xfb\xff\xbf"),
        ("-/+_", b"\xfb\xff\xbf"),
        ("data:image/png;base64,QUJD", b"ABC"),
        ("data:;base64,QUJD", b"ABC"),
        ("data:image/png;base64,\n QUI", b"AB"),
        ("data:,QUI", b"AB"),
        ('data:image/png;name="a cat.png";base64,QUI', b"AB"),
        ("data", b"u\xabZ"),
    ],
)
def test_base64_is_read_in_the_forms_that_servers_write(text, data):
    """Line breaks, missing padding, the URL-safe alphabet and a data URL in front are all understood (B28, B29, B30,
    B31).
    """
    assert data == decode_base64(text)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is empty"),
        (" \r\n\t", "is empty"),
        ("data:image/png;base64,", "is empty"),
        ("data:image/png;base64", "is empty"),
        ("Q", "do not belong there"),
        ("QUJDR", "do not belong there"),
        ("Q===", "do not belong there"),
        ("=", "do not belong there"),
        ("====", "do not belong there"),
        ("QQ==QQ==", "do not belong there"),
        ("QUI=QUI=", "do not belong there"),
        ("QQ=A", "do not belong there"),
        ("Q=Q=", "do not belong there"),
        ("QQ===", "do not belong there"),
        ("QQ====", "do not belong there"),
        ("QUJD=", "do not belong there"),
        ("QUJD====", "do not belong there"),
        ("QR==", "stray bits"),
        ("QUJ", "stray bits"),
        ("QUJDQUJ=", "stray bits"),
        ("!!<>", "do not belong there"),
        ("QU.D", "do not belong there"),
        ("QUJD\0", "do not belong there"),
        ("QU\x0bJD", "do not belong there"),
        ("QU\\nJD", "do not belong there"),
        ("QU%2BD", "do not belong there"),
        ("QUJ\u00e4", "do not belong there"),
        ("\uff21\uff21\uff21\uff21", "do not belong there"),
        ("\ud800\ud800\ud800\ud800", "do not belong there"),
        ("sdj23kjjk2...", "do not belong there"),
        (" data:image/png;base64,QUI", "do not belong there"),
        ("data:image/\u00e4;base64,QUI", "do not belong there"),
        (f"data:{'x' * 101},QUI", "do not belong there"),
        (f"data:{'x' * 200}", "do not belong there"),
        ("data:image\\png;base64,QUI", "do not belong there"),
        ("data:image/png;base64,data:image/png;base64,QUI", "do not belong there"),
    ],
)
def test_anything_else_is_refused(text, problem):
    """Base64 that was cut, altered or is something else is refused with a reason, not decoded to what is left of it
    (B27, B31).
    """
    with pytest.raises(ValueError, match=problem):
        decode_base64(text)


def mangled(data: bytes, breaks: list[int], *, url_safe: bool, padded: bool, as_url: bool) -> str:
    """Return base64 of the data as one server or another would write it."""
    encoded = (base64.urlsafe_b64encode if url_safe else base64.b64encode)(data).decode()
    text = encoded if padded else encoded.rstrip("=")
    for place in breaks:
        at = place % (len(text) + 1)
        text = text[:at] + ("\r\n", "\n", " ", "\t")[place % 4] + text[at:]
    return f"data:image/png;base64,{text}" if as_url else text


forms = st.builds(
    mangled,
    st.shared(st.binary(min_size=1, max_size=60), key="data"),
    st.lists(st.integers(0, 99), max_size=5),
    url_safe=st.booleans(),
    padded=st.booleans(),
    as_url=st.booleans(),
)


@given(st.shared(st.binary(min_size=1, max_size=60), key="data"), forms)
def test_what_was_encoded_comes_out(data, text):
    """Whatever bytes a server encodes, in whichever of these forms, exactly those bytes come out."""
    assert data == decode_base64(text)


@given(st.binary(min_size=1, max_size=30), st.integers(0, 50), st.characters(codec="utf-8"))
def test_one_wrong_character_anywhere_is_refused(data, place, junk):
    """A single character that is not base64, wherever it is, is enough to refuse the picture."""
    assume(not re.fullmatch(r"[A-Za-z0-9+/_=\s-]", junk, re.ASCII) or junk in "\x0b\x0c")
    encoded = base64.b64encode(data).decode()
    at = place % (len(encoded) + 1)
    with pytest.raises(ValueError, match="do not belong there"):
        decode_base64(encoded[:at] + junk + encoded[at:])


@given(st.text("AQgw+/-_=\n", max_size=12))
@example("AAA=AAAA")
def test_only_one_text_decodes_to_given_bytes(text):
    """What is accepted is, but for form, the one base64 of its bytes: nothing is dropped or made up."""
    try:
        data = decode_base64(text)
    except ValueError:
        return
    letters = re.sub(r"[\s=]", "", text).replace("-", "+").replace("_", "/")
    assert base64.b64encode(data).decode().rstrip("=") == letters


def test_every_cut_of_base64_is_noticed_or_harmless():
    """Base64 that was cut short either fails, or gives a true beginning of the bytes, never other bytes."""
    encoded = base64.b64encode(PNG_START).decode()
    for end in range(1, len(encoded)):
        try:
            data = decode_base64(encoded[:end])
        except ValueError:
            continue
        assert PNG_START.startswith(data)


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b'{"a": 1}', {"a": 1}),
        (b' \n{"a": 1}\n ', {"a": 1}),
        (b'\xef\xbb\xbf{"a": 1}', {"a": 1}),
        ('{"a": "é猫"}'.encode(), {"a": "é猫"}),
        (b'{"a": "\\u002f\\/\\n"}', {"a": "//\n"}),
        (b'{"a": 1, "a": 2}', {"a": 2}),
        (b"null", None),
        (b"[]", []),
    ],
)
def test_json_is_utf8_with_or_without_a_mark(body, value):
    """A body is read as UTF-8 whatever its headers say; a BOM is skipped, and of equal keys the last wins
    (B19, B25).
    """
    assert value == parse_json(body)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"a": "b',
        b"<html></html>",
        b"not json",
        b'{"a": 1} trailing',
        b'{"a": "\xff"}',
        b'{"a": "\xed\xa0\x80"}',
        '{"a": 1}'.encode("utf-16"),
        '{"a": 1}'.encode("utf-16-le"),
        '{"a": 1}'.encode("utf-32"),
        b"[" * 200_000,
        b'{"a":' * 200_000,
        b'{"a": ' + b"1" * 5_000 + b"}",
        b"\x89PNG\r\n\x1a\n",
        b"\xef\xbb\xbf\xef\xbb\xbf{}",
    ],
    ids=lambda body: repr(body[:12]),
)
def test_a_body_that_is_no_json_is_a_value_error(body):
    """Truncated, wrongly encoded, endlessly nested or otherwise broken JSON is one kind of error, never a crash."""
    with pytest.raises(ValueError, match=r"."):
        parse_json(body)


@given(st.binary(max_size=40))
def test_any_bytes_are_json_or_a_value_error(body):
    """Whatever bytes arrive, they are read or refused."""
    try:
        parse_json(body)
    except ValueError:
        return
