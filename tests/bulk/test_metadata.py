"""A job's metadata has one row for each of its pictures, whatever happened, and loads as an image folder."""

from __future__ import annotations

import json
import resource
from hashlib import sha256
from pathlib import Path

import jobs
import pytest
from jobs import cut_off, query
from PIL import Image as Pillow

from nebula_async.bulk.metadata import Metadata, find_provenance
from nebula_async.bulk.recovery import Recovery
from nebula_async.bulk.report import Report
from nebula_async.errors import JobError
from nebula_async.images.provenance import Provenance, read_provenance

pytestmark = pytest.mark.anyio

SMALL = {"model": "black-forest-labs/FLUX.1-schnell", "width": 64, "height": 64}
PLAIN = dict.fromkeys(SMALL)
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


def opened(manifest: Path, emulator, **options):
    """Open the job of a manifest, into `out` beside it."""
    return jobs.opened(manifest, emulator, defaults=PLAIN, **options)


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


@pytest.mark.parametrize("left", [None, 0, 1, 100, -1])
async def test_metadata_that_are_not_whole_are_made_anew(manifest, emulator, left):
    """Deleted, emptied or cut, they are what the ledger says after the next run, byte for byte."""
    await run(manifest, emulator)
    path, before = manifest.parent / "out/images/metadata.jsonl", lines(manifest)
    path.unlink() if left is None else path.write_bytes(before[:left])
    emulator.reset()
    await run(manifest, emulator)
    assert sorted(before.splitlines()) == sorted(lines(manifest).splitlines())
    assert () == emulator.journal.requests


async def test_metadata_of_a_run_that_was_killed_are_looked_at_again(manifest, emulator):
    """What a killed run added and had not noted, and what it lacked, is put right."""
    await run(manifest, emulator)
    out, before = manifest.parent / "out", lines(manifest)
    metadata = out / "images/metadata.jsonl"
    metadata.write_bytes(before.splitlines(keepends=True)[0] * 2 + b"{broken\n")
    query(out, "DELETE FROM meta WHERE key = 'metadata_bytes'")
    await run(manifest, emulator)
    assert sorted(before.splitlines()) == sorted(lines(manifest).splitlines())


async def test_an_adopted_picture_has_one_row_too(manifest, emulator):
    """A picture that was stored and not noted is described by what was asked for."""
    await run(manifest, emulator)
    first = rows(manifest)[0]
    cut_off(manifest.parent / "out", 0, received=1)
    async with opened(manifest, emulator) as job:
        assert Recovery(adopted=1) == job.recovery
        await job.run()
    again = rows(manifest)[0]
    same = ("file_name", "prompt", "seed", "model", "width", "height", "sha256", "key", "body_sha256", "number")
    assert [first[name] for name in same] == [again[name] for name in same]
    made = Provenance.from_json(again["provenance"])
    assert (first["prompt"], first["sha256"]) == (made.request["prompt"], made.sha256)


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
        path.unlink(missing_ok=True)
        path.mkdir()
        report = await job.run()
    assert (3, JobError) == (report.exit_code, type(report.stopped_by))
    assert 1 <= report.done <= report.done + report.unknown == emulator.journal.charged
    assert "the job cannot go on writing: Is a directory" in str(report.stopped_by)
    assert "metadata.jsonl" in str(report.stopped_by)
    with pytest.raises(JobError, match=r"Is a directory.*metadata\.jsonl"):
        await run(manifest, emulator)
    path.rmdir()
    assert 0 == (await run(manifest, emulator)).exit_code
    assert 2 == len(rows(manifest)) == emulator.journal.charged


async def test_rows_say_what_each_picture_cost(tmp_path, start):
    """A picture that may have been paid for twice says so."""
    emulator = start(faults=["drop:@1"])
    manifest = write(tmp_path, {"prompt": "a cat"})
    await run(manifest, emulator)
    assert [(1, 2)] == [(row["charges_at_least"], row["charges_at_most"]) for row in rows(manifest)]


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


def row(name: str, **request: object) -> str:
    """Return the row of a picture."""
    made = Provenance(request={"prompt": "a cat", **request}).settled(b"")
    return json.dumps({"file_name": name, "provenance": made.to_json()})


def test_rows_are_added_all_or_none(tmp_path):
    """Where the disk refuses in the middle of a row, no part of it is left."""
    metadata = Metadata(tmp_path)
    metadata.add([row("a.png")])
    before = metadata.path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 100, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            metadata.add([row("b.png"), row("c.png")])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert before == metadata.path.read_bytes()
    assert len(before) == metadata.size


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    """Rows that break off leave the file as it was, and nothing beside it."""
    metadata = Metadata(tmp_path)
    metadata.add([row("a.png")])
    before = metadata.path.read_bytes()

    def breaks():
        yield row("b.png")
        raise KeyError

    with pytest.raises(KeyError):
        metadata.replace(breaks())
    assert (before, [metadata.path]) == (metadata.path.read_bytes(), list(tmp_path.iterdir()))
    metadata.replace([row("b.png")])
    assert f"{row('b.png')}\n" == metadata.path.read_text()


def test_a_picture_is_found_in_the_metadata_beside_it_or_above(tmp_path):
    """The row whose file name is that of the picture tells how it was made; others do not, and damage is told."""
    (tmp_path / "00000").mkdir()
    metadata = Metadata(tmp_path)
    metadata.add([row("a.png", seed=1), row("00000/a.png", seed=2)])
    assert [1, 2] == [find_provenance(tmp_path / name).request["seed"] for name in ("a.png", "00000/a.png")]
    assert find_provenance(tmp_path / "b.png") is None
    metadata.path.write_text('{"file_name": "a.png", "provenance": "{}"}\n[1]\n{"file_name": "b.png"}\n')
    with pytest.raises(ValueError, match="damaged"):
        find_provenance(tmp_path / "a.png")
    assert find_provenance(tmp_path / "b.png") is None
