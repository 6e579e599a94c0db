"""What a run leaves for others to read says how all items stand, and why; what failed is input again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from attrs import evolve
from jobs import CAREFUL, SMALL, asked, cut_off, opened, query, run, run_until, write_rows
from PIL import Image as Pillow

from nebula_async.bulk.causes import GONE, STOPPED, UNDER_WAY
from nebula_async.bulk.report_values import values_of

pytestmark = pytest.mark.anyio

EDIT = {"prompt": "a dog", "model": "black-forest-labs/FLUX.1-Kontext-dev"}


def report_of(out: Path) -> dict:
    """Return the report that was written."""
    return json.loads((out / "report.json").read_text())


def failed(out: Path) -> list[dict]:
    """Return the items that failed."""
    return [json.loads(line) for line in (out / "failed.jsonl").read_text().splitlines()]


async def test_a_job_that_is_done_says_so(manifest, emulator):
    """The report counts items, pictures, requests and money; nothing failed, so that file is empty."""
    await run(manifest, emulator)
    out = manifest.parent / "out"
    found = report_of(out)
    expected = {
        "version": 1, "items": 4, "done": 4, "rejected": 0, "bad": 0, "unknown": 0, "unfetched": 0, "waiting": 0,
        "pictures": 4, "charges_at_least": 4, "charges_at_most": 4, "requests": 4, "causes": [],
    }  # fmt: skip
    assert expected.items() <= found.items()
    run_of = {"pictures": 4, "cost_at_least": "0.0076", "cost_at_most": "0.0076", "interrupted": False, "exit_code": 0}
    assert run_of.items() <= found["this_run"].items()
    assert [] == failed(out)


async def test_every_item_that_failed_is_there_with_its_cause(manifest, start):
    """Refused, unusable and perhaps paid for: each is listed with why, how often it was sent and what it may cost."""
    emulator = start(faults=["400=invalid_size:@1", "malformed=base64:@2", "drop:@3"])
    out = manifest.parent / "out"
    await run(manifest, emulator, config=CAREFUL)
    found = {entry["failure"]["state"]: entry for entry in failed(out)}
    assert {"rejected", "bad", "unknown"} == set(found)
    costs = {
        state: (entry["failure"]["charges_at_least"], entry["failure"]["charges_at_most"], entry["failure"]["requests"])
        for state, entry in found.items()
    }
    assert {"rejected": (0, 0, 1), "bad": (1, 1, 1), "unknown": (0, 1, 1)} == costs
    assert all(entry["failure"]["error"] for entry in found.values())
    causes = {state: entry["failure"]["cause"] for state, entry in found.items()}
    assert {
        "rejected": "BadRequestError invalid_size", "bad": "UnusableReplyError", "unknown": "OutcomeUnknownError",
    } == causes  # fmt: skip
    assert all(entry["failure"]["next_step"] for entry in found.values())
    report = report_of(out)
    assert (1, 1, 1, 1) == tuple(report[name] for name in ("done", "rejected", "bad", "unknown"))
    assert causes == {cause["state"]: cause["cause"] for cause in report["causes"]}


async def test_what_is_said_of_a_failure_is_what_happened(manifest, start):
    """Cost, prospect and next step have fields of their own: the text of an error is the bare fact."""
    await run(manifest, start(faults=["400=invalid_size:1"]), config=CAREFUL)
    out = manifest.parent / "out"
    (cause,) = report_of(out)["causes"]
    (error,) = {entry["failure"]["error"] for entry in failed(out)}
    assert (error, 1, 4) == (cause["error"], cause["texts"], cause["items"])
    assert "not charged" not in error.lower()
    assert ("width" in cause["next_step"], "width" in error) == (True, False)


async def test_what_failed_is_input_again(manifest, start, emulator):
    """`failed.jsonl` is a manifest: its lines are the requests that failed, with all that was asked for."""
    broken = start(faults=["400:@1-3"])
    out = manifest.parent / "out"
    await run(manifest, broken, config=CAREFUL)
    report = await run(out / "failed.jsonl", emulator, out=manifest.parent / "again", defaults={"width": 32})
    assert (3, 0) == (report.done, report.exit_code)
    assert {(64, 64)} == {(record.width, record.height) for record in emulator.journal.generations}


async def test_what_failed_is_input_again_for_either_api_and_with_pictures(tmp_path, start, emulator):
    """The API of a line, its id and the picture it is made from are kept, wherever the job's folder lies."""
    Pillow.new("RGB", (64, 64), (0, 0, 255)).save(tmp_path / "blue.png")
    rows = [
        {"prompt": "two dogs", "model": "sdxl", "dialect": "inference", "n": 2, "size": "64x64", "id": "both/of them"},
        {**EDIT, "image": "blue.png"},
    ]
    broken = start(faults=["400:1"])
    plain = dict.fromkeys(SMALL)
    report = await run(write_rows(tmp_path, *rows), broken, defaults=plain)
    assert 2 == report.rejected
    lines = failed(tmp_path / "out")
    report = await run(tmp_path / "out/failed.jsonl", emulator, out=tmp_path / "again", defaults=plain)
    assert (2, 3) == (report.done, emulator.journal.charged)
    assert {"a dog", "two dogs"} == set(asked(emulator))
    assert "both/of them" == lines[0]["id"]


async def test_what_failed_goes_to_its_own_api_whatever_the_default_is(tmp_path, start, emulator):
    """A line names its API: the same command may have another one for the lines that leave it out."""
    manifest = write_rows(tmp_path, {"prompt": "a cat", "dialect": "serverless", **SMALL})
    given = {"dialect": "inference", "model": "sdxl"}
    assert 1 == (await run(manifest, start(faults=["400:1"]), defaults=given)).rejected
    report = await run(tmp_path / "out/failed.jsonl", emulator, out=tmp_path / "again", defaults=given)
    assert (1, [64]) == (report.done, [record.width for record in emulator.journal.generations])


async def test_the_files_of_a_stopped_run_name_what_was_in_flight(manifest, start):
    """What had not ended may be paid for: it is listed, and the next run's files say what became of it."""
    emulator = start(faults=["delay=60:@1-2"])
    out = manifest.parent / "out"
    async with opened(manifest, emulator) as job:
        await run_until(job, lambda: emulator.journal.charged == 2)
    assert [("sent", 0, 1)] * 2 == [
        (entry["failure"]["state"], entry["failure"]["charges_at_least"], entry["failure"]["charges_at_most"])
        for entry in failed(out)
    ]
    assert report_of(out)["this_run"]["interrupted"]
    assert [("sent", UNDER_WAY, 2)] == [
        (cause["state"], cause["cause"], cause["items"]) for cause in report_of(out)["causes"]
    ]
    await run(manifest, emulator, resend_unknown=True)
    assert ([], 4) == (failed(out), report_of(out)["done"])


async def test_what_a_kill_left_open_has_a_cause_after_the_next_run(manifest, start):
    """An item whose run was stopped while its request was under way, and that is not sent again, says so."""
    emulator = start()
    out = manifest.parent / "out"
    await run(manifest, emulator)
    for seq in range(3):
        cut_off(out, seq)
    await run(manifest, emulator, config=CAREFUL)
    assert [("unknown", STOPPED, 3)] == [
        (cause["state"], cause["cause"], cause["items"]) for cause in report_of(out)["causes"]
    ]
    assert {STOPPED} == {entry["failure"]["cause"] for entry in failed(out)}


async def test_the_cause_of_an_attempt_outlives_a_kill(manifest, start):
    """What the API had said of an item before a run was killed is its cause after the next run."""
    emulator = start(faults=["500:1"])
    out = manifest.parent / "out"
    await run(manifest, emulator, config=CAREFUL)
    query(out, "UPDATE item SET state = 'sent', error = NULL, cause = NULL")
    await run(manifest, emulator, config=CAREFUL)
    (cause,) = report_of(out)["causes"]
    assert ("unknown", 4) == (cause["state"], cause["items"])
    assert cause["cause"].startswith("ServerError ")


async def test_pictures_that_are_gone_have_a_cause(manifest, emulator):
    """So has an item whose picture somebody deleted."""
    await run(manifest, emulator)
    out = manifest.parent / "out"
    next((out / "images").glob("*/*")).unlink()
    await run(manifest, emulator)
    assert [("bad", GONE, 1)] == [
        (cause["state"], cause["cause"], cause["items"]) for cause in report_of(out)["causes"]
    ]


async def test_a_summary_is_that_of_the_report(manifest, emulator):
    """`job.summary()` tells after a run what report.json holds, and before it how the job stands."""
    async with opened(manifest, emulator) as job:
        assert (4, 0, ()) == ((await job.summary()).report.waiting, (await job.summary()).requests, ())
        report = await job.run()
        found = await job.summary()
    assert evolve(report, seconds=0.0) == evolve(found.report, seconds=0.0)
    told, written = values_of(found), report_of(manifest.parent / "out")
    assert {**told, "written": None} == {**written, "written": None}


async def test_requests_that_were_refused_as_too_many_are_counted(manifest, start):
    """A refusal is no failure, and is told."""
    emulator = start(faults=["429:@1-2"])
    await run(manifest, emulator)
    found = report_of(manifest.parent / "out")
    assert (4, 2, 6, []) == (found["done"], found["refusals"], found["requests"], found["causes"])
    assert 4 == found["latency"]["requests"]


async def test_each_item_that_is_not_done_has_a_cause(manifest, start):
    """Wherever an error is noted in a ledger, a cause is."""
    emulator = start(faults=["400:@1", "malformed=base64:@2", "drop:@3", "500:@4", "502:@5-8"])
    await run(manifest, emulator, config=CAREFUL)
    out = manifest.parent / "out"
    assert [] == query(out, "SELECT * FROM item WHERE (error IS NULL) <> (cause IS NULL)")
    assert [] == query(out, "SELECT * FROM attempt WHERE (error IS NULL) <> (cause IS NULL)")


async def test_what_was_refused_for_now_is_listed_with_its_cause(manifest, start):
    """An item that was sent and goes back to those that wait is unfinished, too, and why is said."""
    emulator = start(faults=["401:@1"])
    out = manifest.parent / "out"
    report = await run(manifest, emulator, concurrency=1)
    assert (0, 4, 3) == (report.done, report.waiting, report.exit_code)
    (entry,) = failed(out)
    assert ("pending", "a cat") == (entry["failure"]["state"], entry["prompt"])
    assert [("pending", 1)] == [(cause["state"], cause["items"]) for cause in report_of(out)["causes"]]
    assert "401" in report_of(out)["this_run"]["stopped_by"] or entry["failure"]["error"]


async def test_only_what_is_asked_for_is_listed(manifest, start):
    """What failed and is not part of the job any more is not counted, and not listed."""
    emulator = start(faults=["400:1"])
    await run(manifest, emulator)
    report = await run(manifest, emulator, limit=1)
    assert (1, 1) == (report.rejected, len(failed(manifest.parent / "out")))


async def test_nothing_is_left_beside_the_files(manifest, emulator):
    """A run leaves its own files, and no other."""
    await run(manifest, emulator)
    assert ["failed.jsonl", "images", "report.json"] == sorted(
        path.name for path in (manifest.parent / "out").iterdir() if not path.name.startswith(".neb")
    )
