"""Thumbnails: small, made apart from the run, and whatever a picture is it harms nothing but itself."""

from __future__ import annotations

import math
import os
import signal
import struct
import subprocess
import sys
import threading
import time
import zlib
from contextlib import closing
from pathlib import Path

import pytest
from galleries import photograph
from PIL import Image as Pillow

from nebula_async.bulk.gallery.decoding import Decoder, Made
from nebula_async.bulk.gallery.thumbnails import Thumbnails

PICTURE = "images/00000/000000000-a-cat.png"


@pytest.fixture
def decoder():
    """What makes thumbnails, with little patience."""
    with closing(Decoder(seconds=10)) as started:
        yield started


@pytest.fixture
def thumbnails(tmp_path):
    """The thumbnails of a job's folder with one picture."""
    put(tmp_path / PICTURE, photograph())
    with closing(Thumbnails(tmp_path, tmp_path / "gallery" / "thumbnails")) as made:
        yield made


def put(path: Path, data: bytes) -> Path:
    """Write a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def chunk(kind: bytes, data: bytes) -> bytes:
    """Return a chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def bomb(width: int, height: int) -> bytes:
    """Return a small PNG that says it has so many pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(2**20))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("kind", "mode", "size", "wanted"),
    [
        ("PNG", "RGB", (640, 400), (320, 200)),
        ("PNG", "RGBA", (400, 640), (200, 320)),
        ("PNG", "P", (1024, 1024), (320, 320)),
        ("PNG", "LA", (64, 48), (64, 48)),
        ("JPEG", "RGB", (1000, 10), (320, 3)),
        ("JPEG", "CMYK", (500, 500), (320, 320)),
        ("JPEG", "L", (500, 500), (320, 320)),
        ("WEBP", "RGBA", (500, 500), (320, 320)),
        ("GIF", "P", (500, 500), (320, 320)),
    ],
)
def test_every_type_becomes_a_small_webp(tmp_path, decoder, kind, mode, size, wanted):
    """The longer side has 320 pixels at most, whatever the type and the colours."""
    picture = put(tmp_path / "picture", photograph(*size, kind, mode=mode))
    assert Made.DONE is decoder.make(picture, tmp_path / "00000" / "thumbnail.webp")
    with Pillow.open(tmp_path / "00000" / "thumbnail.webp") as made:
        assert ("WEBP", wanted) == (made.format, made.size)
    assert ["thumbnail.webp"] == [path.name for path in (tmp_path / "00000").iterdir()]


@pytest.mark.parametrize(
    "data",
    [b"", b"no picture", bomb(60_000, 60_000), bomb(2**31 - 1, 2**31 - 1), bomb(8_000, 8_000), photograph()[:500]],
    ids=["empty", "text", "huge", "hugest", "short", "cut"],
)
def test_what_is_no_good_picture_is_bad_and_the_next_one_is_made(tmp_path, decoder, data):
    """A picture that is too large, damaged or none at all costs nothing but its own thumbnail."""
    assert Made.BAD is decoder.make(put(tmp_path / "bad", data), tmp_path / "bad.webp")
    assert Made.DONE is decoder.make(put(tmp_path / "good", photograph()), tmp_path / "good.webp")
    assert ["bad", "good", "good.webp"] == sorted(path.name for path in tmp_path.iterdir())


def test_a_picture_that_takes_too_long_is_given_up(tmp_path):
    """A decoder that hangs is ended; the next picture gets a new process."""
    os.mkfifo(tmp_path / "endless")
    with closing(Decoder(seconds=10)) as decoder:
        good = put(tmp_path / "good", photograph())
        assert Made.DONE is decoder.make(good, tmp_path / "first.webp")
        first, decoder.seconds = decoder.process_id, 0.2
        assert Made.BAD is decoder.make(tmp_path / "endless", tmp_path / "endless.webp")
        assert not is_alive(first)
        decoder.seconds = 10
        assert Made.DONE is decoder.make(good, tmp_path / "good.webp")


def test_a_process_that_is_killed_takes_one_picture_with_it(tmp_path, decoder):
    """As where the system is short of memory: the picture under way is bad, the next one is made."""
    good = put(tmp_path / "good", photograph())
    decoder.make(good, tmp_path / "first.webp")
    os.kill(decoder.process_id, signal.SIGKILL)
    assert Made.BAD is decoder.make(good, tmp_path / "second.webp")
    assert Made.DONE is decoder.make(good, tmp_path / "third.webp")


def test_a_picture_that_is_gone_is_not_bad(tmp_path, decoder):
    """It may come back."""
    assert Made.GONE is decoder.make(tmp_path / "none", tmp_path / "none.webp")


def test_a_folder_that_cannot_be_written_ends_it(tmp_path, decoder):
    """No thumbnail can be made then, and the reason is known."""
    put(tmp_path / "thumbnails", b"a file")
    assert Made.FAILED is decoder.make(put(tmp_path / "good", photograph()), tmp_path / "thumbnails" / "good.webp")
    assert decoder.problem
    assert Made.FAILED is decoder.make(tmp_path / "good", tmp_path / "good.webp")


def test_the_process_knows_no_key_and_is_the_last_to_be_served(tmp_path, decoder, monkeypatch):
    """What decodes pictures from a network has no secret in its environment, little memory, and the lowest claims."""
    monkeypatch.setenv("NEBULA_API_KEY", "sk-secret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    decoder.make(put(tmp_path / "good", photograph()), tmp_path / "good.webp")
    place = Path(f"/proc/{decoder.process_id}")
    assert b"secret" not in (place / "environ").read_bytes()
    assert 10 <= os.getpriority(os.PRIO_PROCESS, decoder.process_id)
    limits = {line[:25].strip(): line[25:].split()[0] for line in (place / "limits").read_text().splitlines()}
    assert str(2**30) == limits["Max address space"]
    assert str(2**20) == limits["Max file size"]
    assert "0" == limits["Max core file size"]
    assert int(limits["Max cpu time"]) < 60


PARENT = """
import os, signal, sys
from pathlib import Path
from nebula_async.bulk.gallery.decoding import Decoder
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job of a shell that is in the background ignores it
decoder = Decoder()
decoder.make(Path(sys.argv[1]), Path(sys.argv[2]))
print(decoder.process_id, flush=True)
os.kill(os.getpid(), int(sys.argv[3]))
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_process_outlives_its_parent(tmp_path, number):
    """However the run's process ends, that of its thumbnails ends too."""
    picture, thumbnail = put(tmp_path / "good", photograph()), tmp_path / "good.webp"
    command = [sys.executable, "-c", PARENT, str(picture), str(thumbnail), str(int(number))]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ended.returncode in (-number, 1, 130)
    assert ended.stdout, ended.stderr
    until = time.monotonic() + 10
    while is_alive(int(ended.stdout)) and time.monotonic() < until:
        time.sleep(0.01)
    assert not is_alive(int(ended.stdout))


def is_alive(process: int) -> bool:
    """Whether a process runs; one that nobody has waited for yet does not."""
    try:
        return "Z" != Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False


def test_a_picture_that_was_replaced_gets_another_thumbnail(thumbnails):
    """The name of a thumbnail tells which bytes it is of: an old one is never shown for a new picture."""
    assert thumbnails.find(PICTURE) is None
    assert thumbnails.fill([PICTURE], math.inf)
    first = thumbnails.find(PICTURE)
    assert first is not None
    assert first.startswith("00000/")
    put(thumbnails.root / PICTURE, photograph(400, 400))
    assert thumbnails.find(PICTURE) is None
    assert thumbnails.fill([PICTURE], math.inf)
    assert first != thumbnails.find(PICTURE)


def test_thumbnails_of_pictures_that_are_no_more_go(thumbnails):
    """Of pictures that were replaced or deleted nothing stays, once all were looked at; files of others do."""
    other = PICTURE.replace("cat", "dog")
    put(thumbnails.root / other, photograph())
    assert thumbnails.fill([PICTURE, other], math.inf)
    stale = {thumbnails.find(PICTURE), thumbnails.find(other)}
    mine = [put(thumbnails.folder / name, b"mine") for name in ("mine.webp", "00000/0123456789abcdef.png")]
    put(thumbnails.root / PICTURE, photograph(400, 400))
    (thumbnails.root / other).unlink()
    assert not thumbnails.fill([PICTURE, other], -1)
    assert all((thumbnails.folder / name).exists() for name in stale)
    assert thumbnails.fill([PICTURE, other], math.inf)
    left = {path for path in thumbnails.folder.rglob("*") if path.is_file()}
    assert {*mine, thumbnails.folder / thumbnails.find(PICTURE)} == left


def test_notes_of_pictures_that_were_replaced_go(thumbnails):
    """A picture that could not be decoded and was replaced leaves no note."""
    put(thumbnails.root / PICTURE, b"no picture")
    assert thumbnails.fill([PICTURE], math.inf)
    put(thumbnails.root / PICTURE, photograph())
    assert thumbnails.fill([PICTURE], math.inf)
    assert [".webp"] == [path.suffix for path in thumbnails.folder.rglob("*.*")]


def test_thumbnails_that_a_run_makes_meanwhile_stay(thumbnails):
    """Those that are newer than the list of pictures are of pictures that are newer than it."""
    put(thumbnails.root / "images" / "new.png", photograph())

    def make_another():
        thumbnails.make("images/new.png")

    assert thumbnails.fill([PICTURE], math.inf, on_each=make_another)
    assert thumbnails.find("images/new.png")


def test_thumbnails_stay_where_no_picture_is_to_be_found(thumbnails):
    """As where the disk of the pictures is not there for now."""
    assert thumbnails.fill([PICTURE], math.inf)
    picture = thumbnails.root / PICTURE
    away = picture.rename(thumbnails.root / "away")
    assert thumbnails.fill([PICTURE], math.inf)
    away.rename(picture)
    assert thumbnails.find(PICTURE)


def test_a_bad_picture_is_tried_once(thumbnails):
    """What cannot be decoded is noted, so that no run waits for it again, until it is replaced."""
    put(thumbnails.root / PICTURE, b"no picture")
    assert thumbnails.fill([PICTURE], math.inf)
    (noted,) = thumbnails.folder.rglob("*.failed")
    before = noted.stat().st_mtime_ns
    assert thumbnails.fill([PICTURE], math.inf)
    assert before == noted.stat().st_mtime_ns
    put(thumbnails.root / PICTURE, photograph())
    assert thumbnails.fill([PICTURE], math.inf)
    assert thumbnails.find(PICTURE)


def test_time_that_is_up_ends_the_filling(thumbnails):
    """What was not looked at in time is known to be missing."""
    assert not thumbnails.fill([PICTURE], -1)
    assert thumbnails.find(PICTURE) is None


def test_stopping_ends_the_picture_under_way_and_notes_nothing(thumbnails):
    """Who leaves does not wait for a picture, and it is not taken for a bad one."""
    os.mkfifo(endless := thumbnails.root / "images" / "endless")

    def stop_while_it_is_read():
        writing = os.open(endless, os.O_WRONLY)  # waits until it is read
        thumbnails.stop()
        os.close(writing)

    stopping = threading.Thread(target=stop_while_it_is_read)
    stopping.start()
    assert not thumbnails.fill(["images/endless", PICTURE], math.inf)
    stopping.join()
    assert not list(thumbnails.folder.rglob("*.failed"))
    assert thumbnails.find(PICTURE) is None


def test_what_is_offered_is_made_beside_the_caller(thumbnails):
    """An offer takes no time; closing waits for what is under way, and leaves no thread."""
    thumbnails.offer(PICTURE)
    thumbnails.offer("images/00000/gone.png")
    thumbnails.settle()
    assert thumbnails.find(PICTURE)
    assert not [thread for thread in threading.enumerate() if "thumbnails" in thread.name]


def test_settling_waits_for_one_picture_and_not_for_those_that_wait(thumbnails):
    """A run that has ended looks for what is missing in its own order, and for a bounded time."""
    os.mkfifo(endless := thumbnails.root / "images" / "endless")
    for path in ("images/endless", PICTURE, PICTURE):
        thumbnails.offer(path)
    writing = os.open(endless, os.O_WRONLY)  # waits until it is read
    settling = threading.Thread(target=thumbnails.settle)
    settling.start()
    while thumbnails.waiting > 1:
        time.sleep(0.001)
    os.close(writing)
    settling.join()
    assert thumbnails.find(PICTURE) is None


def test_offers_that_are_too_many_are_left_out(thumbnails):
    """What waits is bounded: a run that is faster than the thumbnails grows no memory by them."""
    os.mkfifo(thumbnails.root / "images" / "endless")
    thumbnails.offer("images/endless")
    for _ in range(5_000):
        thumbnails.offer(PICTURE)
    assert thumbnails.waiting <= 1_000


def test_parts_of_killed_processes_are_removed(thumbnails):
    """What a process left that was killed goes, once it is old."""
    old, new = (thumbnails.folder / "00000" / f".{number}.part" for number in (1, 2))
    for part in (old, new):
        put(part, b"")
    os.utime(old, (0, 0))
    thumbnails.fill([], math.inf)
    assert (False, True) == (old.exists(), new.exists())


def test_no_picture_leads_out_of_the_folder(thumbnails):
    """A path that was changed by hand names no thumbnail elsewhere."""
    thumbnails.fill(["images/../images/00000/000000000-a-cat.png"], math.inf)
    assert not thumbnails.folder.exists()
