"""`nebula-async gallery`: the page to look at a job."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from nebula_async.bulk.folder import JobFolder
from nebula_async.bulk.gallery.gallery import NO_PILLOW, Gallery
from nebula_async.bulk.gallery.store_urls import is_browsable
from nebula_async.bulk.gallery.writing import Written
from nebula_async.bulk.ledger import Ledger
from nebula_async.bulk.standing import read_standing
from nebula_async.cli.connection import INTERRUPTED, ended
from nebula_async.cli.output import say, tell
from nebula_async.cli.signals import noted_signals
from nebula_async.errors import ConfigurationError
from nebula_async.quantities import counted


def gallery(out: Path, /, *, pictures_url: str | None = None) -> int:
    """Write the page to look at a bulk job, gallery/index.html in its folder, with all thumbnails, and print its path.

    A run writes it at its end; this makes what is missing, also of a job that runs, was killed, or was moved. Ctrl-C
    makes no more thumbnails, and the page shows those that are there. Nothing is sent. Exit codes: 0, 2 for a folder
    that is no job's, 130 interrupted.

    Parameters
    ----------
    out
        The folder of the job, as it was given to `bulk --out`, or to `bulk --job` where the pictures are in a store.
    pictures_url
        Where a browser finds the pictures of a job with an object store: what corresponds to its folder images/, such
        as https://cdn.example.com/cats/images/.
    """
    return ended(_gallery, out, pictures_url)


def _gallery(out: Path, pictures_url: str | None) -> int:
    url = None if pictures_url is None else _read_pictures_url(pictures_url)
    with closing(Ledger.read(JobFolder(out).ledger)) as ledger:
        made = Gallery.of(ledger, JobFolder(out), pictures_url=url)
        if url is not None and made.shown.job is not None:
            raise ConfigurationError(f"the pictures of {out} are in that folder; leave out --pictures-url")
        with closing(made), noted_signals(made.hurry) as came:
            written = _write(made, ledger, out)
            with _shown(written.pictures) as advance:
                made.fill(ledger, on_each=advance)
            if made.thumbnails is not None and written.thumbnails < written.pictures:
                written = _write(made, ledger, out)
    _tell(made, written)
    return INTERRUPTED if came else 0


def _write(made: Gallery, ledger: Ledger, out: Path) -> Written:
    """Write the page as the job stands now, with the thumbnails that are there."""
    made.notes.clear()
    return made.write(ledger, read_standing(out).values())


def _read_pictures_url(text: str) -> str:
    """Return a URL below which pictures lie, with a slash at its end. Raises `ConfigurationError`."""
    if not is_browsable(text):
        raise ConfigurationError(
            f"--pictures-url must be such as https://bucket.example.com/cats/images/, without ? and #; got {text!r}"
        )
    return f"{text.rstrip('/')}/"


@contextmanager
def _shown(total: int) -> Iterator[Callable[[], None]]:
    """Show how far the thumbnails are, where somebody looks."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("thumbnails"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    is_shown = sys.stderr is not None and console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=not is_shown) as progress:
        task = progress.add_task("thumbnails", total=total)
        yield lambda: progress.advance(task)


def _tell(made: Gallery, written: Written) -> None:
    tell(str(made.page))
    empty = written.entries - written.pictures
    others = f", {counted(empty, 'item')} without one" if empty else ""
    thumbnails = counted(written.thumbnails, "thumbnail")
    say(f"{counted(written.pictures, 'picture')}, {thumbnails}{others}; open it in a browser")
    if written.omitted:
        say(f"left out, as they are more than a page holds: {written.omitted:,}; failures and the newest are shown")
    has_no_pillow = made.thumbnails is None and made.shown.job is not None
    for note in [NO_PILLOW] if has_no_pillow else made.notes:
        say(note)
