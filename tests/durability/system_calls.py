"""System calls of a process, as strace sees them: recorded, made to fail, or the last that it makes.

`when=n` counts per thread and per call. https://man7.org/linux/man-pages/man1/strace.1.html
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path

import pytest
from attrs import frozen

STRACE = ("strace", "-f", "-qq")  # not with --seccomp-bpf: strace 6.1 kills nobody then
SYNCS = ("fsync", "fdatasync")
LINKS = ("link", "linkat")
UNLINKS = ("unlink", "unlinkat")
CALLS = (
    "write", "pwrite64", *SYNCS, *LINKS, "rename", "renameat", "renameat2", *UNLINKS,
    "openat", "mkdir", "mkdirat", "ftruncate", "sendto", "sendmsg", "recvfrom",
)  # fmt: skip
TRACED = f"trace={','.join(f'?{call}' for call in CALLS)}"  # '?': a machine may not have all of them
SHOWN_BYTES = 2**18

LINE = re.compile(
    r"^(?P<thread>\d+) +(?P<call>\w+)\((?P<arguments>.*)\) += (?P<result>-?\d+|\?)(?P<rest>.*)$", re.DOTALL
)
BEGUN = re.compile(r"^(\d+) +(\w+)\((.*) <unfinished \.\.\.>$", re.DOTALL)
RESUMED = re.compile(r"^(\d+) +<\.\.\. (\w+) resumed>(.*)$", re.DOTALL)
PLACE = re.compile(r"(?:\d+|AT_FDCWD)<([^>]*)>")
QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')


@cache
def missing() -> str | None:
    """Return why no system call can be traced here, if none can."""
    if shutil.which("strace") is None:
        return "strace is not on this machine"
    tried = subprocess.run([*STRACE, "-o", "/dev/null", "true"], capture_output=True, text=True)
    return None if tried.returncode == 0 else f"strace cannot trace here: {tried.stderr.strip()[:200]}"


needs_strace = pytest.mark.skipif(missing() is not None, reason=str(missing()))


@frozen(order=True)
class Place:
    """The n-th call of a name: that of the first thread to come so far, or that of the `main` one."""

    call: str
    n: int
    is_main: bool = False

    def __str__(self) -> str:
        return f"{self.call} {self.n}{' of the main thread' if self.is_main else ''}"


def killing(place: Place) -> tuple[str, ...]:
    """Return the command that ends a process before it makes a call."""
    strace = tuple(option for option in STRACE if not (place.is_main and option == "-f"))
    inject = f"inject={place.call}:signal=KILL:when={place.n}"
    return (*strace, "-o", "/dev/null", "-e", f"trace={place.call}", "-e", inject)


def recording(record: Path) -> tuple[str, ...]:
    """Return the command that records the calls of a process."""
    return (*STRACE, "-y", "-s", str(SHOWN_BYTES), "-o", str(record), "-e", TRACED)


def failing(call: str, error: str, when: str, record: Path) -> tuple[str, ...]:
    """Return the command that lets such calls of a process fail, and records them all."""
    return (*recording(record), "-e", f"inject={call}:error={error}:when={when}")


@frozen(eq=False)
class Call:
    """A call that was recorded: the n-th of its name in its thread, and the line at which it had ended.

    `begun` is the line where it began. `text` is all that was recorded of it.
    """

    thread: int
    name: str
    n: int
    begun: int
    ended: int
    text: str
    result: int
    outcome: str

    @property
    def place(self) -> str:
        """The file of its first descriptor."""
        found = PLACE.search(self.text)
        return found[1] if found else ""

    @property
    def paths(self) -> tuple[str, ...]:
        """The paths that it names, those relative to a folder's descriptor made whole."""
        return tuple(_paths(self.text))


def read_calls(record: Path) -> tuple[Call, ...]:
    """Return the calls of a record in the order in which they ended."""
    return tuple(_calls(record.read_text(errors="replace").splitlines()))


def _calls(lines: Iterable[str]) -> Iterator[Call]:
    begun: dict[tuple[str, str], tuple[int, str]] = {}
    counts: defaultdict[int, Counter[str]] = defaultdict(Counter)
    for number, line in enumerate(lines):
        start = number
        if unfinished := BEGUN.match(line):
            thread, name, text = unfinished.groups()
            begun[thread, name] = (number, f"{thread} {name}({text}")
            continue
        if resumed := RESUMED.match(line):
            start, text = begun.pop((resumed[1], resumed[2]))
            line = text + resumed[3]
        if found := LINE.match(line):
            thread, name = int(found["thread"]), found["call"]
            counts[thread][name] += 1
            result = -1 if found["result"] == "?" else int(found["result"])
            yield Call(thread, name, counts[thread][name], start, number, found["arguments"], result, found["rest"])


def _paths(text: str) -> Iterator[str]:
    folder = ""
    for part in re.finditer(rf"{PLACE.pattern}|{QUOTED.pattern}", text):
        if part[2] is None:
            folder = part[1]
        else:
            yield str(Path(folder) / part[2]) if folder else part[2]


def places_to_die(calls: Sequence[Call], folder: Path, among: Sequence[Call] | None = None) -> list[Place]:
    """Return the calls of a run that are about its folder or its sockets, as far as a process can be killed there.

    It cannot where another thread makes as many such calls before, but for calls of the main thread.
    """
    main, first = calls[0].thread, {}
    for call in calls:
        first.setdefault((call.name, call.n), call)
    found = {
        Place(call.name, call.n, is_main=first[call.name, call.n] is not call)
        for call in (calls if among is None else among)
        if is_about(call, folder) and (first[call.name, call.n] is call or call.thread == main)
    }
    return sorted(found, key=lambda place: (CALLS.index(place.call), place))


def is_request(call: Call) -> bool:
    """Whether a request for a picture leaves by a call."""
    return call.name in ("sendto", "sendmsg", "write") and '"POST ' in call.text


def is_about(call: Call, folder: Path) -> bool:
    """Whether a call touches a folder's files or a socket."""
    return "<socket:" in call.text or "<TCP:" in call.text or str(folder) in call.text
