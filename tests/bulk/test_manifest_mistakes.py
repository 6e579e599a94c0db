"""Every mistake in a manifest is named with its file and line, and what is no manifest is refused in one sentence."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest
from manifests import MODEL, item, read, source_of, write

from nebula_async.bulk.manifest.entries import MAX_LINE
from nebula_async.errors import InvalidRequestError, JobError

KNOWN = (
    "dialect, guidance_scale, height, id, image, mask, model, n, negative_prompt, num_steps, prompt, quality, "
    "response_format, seed, size, style, width"
)


@pytest.mark.parametrize(
    ("name", "content", "line", "problem"),
    [
        ("p.txt", b"caf\xe9\n", 1, "byte 0xe9 is not UTF-8; save the file as UTF-8"),
        ("p.txt", b"\xed\xa0\x80\n", 1, "byte 0xed is not UTF-8; save the file as UTF-8"),
        ("p.txt", "cat\n".encode("utf-16"), 1, "the file is UTF-16; save it as UTF-8"),
        ("p.jsonl", b'{"prompt": "caf\xe9"}', 1, "byte 0xe9 is not UTF-8; save the file as UTF-8"),
        ("p.csv", b"prompt\ncaf\xe9\n", 2, "byte 0xe9 is not UTF-8; save the file as UTF-8"),
        ("p.txt", b"\n\nc\0a\0t\n", 3, "there is a NUL byte; save the file as UTF-8 text"),
        (
            "p.jsonl",
            "{'prompt': 1}",
            1,
            "Expecting property name enclosed in double quotes at column 2; write one whole",
        ),
        (
            "p.jsonl",
            '\n[{"prompt": "x"}]',
            2,
            "a line must be an object of fields, or a text that is the prompt; got list",
        ),
        ("p.jsonl", "null", 1, "a line must be an object of fields, or a text that is the prompt; got NoneType"),
        ("p.jsonl", "[" * 200_000, 1, "the values are nested too deeply"),
        ("p.jsonl", '{"prompt": ' + '{"a":' * 100_000, 1, "the values are nested too deeply"),
        ("p.jsonl", '{"prompt": "x", "seed": ' + "1" * 5_000 + "}", 1, "a number has 5000 digits; no field takes more"),
        ("p.jsonl", '{"prompt": "x", "guidance_scale": NaN}', 1, "NaN is no JSON; give a number"),
        ("p.jsonl", '{"prompt": "x", "extra": {"a": -Infinity}}', 1, "-Infinity is no JSON; give a number"),
        (
            "p.jsonl",
            '{"prompt": "x", "guidance_scale": 1e999}',
            1,
            "guidance_scale must be a number from 0 to 1000; got",
        ),
        ("p.jsonl", '{"prompt": "x", "prompt": "y"}', 1, "the key 'prompt' is there more than once; keep one"),
        ("p.jsonl", '{"prompt": "x", "extra": {"a": 1, "a": 1}}', 1, "the key 'a' is there more than once; keep one"),
        ("p.jsonl", '{"prompt": "x", "sise": 5}', 1, "unknown field sise; known are "),
        (
            "p.jsonl",
            '{"prompt": "x", "size": "64x64"}',
            1,
            "the serverless API has no size: give dialect inference (InferenceRequest), or leave that out",
        ),
        (
            "p.jsonl",
            '{"prompt": "x", "dialect": "inference", "width": 64}',
            1,
            "the inference API has no width: give dialect serverless",
        ),
        ("p.jsonl", '{"prompt": "x", "dialect": "C"}', 1, "dialect must be one of inference, serverless; got 'C'"),
        (
            "p.jsonl",
            '{"prompt": "x", "dialect": "inference", "n": "2"}',
            1,
            "n must be a whole number from 1 to 10; got '2'",
        ),
        ("p.jsonl", '{"prompt": "x", "width": "512"}', 1, "width must be a whole number from 16 to 8192; got '512'"),
        ("p.jsonl", '{"prompt": "\\ud800"}', 1, "prompt must be text "),
        ("p.jsonl", '{"prompt": " "}', 1, "prompt must be text "),
        ("p.jsonl", "{}", 1, "prompt must be given"),
        ("p.csv", "prompt,sise,extra\nx,1,2\ny,1,2\n", 1, f"unknown column 'sise', 'extra'; known are {KNOWN}"),
        ("p.csv", "prompt;width\nx;1\n", 1, f"unknown column 'prompt;width'; known are {KNOWN}"),
        ("p.csv", "prompt,dialect,n\nx,inference,2.0\n", 2, "n must be a whole number; got '2.0'"),
        ("p.csv", "prompt,dialect,size\nx,,64x64\n", 2, "the serverless API has no size: give dialect inference"),
        ("p.csv", "prompt,prompt\nx,y\n", 1, "column prompt is there more than once; keep one"),
        ("p.csv", "width\n512\n", 1, f"a column prompt must be given; known are {KNOWN}"),
        ("p.csv", "prompt,width\nx,512.0\n", 2, "width must be a whole number; got '512.0'"),
        ("p.csv", "prompt,width\nx,1_000\n", 2, "width must be a whole number; got '1_000'"),
        ("p.csv", "prompt,width\nx,\uff15\uff11\n", 2, "width must be a whole number; got '\uff15\uff11'"),
        ("p.csv", "prompt,width\nx," + "1" * 5_000, 2, "width must be a whole number; got '111"),
        ("p.csv", "prompt,width\nx,15\n", 2, "width must be a whole number from 16 to 8192; got 15 (int)"),
        ("p.csv", "prompt,guidance_scale\nx,nan\n", 2, "guidance_scale must be a number; got 'nan'"),
        ("p.csv", "prompt,width\nx, y\n", 2, "width must be a whole number; got ' y'"),
        (
            "p.csv",
            "prompt,width\na cat, black,512\n",
            2,
            "3 cells under 2 columns; quote a cell that holds a separator",
        ),
        ("p.csv", "prompt,width\nx\n", 2, "1 cells under 2 columns; quote a cell that holds a separator"),
        ("p.csv", "prompt,width\n,512\n", 2, "prompt must be given"),
        (
            "p.csv",
            'prompt\n"x\ny\n',
            2,
            "the row cannot be read (unexpected end of data), nor those below: is a closing",
        ),
        ("p.csv", 'prompt\n"x"y\nz\n', 2, "the row cannot be read (',' expected after '\"'), nor those below: is a"),
        (
            "p.csv",
            'prompt\n"' + "x\n" * 2**17,
            2,
            "the row cannot be read (field larger than field limit (131072)), nor",
        ),
        (
            "p.csv",
            '"prompt\n',
            1,
            "the row cannot be read (unexpected end of data), nor those below: is a closing quote",
        ),
    ],
)
def test_a_mistake_is_named_with_its_line(tmp_path, name, content, line, problem):
    """What is wrong with an entry is said in one sentence, with the line where the entry begins (B6, B8, B15, B17, B18,
    B19).
    """
    (bad,) = read(write(tmp_path, name, content))

    assert str(bad).startswith(f"{name}:{line}: {problem}")


def test_reading_goes_on_after_a_bad_line(tmp_path):
    """One wrong line hides none of the others, and their numbers stay when it is put right."""
    path = write(tmp_path, "p.jsonl", '"a"\n{\n\n"b"\n')

    first, bad, second = read(path)

    assert [item(0, 1, "a"), item(2, 4, "b")] == [first, second]
    assert str(bad).startswith("p.jsonl:2: ")


def test_without_a_model_each_line_says_so(tmp_path):
    """A model comes from the entry or from the defaults."""
    (bad,) = read(write(tmp_path, "p.txt", "a cat"), defaults={})

    assert str(bad) == "p.txt:1: model must be given"


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("p.yaml", "x", r"p\.yaml is of no known kind; give a file whose name ends in \.txt, \.csv, \.tsv, \.jsonl"),
        ("prompts", "x", "prompts is of no known kind"),
        ("p.txt", "", r"there is no request in p\.txt; give at least one"),
        ("p.txt", "\ufeff\r\n \n", r"there is no request in p\.txt; give at least one"),
        ("p.jsonl", "\n", r"there is no request in p\.jsonl; give at least one"),
        ("p.csv", "prompt,width\n", r"there is no request in p\.csv; give at least one"),
        ("p.csv", "prompt,width\n,\n", r"there is no request in p\.csv; give at least one"),
        ("p.txt", None, r"p\.txt cannot be read \(No such file or directory\); give a file whose name ends in \.txt"),
    ],
)
def test_a_file_that_is_no_manifest_is_refused(tmp_path, name, content, reason):
    """A missing, empty or unknown file is refused in one sentence that names it and says what is allowed (B15)."""
    path = tmp_path / name if content is None else write(tmp_path, name, content)

    with pytest.raises(JobError, match=reason):
        read(path)


def test_a_folder_is_refused(tmp_path):
    """A folder is no manifest, whatever its name."""
    folder = tmp_path / "p.txt"
    folder.mkdir()

    with pytest.raises(JobError, match=r"p\.txt is no file but a folder or a device; give a file"):
        source_of(folder)


def test_an_unreadable_file_is_refused(tmp_path, monkeypatch):
    """A file that may not be opened is refused with the system's reason, before anything is read."""
    path = write(tmp_path, "p.txt", "x")

    def refuse(*_arguments: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(JobError, match=r"p\.txt cannot be read \(Permission denied\); give a file"):
        source_of(path)


@pytest.mark.parametrize("name", ["p.txt", "p.csv", "p.jsonl"])
def test_a_file_without_line_breaks_is_refused(tmp_path, name):
    """A gigabyte that is no text is refused before it fills the memory (B15)."""
    path = write(tmp_path, name, b"")
    with path.open("r+b") as file:
        file.truncate(2**30)

    tracemalloc.start()
    try:
        with pytest.raises(JobError, match="line is longer than 33554432 characters; is this a text file"):
            read(path)
        assert tracemalloc.get_traced_memory()[1] < 6 * MAX_LINE
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "defaults",
    [
        {"width": 1},
        {"size": "64 x 64"},
        {"colour": "red"},
        {"model": ""},
        {"dialect": "C"},
        {"dialect": "inference", "width": 1},
        {"dialect": "inference", "mask": 3},
        {"dialect": "inference", "size": 512},
    ],
)
def test_wrong_defaults_are_said_once(tmp_path, defaults):
    """A mistake in the defaults is raised at once, not repeated for every line."""
    with pytest.raises(InvalidRequestError):
        source_of(write(tmp_path, "p.txt", "x"), defaults=MODEL | defaults)
