"""The commands. Each is loaded when it is called: who asks for one picture does not wait for what jobs need."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path

from cyclopts import (
    App,
    CycloptsError,
    MissingArgumentError,
    UnknownCommandError,
    UnknownOptionError,
    UnusedCliTokensError,
)

from nebula_async.bulk.command import quoted
from nebula_async.cli import PROGRAM
from nebula_async.cli.connection import INTERRUPTED, USAGE
from nebula_async.cli.examples import examples_of
from nebula_async.cli.output import say, silence
from nebula_async.config import VERSION

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

CLOSE = 0.7
"""Two options that are less alike are no two ways to write one (0: nothing in common, 1: the same)."""

BEGIN = f'{PROGRAM} generate "a flying cat" --emulator'

app = App(
    name=PROGRAM,
    help="Prompts in, image files out: the Nebula Block image API from a shell.",
    help_epilogue=f"A first picture, without a key and without money:  \n`{BEGIN}`",
    version=VERSION,
)
for order, (name, place) in enumerate(COMMANDS.items()):
    app.command(place, name=name, sort_key=order, help_epilogue=examples_of(name))


def start() -> None:
    """Run the command that was given and exit with its code; what cannot be understood is one sentence on stderr."""
    try:
        if sys.argv[1:2] in ([], ["--help"], ["-h"]):
            _load_all()
        app(sys.argv[1:], print_error=False, exit_on_error=False)
    except CycloptsError as error:  # cyclopts would end otherwise where stderr cannot be written to
        say(f"{PROGRAM}: {_what_is_wrong(error)}")
        sys.exit(USAGE)
    except OSError as error:  # what is told of the commands finds no room
        silence(sys.stdout)
        say(f"{PROGRAM}: {error.strerror or error}")
        sys.exit(USAGE)
    except KeyboardInterrupt:  # before the command itself has begun
        sys.exit(INTERRUPTED)


def _load_all() -> None:
    """Load all commands: the overview of them tells what each does."""
    for name in COMMANDS:
        _ = app[name]


def _what_is_wrong(error: CycloptsError) -> str:
    if isinstance(error, UnusedCliTokensError):
        return f"not understood: {' '.join(error.unused_tokens or ())}; a prompt of several words is written in quotes"
    if isinstance(error, UnknownCommandError):
        return _no_such_command((error.unused_tokens or [""])[0])
    if isinstance(error, MissingArgumentError) and error.argument is not None:
        return f"{_needed(error.argument.name)}; {PROGRAM} {' '.join(error.command_chain or ())} --help has examples"
    if isinstance(error, UnknownOptionError):
        return _no_such_option(error)
    return str(error)


def _no_such_option(error: UnknownOptionError) -> str:
    """Return what to do instead; another option is named only where it looks like the one that was given."""
    given = (error.token.keyword or error.token.value).partition("=")[0]
    options = [name for argument in error.argument_collection for name in argument.names if name.startswith("-")]
    if close := get_close_matches(given.lower(), options, n=1, cutoff=CLOSE):
        return f"there is no option {given}; did you mean {close[0]}?"
    return f"there is no option {given}; {' '.join((PROGRAM, *(error.command_chain or ())))} --help lists what there is"


def _needed(name: str) -> str:
    return f"a value for {name} is missing" if name.startswith("-") else f"{name} is missing"


def _no_such_command(given: str) -> str:
    """Return what to do instead. What is no word is likely a picture, or the prompt of one."""
    if given.startswith("-"):
        return f"there is no option {given}; {PROGRAM} --help lists what there is"
    if given and Path(given).is_file():
        return f"{given} is no command; what a picture says about itself: {PROGRAM} inspect {quoted(given)}"
    if not given.replace("-", "x").isalpha() and given.strip():
        return f"{given!r} is no command; for a picture of that: {PROGRAM} generate {quoted(given)}"
    if close := get_close_matches(given.lower(), COMMANDS, n=1):
        return f"there is no command {given}; did you mean {PROGRAM} {close[0]}?"
    return f"there is no command {given or repr(given)}; {PROGRAM} --help lists them: {', '.join(COMMANDS)}"
