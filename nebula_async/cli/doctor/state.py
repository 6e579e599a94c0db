"""The folder in which commands of this host meet to keep an account's limit together."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from nebula_async.cli.doctor.finding import Finding, fine, note
from nebula_async.config import Config
from nebula_async.engine.host_store import FILE, STATE_VARIABLE, check_folder, state_folders
from nebula_async.quantities import size


def look_at_state(config: Config, environ: Mapping[str, str]) -> Finding:
    """Return where commands meet to keep the account's limit together. Nothing is made there."""
    if config.shared_by != "host":
        return fine("state", "each process keeps the limit by itself; none is shared on this host", shared_by="process")
    first, *others = state_folders(environ)
    lacking = _problem_with(first)
    if lacking is None:
        return fine("state", _told(first), folder=str(first))
    advice = f"mend it, or name another folder: export {STATE_VARIABLE}=…"
    usable = next((folder for folder in others if _problem_with(folder) is None), None)
    meanwhile = "commands do not share the account's limit" if usable is None else _told(usable)
    return note("state", f"{first} cannot be used ({lacking}); {meanwhile}", advice, folder=str(usable or first))


def _told(folder: Path) -> str:
    file = folder / FILE
    if not file.is_file():
        return f"commands will meet in {folder}, once there is something to share"
    return f"commands meet in {file} ({size(file.stat().st_size)})"


def _problem_with(folder: Path) -> str | None:
    try:
        if folder.exists():
            check_folder(folder)
            return None if os.access(folder, os.W_OK | os.X_OK) else "it cannot be written to"
        above = next(parent for parent in folder.parents if parent.exists())
    except OSError as error:
        return error.strerror or str(error)
    return None if above.is_dir() and os.access(above, os.W_OK | os.X_OK) else f"{above} cannot be written to"
