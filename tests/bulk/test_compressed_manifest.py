"""Manifests may be compressed with gzip."""

from __future__ import annotations

import gzip
import json
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st
from manifests import item, read, source_of, write

from nebula_async.bulk.manifest.items import Item
from nebula_async.errors import JobError

PROMPTS = "".join(f'"prompt {number}"\n' for number in range(50_000)).encode()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("p.txt.gz", "\ufeffa\r\nb"),
        ("P.TXT.GZ", "a\nb\n"),
        ("p.csv.gz", "prompt\na\nb\n"),
        ("p.tsv.gz", "prompt\na\nb\n"),
        ("p.jsonl.gz", '"a"\n"b"\n'),
    ],
)
def test_every_text_may_be_compressed(tmp_path, name, content):
    """The kind of a compressed file is what its name says before .gz."""
    entries = read(write(tmp_path, name, gzip.compress(content.encode())))

    assert ["a", "b"] == [entry.request.prompt for entry in entries]


def test_compressed_bytes_are_seen_without_the_name(tmp_path):
    """A compressed file is read whatever its name, also one that was compressed in two parts."""
    path = write(tmp_path, "p.jsonl", gzip.compress(b'"a"\n') + gzip.compress(b'"b"\n'))

    assert [item(0, 1, "a"), item(1, 2, "b")] == read(path)


@pytest.mark.parametrize("kept", [1, 5, 1000, -20, -8, -1])
def test_a_file_that_was_cut_off_is_said(tmp_path, kept):
    """Half a download is one error with the line where it ends, and no prompt is lost without a word."""
    path = write(tmp_path, "p.jsonl.gz", gzip.compress(PROMPTS)[:kept])

    with pytest.raises(JobError, match=r"p\.jsonl\.gz:\d+: the gzip data is damaged or ends too early .*; make"):
        read(path)


@pytest.mark.parametrize(("name", "prefix"), [("p.txt.gz", ""), ("p.csv.gz", "prompt\n")])
def test_damage_names_the_line_where_it_is_met(tmp_path, name, prefix):
    """What was read before the damage says where it lies."""
    data = bytearray(gzip.compress(prefix.encode() + PROMPTS))
    middle = len(data) // 2
    data[middle : middle + 20] = bytes(20)

    with pytest.raises(JobError, match=rf"{name}:\d{{4,}}: the gzip data is damaged"):
        read(write(tmp_path, name, bytes(data)))


def test_a_file_that_is_not_compressed_is_said(tmp_path):
    """A name that ends in .gz is taken at its word."""
    with pytest.raises(JobError, match=r"p\.txt\.gz:1: the gzip data is damaged .*Not a gzipped file"):
        read(write(tmp_path, "p.txt.gz", "a\n"))


def test_wrong_bytes_in_a_compressed_file_are_named(tmp_path):
    """A compressed file is read as strictly as another one."""
    (bad,) = read(write(tmp_path, "p.txt.gz", gzip.compress("a\n".encode("utf-16"))))

    assert "p.txt.gz:1: the file is UTF-16; save it as UTF-8" == str(bad)


def test_a_bomb_does_not_fill_the_memory(tmp_path):
    """A gigabyte without line breaks in a megabyte of bytes is refused."""
    path = tmp_path / "p.jsonl.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        for _ in range(64):
            file.write(bytes(2**20))

    tracemalloc.start()
    try:
        with pytest.raises(JobError, match=r"p\.jsonl\.gz:1: the line is longer than 33554432 characters"):
            read(path)
        assert tracemalloc.get_traced_memory()[1] < 6 * 2**25
    finally:
        tracemalloc.stop()


def test_a_compressed_file_is_read_lazily(tmp_path):
    """The items of a compressed file are never there all at once."""
    prompts = "".join(f"{number} {'x' * 500}\n" for number in range(5_000))
    source = source_of(write(tmp_path, "p.txt.gz", gzip.compress(prompts.encode())))
    tracemalloc.start()
    try:
        assert 5_000 == sum(isinstance(entry, Item) for entry in source.entries())
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


@given(st.lists(st.text(min_size=1, max_size=30), min_size=1, max_size=9), st.integers(0, 2**32))
def test_any_damage_is_an_error_or_harmless(tmp_path_factory, prompts, seed):
    """A file with one wrong byte is refused in one sentence, or read as bad lines and items; nothing else happens."""
    text = "".join(f"{json.dumps(prompt)}\n" for prompt in prompts)
    data = bytearray(gzip.compress(text.encode(), mtime=0))
    data[seed % len(data)] ^= 1 + seed % 255
    path = write(tmp_path_factory.getbasetemp(), "damaged.jsonl.gz", bytes(data))
    try:
        entries = read(path)
    except JobError as error:
        assert str(error).startswith("damaged.jsonl.gz:1: ") or "damaged.jsonl.gz:" in str(error)  # noqa: PT017
    else:
        assert len(prompts) == len(entries)
