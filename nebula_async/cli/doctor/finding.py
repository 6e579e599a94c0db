"""What a check found: good, worth knowing, or what would stop a run; and what to do."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Literal, TypeAlias

from attrs import evolve, field, frozen

from nebula_async.keys import without_secrets

State: TypeAlias = Literal["ok", "note", "problem"]


@frozen
class Finding:
    """One line: what it is about, how it stands, what was found, what to do, and the facts for programs."""

    about: str
    state: State
    text: str
    advice: str = ""
    facts: Mapping[str, Any] = field(factory=dict)


def fine(about: str, text: str, **facts: Any) -> Finding:
    """Return that something is as it should be."""
    return Finding(about, "ok", text, facts=facts)


def note(about: str, text: str, advice: str, **facts: Any) -> Finding:
    """Return that something is worth knowing, and stops no run."""
    return Finding(about, "note", text, advice, facts)


def problem(about: str, text: str, advice: str, **facts: Any) -> Finding:
    """Return that something would stop a run."""
    return Finding(about, "problem", text, advice, facts)


def concealed(finding: Finding, secrets: Collection[str]) -> Finding:
    """Return a finding in which no secret stands, whoever put it there."""
    text, advice, facts = without_secrets([finding.text, finding.advice, finding.facts], secrets)
    return evolve(finding, text=text, advice=advice, facts=facts)
