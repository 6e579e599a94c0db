"""The library from a shell: `nebula-async`."""

from __future__ import annotations

import io
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

PROGRAM = "nebula-async"
"""What a shell calls it."""

EXTRAS = {
    "cyclopts": "cli",
    "rich": "cli",
    "textual_image": "cli",
    "starlette": "emulator",
    "uvicorn": "emulator",
    "PIL": "images",
}


def main() -> None:
    """Run the command line and exit with its code."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # a file name that the terminal's encoding cannot show ends nothing
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        with _ending_at_once():
            from nebula_async.cli.app import start

        start()
    except ImportError as error:
        missing = _missing_module(error)
        if missing is None:
            raise
        needed = f"pip install 'nebula_async[{EXTRAS[missing]}]'"
        print(f"nebula-async: {missing} is not installed; this command needs: {needed}", file=sys.stderr)
        sys.exit(2)


@contextmanager
def _ending_at_once() -> Iterator[None]:
    """Let Ctrl-C end the process without a word: modules are loaded, and nothing is under way yet."""
    usual = signal.getsignal(signal.SIGINT)
    if usual is not signal.default_int_handler:  # it is ignored, as in the background of a script
        yield
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)


def _missing_module(error: BaseException | None) -> str | None:
    """Return the module of an extra whose absence led to an error."""
    while error is not None:
        name = (getattr(error, "name", None) or "").partition(".")[0]
        if isinstance(error, ModuleNotFoundError) and name in EXTRAS:
            return name
        error = error.__cause__ or error.__context__
    return None
