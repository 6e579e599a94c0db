"""nebula_async beside other clients: the same pictures from the same local server, each client in a process of its own.

A cell is a client at a workload. It runs in a fresh process on the second core, the server on the first; in each round
all cells come in another order. A cell makes two calls to warm up; then its high-water mark of memory is set back, and
calls are begun for some seconds beside a ticker. Every client ends with decoded bytes of the right length. What the
server can do is measured at each workload, with the receiver of `picture_receiver.py`. Prints tables of medians with
the lowest and the highest, and exits 1 when a target is missed. Needs the packages of `peers-requirements.txt`; nothing
but this machine is called.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import TypeAlias

import cattrs
import picture_receiver
from peer_cell import Outcome
from peer_workloads import (
    FULL,
    REQUIRED,
    TARGETS,
    Outcomes,
    Read,
    Workload,
    cpu_ms,
    late_max,
    late_p99,
    peak_mb,
    peak_ratio,
    rate,
)
from picture_server import PictureServer, allow_many_files, pin, serving_pictures

ROUNDS, SECONDS = 5, 3.0
SERVER_SECONDS = 2.0
LIMIT_SECONDS = 120.0
"""A client that takes longer is ended and counts as failed."""

CELL = Path(__file__).with_name("peer_cell.py")
OURS = ("nebula_async", "httpx", "httpcore", "anyio", "pybase64")
PEERS = ("openai", "httpx2", "together", "huggingface_hub", "litellm", "aiohttp", "httpx-aiohttp")
QUIET = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_TELEMETRY": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
}
"""Settings with which the peers call nothing but the server."""

Servers: TypeAlias = Mapping[bool, PictureServer]
"""One that speaks TLS (`True`), one that does not."""

COLUMNS: Mapping[str, tuple[str, Read]] = {
    "pictures a second": (".0f", rate),
    "CPU ms a picture": (".2f", cpu_ms),
    "peak MB above start": (".0f", peak_mb),
    "peak ÷ pictures in flight": (".2f", peak_ratio),
    "ticker p50 ms": (".1f", lambda _, outcome: outcome.run.late.p50),
    "ticker p99 ms": (".1f", late_p99),
    "ticker max ms": (".0f", late_max),
    "cold start s": (".2f", lambda _, outcome: outcome.cold_seconds),
}
"""How each figure is called, written and read."""


def main() -> int:
    """Measure, print, and say whether all targets were reached."""
    given = read_options()
    grid = {
        workload: [client for client in clients if not given.client or client in given.client]
        for workload, clients in (FULL if given.full else REQUIRED).items()
        if given.workload in str(workload)
    }
    pin(1)
    allow_many_files()
    print(f"Python {platform.python_version()}, " + ", ".join(f"{name} {version(name)}" for name in (*OURS, *PEERS)))
    print(f"{given.rounds} round(s), calls begun for {given.seconds:g} s; median (lowest to highest)")
    print(f"Load of the machine in the last minute: {os.getloadavg()[0]:.1f}; at rest it is below 0.5", flush=True)
    with ExitStack() as stack:
        servers = {tls: stack.enter_context(serving_pictures(tls=tls)) for tls in (False, True)}
        outcomes = measure(servers, grid, given.rounds, given.seconds, given.seed)
        for workload, clients in grid.items():
            print_workload(servers, workload, {client: outcomes[workload, client] for client in clients})
    return print_targets(outcomes)


def read_options() -> argparse.Namespace:
    """Return what the command line says."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--full", action="store_true", help="the whole grid: three hours")
    options.add_argument("--rounds", type=int, default=ROUNDS, help="how often each cell is run")
    options.add_argument("--seconds", type=float, default=SECONDS, help="how long a cell begins calls")
    options.add_argument("--seed", type=int, default=1, help="of the order of the cells")
    options.add_argument("--client", action="append", help="only this client; may be repeated")
    options.add_argument("--workload", default="", help='only workloads that have this in their name, as "TLS"')
    return options.parse_args()


def measure(
    servers: Servers, grid: Mapping[Workload, Iterable[str]], rounds: int, seconds: float, seed: int
) -> Outcomes:
    """Run every cell once in each round, and return all outcomes."""
    cells = [(workload, client) for workload, clients in grid.items() for client in clients]
    outcomes: dict[tuple[Workload, str], list[Outcome | None]] = {cell: [] for cell in cells}
    order = random.Random(seed)  # noqa: S311 - an order, no secret
    for _ in range(rounds):
        order.shuffle(cells)
        for workload, client in cells:
            outcomes[workload, client].append(run_cell(servers[workload.is_tls], workload, client, seconds))
    return outcomes


def run_cell(
    server: PictureServer, workload: Workload, client: str, seconds: float, loop: str = "asyncio"
) -> Outcome | None:
    """Run a client in a process of its own and return its outcome, or `None` where it failed, after saying why."""
    options = {
        "--size": workload.size,
        "--in-flight": workload.in_flight,
        "--calls": workload.waves * workload.in_flight,
        "--seconds": seconds,
        "--loop": loop,
        "--started": time.monotonic(),
    }
    words = [str(word) for option in options.items() for word in option]
    command = [sys.executable, str(CELL), client, server.url(workload.size, workload.latency_ms), *words]
    try:
        done = subprocess.run(
            command, env=environment(server), capture_output=True, text=True, timeout=LIMIT_SECONDS, check=True
        )
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        lines = [line for line in str(error.stderr or "").splitlines() if "Error" in line]
        print(f"{client}, {workload}: {lines[-1] if lines else error}", file=sys.stderr, flush=True)
        return None
    return cattrs.structure(json.loads(done.stdout.splitlines()[-1]), Outcome)


def environment(server: PictureServer) -> dict[str, str]:
    """Return the variables that a client sees: none of this shell's proxies and settings, and whom to trust."""
    trust = {"SSL_CERT_FILE": server.ca_file} if server.ca_file else {}
    return {"PATH": os.environ.get("PATH", ""), **QUIET, **trust}


def print_workload(servers: Servers, workload: Workload, clients: Mapping[str, Sequence[Outcome | None]]) -> None:
    """Print a table of clients and figures, below what the server does when nothing is made of its replies."""
    server_rate, _ = picture_receiver.measure(
        servers[workload.is_tls], workload.size, workload.in_flight, SERVER_SECONDS, workload.latency_ms
    )
    print(f"\n### {workload}\n\nThe server by itself: {server_rate:.0f} a second\n")
    print(f"| client | {' | '.join(COLUMNS)} |\n|{'---|' * (len(COLUMNS) + 1)}")
    for client, outcomes in clients.items():
        good = [outcome for outcome in outcomes if outcome is not None]
        figures = (spread([read(workload, outcome) for outcome in good], form) for form, read in COLUMNS.values())
        print(f"| {client} | {' | '.join(figures)} |")


def spread(figures: Sequence[float], form: str) -> str:
    """Return the median, and in brackets the lowest and the highest."""
    if not figures:
        return "failed"
    if len(figures) == 1:
        return f"{figures[0]:{form}}"
    return f"{statistics.median(figures):{form}} ({min(figures):{form}} to {max(figures):{form}})"


def print_targets(outcomes: Outcomes) -> int:
    """Print what was to be reached, and return how the process ends; only what was left out does not count."""
    due = [target for target in TARGETS if outcomes.keys() >= {*target.cells}]
    if not due:
        print("\nNo target is for what was measured.")
        return 0
    print("\n### Must reach\n\n| workload | figure | target | measured |\n|---|---|---|---|")
    missed = []
    for target in due:
        figures = target.figures(outcomes)
        sign = "at most" if target.is_at_most else "at least"
        print(f"| {target.workload} | {target.what} | {sign} {target.limit:g} | {spread(figures, '.2f')} |")
        if not target.is_reached(figures):
            missed.append(f"{target.what} ({target.workload})")
    print("\n" + "\n".join(f"missed: {each}" for each in missed) if missed else "\nall targets reached")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
