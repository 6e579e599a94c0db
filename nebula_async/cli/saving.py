"""Where the pictures of one command are saved: what is paid for finds a place."""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from nebula_async.cli.output import say
from nebula_async.errors import JobError
from nebula_async.images.image import Image
from nebula_async.images.media import EXTENSIONS, SUFFIXES
from nebula_async.offload import offload
from nebula_async.sinks.names import key_of


def choose_target(
    prompt: str, output: str | Path | None, *, overwrite: bool, remedy: str = "give another --output, or --overwrite"
) -> Path:
    """Return the file to save into, without extension where none was asked for.

    Without an output, or into a folder, which one that ends with a slash becomes, the prompt's words are the name.
    Refuses what could not be saved, before a picture is paid for: raises `JobError`.
    """
    place = Path(output or "")
    try:
        is_folder = place.is_dir() or str(output).endswith(os.sep)
        target = _free_name(place / (key_of(prompt))) if is_folder else place
        existing = _existing(target)
    except OSError as error:
        raise JobError(f"nothing can be saved as {output}: {error.strerror}; give another --output") from error
    if existing and not overwrite:
        raise JobError(f"{existing[0]} exists; {remedy}")
    _try_folder(target.parent)
    return target


async def save_pictures(images: Sequence[Image], target: Path, *, overwrite: bool) -> list[Path | None]:
    """Save pictures, the first one as the target, the others under free names like it; return where each is.

    One that cannot be saved under its name is saved under one like it, or in the folder for temporary files; `None`
    stands for one that could not be saved anywhere.
    """
    first, *others = images
    places = [await _save(first, target, overwrite=overwrite)]
    return places + [await _save(image, _free_name(_without_suffix(target)), overwrite=False) for image in others]


async def with_provenance(images: Sequence[Image]) -> list[Image]:
    """Return pictures that say how they were made; one that has no place for it stays as it came, which is told."""
    return [await _with_provenance(image) for image in images]


async def _with_provenance(image: Image) -> Image:
    try:
        return await offload(image.with_provenance)
    except ValueError as error:
        say(f"note: the picture does not say how it was made: {error}")
        return image


async def _save(image: Image, target: Path, *, overwrite: bool) -> Path | None:
    name = _without_suffix(target)
    if name != target and target.suffix.lower() not in EXTENSIONS[image.media_type or ""]:
        say(f"the picture is {image.media_type}: {target.name} is saved with the extension {image.extension}")
        target = _free_name(name)
    spare = _free_name(Path(tempfile.gettempdir(), key_of(name.name)))
    for path in dict.fromkeys((target, _free_name(name), spare)):
        try:
            return await image.save(path, overwrite=overwrite and path == target)
        except (OSError, ValueError) as error:  # of a file system, or a name that is another type's
            say(f"cannot save the picture as {path}: {getattr(error, 'strerror', None) or error}")
    if image.url:
        say(f"a picture that was not saved, and can be fetched within the hour: {image.url}")
    return None


def _try_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = error.strerror or str(error)
        raise JobError(f"cannot write to the folder {folder}: {reason}; give another --output") from error


def _without_suffix(path: Path) -> Path:
    while path.suffix.lower() in SUFFIXES:
        path = path.with_suffix("")
    return path


def _free_name(path: Path) -> Path:
    names = (path if copy == 0 else path.with_name(f"{path.name}-{copy}") for copy in itertools.count())
    return next(name for name in names if not _is_taken(name))


def _is_taken(name: Path) -> bool:
    try:
        return bool(_existing(name))
    except OSError:  # saving there says what is wrong with it
        return False


def _existing(target: Path) -> list[Path]:
    """Return the files that a target could mean before the type of the picture is known."""
    suffixes = ("",) if target.suffix.lower() in SUFFIXES else SUFFIXES
    return [path for suffix in suffixes if (path := target.with_name(target.name + suffix)).exists()]
