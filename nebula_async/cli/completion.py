"""`nebula-async completion`: what lets a shell complete commands, options and their choices with Tab."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, TypeAlias, get_args

from nebula_async.cli import PROGRAM
from nebula_async.cli.connection import Switch, ended
from nebula_async.cli.output import say, tell
from nebula_async.errors import ConfigurationError

Shell: TypeAlias = Literal["bash", "zsh", "fish"]
SHELLS: tuple[Shell, ...] = get_args(Shell)

LOADED_BY_ZSH = f"""
if [[ "$funcstack[1]" == _{PROGRAM} ]]; then
  _{PROGRAM} "$@"
else
  compdef _{PROGRAM} {PROGRAM}
fi
"""
"""The first of the two where zsh finds the script as a file named `_nebula-async`, the other where it is sourced."""


def completion(shell: Shell | None = None, /, *, install: Annotated[bool, Switch] = False) -> int:
    """Print the script with which a shell completes commands, options and their choices when Tab is pressed.

    Nothing is written unless --install asks for it, and no start-up file of the shell ever is.

    Parameters
    ----------
    shell
        The shell; else the one that $SHELL names.
    install
        Write the script to where the shell looks for it, and say where that is, and what is left to do.
    """
    return ended(_completion, shell, install)


def shell_of(environ: Mapping[str, str]) -> Shell | None:
    """Return the user's shell, if it is one of those that are known here."""
    name = Path(environ.get("SHELL", "")).name
    return next((shell for shell in SHELLS if shell == name), None)


def script_for(shell: Shell) -> str:
    """Return the script for a shell."""
    from nebula_async.cli.app import app  # it has this command

    script = app.generate_completion(shell=shell).rstrip("\n") + "\n"
    return script.replace(f"_cyclopts_{PROGRAM}", f"_{PROGRAM}") + LOADED_BY_ZSH if shell == "zsh" else script


def place_for(shell: Shell, environ: Mapping[str, str]) -> Path:
    """Return the file in which a shell looks for the script, or in which it is usual to have it look."""
    data = Path(environ.get("XDG_DATA_HOME") or "~/.local/share").expanduser()
    if shell == "bash":
        given = environ.get("BASH_COMPLETION_USER_DIR")
        return (Path(given).expanduser() if given else data / "bash-completion") / "completions" / PROGRAM
    if shell == "zsh":
        return data / "zsh" / "site-functions" / f"_{PROGRAM}"
    settings = Path(environ.get("XDG_CONFIG_HOME") or "~/.config").expanduser()
    return settings / "fish" / "completions" / f"{PROGRAM}.fish"


def what_is_left(shell: Shell, place: Path) -> str:
    """Return what the user has to do, once the script is in its place."""
    steps: Mapping[Shell, str] = {
        "bash": f"a new shell has it by the package bash-completion; without that add to ~/.bashrc: . {place}",
        "zsh": f"add to ~/.zshrc, above the line with compinit: fpath=({place.parent} $fpath); then begin a new shell",
        "fish": "a new shell has it",
    }
    return steps[shell]


def _completion(given: Shell | None, install: bool) -> int:
    shell = given or shell_of(os.environ)
    if shell is None:
        known = ", ".join(SHELLS)
        raise ConfigurationError(f"$SHELL names none of {known}; name the shell, as in {PROGRAM} completion bash")
    if not install:
        tell(script_for(shell).rstrip("\n"))
        return 0
    place = place_for(shell, os.environ)
    _replace(place, script_for(shell))
    tell(str(place))
    say(what_is_left(shell, place))
    return 0


def _replace(place: Path, script: str) -> None:
    """Write the script, all of it or nothing. Raises `OSError`."""
    place.parent.mkdir(parents=True, exist_ok=True)
    part = place.with_name(f".{place.name}.{os.getpid()}")
    try:
        part.write_text(script, encoding="utf-8")
        part.replace(place)
    finally:
        part.unlink(missing_ok=True)
