"""The body that pictures are sent in: in pieces, byte for byte the JSON that it stands for, whenever it is sent."""

from __future__ import annotations

import base64
import json
import os
import threading
from contextlib import aclosing
from pathlib import Path
from random import Random

import anyio
import pytest

from nebula_async.api.posting import post
from nebula_async.errors import InvalidRequestError
from nebula_async.images import uploads
from nebula_async.images.media import Media
from nebula_async.images.uploads import PIECE_BYTES, Held, Picture, Upload, find_file
from nebula_async.requests import ImageRequest

pytestmark = pytest.mark.anyio

SIZES = [1, 2, 3, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 2 * PIECE_BYTES + 2]
MOST = 48 * 2**20


def noise(size: int) -> bytes:
    """Return so many bytes that are always the same."""
    return Random(size).randbytes(size)  # noqa: S311


def picture(content, name: str = "image") -> Picture:
    """Return what was checked and found to be a picture."""
    return Picture(name, "a picture", content, Media("image/png", ".png", 1, 1))


@pytest.fixture
def file(tmp_path) -> Path:
    """A file of four pieces."""
    path = tmp_path / "cat.png"
    path.write_bytes(noise(4 * PIECE_BYTES))
    return path


def body_of(path: Path) -> Upload:
    """Return a body with the picture in a file."""
    return Upload((b"{", picture(find_file(path, MOST)), b"}"))


async def sent(body: Upload) -> list[bytes]:
    """Return the pieces of a body."""
    return [piece async for piece in body.pieces()]


async def refusal(body: Upload, most_bytes: int) -> str:
    """Send a body, of which less than `most_bytes` may leave, and return what is raised."""
    left = 0
    try:
        async for piece in body.pieces():
            left += len(piece)
    except InvalidRequestError as error:
        assert left < most_bytes
        return str(error)
    raise AssertionError("it was sent")


def is_open(path: Path) -> bool:
    """Whether this process has the file open."""
    return any(os.path.realpath(link) == str(path) for link in Path("/proc/self/fd").iterdir())


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("place", ["memory", "disk"])
async def test_the_body_is_the_json_of_the_request(size, place, tmp_path):
    """Whatever the size, the pieces are together the JSON of all fields with the base64 of the very bytes, and as long
    as was said.
    """
    data, mask = noise(size), noise(size + 1)
    (tmp_path / "cat.png").write_bytes(data)
    content = Held(data) if place == "memory" else find_file(tmp_path / "cat.png", MOST)
    request = ImageRequest("a 猫", model="m", width=512, image=b"?", mask=b"?", extra={"a": [1, None], "é": {}})
    made = post("https://a.example", request, pictures=(picture(content), picture(Held(mask), "mask")))

    pictures = {"image": base64.b64encode(data).decode(), "mask": base64.b64encode(mask).decode()}
    fields = {"prompt": "a 猫", "model": "m", "width": 512, **pictures, "a": [1, None], "é": {}}
    expected = json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()
    assert expected == b"".join(await sent(made.body))
    assert len(expected) == made.size == made.body.size


async def test_no_piece_is_large(file):
    """A picture of any size is sent in pieces of half a MiB."""
    pieces = await sent(body_of(file))

    assert 5 == len(pieces)
    assert max(map(len, pieces)) <= PIECE_BYTES // 3 * 4 + 1


async def test_a_body_can_be_sent_many_times_also_at_once(file):
    """Each attempt reads from the beginning, whatever another one is doing."""
    body = body_of(file)
    once = await sent(body)
    async with aclosing(body.pieces()) as pieces:
        first = await anext(pieces)
        assert once == await sent(body)
        assert once == [first] + [piece async for piece in pieces]


async def test_what_gives_its_bytes_once_is_kept(tmp_path):
    """A path to a pipe is read once; each attempt sends what was read."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=(b"picture",))
    writer.start()
    content = await anyio.to_thread.run_sync(find_file, path, MOST)
    writer.join()

    assert [b"cGljdHVyZQ==", b""] == await sent(Upload((picture(content),)))


def shrink(path: Path) -> None:
    """Cut a file short."""
    os.truncate(path, 3 * PIECE_BYTES)


def grow(path: Path) -> None:
    """Add to a file."""
    with path.open("ab") as file:
        file.write(b"x")


def rewrite(path: Path) -> None:
    """Write other bytes of the same number, at another time."""
    path.write_bytes(noise(4 * PIECE_BYTES + 1)[1:])
    os.utime(path, ns=(0, 0))


def replace(path: Path) -> None:
    """Put another file in its place, as large and as old."""
    other = path.with_suffix(".new")
    other.write_bytes(bytes(4 * PIECE_BYTES))
    status = path.stat()
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.replace(path)


@pytest.mark.parametrize("change", [shrink, grow, rewrite, replace], ids=lambda change: change.__name__)
async def test_a_file_that_changed_is_not_sent(file, change):
    """A file that is no longer what was checked ends in one clear error, before any of it is sent."""
    body = body_of(file)
    change(file)

    assert (
        "image cannot be used: the file was changed meanwhile; got a picture; leave it as it is until it is sent"
        == await refusal(body, 1)
    )
    assert not is_open(file)


async def test_a_file_that_is_gone_is_not_sent(file):
    """A file that vanished is named, with what the system says."""
    body = body_of(file)
    file.unlink()

    assert (
        "image cannot be used: No such file or directory; got a picture; leave it as it is until it is sent"
        == await refusal(body, 1)
    )


@pytest.mark.parametrize("change", [shrink, grow, rewrite], ids=lambda change: change.__name__)
@pytest.mark.parametrize("after", [1, 3])
async def test_a_file_that_changes_while_it_is_sent_is_not_sent_to_its_end(file, change, after):
    """What was begun cannot be taken back, but a server never gets the whole of a mixture."""
    body = body_of(file)
    pieces = body.pieces()
    begun = [await anext(pieces) for _ in range(after)]
    change(file)
    with pytest.raises(InvalidRequestError, match="the file was changed meanwhile"):
        await anext(pieces)

    assert sum(map(len, begun)) < body.size
    assert not is_open(file)


async def test_a_body_that_is_given_up_closes_its_file(file):
    """Where the rest of a body is not wanted, its file is closed at once."""
    pieces = body_of(file).pieces()
    await anext(pieces)
    assert is_open(file)
    await pieces.aclose()

    assert not is_open(file)


@pytest.mark.parametrize("not_waiting", [uploads.NOT_WAITING, None], ids=["at hand", "on the disk"])
async def test_what_has_to_be_waited_for_is_the_same(file, not_waiting, monkeypatch):
    """Where the system cannot say what it still has in memory, the file is read in a thread, to the same bytes."""
    monkeypatch.setattr(uploads, "NOT_WAITING", not_waiting)

    assert base64.b64encode(file.read_bytes()) == b"".join(await sent(body_of(file)))[1:-1]


async def test_a_cancelled_body_closes_its_file(file, monkeypatch):
    """Cancellation while a piece is being read waits for that piece alone, and closes the file."""
    monkeypatch.setattr(uploads, "NOT_WAITING", None)
    with anyio.CancelScope() as scope:
        async for _ in body_of(file).pieces():
            scope.cancel()

    assert scope.cancelled_caught
    assert not is_open(file)
