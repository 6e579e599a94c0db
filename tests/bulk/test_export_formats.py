"""What is in the shards of an export: pictures as they were stored, prompts, and rows of the same columns."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import job_folders
import pyarrow.parquet as pq
import pytest
from job_folders import ROW, begin, finish, picture

from nebula_async.bulk.export.exporter import export_job
from nebula_async.bulk.export.samples import column_type
from nebula_async.errors import JobError

BLOCK = 512

MEASURED = """
import resource, sys
from pathlib import Path
import pyarrow.parquet
from nebula_async.bulk.export import parquet
from nebula_async.bulk.export.exporter import export_job
parquet.GROUP_BYTES = 2**22
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
export_job(Path(sys.argv[1]), sys.argv[2])
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """The folder of a job: an item with two pictures, one with a JPEG and a guidance scale."""
    out = tmp_path / "out"
    begin(out, 3)
    finish(out, [0], pictures=2)
    finish(out, [2], kind="JPEG", guidance_scale=3, prompt="zwei Kätzchen 🐈", extra={"a": 1})
    return out


def members(out: Path) -> dict[str, bytes]:
    """Export a job as one WebDataset shard and return its files."""
    export_job(out, "webdataset")
    with tarfile.open(out / "export/webdataset/00000.tar", "r:") as archive:
        return {member.name: archive.extractfile(member).read() for member in archive}


def test_a_webdataset_sample_has_picture_prompt_and_metadata(out):
    """The files of a sample lie side by side, named by numbers alone: what they hold is what the job stored."""
    found = members(out)
    assert [
        *("000000000.png", "000000000.txt", "000000000.json"),
        *("000000000-1.png", "000000000-1.txt", "000000000-1.json"),
        *("000000002.jpg", "000000002.txt", "000000002.json"),
    ] == list(found)
    assert [picture(0), picture(1), picture(2000, "JPEG")] == [
        found[name] for name in ("000000000.png", "000000000-1.png", "000000002.jpg")
    ]
    assert "zwei Kätzchen 🐈" == found["000000002.txt"].decode()
    row = json.loads(found["000000002.json"])
    assert "00000/000000002.jpg" == row["file_name"]
    assert (2, 2**63 - 1, 3.0, '{"a": 1}', None) == tuple(
        row[name] for name in ("number", "seed", "guidance_scale", "extra", "num_steps")
    )


def test_a_tar_tells_nothing_of_this_machine(out):
    """Its headers are plain ustar: regular files of nobody, from 1970, that all may read."""
    export_job(out, "webdataset")
    data = (out / "export/webdataset/00000.tar").read_bytes()
    assert 0 == len(data) % (20 * BLOCK)
    with tarfile.open(out / "export/webdataset/00000.tar", "r:") as archive:
        for member in archive:
            header = data[member.offset : member.offset + BLOCK]
            assert b"ustar\x0000" == header[257:265]
            assert (0, 0, 0, "", "", 0o644, True) == (
                *(member.mtime, member.uid, member.gid, member.uname, member.gname, member.mode),
                member.isreg(),
            )


def test_names_from_outside_are_not_used(tmp_path):
    """Whatever an item is called, its files in a shard are named by its number: none leads out of a folder."""
    out = tmp_path / "out"
    begin(out, 1)
    finish(out, [0], id="../../etc/passwd", file_name="../../../x.png")
    assert {"000000000.png", "000000000.txt", "000000000.json"} == set(members(out))


@pytest.mark.parametrize("kind", ["webdataset", "parquet"])
def test_all_rows_have_the_same_columns(tmp_path, kind):
    """A row that lacks what another one has holds a null for it."""
    out = tmp_path / "out"
    begin(out, 2)
    finish(out, [0])
    finish(out, [1], new_fact="later")
    if kind == "webdataset":
        rows = [json.loads(data) for name, data in members(out).items() if name.endswith(".json")]
    else:
        rows = table(out).to_pylist()
    assert [None, "later"] == [row["new_fact"] for row in rows]
    assert rows[0].keys() == rows[1].keys()


def table(out: Path):
    """Export a job as one Parquet file and read it."""
    export_job(out, "parquet")
    return pq.read_table(out / "export/parquet/00000.parquet")


def test_a_parquet_row_has_the_picture_and_its_metadata(out):
    """The picture is a struct of bytes and path, every column of the metadata has one type."""
    found = table(out)
    rows = found.to_pylist()
    assert [picture(0), picture(1), picture(2000, "JPEG")] == [row["image"]["bytes"] for row in rows]
    assert ["000000000.png", "000000000-1.png", "000000002.jpg"] == [row["image"]["path"] for row in rows]
    assert [None, None, 3.0] == [row["guidance_scale"] for row in rows]
    assert "zwei Kätzchen 🐈" == rows[2]["prompt"]
    types = {name: str(kind) for name, kind in zip(found.schema.names, found.schema.types, strict=True)}
    assert "struct<bytes: binary, path: string>" == types.pop("image")
    assert {"file_name", "number", *ROW, "sha256"} == types.keys()
    assert types == {name: {"float64": "double"}.get(column_type(name), column_type(name)) for name in types}


def test_parquet_says_what_hugging_face_wants_to_know(out):
    """The schema names the features, so `datasets` shows the column as pictures."""
    features = json.loads(table(out).schema.metadata[b"huggingface"])["info"]["features"]
    assert {"_type": "Image"} == features["image"]
    assert {"dtype": "int64", "_type": "Value"} == features["seed"]
    assert {"dtype": "string", "_type": "Value"} == features["prompt"]


def test_parquet_is_read_in_small_steps(tmp_path):
    """A group of rows has a hundred at most, each picture can be found by itself, and only texts are compressed."""
    out = tmp_path / "out"
    begin(out, 250)
    finish(out, range(250), side=4)
    table(out)
    found = pq.ParquetFile(out / "export/parquet/00000.parquet").metadata
    assert [100, 100, 50] == [found.row_group(number).num_rows for number in range(found.num_row_groups)]
    columns = {found.row_group(0).column(at).path_in_schema: found.row_group(0).column(at) for at in range(8)}
    assert ("UNCOMPRESSED", "ZSTD") == (columns["image.bytes"].compression, columns["prompt"].compression)
    assert columns["image.bytes"].has_offset_index
    assert "RLE_DICTIONARY" not in columns["image.bytes"].encodings


@pytest.mark.parametrize("kind", ["webdataset", "parquet"])
def test_memory_does_not_grow_with_the_export(tmp_path, monkeypatch, kind):
    """A tar is written piece by piece, Parquet a group of rows after the other, whatever the size of a shard."""
    monkeypatch.setattr(job_folders, "picture", lambda *_, **__: os.urandom(2**20))
    out = tmp_path / "out"
    begin(out, 80)
    finish(out, range(80))
    grown = int(subprocess.run([sys.executable, "-c", MEASURED, out, kind], check=True, capture_output=True).stdout)
    assert grown < 24 * 2**20


def test_a_webdataset_needs_no_extra(out):
    """Only Parquet needs pyarrow: nothing else imports it."""
    code = (
        "import sys; from pathlib import Path; from nebula_async.bulk.export.exporter import export_job;"
        " export_job(Path(sys.argv[1]), 'webdataset'); assert 'pyarrow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, out], check=True)


def test_parquet_without_its_extra_says_what_to_install(out, monkeypatch):
    """A missing library is one sentence with the command that installs it, before anything is written."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(JobError, match=r"pip install 'nebula_async\[parquet\]'"):
        export_job(out, "parquet")
    assert not (out / "export").exists()
