"""A job resumes, asks for nothing that it has, and says what it paid for, whatever happened in between."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from jobs import (
    CAREFUL,
    CATS,
    SMALL,
    assert_within,
    cut_off,
    fail_folder_syncs,
    opened,
    pictures,
    run,
    run_until,
    spooled,
    write,
)

from nebula_async.bulk.job import BulkJob
from nebula_async.bulk.recovery import Recovery
from nebula_async.charges import Charges
from nebula_async.client import AsyncNebula
from nebula_async.config import Config, RetryPolicy
from nebula_async.emulator import Emulator
from nebula_async.errors import ConfigurationError, JobError, NotSentError, OutcomeUnknownError, UnusableReplyError
from nebula_async.events import Retrying, Sent
from nebula_async.images.media import read_media
from nebula_async.results import Failure

pytestmark = pytest.mark.anyio


async def test_every_prompt_becomes_a_picture_named_after_it(manifest, emulator):
    """A job leaves one whole picture for each line, named by its number and words, and nothing else."""
    told = []
    report = await run(manifest, emulator, on_result=told.append)
    assert (4, 4, 0, 0) == (report.total, report.done, report.waiting, report.exit_code)
    assert (4, Charges(4, 4), "$0.0076") == (report.spending.pictures, report.charges, str(report.spending))
    assert [
        "00000/000000000-a-cat.png",
        "00000/000000001-two-cats.png",
        "00000/000000002-three-cats.png",
        "00000/000000003-four-cats.png",
    ] == pictures(manifest.parent / "out")
    assert dict(enumerate(CATS)) == {result.index: result.request.prompt for result in told}


async def test_the_same_job_again_sends_nothing(manifest, emulator):
    """What is stored is not asked for again, and the report is that of the whole job."""
    first = await run(manifest, emulator)
    emulator.reset()
    again = await run(manifest, emulator)
    assert () == emulator.journal.requests
    assert (4, 0, first.charges, 0) == (again.done, again.exit_code, again.charges, again.spending.pictures)


async def test_a_stopped_job_resumes_and_its_charges_bound_what_was_paid(tmp_path, start):
    """Stopped in mid-flight, a job says what may be paid twice, and never less than the account was charged; what may
    be paid twice is one picture in a hundred, and at least one, unless the user says more (D13).
    """
    emulator = start(faults=["delay=60:@3-4"])
    manifest = write(tmp_path, *CATS)
    async with opened(manifest, emulator) as job:
        await run_until(job, lambda: emulator.journal.charged == 4)
        report = await job.report()
    assert (2, 2, 0, True) == (report.done, report.unknown, report.waiting, job.was_stopped)
    assert_within(4, report.charges)

    async with opened(manifest, emulator) as job:
        assert Recovery(sent_again=1, given_up=1) == job.recovery
        assert_within(4, (await job.report()).charges)
        report = await job.run()
    assert (3, 1, 1, 5) == (report.done, report.unknown, report.exit_code, emulator.journal.charged)
    report = await run(manifest, emulator, resend_unknown=True)
    assert (4, 0, 6) == (report.done, report.exit_code, emulator.journal.charged)
    assert_within(6, report.charges)
    assert (4, []) == (len(pictures(tmp_path / "out")), spooled(tmp_path / "out"))


async def test_every_attempt_of_a_call_that_was_stopped_is_counted(tmp_path, start):
    """A call that had been repeated when the run was stopped may have cost two pictures, and the report says so; it is
    not paid for a third time by itself.
    """
    emulator = start(faults=["drop:@1", "delay=60:@2"])
    manifest = write(tmp_path, "a cat")
    async with opened(manifest, emulator) as job:
        await run_until(job, lambda: emulator.journal.charged == 2)
    report = await run(manifest, emulator)
    assert (1, Charges(0, 2), 2) == (report.unknown, report.charges, emulator.journal.charged)
    report = await run(manifest, emulator, resend_unknown=True)
    assert (0, Charges(1, 3), 3) == (report.exit_code, report.charges, emulator.journal.charged)


async def test_what_is_known_of_an_attempt_is_not_forgotten(tmp_path, start):
    """Stopped between two attempts, a job still knows for sure that the first was paid for."""
    emulator, manifest = start(faults=["cut:@1"]), write(tmp_path, "a cat")

    def stop(event: object) -> None:
        if isinstance(event, Retrying):
            job.stop()

    async with opened(manifest, emulator, config=Config(), observer=stop) as job:
        report = await job.run()
    assert (1, Charges(1, 1), 1) == (report.unknown, report.charges, emulator.journal.charged)
    async with opened(manifest, emulator, config=CAREFUL) as job:
        assert (Recovery(), Charges(1, 1)) == (job.recovery, (await job.report()).charges)


async def test_a_picture_that_was_stored_and_not_noted_is_taken_over(manifest, emulator):
    """A run that is killed between storing and noting leaves a picture that the next run does not buy again."""
    out = manifest.parent / "out"
    await run(manifest, emulator)
    before = pictures(out)
    cut_off(out, 2, received=1)
    emulator.reset()
    async with opened(manifest, emulator) as job:
        assert Recovery(adopted=1) == job.recovery
        report = await job.run()
    assert () == emulator.journal.requests
    assert (4, 0, Charges(4, 4)) == (report.done, report.exit_code, report.charges)
    assert (before, []) == (pictures(out), spooled(out))


@pytest.mark.parametrize("option", [{}, {"provenance": True}], ids=["plain", "told"])
async def test_what_was_stored_when_a_job_broke_is_stored_once(tmp_path, emulator, monkeypatch, option):
    """Ended between storing and noting, a job buys no picture again, and none is there twice."""
    manifest, out = write(tmp_path, "a cat"), tmp_path / "out"
    fail_folder_syncs(monkeypatch)
    report = await run(manifest, emulator, durability="power", **option)
    assert (3, 0, Charges(0, 1)) == (report.exit_code, report.done, report.charges)
    assert "the job cannot go on writing: Input/output error; what was received is kept" in str(report.stopped_by)
    monkeypatch.undo()
    before = pictures(out)
    async with opened(manifest, emulator, durability="power", **option) as job:
        assert Recovery(adopted=1) == job.recovery
        report = await job.run()
    assert (1, 1, before, []) == (emulator.journal.charged, report.done, pictures(out), spooled(out))
    assert (Charges(1, 1), 1) == (report.charges, report.pictures)


async def test_what_was_sent_and_left_no_picture_is_sent_once_more_and_then_the_user_decides(manifest, emulator):
    """What may have been paid for is sent again once, which is said; after that only when it is asked for."""
    out = manifest.parent / "out"
    await run(manifest, emulator)
    (out / "images/00000/000000002-three-cats.png").unlink()
    emulator.reset()
    for found in (Recovery(sent_again=1), Recovery(given_up=1)):
        cut_off(out, 2)
        async with opened(manifest, emulator) as job:
            assert found == job.recovery
    report = await run(manifest, emulator)
    assert (3, 1, 0, 1) == (report.done, report.unknown, report.waiting, report.exit_code)
    assert () == emulator.journal.requests

    report = await run(manifest, emulator, resend_unknown=True)
    assert (4, 0, 1) == (report.done, report.exit_code, emulator.journal.charged)


async def test_nothing_that_was_cut_off_is_sent_again_where_nothing_may_be_paid_twice(manifest, emulator):
    """`resend_unknown=0`, never pay twice, holds for what a stopped run had sent, too (D1)."""
    await run(manifest, emulator)
    cut_off(manifest.parent / "out", 2)
    async with opened(manifest, emulator, config=CAREFUL) as job:
        assert Recovery(given_up=1) == job.recovery


@pytest.mark.parametrize("option", ["retry_failed", "resend_unknown"])
async def test_options_reach_what_an_earlier_run_left_behind(manifest, emulator, option):
    """`resend_unknown` also sends what is only found to be unknown now; `retry_failed` leaves it alone."""
    out = manifest.parent / "out"
    await run(manifest, emulator)
    cut_off(out, 0)
    emulator.reset()
    report = await run(manifest, emulator, config=CAREFUL, **{option: True})
    assert int(option == "resend_unknown") == emulator.journal.charged
    assert int(option == "retry_failed") == report.unknown


async def test_a_refused_item_is_sent_again_only_when_asked(manifest, start):
    """What the API refuses for good is not repeated by resuming; `retry_failed` puts it back."""
    emulator = start(faults=["400:@1,5"])
    report = await run(manifest, emulator)
    assert (3, 1, 1, Charges(3, 3)) == (report.done, report.rejected, report.exit_code, report.charges)
    assert 1 == (await run(manifest, emulator)).exit_code
    assert 4 == len(emulator.journal.generations)
    assert 1 == (await run(manifest, emulator, retry_failed=True)).rejected
    assert 0 == (await run(manifest, emulator, retry_failed=True)).exit_code
    assert 6 == len(emulator.journal.generations)


async def test_an_unusable_reply_is_paid_for_and_not_repeated(manifest, start):
    """A picture that came back broken is said to be paid for, and bought again only when that is asked (D12)."""
    emulator = start(faults=["malformed=base64:@1"])
    told = []
    report = await run(manifest, emulator, on_result=told.append)
    assert (3, 1, 1, Charges(4, 4)) == (report.done, report.bad, report.exit_code, report.charges)
    assert [UnusableReplyError] == [type(result.error) for result in told if isinstance(result, Failure)]
    assert 1 == (await run(manifest, emulator)).bad
    assert 4 == emulator.journal.charged
    report = await run(manifest, emulator, retry_failed=True)
    assert (0, Charges(5, 5)) == (report.exit_code, report.charges)


async def test_what_came_for_a_bad_item_is_kept_until_it_is_bought_anew(manifest, start):
    """What an unusable reply brought stays as evidence as long as its item is bad, and no longer (D12)."""
    emulator = start(faults=["malformed=html:@1"])
    spool = manifest.parent / "out" / ".nebula" / "spool"
    await run(manifest, emulator)
    assert [".part", ".said"] == sorted(path.suffix for path in spool.iterdir())
    assert 0 == (await run(manifest, emulator, retry_failed=True)).exit_code
    assert [] == [*spool.iterdir()]


async def test_a_lost_reply_is_unknown_and_not_repeated(manifest, start):
    """What may have been paid for stays as it is until the user says that it may be paid for twice (D1)."""
    emulator = start(faults=["drop:@1"])
    told = []
    report = await run(manifest, emulator, config=CAREFUL, on_result=told.append)
    assert (3, 1, 1, Charges(3, 4)) == (report.done, report.unknown, report.exit_code, report.charges)
    assert [OutcomeUnknownError] == [type(result.error) for result in told if isinstance(result, Failure)]
    await run(manifest, emulator, config=CAREFUL, retry_failed=True)
    assert 4 == emulator.journal.charged
    report = await run(manifest, emulator, config=CAREFUL, resend_unknown=True)
    assert (0, Charges(4, 5), 5) == (report.exit_code, report.charges, emulator.journal.charged)


async def test_without_a_connection_items_wait(manifest):
    """A server that is not there is probed for a while, costs and refuses nothing: the same job goes on later."""
    with Emulator() as emulator:
        base_url = emulator.base_url
    config = Config(base_url=base_url, retry=RetryPolicy(backoff=0))
    out = manifest.parent / "out"
    async with AsyncNebula("sk-1", config=config) as nebula, BulkJob(manifest, out, nebula, defaults=SMALL) as job:
        report = await job.run()
    assert (4, 3, Charges(0, 0)) == (report.waiting, report.exit_code, report.charges)
    assert isinstance(report.stopped_by, NotSentError)


@pytest.mark.parametrize("fault", ["401", "402", "403", "429=insufficient_quota"])
async def test_a_refusal_of_the_account_stops_the_job(tmp_path, start, fault):
    """When the key or the credit is refused, nothing but what is in flight is sent, and the rest waits (F24, F32)."""
    emulator = start(faults=[f"{fault}:@3"])
    manifest = write(tmp_path, *(f"cat {number}" for number in range(20)))
    report = await run(manifest, emulator)
    assert 3 == report.exit_code
    assert int(fault[:3]) == report.stopped_by.status
    assert 3 <= len(emulator.journal.generations) <= 3 + 2
    assert (20 - report.done, 0) == (report.waiting, report.rejected)
    assert 0 == (await run(manifest, emulator)).exit_code
    assert 20 == emulator.journal.charged


async def test_a_key_that_goes_bad_stops_the_job(manifest, emulator):
    """A callable that returns a bad key in mid-job refuses no item: the job stops, and they wait."""
    keys = iter([emulator.key, emulator.key])
    config = Config(base_url=emulator.base_url, concurrency=1)
    async with (
        AsyncNebula(lambda: next(keys, ""), config=config) as nebula,
        BulkJob(manifest, manifest.parent / "out", nebula, defaults=SMALL) as job,
    ):
        report = await job.run()
    assert (3, ConfigurationError) == (report.exit_code, type(report.stopped_by))
    assert (1, 3) == (report.done, report.waiting)


async def test_another_file_at_the_name_is_kept(manifest, emulator):
    """A job replaces no file and takes none for its own: its picture gets the next free name (B46)."""
    out = manifest.parent / "out"
    await run(manifest, emulator)
    foreign = out / "images/00000/000000004-five-cats.png"
    foreign.write_bytes((out / "images/00000/000000000-a-cat.png").read_bytes())
    write(manifest.parent, *CATS, "five cats")
    report = await run(manifest, emulator)
    assert 5 == report.done
    assert foreign.read_bytes() == (out / "images/00000/000000000-a-cat.png").read_bytes()
    assert "00000/000000004-five-cats-1.png" == pictures(out)[4]


async def test_a_file_that_comes_to_the_name_while_the_picture_is_made_is_kept(tmp_path, emulator):
    """Even then, both are there afterwards."""
    manifest, target = write(tmp_path, "a cat"), tmp_path / "out/images/00000/000000000-a-cat.png"

    def put_there(event):
        if isinstance(event, Sent):
            target.parent.mkdir()
            target.write_bytes(b"mine")

    assert 0 == (await run(manifest, emulator, observer=put_there)).exit_code
    assert b"mine" == target.read_bytes()
    read_media(target.with_stem(f"{target.stem}-1").read_bytes())


async def test_an_output_folder_that_cannot_be_one_is_refused_before_anything_is_sent(manifest, emulator):
    """A file in place of the folder is named, and nothing is sent."""
    (manifest.parent / "out").write_text("mine")
    with pytest.raises(JobError, match=r"write to the output folder .*/out: Not a directory; give another --out"):
        await run(manifest, emulator)
    assert () == emulator.journal.requests


async def test_the_same_prompt_twice_is_two_pictures(tmp_path, emulator):
    """Each line gets its own picture, also where the prompts are the same."""
    report = await run(write(tmp_path, "a cat", "a cat", "A Cat"), emulator)
    assert 3 == report.done == emulator.journal.charged
    assert [f"00000/00000000{number}-a-cat.png" for number in range(3)] == pictures(tmp_path / "out")


async def test_a_moved_job_resumes(tmp_path, emulator, monkeypatch):
    """Job, manifest and pictures move together: nothing in the ledger depends on where they are."""
    here, there = tmp_path / "here", tmp_path / "deep" / "there"
    here.mkdir()
    await run(write(here, "a cat"), emulator)
    source = here / "out/images/00000/000000000-a-cat.png"
    (here / "source.png").write_bytes(source.read_bytes())
    data_url = "data:image/png;base64,AA//BB=="
    lines = [
        {"prompt": "a cat", "model": "black-forest-labs/FLUX.1-Kontext-dev", "image": "source.png"},
        {"prompt": "no cat", "model": "black-forest-labs/FLUX.1-Kontext-dev", "image": data_url},
    ]
    manifest = here / "edits.jsonl"
    manifest.write_text("\n".join(map(json.dumps, lines)))
    report = await run(manifest, emulator, out=here / "edits")
    assert (1, 1) == (report.done, report.rejected)

    there.parent.mkdir()
    here.rename(there)
    monkeypatch.chdir(there)
    emulator.reset()
    cut_off(there / "edits", 0, received=1)
    for manifest, out in ((there / "edits.jsonl", there / "edits"), (Path("edits.jsonl"), Path("edits"))):
        report = await run(manifest, emulator, out=out)
        assert (1, 1) == (report.done, report.rejected)
    assert () == emulator.journal.requests


async def test_all_pictures_of_an_item_are_stored(tmp_path, emulator):
    """Where a line asks for several pictures, none that was paid for is thrown away."""
    manifest = tmp_path / "prompts.jsonl"
    model = "Bytedance/seedream-3-0-t2i-250415"
    manifest.write_text(json.dumps({"prompt": "a cat", "model": model, "extra": {"num_images": 3}}))
    report = await run(manifest, emulator, defaults={"width": 512, "height": 512})
    assert Charges(3, 3) == report.charges
    assert 3 == emulator.journal.charged == report.spending.pictures
    assert [f"00000/000000000-a-cat{copy}.png" for copy in ("-1", "-2", "")] == pictures(tmp_path / "out")


async def test_a_wrong_concurrency_is_refused_before_anything_is_opened(manifest, emulator):
    """A setting that cannot be meant leaves no folder behind."""
    with pytest.raises(ConfigurationError, match="concurrency must be a whole number"):
        await run(manifest, emulator, concurrency=0)
    assert not (manifest.parent / "out").exists()


async def test_a_job_takes_no_more_at_a_time_than_it_is_told(manifest, emulator):
    """`concurrency` bounds the job where the client allows more."""
    flying, most = set(), []

    def watch(event):
        (flying.add if isinstance(event, Sent) else flying.discard)(getattr(event, "call", None))
        most.append(len(flying))

    await run(manifest, emulator, concurrency=1, observer=watch)
    assert 1 == max(most)


async def test_a_job_runs_once(manifest, emulator):
    """Who runs an open job again is told to enter it anew, instead of being told that nothing is left."""
    async with opened(manifest, emulator) as job:
        assert 0 == (await job.run()).exit_code
        with pytest.raises(JobError, match="a job runs once: enter it anew to go on"):
            await job.run()
    emulator.assert_charged(4)


async def test_a_job_that_is_stopped_before_it_runs_sends_nothing(manifest, emulator):
    """Who stops early is heard."""
    async with opened(manifest, emulator) as job:
        job.stop()
        report = await job.run()
    assert (130, 4, ()) == (report.exit_code, report.waiting, emulator.journal.requests)


async def test_what_was_stopped_in_flight_is_in_the_cost_of_the_run(tmp_path, start):
    """A run that is ended at once says what it may have spent on what was under way, as the job's sums do."""
    emulator, manifest = start(faults=["delay=30:@1"]), write(tmp_path, "a cat")
    async with opened(manifest, emulator) as job:
        await run_until(job, lambda: emulator.journal.charged == 1)
        spending, summary = job.spending, await job.summary()
    assert ("$0.0000 to $0.0019", 0) == (str(spending), spending.pictures)
    assert (spending.at_least, spending.at_most) == (summary.cost_at_least, summary.cost_at_most)
