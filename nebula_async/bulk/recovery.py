"""What a job finds when it starts: bad lines, changed lines, pictures that a killed run stored and could not note."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from nebula_async.bulk.folder import JobFolder
from nebula_async.bulk.ledger import Ledger, State
from nebula_async.bulk.manifest import Item, check_manifest, read_manifest
from nebula_async.charges import Charges
from nebula_async.errors import JobError

MOST_SENDS = 2
"""An item that a killed run had sent is sent once more; after that its outcome stays unknown until the user says so."""

MOST_SHOWN = 20


def count_items(manifest: Path, defaults: Mapping[str, Any]) -> int:
    """Return how many items a manifest holds. Raises `JobError` that lists its bad lines."""
    total, bad = check_manifest(manifest, defaults=defaults)
    if bad:
        lines = "\n  ".join(str(line) for line in bad[:MOST_SHOWN])
        more = f"\n  … and {len(bad) - MOST_SHOWN} more" if len(bad) > MOST_SHOWN else ""
        raise JobError(f"{manifest} cannot be used, nothing was sent; lines to mend: {len(bad)}\n  {lines}{more}")
    return total


def recover(manifest: Path, defaults: Mapping[str, Any], folder: JobFolder, ledger: Ledger) -> None:
    """Settle every item that an earlier run left as sent: adopt its picture, or let it be sent again.

    Raises `JobError` for a line that is not what the ledger knows under its number.
    """
    items = (item for item in read_manifest(manifest, defaults=defaults) if isinstance(item, Item))
    changed = (item for item in items if not _settle(item, body_sha(item, manifest), folder, ledger))
    lines = [str(item.line) for item in islice(changed, MOST_SHOWN)]
    if lines:
        raise JobError(
            f"{folder.path} was begun with other input: line {', '.join(lines)} of {manifest.name}, or the options that"
            " fill it in, changed; restore them, or use another --out (lines may be added at the end)"
        )


def body_sha(item: Item, manifest: Path) -> str:
    """Return the digest of what an item asks for, the same wherever the manifest's folder lies."""
    fields = item.request.to_dict()
    for name in ("image", "mask"):
        if name in fields:
            fields[name] = os.path.relpath(fields[name], manifest.parent)
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


def _settle(item: Item, sha: str, folder: JobFolder, ledger: Ledger) -> bool:
    row = ledger.find(item.number)
    if row is None or row.body_sha != sha:
        return row is None
    if row.state is State.SENT:
        _settle_sent(item, row.sends, folder, ledger)
    return True


def _settle_sent(item: Item, sends: int, folder: JobFolder, ledger: Ledger) -> None:
    stored = folder.find(item.number, item.request)
    if stored is not None:
        ledger.ended(item.number, State.DONE, Charges(1, 1), path=folder.relative(stored))
        return
    state = State.PENDING if sends < MOST_SENDS else State.UNKNOWN
    ledger.ended(item.number, state, Charges(0, 1), error="the run was killed while the request was under way")
