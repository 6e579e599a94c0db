"""What happened, told from the emulator's journal: the requests of a call, and what each was charged."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence

from nebula_async.emulator import RequestRecord

MOST_LINES = 25
MOST_CHARACTERS = 60


def paid_again(records: Iterable[RequestRecord], repeats: Mapping[str, int]) -> list[tuple[RequestRecord, ...]]:
    """Return the requests of each call that was charged for more than once; those without a key as often as allowed."""
    calls = defaultdict(list)
    for record in records:
        calls[_call_of(record)].append(record)
    return [tuple(call) for call in calls.values() if _times_paid(call) > _times_allowed(call[0], repeats)]


def told(groups: Sequence[Sequence[RequestRecord]], *, are_calls: bool) -> str:
    """Return a line for each request, the charged ones if there are too many; those of a call have its number."""
    records = [(number, record) for number, group in enumerate(groups, 1) for record in group]
    if not records:
        return "  no request for pictures"
    shown = records
    if len(records) > MOST_LINES:
        shown = ([pair for pair in records if pair[1].images_charged] or records)[:MOST_LINES]
    lines = [f"  {f'call {number}: ' if are_calls else ''}{_line(record)}" for number, record in shown]
    left_out = len(records) - len(shown)
    return "\n".join([*lines, *([f"  … and {left_out} more requests"] if left_out else [])])


def _call_of(record: RequestRecord) -> Hashable:
    if record.idempotency_key is not None:
        return record.idempotency_key
    return record.path, json.dumps(dict(record.fields), sort_keys=True, default=str)


def _times_paid(call: Sequence[RequestRecord]) -> int:
    return sum(record.images_charged > 0 for record in call)


def _times_allowed(record: RequestRecord, repeats: Mapping[str, int]) -> int:
    return 1 if record.idempotency_key is not None else repeats.get(record.prompt or "", 1)


def _line(record: RequestRecord) -> str:
    facts = [
        f"#{record.number}",
        "no reply" if record.status is None else f"HTTP {record.status}",
        f"charged {record.images_charged}" if record.images_charged else "not charged",
        "no prompt" if record.prompt is None else repr(_short(record.prompt)),
        *([] if record.seed is None else [f"seed {record.seed}"]),
        *([] if record.fault is None else [f"fault {record.fault}"]),
        "no key" if record.idempotency_key is None else f"key {record.idempotency_key.strip(chr(34))}",
    ]
    return ", ".join(facts)


def _short(text: str) -> str:
    return text if len(text) <= MOST_CHARACTERS else f"{text[: MOST_CHARACTERS - 1]}…"
