"""Whether the user's shell completes the command, as this version of it is."""

from __future__ import annotations

from collections.abc import Mapping

from nebula_async.cli import PROGRAM
from nebula_async.cli.completion import place_for, script_for, shell_of
from nebula_async.cli.doctor.finding import Finding, fine, note


def look_at_completion(environ: Mapping[str, str]) -> Finding:
    """Return whether the script for the shell is where the shell looks for it. Raises `OSError`."""
    shell = shell_of(environ)
    if shell is None:
        return fine("completion", "there is one for bash, zsh and fish; this shell is another one", shell=None)
    place, install = place_for(shell, environ), f"{PROGRAM} completion {shell} --install"
    facts = {"shell": shell, "file": str(place)}
    if not place.is_file():
        return note("completion", f"{shell} does not complete this command with Tab", install, **facts)
    if place.read_text(encoding="utf-8", errors="replace") != script_for(shell):
        return note("completion", f"what {shell} has is of another version", install, **facts)
    return fine("completion", f"{shell} has it in {place}", **facts)
