"""`nebula-async inspect`: what a picture file says about itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from nebula_async.cli.connection import Switch, run
from nebula_async.cli.known import Known, read_known
from nebula_async.cli.output import say, tell
from nebula_async.images.provenance import Provenance

TOLD_BY = {"file": "the file", "metadata": "the metadata of its job"}


def inspect(file: Path, /, *, as_json: Annotated[bool, Switch, Parameter(name="--json")] = False) -> int:
    """Print what a picture is and how it was made: by what its file says, else by the metadata of its job.

    Whoever has the file can have written that. Exit codes: 0 it is known, 1 it is not, 2 the file is no picture.

    Parameters
    ----------
    file
        The file of a picture.
    as_json
        Print one line of JSON.
    """
    return run(_inspect, file, as_json)


async def _inspect(file: Path, as_json: bool) -> int:
    known = read_known(file)
    for line in [json.dumps(_values(known))] if as_json else _lines(known):
        tell(line.replace("\n", "\\n"))  # no prompt pretends to be another line
    if known.provenance is None:
        say(f"nebula-async: {file}: {known.problem}")
    return 0 if known.provenance else 1


def _values(known: Known) -> dict[str, Any]:
    return {
        "file": str(known.path),
        "media_type": known.media.media_type,
        "width": known.media.width,
        "height": known.media.height,
        "bytes": known.size,
        "told_by": known.told_by,
        "provenance": None if known.provenance is None else json.loads(known.provenance.to_json()),
    }


def _lines(known: Known) -> Iterator[str]:
    media = known.media
    yield f"{known.path}: {media.media_type}, {media.width}x{media.height} pixels, {known.size} bytes"
    if known.provenance is not None:
        facts = dict(_facts(known.provenance)) | {"told by": TOLD_BY[known.told_by or "file"]}
        yield from (f"{name}: {value}" for name, value in facts.items() if value is not None)


def _facts(made: Provenance) -> Iterator[tuple[str, str | None]]:
    first = {name: made.request.get(name) for name in ("prompt", "model", "seed")}
    for name, value in {**first, **made.request}.items():
        yield name, value if value is None or isinstance(value, str) else json.dumps(value)
    for name, digest in json.loads(made.to_json())["inputs"].items():
        yield (
            name,
            f"a picture of {digest['bytes']} bytes, sha256 {digest['sha256']}" if digest["sha256"] else "a picture",
        )
    yield "answered by", made.model
    yield "took", None if made.inference_seconds is None else f"{made.inference_seconds:g} s"
    yield "made", f"{made.created or 'at a time not known'}, by {made.generator}"
    yield "cost", None if made.cost is None else f"${made.cost}"
    yield "request id", made.request_id
