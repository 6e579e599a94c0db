"""What becomes of the pictures of 100 clients, half of which have left, when their application is told to end."""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from attrs import frozen
from web_app import Application, Setup, running
from web_departures import CONCURRENCY, Account, ask_as_usual, count_files
from web_events import Books
from web_leavers import Leaver, When, visit_all
from web_service import serving_slowly

CLIENTS = 100
ENDS_AFTER_SECONDS, LEFT_WITHIN_SECONDS = 0.6, 0.5
GRACES = (20.0, 0.2)
"""Time for all that is under way, and for next to none of it."""

SLACK_SECONDS = 5.0
"""How long after the end of its grace an application may still end: what was cancelled closes its connections."""

MOMENTS = (When.WAITING, When.NEVER)


@frozen
class Ending:
    """How an application ended: after so many seconds, who was served of those that stayed, and the account."""

    grace_seconds: float
    seconds: float
    served: int
    refused: int
    broken: int
    account: Account

    @property
    def problems(self) -> list[str]:
        """Return, a line each, what is late, lost or unaccounted for."""
        is_late = self.seconds > self.grace_seconds + SLACK_SECONDS
        is_short = self.grace_seconds < LEFT_WITHIN_SECONDS
        return [
            *([f"it ended {self.seconds:.1f} s after its SIGTERM"] if is_late else []),
            *([f"{self.broken} were hung up on"] if self.broken and not is_short else []),
            *self.account.problems("cancel" if is_short else "finish"),
        ]


def main(seed: int, loop: str) -> bool:
    """End applications, print a table, and return whether nothing is lost or unaccounted for."""
    print(f"\nSIGTERM {ENDS_AFTER_SECONDS:g} s after {CLIENTS} clients asked, {CONCURRENCY} calls at a time; half of "
          f"them leave within {LEFT_WITHIN_SECONDS:g} s; policy finish.\n")  # fmt: skip
    print("| grace | ended after | served | refused | hung up on | calls sent | charged | handed over | stored | "
          "abandoned: unsent, sent, in the body | problems |")  # fmt: skip
    print("|---" * 11 + "|", flush=True)
    endings = [_print_row(end(grace_seconds, seed, loop)) for grace_seconds in GRACES]
    return all(endings)


def end(grace_seconds: float, seed: int, loop: str = "asyncio", *, clients: int = CLIENTS) -> Ending:
    """End an application in the middle of its work, with so long a grace."""
    leavers = [Leaver.draw(number, seed, MOMENTS, LEFT_WITHIN_SECONDS) for number in range(clients)]
    with tempfile.TemporaryDirectory() as folder, serving_slowly(seed) as service:
        events = Path(folder, "events.json")
        setup = Setup(
            base_url=service.url,
            concurrency=CONCURRENCY,
            loop=loop,
            folder=f"{folder}/pictures",
            grace_seconds=grace_seconds,
            events=str(events),
        )
        with running(setup) as application:
            ask_as_usual(application, 3)
            seconds, statuses = visit_and_end(application, leavers, grace_seconds)
        account = Account(Books.read(json.loads(events.read_text())), service.charged(), count_files(folder))
    stayed = [status for leaver, status in zip(leavers, statuses, strict=True) if leaver.when is When.NEVER]
    refused = len(stayed) - stayed.count(200) - stayed.count(0)
    return Ending(grace_seconds, seconds, stayed.count(200), refused, stayed.count(0), account)


def visit_and_end(
    application: Application, leavers: list[Leaver], grace_seconds: float
) -> tuple[float, list[int | None]]:
    """Let clients ask, send the SIGTERM; return after how long the application had ended, and what each client got."""
    with ThreadPoolExecutor(1) as thread:
        visits = thread.submit(asyncio.run, visit_all(application.port, leavers))
        time.sleep(ENDS_AFTER_SECONDS)
        return application.stop(grace_seconds + 2 * SLACK_SECONDS), visits.result()


def _print_row(ending: Ending) -> bool:
    account, books = ending.account, ending.account.books
    cells = (
        f"{ending.grace_seconds:g} s",
        f"{ending.seconds:.1f} s",
        ending.served,
        ending.refused,
        ending.broken,
        len(books.sent),
        account.billed,
        books.handed,
        account.stored,
        books.abandoned,
        len(ending.problems),
    )
    print(f"| {' | '.join(map(str, cells))} |", flush=True)
    print("".join(f"  {problem}\n" for problem in ending.problems[:20]), end="")
    return not ending.problems
