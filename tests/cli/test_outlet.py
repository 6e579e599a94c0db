"""What is written for people and programs holds nothing up, whoever reads it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

import pytest
from terminals import Screen, let_go, terminal

from nebula_async.cli.outlet import MOST_WAITING, Outlet


@contextmanager
def pipe() -> Iterator[tuple[int, TextIO]]:
    """Give a pipe: where it is read, and the stream that writes to it."""
    read, write = os.pipe()
    with os.fdopen(write, "w", encoding="utf-8") as stream:
        yield read, stream
    os.close(read)


def test_lines_come_in_their_order_and_at_once():
    """Each line is there soon after it was written, without a flush."""
    with pipe() as (read, stream):
        outlet = Outlet(stream)
        for number in range(3):
            outlet.line(f"line {number} ✓")
            assert f"line {number} ✓\n" == os.read(read, 100).decode()
        outlet.close()


def test_nobody_waits_for_a_reader_that_does_not_read():
    """A hundred thousand lines into a pipe that nobody reads take no time, and no more memory than is said."""
    with pipe() as (_, stream):
        outlet, began = Outlet(stream), time.monotonic()
        for _ in range(100_000):
            outlet.line("x" * 200)
        outlet.close(seconds=0.1)
        assert 5 > time.monotonic() - began
        assert 100_000 - 1.1 * MOST_WAITING / 200 < outlet.left_out < 100_000


def test_what_is_needed_is_never_left_out():
    """However many lines wait, what comes at the end is read at the end."""
    with pipe() as (read, stream):
        outlet = Outlet(stream)
        while not outlet.left_out:
            outlet.line("x" * 10_000)
        outlet.line("the end", is_needed=True)
        written = b""
        while not written.endswith(b"the end\n"):
            written += os.read(read, 1 << 20)
        outlet.close()


def test_a_reader_that_has_gone_is_no_error():
    """After `| head -1` nothing is written any more, and nothing is raised."""
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as stream:
        outlet = Outlet(stream)
        outlet.line("a")
        outlet.close()
        assert outlet.is_gone
        outlet.line("b")
        outlet.show(lambda _columns: "c")
        outlet.close()


def test_a_stream_that_does_not_block_loses_nothing():
    """Where another program has set the stream to be non-blocking, all lines are written all the same."""
    with pipe() as (read, stream):
        os.set_blocking(stream.fileno(), False)
        outlet = Outlet(stream)
        for number in range(20_000):
            outlet.line(f"line {number}")
        written = b""
        while not written.endswith(b"line 19999\n"):
            written += os.read(read, 1 << 16)
        assert [f"line {number}" for number in range(20_000)] == written.decode().splitlines()
        outlet.close()


@pytest.mark.parametrize("stream", [None, "closed"])
def test_without_a_stream_nothing_is_written(stream, tmp_path):
    """A stream that is closed, or was never there, takes everything."""
    given = None
    if stream is not None:
        given = (tmp_path / "file").open("w")
        given.close()
    outlet = Outlet(given)
    outlet.line("a")
    outlet.close()
    assert outlet.is_gone


def test_a_letter_that_the_encoding_lacks_is_escaped():
    """A terminal of another alphabet shows what it can."""
    read, write = os.pipe()
    with os.fdopen(write, "w", encoding="ascii") as stream:
        outlet = Outlet(stream)
        outlet.line("a ✓ é")
        outlet.close()
    assert b"a \\u2713 \\xe9\n" == os.read(read, 100)
    os.close(read)


def test_the_line_that_changes_stays_below_the_others_and_goes():
    """Lines scroll by above it, and at the end only they are left."""
    with terminal(40) as given, os.fdopen(os.dup(given.follower), "w") as stream:
        outlet = Outlet(stream)
        outlet.show(lambda columns: f"one of {columns}")
        given.read_until("one of 40")
        outlet.line("something happened")
        given.read_until("happened\r\none of 40")
        outlet.show(lambda _columns: "two")
        given.read_until("two")
        assert ["something happened", "two"] == Screen(40).feed(given.written).rows
        outlet.close()
        let_go(given)
        stream.close()
        assert ["something happened", ""] == Screen(40).feed(given.read_to_end()).rows


def test_a_line_that_a_narrower_terminal_broke_is_removed_whole():
    """After a resize no half of the old line stays."""
    with terminal(60) as given, os.fdopen(os.dup(given.follower), "w") as stream:
        outlet = Outlet(stream)
        outlet.show(lambda columns: ("a" * columns)[:-3])
        given.read_until("a{57}")
        given.resize(20)
        outlet.show(lambda columns: ("b" * columns)[:-3])
        assert given.read_until("b{17}").startswith("\x1b[2A\r\x1b[J")
        outlet.close()


def test_a_slow_terminal_is_not_flooded():
    """What is drawn while a terminal is stopped is drawn once, when it goes on; the last state is what is seen."""
    with terminal(80) as given, os.fdopen(os.dup(given.follower), "w") as stream:
        outlet, began = Outlet(stream), time.monotonic()
        for number in range(2_000):
            outlet.show(lambda columns, number=number: f"{number} {'x' * (columns - 10)}")
            outlet.line(str(number))
        assert 2 > time.monotonic() - began
        given.read_until("\n1999\r\n")
        outlet.close(seconds=5)
        let_go(given)
        stream.close()
        assert 100 > given.read_to_end().count("xxx\x1b[K")
