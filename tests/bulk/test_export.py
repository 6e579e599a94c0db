"""A job's pictures become shards that are the same however often, and however interrupted, they are written."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from attrs import evolve
from job_folders import add, begin, finish, opened, picture

from nebula_async.bulk.export.exporter import export_job
from nebula_async.bulk.export.shard_folder import locked
from nebula_async.bulk.export.shards import Limits
from nebula_async.bulk.states import State
from nebula_async.errors import JobError

THREES = Limits(items=3)
KINDS = ("webdataset", "parquet")

both = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """The folder of a job with eight items, all done."""
    out = tmp_path / "out"
    begin(out, 8)
    finish(out, range(8))
    return out


def shards(out: Path, kind: str) -> dict[str, bytes]:
    """Return the files of an export in its usual place, but for the index."""
    folder = out / "export" / kind
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.name != ".shards.json"}


def stopped_after(count: int):
    """Return what stops an export, as Ctrl-C does, once it has written so many shards."""
    written = []

    def count_down(shard) -> None:
        written.append(shard)
        if len(written) == count:
            raise KeyboardInterrupt

    return count_down


@both
def test_the_same_job_gives_the_same_bytes(out, tmp_path, kind):
    """Whatever order its items were finished in, and wherever it lies, a job's shards are the same, byte for byte."""
    other = tmp_path / "elsewhere"
    begin(other, 8)
    finish(other, (5, 0, 7, 1, 6, 2, 4, 3))
    (other / "images/00000/000000003.png").touch()
    done = [export_job(folder, kind, limits=THREES) for folder in (out, other)]
    assert [(8, 3, 3, 0)] * 2 == [(made.pictures, made.shards, made.written, made.unfinished) for made in done]
    assert shards(out, kind) == shards(other, kind)
    assert (out / "export" / kind) == done[0].folder


@both
def test_a_stopped_export_goes_on(out, tmp_path, kind):
    """What is complete is kept, what is half written is not there, and the end is that of an export in one go."""
    export_job(out, kind, tmp_path / "whole", limits=THREES)
    with pytest.raises(KeyboardInterrupt):
        export_job(out, kind, limits=THREES, on_written=stopped_after(2))
    folder = out / "export" / kind
    first = sorted(folder.glob("0*"))
    assert 2 == len(first)
    (folder / f".{first[0].name}.{'0' * 32}.part").write_bytes(b"of a run that was killed")
    times = [path.stat().st_mtime_ns for path in first]
    assert 1 == export_job(out, kind, limits=THREES).written
    assert times == [path.stat().st_mtime_ns for path in first]
    assert {path.name: path.read_bytes() for path in (tmp_path / "whole").iterdir()} == {
        path.name: path.read_bytes() for path in folder.iterdir()
    }
    assert 0 == export_job(out, kind, limits=THREES).written


@both
def test_a_shard_that_was_damaged_or_removed_is_written_again(out, kind):
    """A shard that is gone, or cut short, comes back as it was."""
    export_job(out, kind, limits=THREES)
    before = shards(out, kind)
    first, second, *_ = sorted((out / "export" / kind).glob("0*"))
    first.unlink()
    second.write_bytes(second.read_bytes()[:-1])
    assert 2 == export_job(out, kind, limits=THREES).written
    assert before == shards(out, kind)


@both
def test_a_job_is_exported_while_it_goes_on(tmp_path, kind):
    """What is done is exported, what is not is counted; later the same call writes what has come and moved."""
    out = tmp_path / "out"
    begin(out, 8)
    finish(out, (0, 1, 2, 4, 5))
    with opened(out) as ledger:  # as the job that is running has it
        ledger.note("total", "9")  # of which the ledger knows those that were sent
        made = export_job(out, kind, limits=THREES)
    assert (5, 2, 2, 4) == (made.pictures, made.shards, made.written, made.unfinished)
    finish(out, (7, 3, 6))
    made = export_job(out, kind, limits=THREES)
    assert (8, 3, 2, 1) == (made.pictures, made.shards, made.written, made.unfinished)
    export_job(out, kind, tmp_path / "whole", limits=THREES)
    assert shards(out, kind) == {path.name: path.read_bytes() for path in (tmp_path / "whole").glob("[!.]*")}


@both
def test_other_limits_leave_no_shard_of_before(out, kind):
    """Shards of another size take the place of those that were there: no picture is in the folder twice."""
    export_job(out, kind, limits=THREES)
    made = export_job(out, kind, limits=Limits(items=5))
    assert (2, 2) == (made.shards, made.written)
    assert 2 == len([name for name in shards(out, kind) if name.startswith("0")])


@both
def test_a_shard_ends_before_it_is_too_large(out, kind):
    """The limit of bytes holds for pictures and metadata; a picture above it has a shard of its own."""
    line = len(next(iter(read_rows(out))))
    size = 3 * (len(picture(0)) + line + 20)
    assert 3 == export_job(out, kind, limits=Limits(size=size)).shards
    assert 8 == export_job(out, kind, limits=Limits(size=1)).shards


def read_rows(out: Path) -> list[str]:
    """Return the metadata of a job, a line for each picture."""
    with opened(out) as ledger:
        return [output.row or "" for output in ledger.outputs()]


@both
@pytest.mark.parametrize("harm", ["gone", "other", "longer", "shorter"])
def test_a_picture_that_is_gone_or_changed_ends_the_export(out, kind, harm):
    """No shard holds what the job did not store; the message names the file, and what to do."""
    export_job(out, kind, limits=THREES)
    before = shards(out, kind)
    place = out / "images/00000/000000004.png"
    data = place.read_bytes()
    harmed = {"other": data[:-1] + b"!", "longer": data + b"!", "shorter": data[:-1]}
    if harm == "gone":
        place.unlink()
    else:
        place.write_bytes(harmed[harm])
    assert 0 == export_job(out, kind, limits=THREES).written, "it is in a shard that is complete"

    with pytest.raises(JobError, match=r"images/00000/000000004\.png is (gone|not the picture).*--retry-failed"):
        export_job(out, kind, limits=Limits(items=4))
    after = shards(out, kind)
    assert before.keys() == after.keys()
    assert {name for name in before if before[name] != after[name]} <= {min(before)}

    place.write_bytes(data)
    assert 2 == export_job(out, kind, limits=Limits(items=4)).shards


def test_a_picture_that_the_job_lost_is_not_taken_out_of_shards(out):
    """Where the only copy of a picture is in a shard, that is not replaced without it."""
    export_job(out, "webdataset", limits=THREES)
    before = shards(out, "webdataset")
    with opened(out) as ledger:
        ledger.move(4, State.BAD, error="gone")
        ledger.forget(next(iter(ledger.outputs(4))).path)
    with pytest.raises(JobError, match=r"holds 8 pictures, of which the job has only 7: nothing was changed"):
        export_job(out, "webdataset", limits=THREES)
    assert before == shards(out, "webdataset")


@both
def test_files_of_others_are_not_replaced(out, tmp_path, kind):
    """A folder with shards that no export has written, or those of the other format, is refused."""
    mine = tmp_path / "mine"
    mine.mkdir()
    name = {"webdataset": "00000.tar", "parquet": "00000.parquet"}[kind]
    (mine / name).write_bytes(b"mine")
    with pytest.raises(JobError, match=rf"holds {name}, which no export has written.*give another --to"):
        export_job(out, kind, mine)
    assert [name] == [path.name for path in mine.iterdir()]

    another = tmp_path / "another"
    begin(another, 9)
    finish(another, range(9))
    export_job(out, kind)
    with pytest.raises(JobError, match="holds an export of another job: nothing was changed"):
        export_job(another, kind, out / "export" / kind)

    both = tmp_path / "both"
    export_job(out, kind, both)
    with pytest.raises(JobError, match="holds an export in another format"):
        export_job(out, next(other for other in KINDS if other != kind), both)


@both
def test_two_exports_do_not_write_to_one_folder(out, kind):
    """The second one is told at once; the first one's lock is free again when it ends."""
    folder = out / "export" / kind
    folder.mkdir(parents=True)
    with locked(folder), pytest.raises(JobError, match=r"another export writes to .*; wait for it"):
        export_job(out, kind)
    assert 1 == export_job(out, kind).written


def test_a_card_of_ones_own_is_kept(out):
    """README.md says which columns there are; one that a user has written or changed is left as it is."""
    export_job(out, "webdataset")
    card = out / "export/webdataset/README.md"
    written = card.read_text()
    finish_another(out, kind="JPEG")
    export_job(out, "webdataset")
    assert "- name: jpg" not in written
    assert "- name: jpg" in card.read_text()
    card.write_text("my own")
    finish_another(out, kind="WEBP")
    export_job(out, "webdataset")
    assert "my own" == card.read_text()


def finish_another(out: Path, kind: str) -> None:
    """Add an item to a job, and let it be done."""
    with opened(out) as ledger:
        seq = ledger.counts().total()
        add(ledger, seq)
    finish(out, [seq], kind=kind)


def test_the_index_tells_what_each_shard_is(out):
    """Beside the shards, hidden, stand their numbers of samples and their digests."""
    export_job(out, "webdataset", limits=THREES)
    folder = out / "export/webdataset"
    index = json.loads((folder / ".shards.json").read_bytes())["shards"]
    assert [3, 3, 2] == [shard["samples"] for shard in index]
    for shard in index:
        data = (folder / shard["name"]).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (shard["bytes"], shard["sha256"])
    (folder / ".shards.json").write_text("{")
    with pytest.raises(JobError, match=r"\.shards\.json is damaged; remove"):
        export_job(out, "webdataset")


@both
def test_what_is_no_finished_job_is_refused(tmp_path, kind):
    """A folder without a ledger, a job of which nothing is done, and pictures in a store end in one sentence each."""
    with pytest.raises(JobError, match="is not the folder of a job"):
        export_job(tmp_path, kind)
    out = tmp_path / "out"
    begin(out, 2)
    with pytest.raises(JobError, match=r"there is nothing to export: no picture of .*out is stored"):
        export_job(out, kind)
    finish(out, [0])
    with opened(out) as ledger:
        ledger.store([evolve(next(ledger.outputs()), path="s3://bucket/000000000.png")])
    with pytest.raises(JobError, match=r"in an object store \(s3://bucket/000000000\.png\)"):
        export_job(out, kind)
    assert not (out / "export").exists()
