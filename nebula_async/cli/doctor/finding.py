"""What a check found: good, worth knowing, or what would stop a run; and what to do."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import partial
from typing import Any, Literal, TypeAlias

from attrs import evolve, field, frozen

State: TypeAlias = Literal["ok", "note", "problem"]

SHORTEST_SECRET = 6
"""Characters: what is shorter stands in ordinary words, too."""


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


def without_secrets(finding: Finding, secrets: Collection[str]) -> Finding:
    """Return a finding in which no secret stands, whoever put it there: a server may repeat the key that it refuses."""
    hide = partial(_hidden, secrets=sorted((text for text in secrets if len(text) >= SHORTEST_SECRET), key=len)[::-1])
    facts = {name: _hidden_in(value, hide) for name, value in finding.facts.items()}
    return evolve(finding, text=hide(finding.text), advice=hide(finding.advice), facts=facts)


def _hidden(text: str, secrets: Collection[str]) -> str:
    for secret in secrets:
        text = text.replace(secret, "***")
    return text


def _hidden_in(value: Any, hide: Any) -> Any:
    if isinstance(value, str):
        return hide(value)
    return [_hidden_in(each, hide) for each in value] if isinstance(value, list | tuple) else value
