"""What the pages of docs/ show, run as it stands."""

from __future__ import annotations

import pytest
from documents import NOT_RUN, PAGES, README, blocks_of, differences, is_run, library_missing, without_a_test
from page_runs import copy_examples, environ_of, programs_missing, run_page, run_program

PROGRAMS = [block for page in PAGES for block in blocks_of(page) if block.language == "python"]
LINES = {page: [line for block in blocks_of(page) for line in block.commands] for page in PAGES}
WITH_COMMANDS = [page for page in PAGES if any(is_run(line) for line in LINES[page])]


@pytest.fixture
def environ(emulator, tmp_path_factory) -> dict[str, str]:
    """The environment of someone with a key, whose API is the emulator."""
    return environ_of(emulator, tmp_path_factory.mktemp("state"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_is_run_by_a_test(page):
    """No program, command or output stands on a page that no test runs."""
    assert [] == without_a_test(page)


@pytest.mark.parametrize("program", PROGRAMS, ids=[block.name for block in PROGRAMS])
def test_a_program_runs(program, environ, tmp_path):
    """Each Python block is a whole program that ends well, and prints what stands below it."""
    if library := library_missing(program.page):
        pytest.skip(f"{library} is not installed; `make test-{library}` runs it")
    copy_examples(tmp_path)
    run_program(program, tmp_path, environ)


@pytest.mark.parametrize("page", WITH_COMMANDS, ids=lambda page: page.name)
def test_the_commands_of_a_page_run_in_order(page, environ, tmp_path):
    """The command lines of a page end well one after the other, and print what the page shows of it."""
    if missing := programs_missing(page):
        pytest.skip(f"{', '.join(missing)} is not installed")
    copy_examples(tmp_path)
    assert len([line for line in LINES[page] if is_run(line)]) == run_page(page, tmp_path, environ)


def test_the_list_of_what_is_not_run_is_as_short_as_it_can_be():
    """Each kind of line that is not run stands somewhere."""
    lines = [line for page in (README, *PAGES) for block in blocks_of(page) for line in block.commands]
    assert [] == [start for start in NOT_RUN if not any(line.startswith(start) for line in lines)]


def test_an_output_that_is_shown_wrongly_is_found():
    """A line that is not printed is told; numbers, spaces and what is left out may differ."""
    assert [] == differences("cat.png (64x64, seed 7)\n… done", "note\ncat.png  (32x32, seed 123)\nall done\n")
    assert ["dog.png"] == differences("cat.png\ndog.png", "cat.png\n")
