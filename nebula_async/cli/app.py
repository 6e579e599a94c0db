"""The commands."""

from __future__ import annotations

import sys

from cyclopts import App, CycloptsError, UnusedCliTokensError

from nebula_async.cli.bulk import bulk
from nebula_async.cli.connection import USAGE, say
from nebula_async.cli.emulator import emulator
from nebula_async.cli.export import export
from nebula_async.cli.generate import generate
from nebula_async.cli.inspect import inspect
from nebula_async.cli.models import models
from nebula_async.cli.plan import plan
from nebula_async.cli.rebuild import rebuild
from nebula_async.cli.reproduce import reproduce
from nebula_async.config import VERSION

app = App(
    name="nebula-async",
    help="Prompts in, image files out: the Nebula Block image API from a shell.",
    version=VERSION,
)
for command in (generate, bulk, plan, export, rebuild, inspect, reproduce, models, emulator):
    app.command(command)


def start() -> None:
    """Run the command that was given and exit with its code; what cannot be understood is one sentence on stderr."""
    try:
        app(print_error=False, exit_on_error=False)
    except CycloptsError as error:  # cyclopts would end otherwise where stderr cannot be written to
        say(f"nebula-async: {_what_is_wrong(error)}")
        sys.exit(USAGE)


def _what_is_wrong(error: CycloptsError) -> str:
    if isinstance(error, UnusedCliTokensError):
        return f"not understood: {' '.join(error.unused_tokens or ())}; a prompt of several words is written in quotes"
    return str(error)
