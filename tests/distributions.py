"""What an installation brings, and under which licences: by what the installed distributions say of themselves."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, distribution

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

CLASSIFIED = {
    "MIT License": "MIT",
    "Apache Software License": "Apache-2.0",
    "GNU Lesser General Public License v3 or later (LGPLv3+)": "LGPL-3.0-or-later",
}
"""The licences of those that only have a classifier."""


def brought_by(name: str, *extras: str) -> set[str]:
    """Return what installing a distribution with these extras brings besides itself, on this Python and system."""
    met: set[tuple[str, str]] = set()
    waiting = [(name, extra) for extra in ("", *extras)]
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in met:
            continue
        met.add((name, extra))
        for asked in _asked_by(name, extra):
            waiting += [(canonicalize_name(asked.name), each) for each in ("", *asked.extras)]
    return {name for name, _ in met} - {"nebula-async"}


def _asked_by(name: str, extra: str) -> list[Requirement]:
    requirements = [Requirement(line) for line in distribution(name).requires or ()]
    return [each for each in requirements if each.marker is None or each.marker.evaluate({"extra": extra})]


def licence_of(name: str) -> str:
    """Return the licence of an installed distribution, as SPDX writes it."""
    facts = distribution(name).metadata
    short = next((text for text in (facts["License-Expression"], facts["License"]) if text and len(text) < 40), None)
    classified = (line.rpartition(" :: ")[2] for line in facts.get_all("Classifier", []))
    return short or next(CLASSIFIED[line] for line in classified if line in CLASSIFIED)


def is_installed(name: str) -> bool:
    """Whether a distribution is here."""
    try:
        return bool(distribution(name))
    except PackageNotFoundError:
        return False
