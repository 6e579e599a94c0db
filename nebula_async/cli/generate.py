"""`nebula-async generate`: one picture into a file."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import anyio
from cyclopts import Parameter

from nebula_async.advice import cost_of
from nebula_async.cli.account import learn_prices
from nebula_async.cli.connection import Connection, Switch, connected, run
from nebula_async.cli.output import say, tell
from nebula_async.cli.parameters import PictureParameters
from nebula_async.cli.saving import choose_target, save_pictures, with_provenance
from nebula_async.cli.waiting import Waiting
from nebula_async.client import AsyncNebula
from nebula_async.errors import JobError
from nebula_async.images.image import Image
from nebula_async.quantities import dollars, size
from nebula_async.requests import Request, read_request
from nebula_async.results import Generation


def generate(
    prompt: str,
    /,
    *,
    output: Annotated[str | Path | None, Parameter(name=("--output", "-o"))] = None,
    overwrite: Annotated[bool, Switch] = False,
    preview: Annotated[bool, Switch] = False,
    provenance: Annotated[bool, Switch] = False,
    parameters: Annotated[PictureParameters, Parameter(name="*")] = PictureParameters(),  # noqa: B008 - frozen
    connection: Annotated[Connection, Parameter(name="*")] = Connection(),  # noqa: B008 - frozen
) -> int:
    """Generate one picture, or several with --n, and print each file, its size, its seed and its cost.

    Parameters
    ----------
    prompt
        What to see.
    output
        The file, or a folder: one that is there, or ends with a slash; the extension is added from the picture's type.
        Without a file, the prompt's words are the name.
    overwrite
        Replace a file of that name; of several pictures, the others get names that are free.
    preview
        Show the picture in the terminal too.
    provenance
        Write into the picture how it was made: prompt, parameters, model, seed, time and cost.
    """
    return run(_generate, prompt, output, overwrite, preview, provenance, parameters, connection)


async def _generate(
    prompt: str,
    output: str | Path | None,
    overwrite: bool,
    preview: bool,
    provenance: bool,
    parameters: PictureParameters,
    connection: Connection,
) -> int:
    if preview:
        import PIL.Image  # noqa: F401 - what is missing is said before a picture is paid for

    request = read_request({"prompt": prompt, **parameters.given()})
    target = choose_target(prompt, output, overwrite=overwrite)
    waiting = Waiting()
    async with connected(connection, notify=waiting.notice) as nebula:
        await learn_prices(nebula)
        generation, places = await make(
            nebula, request, target, waiting=waiting, overwrite=overwrite, provenance=provenance
        )
    if preview:
        _show([place for place in places if place is not None])
    return conclude(generation, places)


async def make(
    nebula: AsyncNebula, request: Request, target: Path, *, waiting: Waiting, overwrite: bool, provenance: bool
) -> tuple[Generation, list[Path | None]]:
    """Generate the pictures of a request, save and tell each; return the result, and where those are that came."""
    what = "the picture" if request.pictures == 1 else f"{request.pictures} pictures"
    generation = await waiting.around(partial(_generated, nebula, request, waiting), nebula, what)
    here = [image for image in generation.images if image.data is not None]
    if provenance:
        here = await with_provenance(here)
    places = await save_pictures(here, target, overwrite=overwrite)
    for image, place in zip(here, places, strict=True):
        _tell(place, image, generation)
    return generation, places


async def _generated(nebula: AsyncNebula, request: Request, waiting: Waiting) -> Generation:
    """Generate, and fetch what is at URLs; these are told if that is interrupted, for it is paid for."""
    deadline = anyio.current_time() + nebula.config.timeouts.total
    generation = await nebula.generate(request, download=False)
    try:
        return await nebula.generator.deliver(generation, seconds=deadline - anyio.current_time())
    except anyio.get_cancelled_exc_class():
        for image in generation.images:
            waiting.say(f"a picture that was not fetched: {image.url}")
        raise


def _tell(place: Path | None, image: Image, generation: Generation) -> None:
    if place is None or image.data is None:
        return
    seed = "" if generation.request.seed is None else f", seed {generation.request.seed}"
    cost = "price not known" if generation.cost is None else dollars(generation.cost / len(generation.images))
    tell(f"{place} ({image.width}x{image.height}, {size(len(image.data))}{seed}, {cost})")


def _show(paths: Sequence[Path]) -> None:
    from rich.console import Console
    from textual_image.renderable import Image as Preview  # it asks the terminal what it can do when it is loaded

    for path in paths:
        try:
            Console(stderr=True).print(Preview(path))
        except Exception as error:  # noqa: BLE001 - of a library that asks the terminal; the picture is there all the same
            say(f"the preview of {path} cannot be shown: {error}")


def conclude(generation: Generation, places: Sequence[Path | None]) -> int:
    """Say what is not as it was asked for, and return the exit code. Raises `JobError` for a picture not saved."""
    if not generation.charges.settled:
        say(f"{cost_of(generation.charges)}, earlier attempts included")
    for image in generation.images:
        if image.data is None:
            say(f"a picture that was not fetched: {image.url}")
    if None in places:
        text = "the picture could not be saved; make room, or give another --output, and ask for it again"
        raise JobError(text, charges=generation.charges)
    if generation.missing:
        say(f"pictures asked for and not here: {generation.missing} of {generation.request.pictures}")
    return 1 if generation.missing else 0
