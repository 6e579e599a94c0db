"""`nebula-async rebuild`: a new ledger for a job whose own is damaged or gone."""

from __future__ import annotations

from pathlib import Path

import anyio.to_thread

from nebula_async.bulk.folder import JobFolder
from nebula_async.bulk.rebuild import Rebuilt
from nebula_async.bulk.rebuild import rebuild as make_anew
from nebula_async.cli.connection import run
from nebula_async.cli.output import say, tell


def rebuild(out: Path, /) -> int:
    """Make the ledger of a job anew, of what can be read of the old one and of the pictures with their metadata.

    Nothing is sent, and no picture is touched; all of them are read. The old ledger stays as ledger.db.old. Exit codes:
    0, and 2 for a folder that is no job's, or in use.

    Parameters
    ----------
    out
        The folder of the job.
    """
    return run(_rebuild, out)


async def _rebuild(out: Path) -> int:
    made = await anyio.to_thread.run_sync(make_anew, JobFolder(out))
    tell(f"the ledger of {out} is made anew: {made.read} items as the old one tells, {made.found} by their pictures")
    for text in _notes(made, out):
        say(text)
    return 0


def _notes(made: Rebuilt, out: Path) -> list[str]:
    lines = {
        "nothing could be read of the old ledger: what was sent and not stored is not known, and would be paid for"
        " again; look into the account before the job goes on": made.read == 0,
        f"may have been paid for, and are not here: {made.unclear}": made.unclear,
        f"pictures that no metadata describe, and so belong to no item: {made.undescribed}": made.undescribed,
        f"received for items that are not known any more: {made.unowned}, in {out / 'recovered'}": made.unowned,
    }
    return [text for text, applies in lines.items() if applies]
