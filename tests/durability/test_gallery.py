"""A run whose gallery meets a kill or a full disk: the job is as it would be without one, and the page is whole."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

import pytest
from disk_errors import witness
from job_invariants import violations
from kill_points import Bench
from small_job import SmallJob
from system_calls import Call, Place, failing, killing, needs_strace, read_calls, recording

pytestmark = needs_strace

SCRIPT = re.compile(r"nebulaGallery\.\w+\((?:\d+,)?(\{.*\})\);\n", re.DOTALL)
WRITING = ("openat", "write", "rename", "mkdir")
EVERY = 5


@pytest.fixture
def bench(folder):
    """Jobs with a gallery."""
    with Bench.open(folder, ("--gallery",)) as opened:
        yield opened


def places(bench: Bench) -> list[Place]:
    """Return where a run touches its gallery's data, by calls of the thread that is the first to come so far."""
    with bench.job() as job:
        job.run()
        (job.out / "gallery" / "data" / "summary.js").unlink()  # as it is written anew, by a run with no other work
        calls = recorded(job)
    first: dict[tuple[str, int], Call] = {}
    for call in calls:
        first.setdefault((call.name, call.n), call)
    found = [call for call in first.values() if call.name in WRITING and "/gallery/data" in call.text]
    assert {"openat", "rename", "mkdir", "write"} == {call.name for call in found}
    return [Place(call.name, call.n) for call in found]


def recorded(job: SmallJob) -> Sequence[Call]:
    """Return the calls of a run."""
    record = job.folder / "record"
    ended = job.run(strace=recording(record))
    assert (0, False) == (ended.code, ended.has_crashed), ended.said
    return tuple(read_calls(record))


def shown(job: SmallJob) -> int:
    """Return how many entries the page has, all of which are there."""
    folder = job.out / "gallery"
    summary = read(folder / "data" / "summary.js")
    chunks = [read(folder / summary["data"] / f"{number:05}.js") for number in range(summary["chunks"])]
    assert summary["items"] == sum(len(chunk["rows"]) for chunk in chunks)
    return summary["items"]


def read(path) -> dict:
    """Return what a script is called with."""
    found = SCRIPT.fullmatch(path.read_text())
    assert found, f"{path} is not whole"
    return json.loads(found[1])


def harm(job: SmallJob) -> list[str]:
    """Return what does not hold of the job; that there is a gallery is no harm."""
    return [problem for problem in violations(witness(job)) if not problem.startswith("I7: gallery/")]


def behind(job: SmallJob) -> None:
    """Let the page of a job be that of a state before, so that the next run writes it anew."""
    summary = job.out / "gallery" / "data" / "summary.js"
    summary.write_text(re.sub(r'"facts":"\w+"', '"facts":"old"', summary.read_text()))


def test_a_kill_while_the_page_is_written(bench):
    """The page shows what it did before, or all there is now; the job knows of nothing, and the next run mends it."""

    def meet(place: Place) -> tuple[bool, list[str]]:
        with bench.job() as job:
            job.run()
            behind(job)
            was_killed = job.run(strace=killing(place)).was_killed
            assert len(job.prompts) == shown(job)
            again = job.run()
            assert (0, False) == (again.code, again.has_crashed), again.said
            assert len(job.prompts) == shown(job)
            assert 2 >= sum(path.is_dir() for path in (job.out / "gallery" / "data").iterdir())  # one was replaced
            return was_killed, harm(job)

    met = bench.spread(meet, places(bench)[::EVERY])
    assert [] == [problems for _, problems in met if problems]
    assert sum(was_killed for was_killed, _ in met) >= len(met) / 2


def test_no_room_while_the_page_is_written(bench):
    """The run ends as it would, a note says that the page was not written, and the page is that of before."""

    def meet(place: Place) -> tuple[bool, list[str]]:
        with bench.job() as job:
            job.run()
            behind(job)
            ended = job.run(strace=failing(place.call, "ENOSPC", str(place.n), job.folder / "record"))
            assert (0, False) == (ended.code, ended.has_crashed), ended.said
            assert len(job.prompts) == shown(job)
            return "the gallery was not written: No space left" in ended.said, harm(job)

    met = bench.spread(meet, [place for place in places(bench) if place.call != "openat"][:: EVERY - 2])
    assert [] == [problems for _, problems in met if problems]
    assert sum(was_told for was_told, _ in met) >= len(met) / 2
