"""A reply's body: its JSON and the pictures in it, in any pieces, beside `json` and `base64` on the whole.

A difference that is found belongs into `tests/api/test_extract_pieces.py`.
"""

from __future__ import annotations

from reference import in_pieces_of, read_parsed, read_pieces, read_whole, result, split

REFERENCE = "json, base64"

PLACES = 8
DEEPEST = 200
"""Python's own limit depends on how deep the caller is already."""

WORDS = [
    b'"b64_json":"', b'"b64\\u005fjson" : "', b'{"data":[{"image_b64":"', b'"image_file":', b"data:image/png;base64,",
    b"QUJD", b"QUI=", b"QQ==", b"QR==", b"-_-_", b"+/+/", b"\\n", b"\\r\\n", b"\\/", b"\\u002b", b"\\u000A", b"\\\\",
    b'\\"', b"\\u", b"\\ud83d\\ude00", b'"}', b'"}]}', b'":', b'","', b"\xef\xbb\xbf", b"null", b"NaN", b"1e999",
]  # fmt: skip

SEEDS = [
    bytes(range(0, 256, 32)) + seed
    for seed in (
        b'{"data": [{"index": 0, "b64_json": "iVBORw0KGgoAAAAB"}], "message": "\\"b64_json\\":\\"QUJD\\""}',
        b'\xef\xbb\xbf{"data":{"image_file" :\n"data:image\\/png;base64,QU\\nJD\\/\\u002b-_"},"image_b64":null}',
        b'[{"b64\\u005fjson":"QUJD=","b64_json":"QQ"},{"image_b64":"","b64_json":["QUJD"]},"b64_json"]',
    )
]


def check(data: bytes) -> None:
    """Read a body in the pieces that the first bytes say, in single bytes and whole, and by the reference."""
    places, body = list(data[:PLACES]), data[PLACES:]
    if body.count(b"[") + body.count(b"{") > DEEPEST:
        return
    expected = result(read_whole, body)
    parsed = result(read_parsed, body)
    if parsed not in ("refused", expected):
        raise AssertionError(f"the references differ: {body!r}")
    places = [place * len(body) // 255 for place in places]
    for pieces in (split(body, places), in_pieces_of(1, body), [body]):
        found = result(read_pieces, pieces)
        if found != expected:
            raise AssertionError(f"{pieces!r}\nread as {found}\ninstead of {expected}")
