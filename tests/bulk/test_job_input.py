"""What a job does when its input is not what it was: it goes on, or says what changed, before anything is sent."""

from __future__ import annotations

import pytest
from jobs import CATS, cut_off, opened, run, write

from nebula_async.bulk.recovery import Recovery
from nebula_async.charges import Charges
from nebula_async.config import Config
from nebula_async.errors import JobError

pytestmark = pytest.mark.anyio


async def test_a_changed_line_is_refused_by_its_number_and_an_appended_one_is_accepted(manifest, emulator):
    """What was paid for under a line stays its picture: changing it is an error, adding to the end is not."""
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
    """A job that became shorter is done when what is left is, and its charges are still those of all."""
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
    assert f"{manifest} cannot be used, nothing was sent; lines to mend: 22" == lines[0]
    assert lines[1].startswith("  prompts.jsonl:2: prompt must be text")
    assert ("  … and 2 more", 22) == (lines[-1], len(lines))
    assert () == emulator.journal.requests


async def test_a_manifest_that_breaks_while_the_job_runs_stops_it(manifest, emulator):
    """What was read is stored, what cannot be read any more is said."""
    long = write(manifest.parent, *(f"cat {number} {'x' * 20_000}" for number in range(20)))
    config = Config(concurrency=1)
    report = await run(long, emulator, config=config, on_result=lambda _result: long.write_bytes(b"\xff" * 400_000))
    assert 3 == report.exit_code
    assert f"{long} changed while the job ran: prompts.txt:" in str(report.stopped_by)
    assert emulator.journal.charged == report.done


async def test_a_job_in_use_is_refused(manifest, emulator):
    """The same folder is one job's at a time."""
    async with opened(manifest, emulator):
        with pytest.raises(JobError, match=r"/out is in use by another process; wait for it, or use another output"):
            await run(manifest, emulator)


async def test_pictures_without_their_ledger_are_not_bought_again(manifest, emulator):
    """A ledger that was deleted is missed: the job asks for it instead of paying for everything once more."""
    await run(manifest, emulator)
    (manifest.parent / "out/.nebula/ledger.db").write_bytes(b"")
    with pytest.raises(JobError, match="all would be paid for again"):
        await run(manifest, emulator)
    assert 4 == emulator.journal.charged
