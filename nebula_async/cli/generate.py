"""`nebula-async generate`: one picture into a file."""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from nebula_async.cli.connection import Connection, Switch, connected, run, say
from nebula_async.cli.parameters import PictureParameters
from nebula_async.errors import JobError
from nebula_async.images.image import Image
from nebula_async.images.media import EXTENSIONS
from nebula_async.requests import ImageRequest
from nebula_async.results import Generation
from nebula_async.sinks.names import slug


def generate(
    prompt: str,
    /,
    *,
    output: Annotated[Path | None, Parameter(name=("--output", "-o"))] = None,
    overwrite: Annotated[bool, Switch] = False,
    parameters: Annotated[PictureParameters, Parameter(name="*")] = PictureParameters(),  # noqa: B008 - frozen
    connection: Annotated[Connection, Parameter(name="*")] = Connection(),  # noqa: B008 - frozen
) -> int:
    """Generate one picture and print its file, size, seed and cost.

    Parameters
    ----------
    prompt
        What to see.
    output
        The file; its extension is added from the picture's type. Without it, the prompt's words are the name.
    overwrite
        Replace a file of that name.
    """
    return run(_generate, prompt, output, overwrite, parameters, connection)


async def _generate(
    prompt: str, output: Path | None, overwrite: bool, parameters: PictureParameters, connection: Connection
) -> int:
    request = ImageRequest(prompt, **parameters.given())
    target = output or _free_name(Path(slug(prompt) or "picture"))
    _check_target(target, overwrite=overwrite)
    async with connected(connection) as nebula:
        generation = await nebula.generate(request)
    path = await _save(generation.image, target, overwrite=overwrite)
    print(_told(path, generation))
    if not generation.charges.settled:
        say(f"an earlier attempt may have been paid for as well: {generation.charges} pictures in all")
    return 0


async def _save(image: Image, target: Path, *, overwrite: bool) -> Path:
    """Save under the name that was asked for, else, as the picture is paid for, under one like it."""
    try:
        return await image.save(target, overwrite=overwrite)
    except (ValueError, OSError) as error:
        say(f"{error}; saved under another name instead")
        return await image.save(_free_name(target.with_suffix("")))


def _told(path: Path, generation: Generation) -> str:
    image, request = generation.image, generation.request
    seed = "" if request.seed is None else f", seed {request.seed}"
    cost = "price not known" if generation.cost is None else f"${generation.cost}"
    return f"{path} ({image.width}x{image.height}{seed}, {cost})"


def _free_name(path: Path) -> Path:
    names = (path if copy == 0 else path.with_name(f"{path.name}-{copy}") for copy in itertools.count())
    return next(name for name in names if not _existing(name))


def _existing(target: Path) -> list[Path]:
    """Return the files that a target could mean before the type of the picture is known."""
    suffixes = {suffix for known in EXTENSIONS.values() for suffix in known}
    if target.suffix.lower() in suffixes:
        return [target] if target.exists() else []
    return [path for suffix in sorted(suffixes) if (path := target.with_name(target.name + suffix)).exists()]


def _check_target(target: Path, *, overwrite: bool) -> None:
    """Refuse what could not be saved, before a picture is paid for. Raises `JobError`."""
    if not overwrite and (existing := _existing(target)):
        raise JobError(f"{existing[0]} exists; give another --output, or --overwrite")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=target.parent):
            pass
    except OSError as error:
        reason = error.strerror or str(error)
        raise JobError(f"cannot write to the folder {target.parent}: {reason}; give another --output") from error
