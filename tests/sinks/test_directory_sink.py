"""Pictures in a folder: what a file system, or whoever else writes there, can do to them."""

from __future__ import annotations

import asyncio
import errno
import os
import stat
import subprocess
import sys
import threading
import unicodedata
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest
from attrs import define, field

from nebula_async import DirectorySink
from nebula_async.offload import offload

KEY = "00000/000000042-cat"
PNG = ("image/png", ".png")
PIECE = b"x" * 200_000

FULL_DISK = """
import errno, resource, signal, sys, anyio
from nebula_async import DirectorySink

async def main(folder):
    writer = await DirectorySink(folder).open("cat")
    await writer.write(b"x" * 60_000)
    try:
        await writer.write(b"x" * 60_000)
    except OSError as error:
        print(errno.errorcode[error.errno])
    await writer.discard()

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
anyio.run(main, sys.argv[1])
"""

IN_ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}

NAMES_IN_ASCII = """
import sys, anyio
from nebula_async import BulkJob, ConfigurationError, DirectorySink

async def main(folder):
    sink = DirectorySink(folder)
    for ask in (sink.open, sink.find):
        try:
            await ask("00000/caf\\u00e9")
        except ValueError as error:
            print(error)
    for make in (DirectorySink, lambda place: BulkJob(["a cat"], out=place)):
        try:
            make(f"{folder}/caf\\u00e9")
        except ConfigurationError as error:
            print(error)
    writer = await sink.open("cafe")
    await writer.write(b"x")
    print((await writer.publish("image/png", ".png")).removeprefix(folder))

anyio.run(main, sys.argv[1])
"""


@pytest.fixture
def folder(tmp_path) -> Path:
    """The sink's folder, in which that of `KEY` is there already."""
    (tmp_path / "out" / "00000").mkdir(parents=True)
    return tmp_path / "out"


async def store(folder: Path, key: str = KEY, data: bytes = b"new") -> Path:
    """Store a picture and return where it is."""
    writer = await DirectorySink(folder).open(key)
    await writer.write(data)
    return Path(await writer.publish(*PNG))


def files(folder: Path) -> list[str]:
    """Return what lies anywhere below a folder, links and hidden files too, without the folders."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())


def take_name(kind: str, place: Path) -> None:
    """Put something at a picture's name."""
    if kind == "file":
        place.write_bytes(b"old")
    elif kind == "folder":
        place.mkdir()
    elif kind == "fifo":
        os.mkfifo(place)
    else:
        target = {"link": place.parent / "other", "dangling link": place.parent / "gone", "loop": place}[kind]
        place.symlink_to(target)
        if kind == "link":
            target.write_bytes(b"old")


@pytest.mark.anyio
@pytest.mark.parametrize("kind", ["file", "folder", "fifo", "link", "dangling link", "loop"])
async def test_what_has_the_name_stays_as_it_is(folder, kind):
    """Whatever bears the picture's name is neither followed, nor replaced, nor opened; the picture takes the next (B45,
    B46).
    """
    place = folder / f"{KEY}.png"
    take_name(kind, place)
    before = place.lstat()
    assert folder / f"{KEY}-1.png" == await store(folder)
    assert before.st_ino == place.lstat().st_ino
    assert stat.S_IFMT(before.st_mode) == stat.S_IFMT(place.lstat().st_mode)
    assert b"new" == (folder / f"{KEY}-1.png").read_bytes()
    assert not (folder / "00000" / "gone").exists()
    if kind in {"file", "link"}:
        assert b"old" == place.read_bytes()


@pytest.mark.anyio
async def test_missing_folders_are_made(tmp_path):
    """The sink's folder and those of a key are made with the first piece; nothing is left beside the picture."""
    sink = DirectorySink(tmp_path / "a" / "b")
    writer = await sink.open("c/d/cat")
    assert [] == list(tmp_path.iterdir())
    await writer.write(PIECE)
    assert str(tmp_path / "a/b/c/d/cat.png") == await writer.publish(*PNG)
    assert ["a/b/c/d/cat.png"] == files(tmp_path)


@pytest.mark.anyio
async def test_a_path_is_told_as_the_folder_was_given(tmp_path, monkeypatch):
    """A relative folder gives relative paths."""
    monkeypatch.chdir(tmp_path)
    assert Path("out", f"{KEY}.png") == await store(Path("out"))


@pytest.mark.anyio
async def test_a_part_file_is_hidden_and_lies_beside_the_picture(folder):
    """Until it is whole a picture is a hidden part file on the same file system, which can be told and swept up."""
    writer = await DirectorySink(folder).open(KEY)
    await writer.write(PIECE)
    [part] = files(folder)
    assert part.startswith("00000/.")
    assert part.endswith(".part")
    assert len(PIECE) == (folder / part).stat().st_size
    await writer.discard()
    assert [] == files(folder)


@pytest.mark.anyio
async def test_a_picture_has_the_permissions_of_any_file(folder):
    """The umask decides who may read a picture, as for every file that the process makes."""
    (folder / "any").touch()
    assert stat.S_IMODE((folder / "any").stat().st_mode) == stat.S_IMODE((await store(folder)).stat().st_mode)


@pytest.mark.anyio
@pytest.mark.parametrize("is_there", [True, False], ids=["there", "dangling"])
@pytest.mark.parametrize("key", ["00001/cat", "00001/a/cat"])
async def test_a_link_out_of_the_folder_is_refused(folder, tmp_path, is_there, key):
    """A subfolder that is a link to elsewhere gets no picture, and nothing is made where it leads."""
    outside = tmp_path / "outside"
    if is_there:
        outside.mkdir()
    (folder / "00001").symlink_to(outside)
    with pytest.raises(OSError, match="leads out of it; replace it by a folder"):
        await store(folder, key)
    assert is_there == outside.exists()
    assert [] == list(outside.rglob("*"))


@pytest.mark.anyio
async def test_links_that_stay_inside_are_followed(folder, tmp_path):
    """The folder itself may be a link, and so may a subfolder that leads to another one of it."""
    (tmp_path / "link").symlink_to(folder)
    (folder / "00001").symlink_to("00000")
    assert tmp_path / "link/00001/cat.png" == await store(tmp_path / "link", "00001/cat")
    assert ["00000/cat.png"] == [name for name in files(folder) if name != "00001"]


@pytest.mark.anyio
async def test_a_file_where_a_folder_should_be(folder):
    """A folder that cannot be made is an `OSError` of that picture; nothing is left, and the file is as it was."""
    (folder / "cats").write_bytes(b"old")
    writer = await DirectorySink(folder).open("cats/cat")
    with pytest.raises(OSError, match="cats"):
        await writer.write(PIECE)
    await writer.discard()
    assert ["cats"] == files(folder)
    assert b"old" == (folder / "cats").read_bytes()


@pytest.mark.anyio
async def test_a_folder_that_vanishes_meanwhile(folder):
    """When someone removes the part file, `publish` is an `OSError`, and no empty file is left in its place."""
    writer = await DirectorySink(folder).open(KEY)
    await writer.write(PIECE)
    for part in (folder / "00000").iterdir():
        part.unlink()
    with pytest.raises(FileNotFoundError):
        await writer.publish(*PNG)
    await writer.discard()
    assert [] == files(folder)


@pytest.mark.anyio
async def test_names_of_another_spelling_are_other_pictures(folder):
    """Case and accent twins are both stored, whether or not the file system tells them apart (B44)."""
    is_ascii = sys.getfilesystemencoding() == "ascii"  # then there are no accents in names of files
    accents = [] if is_ascii else ["caf\u00e9", unicodedata.normalize("NFD", "caf\u00e9")]
    keys = ["cat", "CAT", *accents]
    places = [await store(folder, key, key.encode()) for key in keys]
    assert len(keys) == len(set(places))
    assert [key.encode() for key in keys] == [place.read_bytes() for place in places]


def test_names_that_this_process_cannot_write(tmp_path):
    """Where file names are in ASCII, another key is refused when a writer is asked for, and another folder when the
    sink is made, so nothing is paid for; a folder that was handed over by its bytes is as good as any (B44, B54).
    """
    folder = os.fsencode(tmp_path) + b"/caf\xc3\xa9"
    command = [sys.executable, "-c", NAMES_IN_ASCII, folder]
    done = subprocess.run(command, env=os.environ | IN_ASCII, capture_output=True, text=True, check=False)
    opened, found, made, job, stored = done.stdout.splitlines() or [done.stderr]
    advice = "names of files in ascii, which lacks some of its characters; use others, or set PYTHONUTF8=1"
    assert f"'00000/caf\\xe9' cannot be the key of a picture: this process writes {advice}" == opened == found
    assert made.startswith("the folder '")
    assert made.endswith(f"caf\\xe9' cannot be that of a sink: this process writes {advice}")
    assert job.startswith("out '")
    assert job.endswith(f"caf\\xe9' cannot be the folder of a job: this process writes {advice}")
    assert "/cafe.png" == stored
    assert [b"cafe.png"] == os.listdir(folder)  # noqa: PTH208 - a path cannot be of bytes


@pytest.mark.anyio
async def test_a_long_key_has_room_for_its_number(folder):
    """The longest key that is accepted can be stored, twice."""
    places = [await store(folder, "x" * 240) for _ in range(2)]
    assert ["x" * 240 + ".png", "x" * 240 + "-1.png"] == [place.name for place in places]


@pytest.mark.anyio
async def test_a_file_system_without_hard_links(folder, monkeypatch):
    """There the name is claimed by an empty file first: still nothing is replaced, and nothing else is left."""

    def refuse(*_args, **_options):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    (folder / f"{KEY}.png").symlink_to("gone")
    assert folder / f"{KEY}-1.png" == await store(folder)
    assert folder / f"{KEY}-2.png" == await store(folder, data=b"newer")
    assert ["00000/000000042-cat-1.png", "00000/000000042-cat-2.png", "00000/000000042-cat.png"] == files(folder)
    assert b"newer" == (folder / f"{KEY}-2.png").read_bytes()


def test_a_full_disk(tmp_path):
    """Where no more fits, `write` is an `OSError`, and after `discard` the part file is gone."""
    done = subprocess.run([sys.executable, "-c", FULL_DISK, tmp_path], capture_output=True, text=True, check=True)
    assert "EFBIG\n" == done.stdout
    assert [] == files(tmp_path)


@pytest.mark.anyio
async def test_no_descriptor_is_left(folder):
    """Published, discarded or refused: every file is closed."""
    await store(folder)
    before = len(os.listdir("/dev/fd"))  # noqa: PTH208 - as many as there are, not which
    for number in range(5):
        await store(folder, f"a{number}")
        writer = await DirectorySink(folder).open(f"b{number}")
        await writer.write(PIECE)
        await writer.discard()
    assert before == len(os.listdir("/dev/fd"))  # noqa: PTH208


@define
class Hang:
    """A system call that hangs when it is first made, until it is let go."""

    real: Callable[..., None]
    was_reached: threading.Event = field(factory=threading.Event)
    may_go: threading.Event = field(factory=threading.Event)

    def __call__(self, *args, **options) -> None:
        """Hang, then do it."""
        if not self.was_reached.is_set():
            self.was_reached.set()
            assert self.may_go.wait(10)
        self.real(*args, **options)


@pytest.fixture
def hang(monkeypatch):
    """Make a function of `os` hang, as it does where the server of a network disk is away."""

    def hang_in(name):
        hang = Hang(getattr(os, name))
        monkeypatch.setattr(os, name, hang)
        return hang

    return hang_in


@pytest.mark.anyio
async def test_a_disk_that_hangs_holds_nothing_else(folder, hang):
    """While one picture waits for its disk, the loop, the decoding and the other pictures go on."""
    link = hang("link")
    async with anyio.create_task_group() as group:
        group.start_soon(store, folder, "slow")
        await anyio.to_thread.run_sync(link.was_reached.wait, 10)
        assert folder / f"{KEY}.png" == await store(folder)
        assert 3 == await offload(len, b"abc")
        link.may_go.set()
    assert ["00000/000000042-cat.png", "slow.png"] == files(folder)


@pytest.mark.anyio
async def test_a_cancelled_publish_ends_whole(folder, hang):
    """A scope that is cancelled while the disk works waits for it: the picture is stored, and no part file is left."""
    link = hang("link")
    async with anyio.create_task_group() as group:
        group.start_soon(store, folder)
        await anyio.to_thread.run_sync(link.was_reached.wait, 10)
        group.cancel_scope.cancel()
        link.may_go.set()
    assert ["00000/000000042-cat.png"] == files(folder)


@pytest.mark.asyncio
@pytest.mark.parametrize(("name", "left"), [("mkdir", []), ("link", ["new/cat.png"])])
async def test_discard_waits_for_what_a_native_cancellation_left_working(folder, hang, name, left):
    """`Task.cancel` does not wait for a thread: `discard` does, so no part file appears after it."""
    call = hang(name)
    writer = await DirectorySink(folder).open("new/cat")

    async def write_and_publish():
        await writer.write(PIECE)
        await writer.publish(*PNG)

    task = asyncio.ensure_future(write_and_publish())
    await anyio.to_thread.run_sync(call.was_reached.wait, 10)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    discarding = asyncio.ensure_future(writer.discard())
    await asyncio.sleep(0)
    call.may_go.set()
    await discarding
    assert left == files(folder)
