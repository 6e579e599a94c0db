"""A folder that cannot be written to, has no room or is gone is found before more is bought, and said in words."""

from __future__ import annotations

import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from disk_errors import witness
from job_invariants import violations
from small_job import Ended, SmallJob
from system_calls import failing, needs_strace
from test_processes import held_in_the_middle

USAGE, STOPPED = 2, 3
POWERLESS = ("setpriv", "--bounding-set=-all", "--inh-caps=-all")
"""Runs a command without the power of root to write everywhere."""


def can(*command: str) -> bool:
    """Whether a command works here."""
    return shutil.which(command[0]) is not None and subprocess.run(command, capture_output=True).returncode == 0


needs_setpriv = pytest.mark.skipif(not can(*POWERLESS, "true"), reason="no power can be given up here (setpriv)")
needs_mount = pytest.mark.skipif(
    not can("unshare", "-m", "mount", "-t", "tmpfs", "none", "/mnt"), reason="nothing can be mounted here"
)
needs_proc = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="there is no /proc here")


@needs_setpriv
def test_a_folder_that_cannot_be_written_to_is_refused(begin):
    """Nothing is sent where nothing can be stored, and the folder is named (F51)."""
    job = begin()
    job.folder.chmod(0o555)
    ended = job.run(under=POWERLESS)

    assert USAGE == ended.code
    assert str(job.out) in ended.said
    assert not ended.has_crashed
    assert () == job.emulator.journal.generations


@needs_proc
@needs_setpriv
def test_a_folder_that_is_locked_in_the_middle_stops_the_job(begin, processes):
    """Once pictures cannot be published any more, no more are bought; what is here is kept, and published
    later (F51).
    """
    job = begin(items=6)
    process = held_in_the_middle(job, processes, under=POWERLESS)
    folders = [job.out / "images", *(path for path in (job.out / "images").iterdir() if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    process.send_signal(signal.SIGCONT)
    _, said = process.communicate()

    assert STOPPED == process.returncode, said
    assert "Traceback" not in said
    assert 2 >= job.emulator.journal.charged
    for folder in folders:
        folder.chmod(0o755)
    assert 0 == job.run().code
    assert [] == violations(witness(job))
    assert 0 == witness(job).extra


@needs_proc
def test_a_folder_that_vanishes_in_the_middle_stops_the_job(begin, processes):
    """A job whose folder is taken away stops, says so, and makes no new one: the ledger is gone with it (F51)."""
    job = begin(items=8)
    process = held_in_the_middle(job, processes)
    shutil.rmtree(job.out)
    process.send_signal(signal.SIGCONT)
    _, said = process.communicate()

    assert STOPPED == process.returncode, said
    assert str(job.out) in said
    assert "Traceback" not in said
    assert 2 >= job.emulator.journal.charged
    assert not (job.out / "images").exists()


@needs_mount
@pytest.mark.parametrize("size", ["300k", "8m"])
def test_a_small_disk_is_found_before_anything_is_bought(begin, size):
    """Where there is no room for what would be in flight, nothing is sent (F48)."""
    job = begin()
    job.out.mkdir()
    mount = f'mount -t tmpfs -o size={size} none "$0" && exec "$@"'
    ended = job.run(under=("unshare", "-m", "sh", "-c", mount, str(job.out)))

    assert ended.code in (USAGE, STOPPED), ended.said
    assert "room" in ended.said
    assert not ended.has_crashed
    assert () == job.emulator.journal.generations


def assert_no_links(ended: Ended, job: SmallJob) -> None:
    """Check that a job ended because its pictures could not be linked into their places, before any was bought."""
    assert USAGE == ended.code, ended.said
    assert "has no hard links, which stored pictures need" in ended.said
    assert not ended.has_crashed
    assert () == job.emulator.journal.generations


@needs_mount
@pytest.mark.parametrize("mount", ["-t tmpfs none", '--bind "$0/../elsewhere"'], ids=["other-device", "same-device"])
def test_pictures_behind_a_mount_are_refused_before_anything_is_bought(begin, mount):
    """Where pictures lie on another device than their parts, or behind a mount of the same one, none could be put in
    its place: that is found by putting a file there (F52).
    """
    job = begin()
    (job.out / "images").mkdir(parents=True)
    (job.folder / "elsewhere").mkdir()
    command = f'mount {mount} "$0/images" && exec "$@"'
    assert_no_links(job.run(under=("unshare", "-m", "sh", "-c", command, str(job.out))), job)


@needs_strace
def test_a_file_system_without_hard_links_is_refused_before_anything_is_bought(begin):
    """So it is on a file system that has no hard links; on one that has them the same job is done (F52)."""
    job = begin()
    assert_no_links(job.run(strace=failing("?link,?linkat", "EPERM", "1+", job.folder / "record")), job)

    assert 0 == job.run().code
    assert [] == violations(witness(job))


def test_a_job_that_stopped_in_the_middle_can_be_moved(begin, folder):
    """A job's folder can be moved as a whole between two runs: its paths are its own."""
    job = begin()
    assert 0 == job.run().code
    moved = SmallJob(folder / "moved", job.emulator, job.items, job.options)
    shutil.move(job.folder, moved.folder)

    assert 0 == moved.run().code
    assert [] == violations(witness(moved))
    assert 0 == witness(moved).extra
