"""What a job does when its input is not what it was: it goes on, or says what changed, before anything is sent."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest
from jobs import CATS, SMALL, asked, cut_off, opened, pictures, query, run, write, write_rows

from nebula_async.bulk import run as run_module
from nebula_async.bulk.recovery import Recovery
from nebula_async.charges import Charges
from nebula_async.config import Config
from nebula_async.errors import ConfigurationError, InvalidRequestError, JobError
from nebula_async.requests import ImageRequest

pytestmark = pytest.mark.anyio


async def test_a_changed_line_is_refused_by_its_number_and_an_appended_one_is_accepted(manifest, emulator):
    """What was paid for under a line stays its picture: changing it is an error, adding to the end is not (B16)."""
    await run(manifest, emulator)
    emulator.reset()
    write(manifest.parent, "a cat", "two dogs", "three cats", "four dogs")
    with pytest.raises(JobError, match=r"was begun with other input: line 2, 4 of prompts.txt, or the options"):
        await run(manifest, emulator)
    with pytest.raises(JobError, match="was begun with other input: line 1, 2, 3, 4 of"):
        await run(write(manifest.parent, *CATS), emulator, defaults={"width": 128})
    assert () == emulator.journal.requests
    report = await run(write(manifest.parent, *CATS, "five cats"), emulator)
    assert (5, 0, ["five cats"]) == (
        report.done,
        report.exit_code,
        [record.prompt for record in emulator.journal.generations],
    )


async def test_a_line_that_is_changed_back_resumes_as_if_nothing_had_been(manifest, emulator):
    """A refused start settles nothing: what it would have said is said by the next one."""
    await run(manifest, emulator)
    cut_off(manifest.parent / "out", 0)
    with pytest.raises(JobError, match="line 2"):
        await run(write(manifest.parent, "a cat", "two dogs"), emulator)
    async with opened(write(manifest.parent, *CATS), emulator) as job:
        assert Recovery(sent_again=1) == job.recovery


async def test_lines_removed_from_the_end_are_counted_apart(manifest, emulator):
    """A job that became shorter is done when what is left is, and its charges are still those of all (B16)."""
    await run(manifest, emulator)
    async with opened(write(manifest.parent, "a cat"), emulator) as job:
        report = await job.run()
        assert Recovery(removed=3) == job.recovery
    assert (1, 1, 0, 0, Charges(4, 4)) == (report.total, report.done, report.waiting, report.exit_code, report.charges)


async def test_bad_lines_are_listed_and_nothing_is_sent(tmp_path, emulator):
    """Every line that cannot be used is named before the first picture is paid for."""
    manifest = tmp_path / "prompts.jsonl"
    manifest.write_text('{"prompt": "a cat"}\n' + '{"prompt": ""}\n' * 22)
    with pytest.raises(JobError) as caught:
        await run(manifest, emulator)
    lines = str(caught.value).splitlines()
    assert "prompts.jsonl cannot be used, nothing was sent; lines to mend: 22" == lines[0]
    assert lines[1].startswith("  prompts.jsonl:2: prompt must be text")
    assert ("  … and 2 more", 22) == (lines[-1], len(lines))
    assert () == emulator.journal.requests


async def test_a_manifest_that_breaks_while_the_job_runs_stops_it(manifest, emulator, monkeypatch):
    """What was read is stored, what cannot be read any more is said."""
    monkeypatch.setattr(run_module, "MOST_AT_ONCE", 4)
    long = write(manifest.parent, *(f"cat {number} {'x' * 20_000}" for number in range(20)))
    config = Config(concurrency=1)
    report = await run(long, emulator, config=config, on_result=lambda _result: long.write_bytes(b"\xff" * 400_000))
    assert 3 == report.exit_code
    assert "prompts.txt changed while the job ran: prompts.txt:" in str(report.stopped_by)
    assert 0 < emulator.journal.charged == report.done < 20


async def test_a_job_in_use_is_refused(manifest, emulator):
    """The same folder is one job's at a time."""
    async with opened(manifest, emulator):
        with pytest.raises(JobError, match=r"/out is in use by process \d+; wait for it, or use another output"):
            await run(manifest, emulator)


async def test_pictures_without_their_ledger_are_not_bought_again(manifest, emulator):
    """A ledger that was deleted is missed: the job asks for it instead of paying for everything once more."""
    await run(manifest, emulator)
    (manifest.parent / "out/.nebula/ledger.db").write_bytes(b"")
    with pytest.raises(JobError, match="all would be paid for again"):
        await run(manifest, emulator)
    emulator.assert_charged(4)


async def test_of_many_lines_that_changed_the_first_are_named(tmp_path, emulator):
    """Another file of a hundred lines is refused in a sentence, not in a page."""
    await run(write(tmp_path, *(f"cat {number}" for number in range(22))), emulator)
    with pytest.raises(JobError, match=r"line 1, 2, .*, 20 of prompts.txt"):
        await run(write(tmp_path, *(f"dog {number}" for number in range(22))), emulator)
    emulator.assert_charged(22)


async def test_a_sequence_that_is_appended_to_and_reordered_by_id_goes_on(tmp_path, emulator):
    """Rows with ids of their own may come in any order, and new ones anywhere: what is there stays as it is."""
    rows = [{"prompt": f"cat {number}", "id": f"cat-{number}"} for number in range(4)]
    await run(write_rows(tmp_path, *rows[1:3]), emulator)
    before = pictures(tmp_path / "out")
    emulator.reset()
    report = await run(write_rows(tmp_path, *reversed(rows)), emulator)
    assert (4, ["cat 0", "cat 3"]) == (report.done, asked(emulator))
    assert set(before) < set(pictures(tmp_path / "out"))
    async with opened(write_rows(tmp_path, rows[2]), emulator) as job:
        report = await job.run()
        assert Recovery(removed=3) == job.recovery
    assert (1, 1, Charges(4, 4)) == (report.total, report.done, report.charges)
    assert 4 == (await run(write_rows(tmp_path, *rows), emulator)).done
    emulator.assert_charged(2)


async def test_rows_without_ids_are_known_by_their_place(tmp_path, emulator):
    """Where no row has an id, one in front moves all others: that is another job, and said to be one (B16, B53)."""
    await run(write(tmp_path, "a cat", "a dog"), emulator)
    with pytest.raises(JobError, match=r"was begun with other input: line 1, 2 of prompts.txt"):
        await run(write(tmp_path, "a hen", "a cat", "a dog"), emulator)
    emulator.assert_charged(2)


async def test_a_row_that_changes_under_its_id_is_refused(tmp_path, emulator):
    """An id names one request for the life of a job, wherever its row stands (B16)."""
    await run(write_rows(tmp_path, {"prompt": "a cat", "id": "one"}), emulator)
    with pytest.raises(JobError, match=r"other input: line 2 of prompts.jsonl"):
        await run(write_rows(tmp_path, {"prompt": "a hen"}, {"prompt": "a dog", "id": "one"}), emulator)
    emulator.assert_charged(1)


async def test_the_same_id_twice(tmp_path, emulator):
    """Saying the same twice under one id is one item; saying something else is an error that names both lines (B14)."""
    row = {"prompt": "a cat", "id": "one"}
    report = await run(write_rows(tmp_path, row, row, {"prompt": "a cat"}), emulator)
    assert (2, 2, 0, 2) == (report.total, report.done, report.exit_code, emulator.journal.charged)
    with pytest.raises(JobError, match=r"prompts.jsonl:2: id 'one' was used for another request in line 1"):
        await run(write_rows(tmp_path, row, {"prompt": "a dog", "id": "one"}), emulator)
    emulator.assert_charged(2)


async def test_repeats_can_be_raised_later(tmp_path, emulator):
    """More copies of each prompt are more pictures, with seeds of their own; those that are there stay."""
    manifest = write(tmp_path, "a cat", "a dog")
    await run(manifest, emulator)
    before = pictures(tmp_path / "out")
    report = await run(manifest, emulator, repeat=3)
    assert (6, 6, 6) == (report.total, report.done, emulator.journal.charged)
    assert set(before) < set(pictures(tmp_path / "out"))
    assert 6 == len({(record.prompt, record.seed) for record in emulator.journal.generations})
    report = await run(manifest, emulator, repeat=2)
    assert (4, 4, 6) == (report.total, report.done, emulator.journal.charged)


async def test_a_trial_is_the_beginning_of_the_whole(tmp_path, emulator):
    """A limit, then a sample, then all: each picture is paid for once, and each report is about what was selected."""
    manifest = write(tmp_path, *(f"cat {number}" for number in range(12)))
    report = await run(manifest, emulator, limit=3)
    assert (3, 3, ["cat 0", "cat 1", "cat 2"]) == (report.total, report.done, asked(emulator))
    report = await run(manifest, emulator, sample=4)
    assert (4, 4, 0) == (report.total, report.done, report.exit_code)
    charged = emulator.journal.charged
    assert (await run(manifest, emulator, sample=4)).done == 4
    assert charged == emulator.journal.charged <= 7
    report = await run(manifest, emulator)
    assert (12, 12, 12) == (report.total, report.done, emulator.journal.charged)


@pytest.mark.parametrize("wrong", [{"limit": 0}, {"sample": -1}, {"repeat": 0}, {"kind": "docx"}, {"durability": "no"}])
async def test_an_option_that_cannot_be_meant_leaves_nothing(manifest, emulator, wrong):
    """A wrong option is named before anything is made."""
    with pytest.raises((ConfigurationError, InvalidRequestError), match=next(iter(wrong))):
        await run(manifest, emulator, **wrong)
    assert not (manifest.parent / "out").exists()


def _prompts():
    return ["a cat", {"prompt": "a dog", "id": "dog"}, ImageRequest("a hen", **SMALL)]


async def _later():
    for item in _prompts():
        yield item


@pytest.mark.parametrize("items", [_prompts, lambda: iter(_prompts()), _later], ids=["list", "iterator", "async"])
async def test_the_items_of_a_program_resume(tmp_path, emulator, items):
    """Prompts, mappings and requests from any iterable are a job, too, and the same again resume it."""
    for _ in range(2):
        report = await run(items(), emulator, out=tmp_path / "out")
        assert (3, 3, 0) == (report.total, report.done, report.exit_code)
    assert ["a cat", "a dog", "a hen"] == asked(emulator)
    with pytest.raises(JobError, match="was begun with other input: line 1 of the given items"):
        await run(["a cow"], emulator, out=tmp_path / "out")
    assert {".nebula", "images", "report.json", "failed.jsonl"} == {path.name for path in (tmp_path / "out").iterdir()}


async def test_wrong_items_of_a_program_leave_nothing(tmp_path, emulator):
    """What cannot be a request is named by its number, and no folder is left where there was none."""
    with pytest.raises(JobError, match="the given items:2: prompt must be text"):
        await run(["a cat", {"prompt": ""}], emulator, out=tmp_path / "out")
    assert () == emulator.journal.requests
    assert [] == [path.name for path in tmp_path.rglob("*") if path.is_file()]


COMMAND = "import sys; from nebula_async.cli import main; sys.argv[0] = 'nebula-async'; sys.exit(main())"


def test_standard_input_resumes(tmp_path, emulator):
    """The same lines through a pipe are the same job."""
    command = [sys.executable, "-c", COMMAND, "bulk", "-", "--out", "out", "--model", SMALL["model"]]
    command += ["--width", "64", "--height", "64", "--base-url", emulator.base_url]
    for _ in range(2):
        ended = subprocess.run(
            command, input="a cat\na dog\n", cwd=tmp_path, env={"NEBULA_API_KEY": emulator.key}, text=True, timeout=60,
            capture_output=True, check=False,
        )  # fmt: skip
        assert 0 == ended.returncode, ended.stderr
    assert ["a cat", "a dog"] == asked(emulator)


async def test_another_key_is_refused_until_it_is_said_to_be_of_the_same_account(manifest, start):
    """A folder belongs to an account; `new_key` says that only the key changed (B53)."""
    emulator = start(keys=("sk-one", "sk-two"))
    await run(write(manifest.parent, *CATS[:2]), emulator, key="sk-one")
    write(manifest.parent, *CATS)
    with pytest.raises(JobError, match="was begun with another API key; use that one, or say that it is of the same"):
        await run(manifest, emulator, key="sk-two")
    assert 2 == emulator.journal.charged
    assert 4 == (await run(manifest, emulator, key="sk-two", new_key=True)).done
    assert 4 == (await run(manifest, emulator, key="sk-two")).done
    assert b"sk-" not in (manifest.parent / "out/.nebula/ledger.db").read_bytes()


@pytest.mark.parametrize("lost", [(), ("ledger.db-shm",), ("ledger.db-wal",), ("ledger.db-wal", "ledger.db-shm")])
async def test_a_log_that_was_deleted_after_a_kill_is_missed(manifest, emulator, lost):
    """What was last written to the ledger lies in its log: without it nothing is sent, and the way out is
    named (F60).
    """
    out, killed = manifest.parent / "out", manifest.parent / "killed"

    def kill(_result: object) -> None:
        if not killed.exists():
            shutil.copytree(out, killed)  # as a kill leaves it in this moment

    await run(manifest, emulator, concurrency=1, on_result=kill)
    for name in lost:
        (killed / ".nebula" / name).unlink()
    emulator.reset()
    if "ledger.db-wal" in lost:
        for _ in range(2):
            with pytest.raises(JobError, match="nebula-async rebuild"):
                await run(manifest, emulator, out=killed)
        assert () == emulator.journal.requests
    else:
        assert 4 == (await run(manifest, emulator, out=killed, resend_unknown=True)).done
        assert emulator.journal.charged < 4


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("PRAGMA user_version = 99", "is of a newer version of nebula_async; update"),
        ("PRAGMA user_version = 2", "is of an older version of nebula_async, which this one does not continue"),
        ("PRAGMA application_id = 7", "is no ledger but a file of another program"),
    ],
)
async def test_a_ledger_that_is_not_of_this_version_is_left_as_it_is(manifest, emulator, change, said):
    """What another version or program wrote is neither read nor changed (B53)."""
    out = manifest.parent / "out"
    await run(manifest, emulator)
    query(out, change)
    before = (out / ".nebula/ledger.db").read_bytes()
    with pytest.raises(JobError, match=said):
        await run(manifest, emulator)
    assert before == (out / ".nebula/ledger.db").read_bytes()
    emulator.assert_charged(4)


@pytest.mark.parametrize("left", [0, 1, 3000, 5000])
async def test_a_ledger_that_was_cut_is_refused(manifest, emulator, left):
    """A ledger of which a part is missing is not taken for an empty one (F60)."""
    path = manifest.parent / "out/.nebula/ledger.db"
    await run(manifest, emulator)
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(JobError, match="nebula-async rebuild"):
        await run(manifest, emulator)
    emulator.assert_charged(4)


HOLDER = """
import sys
from pathlib import Path
from nebula_async.bulk.lock import JobLock
lock = JobLock.take(Path(sys.argv[1]))
lock.opened()
print("locked", flush=True)
sys.stdin.read()
"""


async def test_a_job_of_another_process_is_refused_until_that_is_gone(manifest, emulator):
    """The second run is told at once which process has the folder; a killed one holds nothing (F58, F59)."""
    path = manifest.parent / "out/.nebula/job.lock"
    path.parent.mkdir(parents=True)
    command = [sys.executable, "-c", HOLDER, path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:  # noqa: ASYNC220
        assert "locked\n" == holder.stdout.readline()
        with pytest.raises(JobError, match=f"/out is in use by process {holder.pid}; wait for it, or use another"):
            await run(manifest, emulator)
        holder.kill()
    assert () == emulator.journal.requests
    assert 4 == (await run(manifest, emulator)).done


async def test_a_second_run_that_is_refused_disturbs_nothing(tmp_path, start):
    """What is handed to a job that is refused does not take the place of what the running one reads."""
    emulator = start(faults=["400:@2"])
    async with opened(["a cat", "a dog"], emulator, out=tmp_path / "out", concurrency=1) as job:
        with pytest.raises(JobError, match="is in use by process"):
            await run(["a hen", "an owl"], emulator, out=tmp_path / "out")
        report = await job.run()
    assert (1, 1) == (report.done, report.rejected)
    (line,) = (tmp_path / "out/failed.jsonl").read_text().splitlines()
    assert "a dog" == json.loads(line)["prompt"]
    assert ["input.jsonl"] == [path.name for path in (tmp_path / "out/.nebula").glob("input*")]
