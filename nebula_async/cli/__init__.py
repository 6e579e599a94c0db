"""The library from a shell: `nebula-async`."""

from __future__ import annotations

import io
import sys

EXTRAS = {
    "cyclopts": "cli",
    "rich": "cli",
    "starlette": "emulator",
    "uvicorn": "emulator",
    "PIL": "emulator",
}


def main() -> None:
    """Run the command line and exit with its code."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # a file name that the terminal's encoding cannot show ends nothing
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        from nebula_async.cli.app import start

        start()
    except ModuleNotFoundError as error:
        extra = EXTRAS.get((error.name or "").partition(".")[0])
        if extra is None:
            raise
        print(
            f"nebula-async: {error.name} is not installed; this command needs: pip install 'nebula_async[{extra}]'",
            file=sys.stderr,
        )
        sys.exit(2)
