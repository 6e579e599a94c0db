"""The commands. Each is loaded when it is called: who asks for one picture does not wait for what jobs need."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from difflib import get_close_matches

from cyclopts import App, CycloptsError, MissingArgumentError, UnknownCommandError, UnusedCliTokensError

from nebula_async.cli.connection import INTERRUPTED, USAGE, say
from nebula_async.config import VERSION

PROGRAM = "nebula-async"

COMMANDS: Mapping[str, str] = {
    "generate": "nebula_async.cli.generate:generate",
    "bulk": "nebula_async.cli.bulk:bulk",
    "plan": "nebula_async.cli.plan:plan",
    "report": "nebula_async.cli.report:report",
    "gallery": "nebula_async.cli.gallery:gallery",
    "export": "nebula_async.cli.export:export",
    "rebuild": "nebula_async.cli.rebuild:rebuild",
    "inspect": "nebula_async.cli.inspect:inspect",
    "reproduce": "nebula_async.cli.reproduce:reproduce",
    "models": "nebula_async.cli.models:models",
    "emulator": "nebula_async.cli.emulator:emulator",
    "doctor": "nebula_async.cli.doctor.command:doctor",
    "completion": "nebula_async.cli.completion:completion",
}

BEGIN = f'{PROGRAM} generate "a flying cat" --emulator'

app = App(
    name=PROGRAM,
    help="Prompts in, image files out: the Nebula Block image API from a shell.",
    help_epilogue=f"A first picture, without a key and without money: {BEGIN}",
    version=VERSION,
)
for name, place in COMMANDS.items():
    app.command(place, name=name)


def start() -> None:
    """Run the command that was given and exit with its code; what cannot be understood is one sentence on stderr."""
    try:
        app(print_error=False, exit_on_error=False)
    except CycloptsError as error:  # cyclopts would end otherwise where stderr cannot be written to
        say(f"{PROGRAM}: {_what_is_wrong(error)}")
        sys.exit(USAGE)
    except KeyboardInterrupt:  # before the command itself has begun
        sys.exit(INTERRUPTED)


def _what_is_wrong(error: CycloptsError) -> str:
    if isinstance(error, UnusedCliTokensError):
        return f"not understood: {' '.join(error.unused_tokens or ())}; a prompt of several words is written in quotes"
    if isinstance(error, UnknownCommandError):
        return _no_such_command((error.unused_tokens or [""])[0])
    if isinstance(error, MissingArgumentError):
        return f"{str(error).rstrip('.')}; {_help_of(error)} has examples"
    return str(error)


def _no_such_command(given: str) -> str:
    """Return what to do instead. What is no word at all is likely a prompt."""
    if not given.replace("-", "").isalpha():
        return f"{given!r} is no command; for a picture of that: {PROGRAM} generate {given!r}"
    close = get_close_matches(given.lower(), COMMANDS, n=1)
    if close:
        return f"there is no command {given}; did you mean {PROGRAM} {close[0]}?"
    return f"there is no command {given}; the commands are {', '.join(COMMANDS)}"


def _help_of(error: CycloptsError) -> str:
    return f"{PROGRAM} {' '.join(error.command_chain or ())} --help"
