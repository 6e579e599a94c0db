"""`nebula-async reproduce`: the request that made a picture, sent once more."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from nebula_async.cli.account import learn_prices
from nebula_async.cli.connection import Connection, Switch, connected, run
from nebula_async.cli.generate import conclude, make
from nebula_async.cli.known import Known, read_known
from nebula_async.cli.output import say, tell
from nebula_async.cli.saving import choose_target
from nebula_async.cli.waiting import Waiting
from nebula_async.client import AsyncNebula
from nebula_async.errors import JobError
from nebula_async.images.provenance import Digest, Provenance, digest_file
from nebula_async.quantities import dollars
from nebula_async.requests import PICTURE_FIELDS, Request, read_request


def reproduce(
    file: Path,
    /,
    *,
    output: Annotated[str | Path | None, Parameter(name=("--output", "-o"))] = None,
    image: Path | None = None,
    mask: Path | None = None,
    provenance: Annotated[bool, Switch] = False,
    connection: Annotated[Connection, Parameter(name="*")] = Connection(),  # noqa: B008 - frozen
) -> int:
    """Send the request that made a picture once more, which costs as any call does, and say whether the same came back.

    Model, parameters and seed are those that the file tells, or the metadata of its job. No file is overwritten.

    Parameters
    ----------
    file
        The file of a picture that was made by this program.
    output
        The file, or a folder that is there; else a free name like that of the picture, in the current folder.
    image
        The picture that it was made of, where it was made of one; the file tells its digest alone.
    mask
        The mask that was given with it.
    provenance
        Write into the new picture how it was made.
    """
    given = {name: path for name, path in (("image", image), ("mask", mask)) if path is not None}
    return run(_reproduce, file, output, given, provenance, connection)


async def _reproduce(
    file: Path, output: str | Path | None, given: dict[str, Path], provenance: bool, connection: Connection
) -> int:
    known = read_known(file)
    if known.provenance is None:
        raise JobError(f"{file}: {known.problem}")
    request = _request(known.provenance, given, file)
    target = choose_target(file.stem, output, overwrite=False, remedy="give another --output")
    waiting = Waiting()
    async with connected(connection, notify=waiting.notice) as nebula:
        await learn_prices(nebula)
        say(_about_cost(nebula, request))
        generation, places = await make(
            nebula, request, target, waiting=waiting, overwrite=False, provenance=provenance
        )
    digests = {sha256(image.data).hexdigest() for image in generation.images if image.data is not None}
    tell(_compared(known, digests))
    return conclude(generation, places)


def _request(made: Provenance, given: dict[str, Path], file: Path) -> Request:
    """Return the request that is told, with the pictures that are given: what a file says opens no other file."""
    if needed := sorted(made.inputs.keys() - given.keys()):
        options = " and ".join(f"--{name} PATH{_about(made.inputs[name])}" for name in needed)
        raise JobError(f"{file} was made of another picture; give {options}")
    if unused := sorted(given.keys() - made.inputs.keys()):
        raise JobError(f"{file} was made without --{' and --'.join(unused)}; leave that out")
    for name, path in given.items():
        _compare_input(name, path, made.inputs[name])
    fields: dict[str, Any] = {name: value for name, value in made.request.items() if name not in PICTURE_FIELDS}
    return read_request(fields | given)


def _compare_input(name: str, path: Path, told: object) -> None:
    if path.exists() and not path.is_file():  # a pipe could be read only once
        raise JobError(f"--{name} {path} is no file; give the file of a picture")
    if isinstance(told, Digest) and told.sha256 is None:
        say(f"note: it is not known whether --{name} {path} is the picture that was sent")
    elif digest_file(path) != told:
        say(f"note: --{name} {path} is another picture than the one that was sent; another one will come back")


def _about(told: object) -> str:
    return f" (sha256 {told.sha256})" if isinstance(told, Digest) and told.sha256 else ""


def _about_cost(nebula: AsyncNebula, request: Request) -> str:
    price = nebula.generator.price_of(request.model)
    amount = "at a price not known" if price is None else f"for about {dollars(price * request.pictures)}"
    count = "a picture" if request.pictures == 1 else f"{request.pictures} pictures"
    return f"asking {request.model} for {count} {amount}: this costs as any call does"


def _compared(known: Known, digests: set[str]) -> str:
    if known.digest is None:
        return f"whether it is the same picture as {known.path} is not known: that does not tell its digest"
    if known.digest in digests:
        return f"the same picture as {known.path}, byte for byte"
    return f"another picture than {known.path}: the bytes differ"
