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

    def test_a_job_with_a_store_that_python_began(self, monkeypatch, job):
        """Both places are named."""
        monkeypatch.chdir(job.parent)
        line = resume_line(None, Path("cats"), "s3://bucket/my cats/images")
        assert "nebula-async bulk INPUT --out 's3://bucket/my cats' --job cats" == line
