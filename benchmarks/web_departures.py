"""What is left of 200 clients that leave an application in the middle: tasks, connections, descriptors, charges."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from attrs import frozen
from peer_clients import MODEL
from web_app import Application, Setup, running
from web_clients import ask_for_picture, crowd
from web_events import Books
from web_leavers import Leaver, When, visit_all
from web_service import serving_slowly

SEED = 8
LEAVING = 200
CONCURRENCY = 100
LONGEST_SECONDS = 2.0
SETTLING_SECONDS, POLL_SECONDS = 60.0, 0.05
POLICIES = ("cancel", "finish")
MOMENTS = (When.ASKING, When.ASKED, *4 * (When.WAITING,), *2 * (When.ANSWERED,))

Held = Mapping[str, int]
"""What an application holds: tasks, descriptors, connections to the API, idle ones, slots taken and waited for."""


@frozen
class Account:
    """Two sets of books: what an application's client told of its calls, and the pictures that the service charged for
    each; and how many pictures are `stored` of clients that left.
    """

    books: Books
    charged: Mapping[str, int]
    stored: int

    @property
    def billed(self) -> int:
        """How many pictures were charged."""
        return sum(self.charged.values())

    def problems(self, policy: str) -> list[str]:
        """Return, a line each, what does not agree, and what was made and went nowhere."""
        made, kept = self.books.count("Generated"), self.books.handed + self.stored
        astray = [f"{made} pictures were made, {kept} handed over or stored"] if made != kept else []
        dropped = [f"{self.billed} were charged, {made} made"] if policy == "finish" and made != self.billed else []
        return [*self.books.wrong(self.charged), *astray, *dropped]


@frozen
class Storm:
    """What clients that left have left behind, and how those were served who asked next."""

    served: int
    account: Account
    before: Held
    after: Held
    seconds: float
    next_statuses: Sequence[int]
    next_charged: int

    @property
    def left(self) -> dict[str, int]:
        """What is left, by name; descriptors beside those of connections to the API."""
        before, after = self.before, self.after
        others = [held["descriptors"] - held["connections"] for held in (before, after)]
        return {
            "tasks": after["tasks"] - before["tasks"],
            "busy connections": after["connections"] - after["idle"],
            "descriptors": others[1] - others[0],
            "slots": after["in_flight"] + after["waiting"],
        }

    def problems(self, policy: str) -> list[str]:
        """Return, a line each, what is left, lost or unaccounted for."""
        asked = len(self.next_statuses)
        return [
            *(f"{count} {name} left" for name, count in self.left.items() if count),
            *self.account.problems(policy),
            *(f"one who asked next was answered {status}" for status in self.next_statuses if status != 200),
            *([f"{asked} who asked next were charged {self.next_charged}"] if self.next_charged != asked else []),
        ]


def main(seed: int, loop: str) -> bool:
    """Let clients leave, print a table, and return whether nothing is left or unaccounted for."""
    print(f"\n{LEAVING} clients ask together, {CONCURRENCY} calls at a time, and leave: one in eight with half of its "
          f"question sent, one with all, four within {LONGEST_SECONDS:g} s, two in the middle of the answer; then "
          f"{LEAVING} ask that stay. Seed {seed}.\n")  # fmt: skip
    print("| policy | served | calls sent | charged | handed over | stored | abandoned: unsent, sent, in the body | "
          "left: tasks, busy connections, descriptors, slots | after | the next served | problems |")  # fmt: skip
    print("|---" * 11 + "|", flush=True)
    rows = [_print_row(policy, rage(policy, seed, loop)) for policy in POLICIES]
    return all(rows)


def rage(
    policy: str,
    seed: int,
    loop: str = "asyncio",
    *,
    leaving: int = LEAVING,
    longest_seconds: float = LONGEST_SECONDS,
    concurrency: int = CONCURRENCY,
) -> Storm:
    """Let clients leave an application, and look at what they leave behind, and at how as many are served then."""
    leavers = [Leaver.draw(number, seed, MOMENTS, longest_seconds) for number in range(leaving)]
    with tempfile.TemporaryDirectory() as folder, serving_slowly(seed) as service:
        setup = Setup(
            base_url=service.url, concurrency=concurrency, loop=loop, folder=folder if policy == "finish" else None
        )
        with running(setup) as application:
            ask_as_usual(application, 3)
            before = settle(application, None)
            statuses = asyncio.run(visit_all(application.port, leavers))
            left_at = time.monotonic()
            after = settle(application, before)
            seconds = time.monotonic() - left_at
            account = Account(Books.read(application.ask("/books")), service.charged(), count_files(folder))
            next_statuses = ask_as_usual(application, leaving)
            next_charged = sum(service.charged().values()) - account.billed
    return Storm(statuses.count(200), account, before, after, seconds, next_statuses, next_charged)


def ask_as_usual(application: Application, count: int) -> Sequence[int]:
    """Let so many clients ask together and stay; return the statuses of their answers."""
    return crowd(application.port, ask_for_picture("a usual cat", MODEL), count, 0.0, in_waves=True).statuses


def settle(application: Application, before: Held | None) -> Held:
    """Return what an application holds once nothing is under way, or once that has taken too long."""
    held: Held = application.ask("/held")
    end = time.monotonic() + SETTLING_SECONDS
    while is_busy(held, before) and time.monotonic() < end:
        time.sleep(POLL_SECONDS)
        held = application.ask("/held")
    return held


def is_busy(held: Held, before: Held | None) -> bool:
    """Whether something is under way; more than there was before, if that is known."""
    is_more = before is not None and held["tasks"] > before["tasks"]
    return is_more or bool(held["in_flight"] or held["waiting"]) or held["connections"] > held["idle"]


def count_files(folder: str) -> int:
    """Return how many pictures a folder holds."""
    return sum(file.suffix == ".png" for file in Path(folder).rglob("*"))


def _print_row(policy: str, storm: Storm) -> bool:
    books, problems = storm.account.books, storm.problems(policy)
    cells = (
        policy,
        storm.served,
        len(books.sent),
        storm.account.billed,
        books.handed,
        storm.account.stored,
        books.abandoned,
        ", ".join(map(str, storm.left.values())),
        f"{storm.seconds:.1f} s",
        storm.next_statuses.count(200),
        len(problems),
    )
    print(f"| {' | '.join(map(str, cells))} |", flush=True)
    print("".join(f"  {problem}\n" for problem in problems[:20]), end="")
    return not problems
