"""`nebula-async generate`: one picture into a file."""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from nebula_async.cli.connection import Connection, Switch, connected, run, say, tell
from nebula_async.cli.parameters import PictureParameters
from nebula_async.errors import JobError, UnusableReplyError
from nebula_async.images.media import EXTENSIONS, SUFFIXES
from nebula_async.requests import ImageRequest
from nebula_async.results import Generation
from nebula_async.sinks.names import slug


def generate(
    prompt: str,
    /,
    *,
    output: Annotated[Path | None, Parameter(name=("--output", "-o"))] = None,
    overwrite: Annotated[bool, Switch] = False,
    preview: Annotated[bool, Switch] = False,
    parameters: Annotated[PictureParameters, Parameter(name="*")] = PictureParameters(),  # noqa: B008 - frozen
    connection: Annotated[Connection, Parameter(name="*")] = Connection(),  # noqa: B008 - frozen
) -> int:
    """Generate one picture and print its file, size, seed and cost.

    Parameters
    ----------
    prompt
        What to see.
    output
        The file, or a folder that is there; the extension is added from the picture's type. Without a file, the
        prompt's words are the name.
    overwrite
        Replace a file of that name.
    preview
        Show the picture in the terminal too.
    """
    return run(_generate, prompt, output, overwrite, preview, parameters, connection)


async def _generate(
    prompt: str,
    output: Path | None,
    overwrite: bool,
    preview: bool,
    parameters: PictureParameters,
    connection: Connection,
) -> int:
    request = ImageRequest(prompt, **parameters.given())
    target = _target(prompt, output)
    _check_target(target, overwrite=overwrite)
    async with connected(connection) as nebula:
        generation = await nebula.generate(request)
        if generation.image.data is None:
            text = f"the reply gave only where the picture is; fetch it within the hour: {generation.image.url}"
            raise UnusableReplyError(text, charges=generation.charges)
        path = await _save(generation, target, overwrite=overwrite)
    tell(_told(path, generation))
    if not generation.charges.settled:
        say(f"pictures that may have been paid for, earlier attempts included: {generation.charges}")
    if preview:
        _show(path)
    return 0


def _show(path: Path) -> None:
    from rich.console import Console
    from textual_image.renderable import Image as Preview  # it asks the terminal what it can do when it is loaded

    Console(stderr=True).print(Preview(path))


async def _save(generation: Generation, target: Path, *, overwrite: bool) -> Path:
    """Save under the name that was asked for, else, as the picture is paid for, under one like it.

    Raises `JobError` where it cannot be saved anywhere.
    """
    image, name = generation.image, _without_suffix(target)
    if name != target and target.suffix.lower() not in EXTENSIONS[image.media_type or ""]:
        say(f"the picture is {image.media_type}: {target.name} is saved with the extension {image.extension}")
        target = _free_name(name)
    for path in (target, _free_name(name), _free_name(Path(tempfile.gettempdir(), name.name))):
        try:
            return await image.save(path, overwrite=overwrite and path == target)
        except OSError as error:
            say(f"cannot save the picture as {path}: {error.strerror or error}")
    raise JobError("the picture was paid for, and could not be saved", charges=generation.charges)


def _told(path: Path, generation: Generation) -> str:
    image, request = generation.image, generation.request
    seed = "" if request.seed is None else f", seed {request.seed}"
    cost = "price not known" if generation.cost is None else f"${generation.cost}"
    return f"{path} ({image.width}x{image.height}{seed}, {cost})"


def _target(prompt: str, output: Path | None) -> Path:
    if output is None or output.is_dir():
        return _free_name((output or Path()) / (slug(prompt) or "picture"))
    return output


def _without_suffix(path: Path) -> Path:
    return path.with_suffix("") if path.suffix.lower() in SUFFIXES else path


def _free_name(path: Path) -> Path:
    names = (path if copy == 0 else path.with_name(f"{path.name}-{copy}") for copy in itertools.count())
    return next(name for name in names if not _existing(name))


def _existing(target: Path) -> list[Path]:
    """Return the files that a target could mean before the type of the picture is known."""
    suffixes = ("",) if target.suffix.lower() in SUFFIXES else SUFFIXES
    return [path for suffix in suffixes if (path := target.with_name(target.name + suffix)).exists()]


def _check_target(target: Path, *, overwrite: bool) -> None:
    """Refuse what could not be saved, before a picture is paid for. Raises `JobError`."""
    existing = _existing(target)
    if existing and not overwrite:
        raise JobError(f"{existing[0]} exists; give another --output, or --overwrite")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=target.parent):
            pass
    except OSError as error:
        reason = error.strerror or str(error)
        raise JobError(f"cannot write to the folder {target.parent}: {reason}; give another --output") from error
