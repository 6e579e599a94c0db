"""What is installed, held against what this package says it needs."""

from __future__ import annotations

import operator
import platform
import re
import sys
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from typing import TypeAlias

from attrs import frozen

from nebula_async.cli.doctor.finding import Finding, fine, note, problem
from nebula_async.config import VERSION

DISTRIBUTION = "nebula_async"

PURPOSES: Mapping[str, str] = {
    "cli": "this command",
    "images": "pictures as PIL images and arrays, and thumbnails",
    "emulator": "a Nebula Block of this machine's own, to try things without money",
    "s3": "pictures straight into an object store (s3://…)",
    "parquet": "Parquet in and out",
    "fastapi": "web applications",
    "redis": "a limit that several machines keep to together",
    "ray": "pictures of a Ray dataset",
    "otel": "traces and metrics",
}
"""What each extra is for; `all` and `dev` are for several of these."""

REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)(?:\[[^\]]*\])?\s*([^;]*)")
EXTRA = re.compile(r"extra\s*==\s*['\"]([\w-]+)['\"]")
CLAUSE = re.compile(r"(>=|<=|==|!=|<|>)\s*([0-9][0-9.]*)")

Release: TypeAlias = tuple[int, ...]
COMPARE: Mapping[str, Callable[[Release, Release], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
}


@frozen
class Needed:
    """A library that is needed, in which versions, and which one is installed; `extra` is the part that needs it."""

    name: str
    supported: str
    extra: str | None
    installed: str | None

    @property
    def is_supported(self) -> bool:
        """Whether it is there in a version that is supported."""
        return self.installed is not None and is_within(self.installed, self.supported)

    def __str__(self) -> str:
        return f"{self.name} {self.installed or 'missing'}"


def look_at_libraries() -> list[Finding]:
    """Return what is found of this package, Python, and the libraries that it cannot do without."""
    about = f"{VERSION} on Python {platform.python_version()}, {platform.platform(terse=True)}, {platform.machine()}"
    facts = {"version": VERSION, "python": platform.python_version(), "platform": platform.platform()}
    found = [fine("nebula_async", about, **facts, executable=sys.executable)]
    try:
        return [*found, _of_core([each for each in _read_needed() if each.extra is None])]
    except PackageNotFoundError:
        advice = "install it, so that its libraries come along: pip install nebula_async"
        return [*found, note("libraries", "this package runs without being installed", advice)]


def look_at_extras() -> list[Finding]:
    """Return which optional parts are there, and what each is for. Raises `PackageNotFoundError`."""
    needed, offered = _read_needed(), metadata(DISTRIBUTION).get_all("Provides-Extra") or ()
    return [
        _of_extra(extra, purpose, [each for each in needed if each.extra == extra])
        for extra, purpose in PURPOSES.items()
        if extra in offered
    ]


def _read_needed() -> list[Needed]:
    """Return the libraries that this package's own metadata name. Raises `PackageNotFoundError`."""
    return [_needed(line) for line in requires(DISTRIBUTION) or ()]


def is_within(installed: str, supported: str) -> bool:
    """Whether a version is one of those that a requirement such as `>=1.2,<2` allows."""
    release = _release(installed)
    return all(COMPARE[sign](release, _release(bound)) for sign, bound in CLAUSE.findall(supported))


def _release(text: str) -> Release:
    """Return the numbers that a version begins with, without zeros at their end: 1.10.0rc1 is 1.10."""
    numbers = [int(number) for number in re.findall(r"\d+", re.split(r"[^0-9.]", text, maxsplit=1)[0])]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def _needed(line: str) -> Needed:
    """Return what a line of metadata asks for, such as `ray[data]>=2.60; extra == 'ray'` (PEP 508)."""
    found, extra = REQUIREMENT.match(line), EXTRA.search(line)
    name, supported = (found[1], found[2].strip()) if found else (line, "")
    try:
        installed = version(name)
    except PackageNotFoundError:
        installed = None
    return Needed(name, supported, extra[1] if extra else None, installed)


def _of_core(needed: list[Needed]) -> Finding:
    versions = {each.name: each.installed for each in needed}
    if wrong := [each for each in needed if not each.is_supported]:
        text = ", ".join(f"{each}, where {each.supported} is supported" for each in wrong)
        names = " ".join(f"'{each.name}{each.supported}'" for each in wrong)
        return problem("libraries", text, f"pip install {names}", versions=versions)
    return fine("libraries", ", ".join(map(str, needed)), versions=versions)


def _of_extra(extra: str, purpose: str, needed: list[Needed]) -> Finding:
    about, install = f"extra {extra}", f"pip install 'nebula_async[{extra}]'"
    facts = {"for": purpose, "versions": {each.name: each.installed for each in needed}}
    if all(each.is_supported for each in needed):
        return fine(about, f"for {purpose}: {', '.join(map(str, needed))}", is_there=True, **facts)
    if all(each.installed is None for each in needed):
        text = f"not installed; it is for {purpose}"
        return note(about, text, f"if you want that: {install}", is_there=False, **facts)
    lacking = ", ".join(f"{each} ({each.supported} is needed)" for each in needed if not each.is_supported)
    return note(about, f"for {purpose}, and not complete: {lacking}", install, is_there=False, **facts)
