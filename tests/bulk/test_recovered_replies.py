"""What a job that was killed had received is stored by the next run, as it came, and never in place of another file."""

from __future__ import annotations

import contextlib
import shutil
import time
from pathlib import Path

import pytest
from attrs import evolve

from nebula_async.bulk.job import BulkJob
from nebula_async.bulk.ledger import Ledger
from nebula_async.bulk.recovery import Recovery
from nebula_async.bulk.spool import PartWriter, Received, Spool
from nebula_async.bulk.states import State
from nebula_async.charges import Charges
from nebula_async.client import AsyncNebula
from nebula_async.config import Config, RetryPolicy
from nebula_async.images.media import read_media

pytestmark = pytest.mark.anyio

SMALL = {"model": "black-forest-labs/FLUX.1-schnell", "width": 64, "height": 64}
KEY = "#0"


@pytest.fixture
def job(tmp_path, emulator):
    """Open the job of one prompt, that pays for nothing twice."""
    manifest = tmp_path / "prompts.txt"
    manifest.write_text("a cat")
    config = Config(base_url=emulator.base_url, retry=RetryPolicy(backoff=0, resend_unknown=0))

    @contextlib.asynccontextmanager
    async def opened(**settings):
        async with (
            AsyncNebula(emulator.key, config=evolve(config, **settings)) as nebula,
            BulkJob(manifest, tmp_path / "out", nebula, defaults=SMALL) as job,
        ):
            yield job

    return opened


@pytest.fixture
def out(tmp_path):
    """Where the job stores."""
    return tmp_path / "out"


async def run(job, **settings) -> Recovery:
    """Run the job, and return what it found."""
    async with job(**settings) as opened:
        await opened.run()
        return opened.recovery


@contextlib.contextmanager
def ledger_of(out: Path):
    """Open the ledger of a job that does not run."""
    with contextlib.closing(Ledger.open(out / ".nebula" / "ledger.db")) as ledger:
        yield ledger


def kill_before_stored(out: Path, *, is_complete: bool = True) -> bytes:
    """Leave the folder as a run does that is killed when the reply is here, and the picture not in its place."""
    (stored,) = (out / "images").glob("*/*.png")
    data = stored.read_bytes()
    spool = Spool(out / ".nebula" / "spool", is_synced=False)
    writer = PartWriter(spool.part(0, 1, 0), is_synced=False)
    writer.write([data])
    digest, media = writer.finish(), read_media(data)
    if is_complete:
        facts = {"media_type": media.media_type, "extension": media.extension, "width": 64, "height": 64}
        spool.write_reply(0, 1, [Received(part=writer.path, sha256=digest, bytes=len(data), **facts)])
    stored.unlink()
    with ledger_of(out) as ledger:
        ledger.forget(stored.relative_to(out).as_posix())
        ledger._connection.execute("UPDATE item SET state = 'sent', at_least = 0, at_most = 0, at_stake = 1")
        ledger._connection.execute("UPDATE attempt SET ended_at = NULL, verdict = NULL, at_least = 0, at_most = 0")
    return data


def spooled(out: Path) -> list[str]:
    """Return the names of what is in the spool."""
    return sorted(path.name for path in (out / ".nebula" / "spool").iterdir())


def standing(out: Path) -> tuple[State, Charges]:
    """Return where the item stands, and what it may have cost."""
    with ledger_of(out) as ledger:
        row = ledger.find(KEY)
        return row.state, Charges(row.charges.at_least, row.charges.at_most + row.at_stake)


@pytest.mark.parametrize("is_complete", [True, False])
async def test_a_reply_that_was_received_is_stored_and_not_bought_again(job, out, emulator, is_complete):
    """Killed when the last byte of the picture is here, noted as complete or not, a job ends with that very picture."""
    await run(job)
    data = kill_before_stored(out, is_complete=is_complete)
    assert Recovery(adopted=1) == await run(job)
    (stored,) = (out / "images").glob("*/*.png")
    assert data == stored.read_bytes()
    assert [] == spooled(out)
    assert (State.DONE, Charges(1, 1)) == standing(out)
    emulator.assert_charged(1)


def flip(path: Path) -> None:
    """Change a byte in the middle."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut(path: Path) -> None:
    """Take the end away."""
    path.write_bytes(path.read_bytes()[:-20])


@pytest.mark.parametrize("damage", [flip, cut, Path.unlink])
async def test_what_is_not_as_it_came_is_never_stored(job, out, emulator, damage):
    """A part whose bytes are not those that came is no picture: the item may have been paid for, and says so (D5)."""
    await run(job)
    kill_before_stored(out)
    damage(out / ".nebula" / "spool" / "0.1.0.part")
    assert Recovery(given_up=1) == await run(job)
    assert [] == [*(out / "images").glob("*/*.png")]
    assert [] == spooled(out)
    assert (State.UNKNOWN, Charges(1, 1)) == standing(out)
    emulator.assert_charged(1)


async def test_a_picture_that_is_in_place_is_adopted(job, out):
    """Killed between the picture's link and the ledger, a job keeps one file of it (D6)."""
    await run(job)
    data = kill_before_stored(out)
    place = out / "images" / "00000" / "000000000-a-cat.png"
    place.hardlink_to(out / ".nebula" / "spool" / "0.1.0.part")
    await run(job)
    assert [place] == [*(out / "images").glob("*/*")]
    assert data == place.read_bytes()


async def test_the_same_bytes_under_the_name_are_the_picture(job, out):
    """A copy of the picture that lies in its place already is taken for it (D6, D7)."""
    await run(job)
    data = kill_before_stored(out)
    place = out / "images" / "00000" / "000000000-a-cat.png"
    place.write_bytes(data)
    await run(job)
    assert [place] == [*(out / "images").glob("*/*")]


def as_file(place: Path) -> None:
    """Put a file of somebody else's there."""
    place.write_bytes(b"mine")


def as_link(place: Path) -> None:
    """Put a link to a file of somebody else's there."""
    (place.parent.parent.parent / "mine").write_bytes(b"mine")
    place.symlink_to(place.parent.parent.parent / "mine")


def as_dangling_link(place: Path) -> None:
    """Put a link to nothing there."""
    place.symlink_to("nothing")


@pytest.mark.parametrize("put", [as_file, as_link, as_dangling_link, Path.mkdir])
async def test_nothing_that_has_the_name_is_replaced_or_followed(job, out, put):
    """A file, link or folder of somebody else's stays as it is; the picture gets the next free name (D7)."""
    await run(job)
    data = kill_before_stored(out)
    place = out / "images" / "00000" / "000000000-a-cat.png"
    put(place)
    before = (place.is_symlink(), place.is_dir(), place.is_file() and place.read_bytes())
    assert Recovery(adopted=1) == await run(job)
    assert before == (place.is_symlink(), place.is_dir(), place.is_file() and place.read_bytes())
    assert data == place.with_name("000000000-a-cat-1.png").read_bytes()


async def test_what_is_in_the_spool_and_not_ours_stays(job, out):
    """Files of other names in the spool are left alone; parts of attempts that ended are removed."""
    await run(job)
    spool = out / ".nebula" / "spool"
    for name in ("7.1.0.part", "7.1.reply", "notes.txt"):
        (spool / name).write_text("x")
    await run(job)
    assert ["notes.txt"] == spooled(out)


async def test_a_picture_that_is_gone_is_told_and_made_again_only_when_asked(job, out, emulator):
    """A stored picture that was taken away is listed as bad; it is not bought again by itself."""
    await run(job)
    shutil.rmtree(out / "images" / "00000")
    assert Recovery(gone=1) == await run(job)
    assert State.BAD == standing(out)[0]
    emulator.assert_charged(1)


async def test_a_picture_that_is_gone_of_an_item_that_is_not_done_leaves_it_where_it_stands(job, out):
    """What may have been paid for and is given up stays so; the picture it had is forgotten."""
    await run(job)
    shutil.rmtree(out / "images" / "00000")
    with ledger_of(out) as ledger:
        ledger._connection.execute("UPDATE item SET state = 'unknown', error = 'lost'")
    assert Recovery(gone=1) == await run(job)
    with ledger_of(out) as ledger:
        assert (State.UNKNOWN, 0) == (ledger.state(KEY), ledger.pictures())


def kill_after_verdict(out: Path, verdict: str, charges: Charges) -> None:
    """Leave the folder as a run does that is killed when an attempt has its verdict, and its item has not moved."""
    kill_before_stored(out)
    for path in (out / ".nebula" / "spool").iterdir():
        path.unlink()
    with ledger_of(out) as ledger:
        ledger.ended(0, 1, verdict, charges, at=1.0, error="what was said", cause="a cause")


@pytest.mark.parametrize(
    ("verdict", "charges", "state"),
    [
        ("paid, reply unusable", Charges(1, 1), State.BAD),
        ("outcome unknown", Charges(0, 1), State.UNKNOWN),
        ("paid, reply lost", Charges(1, 1), State.UNKNOWN),
    ],
)
async def test_a_verdict_that_was_noted_stands(job, out, emulator, verdict, charges, state):
    """Killed between an attempt's verdict and its item's, a job goes by the verdict, with its charges and its words."""
    await run(job)
    kill_after_verdict(out, verdict, charges)
    await run(job)
    assert (state, charges) == standing(out)
    with ledger_of(out) as ledger:
        assert ("what was said", "a cause") == (ledger.find(KEY).error, ledger.find(KEY).cause)
    emulator.assert_charged(1)


async def test_a_replayed_key_is_sent_again_out_of_no_budget(job, out, emulator):
    """Where the server promises one charge for a key, what was under way is asked for again, and paid for once."""
    await run(job, idempotency="replay")
    kill_before_stored(out)
    (out / ".nebula" / "spool" / "0.1.0.part").unlink()
    assert Recovery(sent_again=1) == await run(job, idempotency="replay")
    with ledger_of(out) as ledger:
        assert (State.DONE, 0, 0) == (ledger.state(KEY), ledger.find(KEY).resends, ledger.duplicates())
    emulator.assert_charged(2)  # this one makes no such promise


def test_a_part_that_could_not_be_written_can_be_tried_again(tmp_path):
    """After a full disk the same pieces are written once more, and none of them twice."""
    writer = PartWriter(tmp_path / "1.1.0.part", is_synced=True)
    writer.write([b"one"])
    writer.write([b"two", b"three"])
    digest = writer.finish()
    assert b"onetwothree" == writer.path.read_bytes()
    assert digest == writer.finish()
    assert 0o600 == writer.path.stat().st_mode & 0o777
    assert time.time() - writer.path.stat().st_mtime < 60
