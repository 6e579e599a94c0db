"""What was found, as lines for people and as JSON for programs."""

from __future__ import annotations

import json
import shutil
import sys
import textwrap
from collections import Counter
from collections.abc import Sequence

from nebula_async.cli.doctor.finding import Finding
from nebula_async.cli.output import is_terminal, tell
from nebula_async.printing import on_one_line
from nebula_async.quantities import counted

FORMAT = 1
"""The form of the JSON; a field may be added to it."""

STATES = {"ok": "green", "note": "yellow", "problem": "bold red"}
STATE_WIDTH, ABOUT_WIDTH = 9, 23
INDENT = STATE_WIDTH + ABOUT_WIDTH
SMALL_INDENT, NARROW, NARROWEST, WIDEST = 2, 70, 20, 120
"""Columns: below `NARROW` what is found stands under what it is about; no text is narrower or wider than the others."""


def tell_json(findings: Sequence[Finding]) -> None:
    """Print all that was found as one JSON object."""
    lines = [
        {"about": each.about, "state": each.state, "text": each.text, "advice": each.advice, "facts": dict(each.facts)}
        for each in findings
    ]
    states = Counter(each.state for each in findings)
    counts = {"ok": states["ok"], "notes": states["note"], "problems": states["problem"]}
    tell(json.dumps({"version": FORMAT, **counts, "findings": lines}))


def tell_findings(findings: Sequence[Finding]) -> None:
    """Print a line for each finding, wrapped and in colour on a terminal, and what they come to."""
    tell_line = _tell_in_colour if is_terminal(sys.stdout) else _tell_plainly
    for finding in findings:
        tell_line(finding)
    tell(_in_sum(findings))


def _tell_plainly(finding: Finding) -> None:
    advice = f"; {finding.advice}" if finding.advice else ""
    tell(f"{finding.state:<{STATE_WIDTH}}{f'{finding.about}: ':<{ABOUT_WIDTH}}{on_one_line(finding.text + advice)}")


def _tell_in_colour(finding: Finding) -> None:
    from rich.console import Console
    from rich.text import Text

    columns, style = shutil.get_terminal_size().columns, STATES[finding.state]
    indent = INDENT if columns >= NARROW else SMALL_INDENT
    break_before = "" if columns >= NARROW else f"\n{' ' * indent}"
    text = Text.assemble((f"{finding.state:<{STATE_WIDTH}}", style), f"{finding.about:<{ABOUT_WIDTH}}{break_before}")
    text.append(_wrapped(finding.text, columns, indent))
    if finding.advice:
        text.append(f"\n{' ' * indent}{_wrapped(f'→ {finding.advice}', columns, indent)}", style)
    Console(highlight=False).print(text, soft_wrap=True)


def _wrapped(text: str, columns: int, indent: int) -> str:
    """Return a text in lines below its first one's column."""
    width = max(min(columns, WIDEST) - indent, NARROWEST)
    return f"\n{' ' * indent}".join(textwrap.wrap(on_one_line(text), width, break_on_hyphens=False))


def _in_sum(findings: Sequence[Finding]) -> str:
    states = Counter(each.state for each in findings)
    if states["problem"]:
        return f"{counted(states['problem'], 'problem')} would stop a run; nothing was bought"
    notes = f", {counted(states['note'], 'note')}" if states["note"] else ""
    return f"nothing would stop a run{notes}; nothing was bought"
