"""Columns whose names are the user's own are mapped to fields or dropped, and what cannot be is named."""

from __future__ import annotations

import pytest
from manifests import item, lines, read, source_of, write

from nebula_async.errors import InvalidRequestError, JobError

COLUMNS = {"text": "prompt", "w": "width", "note": None}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("p.csv", "text,w,note,seed\na,64,x,3\nb,,,\n"),
        ("p.tsv", "note\tseed\ttext \tw\nx\t3\ta\t64\n\t\tb\t\n"),
        ("p.jsonl", '{"text": "a", "w": 64, "note": {}, "seed": 3}\n{"text": "b"}\n'),
    ],
)
def test_columns_of_other_names_are_mapped(tmp_path, name, content):
    """A column may be called anything, or be left out."""
    first = 1 if name.endswith("jsonl") else 2
    expected = [item(0, first, "a", width=64, seed=3), item(1, first + 1, "b")]

    assert expected == read(write(tmp_path, name, content), columns=COLUMNS)


def test_names_can_be_exchanged(tmp_path):
    """A column may be mapped to a field whose own column is mapped to another one."""
    path = write(tmp_path, "p.csv", "prompt,negative_prompt\na,b\n")

    (entry,) = read(path, columns={"prompt": "negative_prompt", "negative_prompt": "prompt"})

    assert ("b", "a") == (entry.request.prompt, entry.request.negative_prompt)


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("p.csv", "text,prompt\na,b\n", "p.csv:1: 'text' and 'prompt' would both be prompt; drop one (--columns pro"),
        ("p.jsonl", lines({"text": "a", "prompt": "b"}), "p.jsonl:1: 'text' and 'prompt' would both be prompt; drop"),
        ("p.csv", "text,text\na,b\n", "p.csv:1: column text is there more than once; keep one"),
        ("p.csv", "txt,seed\na,1\n", "p.csv:1: there is no column 'text' to map; there are 'txt', 'seed'"),
        ("p.csv", "text,sise\na,1\n", "p.csv:1: unknown column 'sise'; known are "),
        ("p.jsonl", lines({"text": "a", "sise": 1}), "p.jsonl:1: unknown field sise; known are "),
    ],
)
def test_a_column_that_fits_nothing_is_named(tmp_path, name, content, problem):
    """What is wrong with a column is said with its line, and what can be done about it."""
    (bad,) = read(write(tmp_path, name, content), columns={"text": "prompt"})

    assert str(bad).startswith(problem)
    assert "unknown" not in problem or str(bad).endswith("map it (--columns sise=prompt) or drop it (--columns sise=)")


def test_a_mapped_name_that_no_line_has_is_named(tmp_path):
    """A column that is misspelt in the mapping is said once, not as a missing prompt on each line."""
    path = write(tmp_path, "p.jsonl", lines({"text": "a"}, {"text": "b"}))

    with pytest.raises(JobError, match=r"p\.jsonl: no line has 'texte', which columns maps; look at the names"):
        read(path, columns={"texte": "prompt"})


@pytest.mark.parametrize(
    ("name", "columns", "problem"),
    [
        ("p.csv", {"text": "promt"}, "columns: 'text' cannot be 'promt'; known are dialect, extra, "),
        ("p.csv", ["text"], r"columns must be a mapping of names to fields; got \['text'\] \(list\)"),
        ("p.csv", {"text": ["prompt"]}, r"columns: 'text' cannot be \['prompt'\] \(list\); known are"),
        ("p.csv", {"text": 3}, r"columns: 'text' cannot be 3 \(int\); known are"),
        ("p.jsonl", {"a": "prompt", "b": "prompt"}, "columns: 'a' and 'b' cannot both be prompt; keep one"),
        ("p.csv", {"a": "extra"}, "columns: extra fits into no cell; use JSON lines or Parquet"),
        ("p.txt", {"a": "prompt"}, "columns: text has none, it is a prompt on each line; use CSV or JSON lines"),
    ],
)
def test_a_mapping_that_cannot_be_is_refused(tmp_path, name, columns, problem):
    """A mistake in the mapping is said before the file is read."""
    with pytest.raises(InvalidRequestError, match=problem):
        source_of(write(tmp_path, name, "x\n"), columns=columns)


def test_dropped_columns_may_have_the_same_name(tmp_path):
    """What is left out is not looked at."""
    path = write(tmp_path, "p.csv", "prompt,x,x\na,,\n")

    assert [item(0, 2, "a")] == read(path, columns={"x": None})


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("p.csv", ",prompt\n0,a\n", "p.csv:1: unknown column ''; known are "),
        ("p.jsonl", lines({"": 0, "prompt": "a"}), "p.jsonl:1: unknown field ''; known are "),
    ],
)
def test_a_column_without_a_name_is_left_out_by_an_empty_one(tmp_path, name, content, problem):
    """The index that other programs write into tables is named like any other unknown column, and can be dropped."""
    path = write(tmp_path, name, content)

    (bad,), (good,) = read(path), read(path, columns={"": None})

    assert str(bad).startswith(problem)
    assert "a" == good.request.prompt


def test_names_are_shown_so_that_a_terminal_bears_them(tmp_path):
    """A column's name may hold anything; messages stay on one line and short."""
    row = {"prompt": "a", "\ud800\n\x1b[2J": 1, "x" * 200: 2}
    (bad,) = read(write(tmp_path, "p.jsonl", lines(row)))

    text = str(bad)
    assert text.isprintable()
    assert len(text) < 500
