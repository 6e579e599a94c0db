"""Replies of both dialects: pictures or an error of ours, the same in any pieces, beside `json` and `base64`."""

from __future__ import annotations

from bodies import RED, b64
from reference import in_pieces_of, read_parsed

from nebula_async.api.messages import Reply
from nebula_async.api.replies import Answer, AnswerReader
from nebula_async.errors import NebulaError
from nebula_async.images.arriving import ArrivingPicture
from targets import same

REFERENCE = "json, base64"

PICTURE = b64(RED).encode()
DEEPEST = 200
MOST_BYTES = 4096

WORDS = [
    PICTURE, b'{"data":[', b'{"data":{"images":[', b'{"b64_json":"', b'"url":"https://a.example/x"', b'"index":', b'"}',
    b'{"image_b64":"', b'{"data":{"image_file":"', b'"image_url":"', b'"error":{"code":"', b'"status":"failed"', b"]}",
    b'"timings":{"inference":', b'"usage":{', b'"message":"', b'"model":"', b"1e999", b"null", b"}", b",", b"[[[[",
    b"-1", b"content_policy_violation", b"data:image/png;base64,", b"\\n",
]  # fmt: skip

SEEDS = [
    b"\x80" + b'{"data": [{"index": 1, "b64_json": "%s", "timings": {"inference": 0.5}}], "message": "x"}' % PICTURE,
    b"\x30" + b'{"data": {"images": [{"url": "https://a.example/x"}, {"b64_json": "%s"}], "usage": {}}}' % PICTURE,
    b"\xff" + b'{"image_b64": "%s", "status": "success"}' % PICTURE,
    b"\x10" + b'{"status": "failed", "error": {"code": "content_policy_violation"}}',
]  # fmt: skip


def check(data: bytes) -> None:
    """Read a reply whole, in pieces, and cut where the first byte says."""
    body = data[1:]
    if body.count(b"[") + body.count(b"{") > DEEPEST:
        return
    whole, pieces = read([body]), read(in_pieces_of(7, body))
    same(whole, pieces, body)
    if isinstance(whole, Answer):
        known = set(bytes_in(read_parsed(body))) if is_json(body) else None
        for image in whole.images:
            assert image.url or known is None or image.data in known, body
    cut = body[: data[0] * len(body) // 255] if data else b""
    saved = salvage(cut)
    if isinstance(saved, Answer) and isinstance(whole, Answer) and is_json(body) and body.count(b'"data"') < 2:
        assert all(image in whole.images for image in saved.images), (cut, body)


def read(pieces: list[bytes]) -> Answer | str:
    """Return the answer, or the error in words."""
    reader = AnswerReader(ArrivingPicture)
    for piece in pieces:
        reader.feed(piece)
    try:
        return reader.finish(Reply(status=200), asked=1, now=0)
    except NebulaError as error:
        return repr(error)


def salvage(cut: bytes) -> Answer | None:
    """Return what can be saved of a reply that broke off."""
    reader = AnswerReader(ArrivingPicture)
    reader.feed(cut)
    return reader.salvage(Reply(status=200), asked=1, now=0)


def is_json(body: bytes) -> bool:
    """Whether the whole body is JSON."""
    try:
        read_parsed(body)
    except (ValueError, RecursionError):
        return False
    return True


def bytes_in(value: object) -> list[bytes]:
    """Return the pictures of a parsed body, wherever they are."""
    if isinstance(value, bytes):
        return [value]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [data for each in inner for data in bytes_in(each)]
