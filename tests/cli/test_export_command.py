"""`nebula-async export` as people call it: one line of result, one clear sentence for each mistake."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from job_folders import begin, finish, opened

from nebula_async.cli.export import read_size
from nebula_async.errors import ConfigurationError


@pytest.fixture
def job(tmp_path: Path) -> Path:
    """A job of which four items of five are done, in the folder `cats`."""
    out = tmp_path / "cats"
    begin(out, 5)
    finish(out, range(4))
    return out


def shards(folder: Path) -> dict[str, bytes]:
    """Return the files of an export."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.parametrize(("kind", "extension"), [("webdataset", "tar"), ("parquet", "parquet")])
def test_a_job_is_exported(shell, job, kind, extension):
    """The result says where the shards are; what is missing, and which shards were written, is said beside it."""
    command = ("export", "cats", "--format", kind, "--shard-items", 3)
    result = shell.run(*command)
    assert (0, f"4 pictures are in cats/export/{kind}, in 2 shards\n") == (result.code, result.out)
    assert [
        f"00000.{extension}: 3 pictures",
        f"00001.{extension}: 1 picture",
        "not done yet: 1 item of the job; the same command adds what is done later",
    ] == result.err.splitlines()
    assert {f"00000.{extension}", f"00001.{extension}"} <= shards(job / "export" / kind).keys()

    finish(job, [4])
    result = shell.run(*command)
    assert f"5 pictures are in cats/export/{kind}, in 2 shards (1 kept)\n" == result.out
    assert f"00001.{extension}: 2 pictures\n" == result.err


def test_what_bulk_made_is_exported_with_all_that_is_known_of_it(shell):
    """The columns hold, with their types, what the metadata say; a second picture of an item is there too."""
    shell.write(
        "prompts.jsonl",
        '{"prompt": "a cat", "id": "../cat", "width": 64, "height": 64, "guidance_scale": 3, "seed": 5}',
        '{"prompt": "a lake", "dialect": "inference", "model": "sdxl", "size": "256x256", "n": 2}',
    )
    assert 0 == shell.run("bulk", "prompts.jsonl", "--out", "out", "--emulator").code
    assert 0 == shell.run("export", "out", "--format", "parquet").code
    exported = pq.read_table(shell.folder / "out/export/parquet/00000.parquet")
    rows = exported.drop_columns("image").to_pylist()
    images = shell.folder / "out/images"
    told = [json.loads(line) for line in (images / "metadata.jsonl").read_text().splitlines()]
    assert sorted(told, key=lambda row: row["sha256"]) == sorted(rows, key=lambda row: row["sha256"])
    assert ["000000000.png", "000000001.png", "000000001-1.png"] == [
        image["path"] for image in exported["image"].to_pylist()
    ]
    assert [(images / row["file_name"]).read_bytes() for row in rows] == [
        image["bytes"] for image in exported["image"].to_pylist()
    ]


def test_the_place_and_the_size_are_up_to_the_user(shell, job):
    """--to says where, --shard-size how large; a shard always holds a picture."""
    result = shell.run("export", job, "--format", "webdataset", "--to", "set", "--shard-size", "0.5kB")
    assert (0, "4 pictures are in set, in 4 shards\n") == (result.code, result.out)
    assert not (job / "export").exists()


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT], ids=["killed", "interrupted"])
@pytest.mark.parametrize("kind", ["webdataset", "parquet"])
def test_an_export_that_is_stopped_goes_on(shell, job, kind, end):
    """However it ended, the same command completes it, to the same bytes as in one go."""
    finish(job, [4])
    assert 0 == shell.run("export", job, "--format", kind, "--to", "whole", "--shard-items", 1).code
    command = ("export", job, "--format", kind, "--shard-items", 1)
    process = shell.start(*command)
    first = process.stderr.readline()
    process.send_signal(end)
    result = shell.ended(process, first)
    assert result.code in (0, -end, 130)
    assert (130 == result.code) == ("interrupted; the same command goes on" in result.err)
    assert 0 == shell.run(*command).code
    assert shards(shell.folder / "whole") == shards(job / "export" / kind)


def test_what_cannot_be_exported_is_said_in_one_sentence(shell, job):
    """A folder that is no job, a wrong format, size or number, and a picture that is gone: exit code 2, each."""
    (job / "images/00000/000000002.png").unlink()
    wrong = {
        ("nowhere", "--format", "parquet"): "nowhere is not the folder of a job",
        ("cats",): "a value for --format is missing",
        ("cats", "--format", "zip"): "zip",
        ("cats", "--format", "parquet", "--shard-size", "big"): "a size such as 1GB, 500MB or 64MiB; got 'big'",
        ("cats", "--format", "parquet", "--shard-items", "0"): "--shard-items must be 1 or more; got 0",
        ("cats", "--format", "parquet"): "cats/images/00000/000000002.png is gone",
        ("cats", "--format", "webdataset", "--to", "cats/images/00000/000000000.png"): "000000000.png",
    }
    for arguments, words in wrong.items():
        result = shell.run("export", *arguments)
        assert (2, "", 1) == (result.code, result.out, len(result.err.splitlines())), result.text
        assert words in result.err
    assert not (job / "export").exists()


def test_a_job_that_runs_is_exported_too(shell, job):
    """Another process that writes the ledger keeps nobody from what is done."""
    with opened(job):
        assert 0 == shell.run_alone("export", job, "--format", "webdataset").code


@pytest.mark.parametrize("kind", ["webdataset", "parquet"])
def test_a_disk_that_takes_no_more_is_named(shell, job, kind):
    """The message is the system's, with the folder; nothing half written stays, and the same command goes on."""
    finish(job, [4], side=200)
    limited = ["sh", "-c", 'ulimit -f 100; exec "$@"', "sh", shell.command]
    arguments = ("export", "cats", "--format", kind)
    ended = subprocess.run([*limited, *arguments], cwd=shell.folder, capture_output=True, text=True, check=False)
    assert (2, f"nebula-async: File too large (cats/export/{kind})\n") == (ended.returncode, ended.stderr)
    assert {} == shards(job / "export" / kind)
    assert 0 == shell.run(*arguments).code


@pytest.mark.skipif(os.name != "posix" or os.getuid() == 0, reason="the superuser may write anywhere")
def test_a_folder_that_cannot_be_written_to_is_named(shell, job):
    """The message is the system's, with the folder."""
    (shell.folder / "mine").mkdir(mode=0o500)
    result = shell.run("export", job, "--format", "webdataset", "--to", "mine/set")
    assert (2, "nebula-async: Permission denied (mine/set)\n") == (result.code, result.err)


@pytest.mark.parametrize(
    ("text", "size"),
    [("1GB", 10**9), ("500MB", 5 * 10**8), ("1.5 GiB", 3 * 2**29), ("64mib", 2**26), ("800000", 800_000), ("7 B", 7)],
)
def test_sizes_are_read_as_they_are_written(text, size):
    """Powers of a thousand and of 1024, a fraction, a blank, and any case."""
    assert size == read_size(text)


@pytest.mark.parametrize("text", ["", "0", "-1GB", "1GBs", "GB", "1e9", "1,5GB", "٣GB", "0.1B"])
def test_what_is_no_size_is_refused(text):
    """The message says how a size is written."""
    with pytest.raises(ConfigurationError, match="--shard-size must be a size such as 1GB"):
        read_size(text)
