"""What accounts and their members are called in Redis; by its name a member of this host is known to have ended."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterable
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from uuid import uuid4

from nebula_async.config import Config
from nebula_async.engine.host_account import boot_id
from nebula_async.errors import ConfigurationError
from nebula_async.keys import KeySource, digest_of, find_key, hide

NAME = re.compile(r"[A-Za-z0-9._-]{1,100}")


def account_name(given: str | None, api_key: KeySource | None, config: Config) -> str:
    """Return the name that was given, else a digest of the key and of where the API is.

    Raises `ConfigurationError` for a name that is none, and without a key where there is no name.
    """
    if given is None:
        source = hide(api_key)
        find_key(source)
        return sha256(f"{digest_of(source)} {config.base_url} {config.inference_url}".encode()).hexdigest()[:32]
    if not NAME.fullmatch(str(given)):
        raise ConfigurationError(f"account must be letters, digits, dots, dashes and underscores; got {given!r}")
    return str(given)


def new_member() -> str:
    """Return a name that nobody had: each start of a gate is another member, and so is a process that was forked."""
    return f"{host()}-{os.getpid()}-{uuid4().hex[:12]}"


def ended_members(names: Iterable[str]) -> list[str]:
    """Return those of the names whose process was one of this host and has ended: nobody waits for their lease."""
    return [name for name in names if _has_ended(name)]


def _has_ended(name: str) -> bool:
    place, _, rest = name.partition("-")
    number = rest.partition("-")[0]
    if not place or place != host() or not number.isdecimal():
        return False
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):  # it is another user's, or no number of a process
        return False
    return _is_unburied(number)


def _is_unburied(number: str) -> bool:
    """Whether a process has ended, and its parent has not looked yet; where /proc shows it at all (`hidepid`)."""
    try:
        stat = Path(f"/proc/{number}/stat").read_text(errors="replace")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[:1] == ["Z"]


@lru_cache(maxsize=1)
def host() -> str:
    """Return what names this start of this host, and where processes have numbers of their own, that too.

    Empty where the system does not tell.
    """
    try:
        processes = Path("/proc/self/ns/pid").readlink()
    except OSError:
        return ""
    return sha256(f"{socket.gethostname()} {boot_id()} {processes}".encode()).hexdigest()[:12] if boot_id() else ""
