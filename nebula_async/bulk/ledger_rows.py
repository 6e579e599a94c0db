"""Rows of a ledger's tables as values."""

from __future__ import annotations

from typing import Any

from nebula_async.bulk.states import Attempt, Output, Row, State
from nebula_async.charges import Charges

ROW = (
    "SELECT seq, key, body_sha, state, epoch, sends, resends, duplicates, asked, at_least, at_most, at_stake, name,"
    " request, error, cause FROM item"
)
OUTPUT = "SELECT seq, idx, path, sha256, bytes, media_type, row, url, expires_at FROM output"
ATTEMPT = (
    "SELECT seq, n, call_key, sent_at, ended_at, verdict, at_least, at_most, error, cause, seconds, request_id"
    " FROM attempt"
)

UNFINISHED = "listed AND state <> 'done' AND (state <> 'pending' OR error IS NOT NULL)"
"""Of items: those that are asked for, were sent, and are not done."""


def as_row(seq: int, key: str, body_sha: str, state: str, *rest: Any) -> Row:
    """Return what `ROW` selects of an item."""
    epoch, sends, resends, duplicates, asked, at_least, at_most, *said = rest
    counts = (epoch, sends, resends, duplicates, asked)
    return Row(seq, key, body_sha, State(state), *counts, Charges(at_least, at_most), *said)


def as_output(seq: int, idx: int, *rest: Any) -> Output:
    """Return what `OUTPUT` selects of a picture."""
    names = ("path", "sha256", "bytes", "media_type", "row", "url", "expires_at")
    return Output(seq=seq, index=idx, **dict(zip(names, rest, strict=True)))


def as_attempt(seq: int, n: int, call_key: str, sent_at: float, ended_at: float | None, *rest: Any) -> Attempt:
    """Return what `ATTEMPT` selects of an attempt."""
    verdict, at_least, at_most, error, cause, seconds, request_id = rest
    return Attempt(
        seq=seq, n=n, call_key=call_key, sent_at=sent_at, ended_at=ended_at, verdict=verdict,
        charges=Charges(at_least, at_most), error=error, cause=cause, seconds=seconds, request_id=request_id,
    )  # fmt: skip


def storable(text: str | None) -> str | None:
    """Return text without the lone surrogates that a server's JSON may hold and no database."""
    return None if text is None else text.encode(errors="backslashreplace").decode()
