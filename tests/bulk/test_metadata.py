"""A job's metadata has one row for each of its pictures, whatever happened, and loads as an image folder."""

from __future__ import annotations

import contextlib
import json
import resource
from hashlib import sha256
from pathlib import Path

import pytest
from PIL import Image as Pillow

from nebula_async.bulk.job import BulkJob
from nebula_async.bulk.ledger import Ledger
from nebula_async.bulk.metadata import Metadata, PictureRow, find_provenance
from nebula_async.bulk.recovery import Recovery
from nebula_async.bulk.report import Report
from nebula_async.charges import Charges
from nebula_async.client import AsyncNebula
from nebula_async.config import Config, RetryPolicy
from nebula_async.errors import JobError
from nebula_async.images.image import Image
from nebula_async.images.provenance import Provenance, read_provenance, write_provenance

pytestmark = pytest.mark.anyio

SMALL = {"model": "black-forest-labs/FLUX.1-schnell", "width": 64, "height": 64}
HOSTILE = 'a "cat"\r\n=cmd()|<script>]]> \u2028 \x00 \x1b[31m 🐈'


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Two prompts."""
    return write(tmp_path, {"prompt": "a cat"}, {"prompt": HOSTILE, "id": "mine", "guidance_scale": 3})


def write(folder: Path, *entries: dict[str, object]) -> Path:
    """Write a manifest."""
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(SMALL | entry) + "\n" for entry in entries))
    return path


@contextlib.asynccontextmanager
async def opened(manifest: Path, emulator, **options):
    """Open the job of a manifest, into `out` beside it."""
    config = Config(
        base_url=emulator.base_url,
        inference_url=emulator.inference_url,
        allowed_image_hosts=(emulator.storage_host,),
        retry=RetryPolicy(backoff=0),
        concurrency=2,
    )
    async with (
        AsyncNebula(emulator.key, config=config) as nebula,
        BulkJob(manifest, manifest.parent / "out", nebula, **options) as job,
    ):
        yield job


async def run(manifest: Path, emulator, **options) -> Report:
    """Run the job of a manifest."""
    async with opened(manifest, emulator, **options) as job:
        return await job.run()


def lines(manifest: Path) -> bytes:
    """Return the metadata as they are."""
    return (manifest.parent / "out/images/metadata.jsonl").read_bytes()


def rows(manifest: Path) -> list[dict[str, object]]:
    """Return the rows by their file: all have the same keys, and each a picture of its own that is there."""
    found = sorted((json.loads(line) for line in lines(manifest).splitlines()), key=lambda row: row["file_name"])
    assert 1 >= len({tuple(row) for row in found})
    names = [row["file_name"] for row in found]
    assert names == sorted(set(names))
    folder = manifest.parent / "out/images"
    assert names == sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.suffix in (".png", ".webp")
    )
    return found


async def test_each_picture_has_a_row(manifest, emulator):
    """A row says what was asked, what came back and what it cost, and gives back the whole request."""
    await run(manifest, emulator)
    first, second = rows(manifest)
    data = (manifest.parent / "out/images" / first["file_name"]).read_bytes()
    assert {
        "file_name": "00000/000000000-a-cat.png",
        "number": 0,
        "dialect": "serverless",
        "prompt": "a cat",
        "id": None,
        "negative_prompt": None,
        "num_steps": None,
        "guidance_scale": None,
        "extra": None,
        "cost": "0.0019",
        "charges_at_least": 1,
        "charges_at_most": 1,
        "sha256": sha256(data).hexdigest(),
        **SMALL,
    }.items() <= first.items()
    assert isinstance(first["seed"], int)
    assert (HOSTILE, "mine", 3.0) == (second["prompt"], second["id"], second["guidance_scale"])
    assert isinstance(second["guidance_scale"], float)
    made = Provenance.from_json(second["provenance"])
    assert {"prompt": HOSTILE, "id": "mine", "guidance_scale": 3, "seed": second["seed"], **SMALL} == made.request
    assert read_provenance(data) is None


async def test_pictures_tell_it_themselves_when_that_is_asked_for(manifest, emulator):
    """With `provenance` the stored pictures say what their rows say."""
    await run(manifest, emulator, provenance=True)
    for row in rows(manifest):
        data = (manifest.parent / "out/images" / row["file_name"]).read_bytes()
        assert Provenance.from_json(row["provenance"]) == read_provenance(data)


async def test_all_pictures_of_an_item_have_rows(tmp_path, emulator):
    """Several pictures of one request have a row each, of the same keys as those of the other API."""
    several = {"dialect": "inference", "model": "sdxl", "n": 3, "size": "64x64", "width": None, "height": None}
    entry = {name: value for name, value in (SMALL | several | {"prompt": "dogs"}).items() if value is not None}
    manifest = tmp_path / "rows.jsonl"
    manifest.write_text(f"{json.dumps(entry)}\n{json.dumps(SMALL | {'prompt': 'a cat'})}\n")
    await run(manifest, emulator)
    found = rows(manifest)
    assert [(0, "dogs", 64)] * 3 + [(1, "a cat", 64)] == [(row["number"], row["prompt"], row["width"]) for row in found]
    assert 4 == len({row["sha256"] for row in found})


async def test_resuming_adds_nothing(manifest, emulator):
    """The same job again leaves the rows as they are."""
    await run(manifest, emulator)
    before = lines(manifest)
    await run(manifest, emulator)
    assert before == lines(manifest)


def unnoted(manifest: Path) -> None:
    """Leave the ledger as a run does that is killed before it notes that the first item is stored."""
    with contextlib.closing(Ledger.open(manifest.parent / "out/.nebula/ledger.db")) as ledger:
        row = ledger.find(0)
        ledger.sending(0, row.body_sha, row.name.removesuffix(".png"), at_stake=1)


@pytest.mark.parametrize("left", [0, 1, 100, -1])
async def test_a_row_that_was_cut_off_is_written_again(manifest, emulator, left):
    """A run that is killed in the middle of a row leaves no half row behind: the next one mends it."""
    async with opened(manifest, emulator) as job:
        job.on_result = lambda _result: job.drain()
        job._workers = 1
        await job.run()
    whole = lines(manifest)
    (manifest.parent / "out/images/metadata.jsonl").write_bytes(whole[:left])
    unnoted(manifest)
    async with opened(manifest, emulator) as job:
        assert Recovery(adopted=1) == job.recovery
        (row,) = rows(manifest)
        assert ("a cat", 64, sha256_of(manifest, row)) == (row["prompt"], row["width"], row["sha256"])
        await job.run()
    assert 2 == len(rows(manifest))


def sha256_of(manifest: Path, row: dict[str, object]) -> str:
    """Return the digest of the picture that a row is about."""
    return sha256((manifest.parent / "out/images" / str(row["file_name"])).read_bytes()).hexdigest()


async def test_a_row_that_was_written_and_not_noted_is_not_written_twice(manifest, emulator):
    """A run that is killed between its row and the ledger leaves one row, with all that the reply said."""
    await run(manifest, emulator)
    before = lines(manifest)
    unnoted(manifest)
    await run(manifest, emulator)
    assert before == lines(manifest)


async def test_an_adopted_picture_is_described_by_itself(manifest, emulator):
    """What the reply said is known again from a picture that tells it."""
    await run(manifest, emulator, provenance=True)
    before = rows(manifest)[0]
    (manifest.parent / "out/images/metadata.jsonl").unlink()
    await run(manifest, emulator, provenance=True)
    after = rows(manifest)[0]
    assert before | {"charges_at_least": None, "charges_at_most": None} == after


async def test_a_picture_that_tells_of_another_request_is_not_believed(manifest, emulator):
    """A server may send pictures that say anything: a row tells what the job asked for."""
    await run(manifest, emulator)
    (manifest.parent / "out/images/metadata.jsonl").unlink()
    path = manifest.parent / "out/images/00000/000000000-a-cat.png"
    path.write_bytes(write_provenance(path.read_bytes(), Provenance(request={"prompt": "buy this"}, cost="0")))
    await run(manifest, emulator)
    assert ("a cat", None) == tuple(rows(manifest)[0][name] for name in ("prompt", "cost"))


async def test_jobs_without_metadata_get_them(manifest, emulator):
    """A folder that was begun before there were metadata has them after the next run."""
    await run(manifest, emulator)
    (manifest.parent / "out/images/metadata.jsonl").unlink()
    emulator.reset()
    await run(manifest, emulator)
    assert ["a cat", HOSTILE] == [row["prompt"] for row in rows(manifest)]
    assert () == emulator.journal.requests


async def test_a_row_goes_with_its_picture(manifest, emulator):
    """Of a picture that is gone there is no row; when it is made again there is one."""
    await run(manifest, emulator)
    (manifest.parent / "out/images/00000/000000000-a-cat.png").unlink()
    await run(manifest, emulator)
    assert [HOSTILE] == [row["prompt"] for row in rows(manifest)]
    await run(manifest, emulator, retry_failed=True)
    assert ["a cat", HOSTILE] == [row["prompt"] for row in rows(manifest)]


async def test_metadata_that_cannot_be_written_end_the_job_and_lose_no_picture(manifest, emulator):
    """A picture that is stored counts as stored; what could not be written of it is added by the next run."""
    path = manifest.parent / "out/images/metadata.jsonl"
    async with opened(manifest, emulator) as job:
        path.mkdir()
        report = await job.run()
    assert (3, JobError, report.spending.pictures) == (report.exit_code, type(report.stopped_by), report.done)
    assert "metadata.jsonl cannot be written: Is a directory; make room" in str(report.stopped_by)
    with pytest.raises(JobError, match=r"metadata\.jsonl cannot be written: Is a directory"):
        await run(manifest, emulator)
    path.rmdir()
    assert 0 == (await run(manifest, emulator)).exit_code
    assert 2 == len(rows(manifest)) == emulator.journal.charged


async def test_pictures_handed_in_are_told_by_their_digest(tmp_path, emulator):
    """A row names what a picture was made of by size and digest, not by its place on this machine."""
    Pillow.new("RGB", (64, 64), (0, 0, 255)).save(tmp_path / "blue.png")
    edit = {"prompt": "a dog", "model": "black-forest-labs/FLUX.1-Kontext-dev", "image": "blue.png"}
    manifest = tmp_path / "rows.jsonl"
    manifest.write_text(json.dumps(edit))
    await run(manifest, emulator)
    (row,) = rows(manifest)
    made = Provenance.from_json(row["provenance"])
    assert sha256((tmp_path / "blue.png").read_bytes()).hexdigest() == made.inputs["image"].sha256
    assert b"blue.png" not in lines(manifest)


# The file by itself


def row(folder: Path, name: str, **request: object) -> PictureRow:
    """Return a row whose picture is there."""
    (folder / name).touch()
    made = Provenance(request={"prompt": "a cat", **request}).settled(b"")
    return PictureRow(name, Image(width=1, height=1, provenance=made), 0, Charges(1, 1))


def test_rows_are_added_all_or_none(tmp_path):
    """Where the disk refuses in the middle of a row, no part of it is left."""
    metadata = Metadata(tmp_path)
    metadata.add([row(tmp_path, "a.png")])
    before = metadata.path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 100, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            metadata.add([row(tmp_path, "b.png"), row(tmp_path, "c.png")])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert before == metadata.path.read_bytes()


def test_mending_keeps_what_is_whole(tmp_path):
    """Lines that are no rows go, the others stay as they are, byte for byte; a file without damage is not touched."""
    metadata = Metadata(tmp_path)
    metadata.add([row(tmp_path, "a.png")])
    metadata.add([row(tmp_path, "b.png")])
    good = metadata.path.read_bytes()
    first, second = good.splitlines(keepends=True)
    gone = first.replace(b"a.png", b"z.png")
    metadata.path.write_bytes(first + b"{broken\n" + gone + b'["a.png"]\n\n' + second + first[:-1])
    metadata.mend()
    assert good == metadata.path.read_bytes()
    assert [True, True, False] == [metadata.has(name) for name in ("a.png", "b.png", "z.png")]
    before = metadata.path.stat()
    metadata.mend()
    assert before == metadata.path.stat()


def test_a_picture_is_found_in_the_metadata_beside_it_or_above(tmp_path):
    """The row whose file name is that of the picture tells how it was made; others do not, and damage is told."""
    (tmp_path / "00000").mkdir()
    metadata = Metadata(tmp_path)
    metadata.add([row(tmp_path, "a.png", seed=1), row(tmp_path, "00000/a.png", seed=2)])
    assert [1, 2] == [find_provenance(tmp_path / name).request["seed"] for name in ("a.png", "00000/a.png")]
    assert find_provenance(tmp_path / "b.png") is None
    metadata.path.write_text('{"file_name": "a.png", "provenance": "{}"}\n[1]\n{"file_name": "b.png"}\n')
    with pytest.raises(ValueError, match="damaged"):
        find_provenance(tmp_path / "a.png")
    assert find_provenance(tmp_path / "b.png") is None
