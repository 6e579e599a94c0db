"""Lines for people: on a terminal they are wrapped at words, in a log they are whole."""

from __future__ import annotations

import pytest
from rich.cells import cell_len
from terminals import terminal

from nebula_async.charges import Charges
from nebula_async.cli.lines import columns_of, fitted, shortened, with_short_fact
from nebula_async.cli.progress import Failures
from nebula_async.errors import BadRequestError
from nebula_async.requests import read_request
from nebula_async.results import Failure

NOTE = "note: the model rounds width 513 to a multiple of 16: the picture will differ in size (1,234 items)"
LONG = "the API answered: " + " ".join(["Your request was rejected by our safety system."] * 20) + " (HTTP 400)"


def test_a_line_is_wrapped_at_words_below_its_beginning():
    """What goes on stands two columns further in, so that the next line is seen to be another one."""
    assert fitted(NOTE, 60) == (
        "note: the model rounds width 513 to a multiple of 16: the\n  picture will differ in size (1,234 items)"
    )
    assert "  a: b c d e f g h i j\n    k l" == fitted("  a: b c d e f g h i j k l", 23)


@pytest.mark.parametrize("text", ["short", "", "two\nlines", "/a/path/that/is/longer/than/any/row/of/it", " a b "])
def test_what_fits_or_has_no_blanks_stays_as_it_is(text):
    """A path or a URL is in one piece for whoever copies it."""
    assert text == fitted(text, 20)


def test_nothing_is_broken_where_no_terminal_is():
    """Whoever searches a log or cuts it into columns finds each line whole."""
    assert NOTE == fitted(NOTE, None)


@pytest.mark.parametrize("columns", range(20, 140, 7))
def test_no_row_is_longer_than_a_terminal(columns):
    """Also where letters take two columns each."""
    for text in (NOTE, "注意 " * 60):
        assert columns >= max(map(cell_len, fitted(text, columns).splitlines()))


def test_the_width_is_that_of_the_stream(tmp_path):
    """A terminal has one, a file has none, nor has a stream that is closed."""
    with terminal(columns=57) as given, open(given.follower, "w", closefd=False) as stream:
        assert 57 == columns_of(stream)
    with (tmp_path / "log").open("w") as log:
        assert None is columns_of(log)
    assert (None, None) == (columns_of(log), columns_of(None))


def test_a_prompt_is_shortened_by_columns():
    """A picture of a letter that takes two columns counts as two."""
    assert ("猫", "猫猫…", "a cat") == (shortened("猫", 5), shortened("猫猫猫", 5), shortened("a cat", 5))


def failed(message: str, prompt: str = "a moon number 27 above the sea, in the style of nobody") -> Failure:
    """Return the failure of item 27."""
    error = BadRequestError(message, attempts=3, charges=Charges(at_least=0, at_most=1))
    return Failure(request=read_request({"prompt": prompt, "model": "m"}), error=error, index=27)


@pytest.mark.parametrize("columns", [50, 60, 80, 100, 200])
def test_a_failure_takes_two_rows_at_most(columns):
    """Its number is the one in file names; prompt and fact are shortened, and what it cost is whole."""
    rows = Failures().line_about(failed(LONG), columns).splitlines()
    told = " ".join(row.strip() for row in rows)

    assert 2 >= len(rows)
    assert columns >= max(map(len, rows))
    assert told.startswith("failed: item 27, 'a moon ")
    assert told.endswith(f"…; {failed(LONG).error.paid}")


def test_a_failure_in_a_log_is_whole():
    """There the fact has all its words."""
    assert f": {LONG}; {failed(LONG).error.paid}" in Failures().line_about(failed(LONG), None)


@pytest.mark.parametrize("columns", [1, 10, 25, None])
def test_a_failure_is_told_at_any_width(columns):
    """A fact without blanks, a hostile prompt and a sliver of a terminal break nothing."""
    line = Failures().line_about(failed("x" * 500 + "\n\x1b[2J", prompt="\x1b]0;owned\x07 猫" * 9), columns)
    assert line.replace("\n", "").isprintable()
    assert with_short_fact("a: ", "b" * 99, "; c", 30) == "a: …; c"
