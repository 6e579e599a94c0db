"""What the README shows, run as it stands."""

from __future__ import annotations

import pytest
from documents import README, blocks_of, is_run, without_a_test
from page_runs import copy_examples, environ_of, programs_missing, run_page, run_program

BLOCKS = blocks_of(README)
PROGRAMS = [block for block in BLOCKS if block.language == "python"]
COMMANDS = [line for block in BLOCKS for line in block.commands]


@pytest.fixture
def environ(emulator, tmp_path_factory) -> dict[str, str]:
    """The environment of someone with a key, whose API is the emulator."""
    return environ_of(emulator, tmp_path_factory.mktemp("state"))


def test_the_two_commands_come_first():
    """The first block shows `make demo` and `make test`, and nothing else."""
    assert ["make demo", "make test"] == [line.split("  ")[0].strip() for line in BLOCKS[0].commands]


def test_every_block_is_run_by_a_test():
    """No program, command or output stands in the README that no test runs."""
    assert [] == without_a_test(README)


@pytest.mark.parametrize("program", PROGRAMS, ids=[block.name for block in PROGRAMS])
def test_a_program_runs(program, environ, tmp_path):
    """Each Python block is a whole program that ends well, and prints what stands below it."""
    run_program(program, tmp_path, environ)


def test_the_commands_run_in_order(environ, tmp_path):
    """The command lines end well one after the other, each with what those before it left, and print what is shown."""
    if missing := programs_missing(README):
        pytest.skip(f"{', '.join(missing)} is not installed")
    copy_examples(tmp_path)
    assert len([line for line in COMMANDS if is_run(line)]) == run_page(README, tmp_path, environ)
