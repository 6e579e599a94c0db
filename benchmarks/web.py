"""FastAPI under load: how long an unrelated /ping takes beside 200 requests at a time for pictures of 1.5 MB, and what
is left of 200 clients that leave in the middle.

The application, its users and the API are processes of their own, the application a real uvicorn. Prints tables and
exits 1 when a ping's highest hundredth is more than 25 ms above that of an idle application, or anything is left or
unaccounted for: a task, a connection, a descriptor, a charge.
"""

from __future__ import annotations

import argparse
import platform
import sys
from importlib.metadata import version

import web_departures
import web_ending
import web_load
from picture_server import allow_many_files

ROUNDS, SECONDS = 3, 5.0
PACKAGES = ("nebula_async", "fastapi", "starlette", "uvicorn", "httpx", "httpcore", "anyio")
PARTS = ("load", "departures", "ending")


def main() -> int:
    """Measure, print, and say whether all targets were reached."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--part", choices=PARTS, action="append", help="only this part; may be repeated")
    options.add_argument("--rounds", type=int, default=ROUNDS, help="how often each row of the load is measured")
    options.add_argument("--seconds", type=float, default=SECONDS, help="how long each of these is")
    options.add_argument("--loop", choices=("asyncio", "uvloop"), default="asyncio", help="that of the application")
    options.add_argument("--seed", type=int, default=web_departures.SEED, help="of the moments at which clients leave")
    given = options.parse_args()
    allow_many_files()
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    print(f"Python {platform.python_version()}, {given.loop}, {versions}")
    parts = {
        "load": lambda: web_load.main(given.rounds, given.seconds, given.loop),
        "departures": lambda: web_departures.main(given.seed, given.loop),
        "ending": lambda: web_ending.main(given.seed, given.loop),
    }
    are_good = [parts[name]() for name in given.part or PARTS]
    print("\nall targets reached" if all(are_good) else "\na target was missed")
    return 0 if all(are_good) else 1


if __name__ == "__main__":
    sys.exit(main())
