"""The line that goes on with a job is one that a shell reads as it was meant."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nebula_async.bulk.command import Command
from nebula_async.cli.resume import given_command, quoted, resume_line
from nebula_async.keys import KEY_VARIABLE

WORDS = [
    "plain", "two words", "it's", '"', "$HOME", "`id`", "a\\b", "!!", "*", "~", "#", "", "-", "naïve", "猫",
    "new\nline", "tab\t'", "\x1b]0;title\x07", "\x7f", "caf\udce9", "\u202eright to left",
]  # fmt: skip


@pytest.mark.parametrize("word", WORDS)
def test_a_word_comes_back_as_it_was(word):
    """Whatever is in a path, bash hands it on unchanged, and a terminal shows it without obeying it."""
    text = quoted(word)
    assert text.isprintable()
    done = subprocess.run(["bash", "-c", f"printf %s {text}"], stdout=subprocess.PIPE, check=True)
    assert os.fsencode(word) == done.stdout


def test_options_for_one_run_are_left_out(monkeypatch, tmp_path):
    """What pays again, and what is for programs, is not repeated by going on."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    monkeypatch.setattr(sys, "argv", ["nebula-async", "bulk", "p.txt", "--retry-failed", "--json", "--out", "my cats"])
    assert Command(("bulk", "p.txt", "--out", "my cats"), str(tmp_path)) == given_command()


@pytest.mark.parametrize("words", [["--out", "sk-secret-1"], ["--base-url", "https://x/sk-secret-1/"], ["--", "p.txt"]])
def test_what_cannot_be_told_again_is_not_kept(monkeypatch, words):
    """A line that holds the key is kept nowhere, nor is one that takes no more options."""
    monkeypatch.setenv(KEY_VARIABLE, "sk-secret-1")
    monkeypatch.setattr(sys, "argv", ["nebula-async", "bulk", "p.txt", *words])
    assert None is given_command()


class TestWhereItLeads:
    """The line goes where the job was begun, as long as that is there."""

    @pytest.fixture
    def job(self, tmp_path: Path) -> Path:
        """The folder of a job."""
        (tmp_path / "cats").mkdir()
        return tmp_path / "cats"

    def test_from_where_it_was_begun(self, monkeypatch, job):
        """The words as they were."""
        monkeypatch.chdir(job.parent)
        command = Command(("bulk", "p.txt", "--out", "cats"), str(job.parent), str(job))
        assert "nebula-async bulk p.txt --out cats" == resume_line(command, Path("cats"), "cats/images")

    def test_from_elsewhere(self, monkeypatch, job):
        """Behind a `cd`."""
        monkeypatch.chdir("/")
        command = Command(("bulk", "p.txt"), str(job.parent), str(job))
        assert f"cd {job.parent} && nebula-async bulk p.txt" == resume_line(command, job, "")

    def test_where_the_prompts_came_from_a_pipe(self, monkeypatch, job):
        """The job's own copy of them is handed in."""
        monkeypatch.chdir(job.parent)
        (job / ".nebula").mkdir()
        (job / ".nebula/input.jsonl").touch()
        command = Command(("bulk", "-", "--out", "cats"), str(job.parent), str(job))
        line = resume_line(command, Path("cats"), "cats/images")
        assert "nebula-async bulk - --out cats < cats/.nebula/input.jsonl" == line

    @pytest.mark.parametrize("gone", ["folder", "job"])
    def test_where_something_has_moved(self, monkeypatch, job, gone):
        """What is not known any more stands open, so that no other job is begun by a line from here."""
        monkeypatch.chdir(job.parent)
        places = {"folder": str(job.parent), "job": str(job)} | {gone: "/nowhere"}
        command = Command(("bulk", "p.txt"), places["folder"], places["job"])
        assert "nebula-async bulk INPUT --out cats" == resume_line(command, Path("cats"), "cats/images")

    MOVED = (
        (("bulk", "p.txt", "--out", "old", "--max-cost", "5", "--emulator"),) * 2,
        (("bulk", "p.txt", "--out=old", "--max-images=7"),) * 2,
        (("bulk", "--max-cost", "5", "p.txt"), ("bulk", "--max-cost", "5", "p.txt", "--out", "old")),
        (("bulk", "--out", "gone.txt", "gone.txt"), ("bulk", "--out", "old", "INPUT")),
    )

    @pytest.mark.parametrize(("words", "expected"), MOVED)
    def test_a_job_that_moved_keeps_its_options(self, monkeypatch, job, words, expected):
        """Its limits and its server stay; its folder is the one where it is now, and prompts that are gone are open."""
        monkeypatch.chdir(job.parent)
        (job.parent / "p.txt").touch()
        line = resume_line(Command(words, str(job.parent), "/nowhere"), Path("cats"), "cats/images")
        assert "nebula-async " + " ".join(expected).replace("old", "cats") == line

    def test_a_job_that_moved_is_gone_on_with_from_anywhere(self, monkeypatch, job):
        """Behind a `cd` its folder is named whole, and so is what it keeps of its prompts."""
        (job / ".nebula").mkdir()
        (job / ".nebula/input.jsonl").touch()
        monkeypatch.chdir(job)
        line = resume_line(Command(("bulk", "-", "--n", "2"), str(job.parent), "/nowhere"), Path(), "images")
        assert f"cd {job.parent} && nebula-async bulk - --n 2 --out {job} < {job}/.nebula/input.jsonl" == line

    def test_a_job_with_a_store_that_moved(self, monkeypatch, job):
        """The pictures are where they were; only the folder of the rest is another one."""
        monkeypatch.chdir(job.parent)
        (job.parent / "p.txt").touch()
        words = ("bulk", "p.txt", "--out", "s3://bucket/cats", "--job", "old", "--max-cost", "5")
        line = resume_line(Command(words, str(job.parent), "/nowhere"), Path("cats"), "s3://bucket/cats/images")
        assert "nebula-async bulk p.txt --out s3://bucket/cats --job cats --max-cost 5" == line

    def test_a_line_of_another_version_is_not_repeated(self, monkeypatch, job):
        """Where this program does not understand it, the line is the one that any job has."""
        monkeypatch.chdir(job.parent)
        line = resume_line(Command(("bulk", "p.txt", "--gone", "3"), str(job.parent), "/nowhere"), Path("cats"), "x")
        assert "nebula-async bulk INPUT --out cats" == line

    def test_a_job_with_a_store_that_python_began(self, monkeypatch, job):
        """Both places are named."""
        monkeypatch.chdir(job.parent)
        line = resume_line(None, Path("cats"), "s3://bucket/my cats/images")
        assert "nebula-async bulk INPUT --out 's3://bucket/my cats' --job cats" == line
