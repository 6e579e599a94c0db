"""What a notebook shows of results: pictures where there are some, plain words where there are none.

One picture is shown by the type of its bytes, several as HTML. Prompts, and messages of a server, reach that as text:
no tag, no formula (front ends set `$…$` in HTML as mathematics), no change of the direction of writing.
"""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from itertools import islice

import pybase64
from attrs import frozen

from nebula_async.errors import cause_of
from nebula_async.images.display import MimeBundle, brought_here, show_image, whereabouts
from nebula_async.images.image import Image
from nebula_async.images.preview import preview
from nebula_async.printing import printable
from nebula_async.quantities import counted, dollars
from nebula_async.results import Failure, Generation

TILE_WHOLE, TILE_SIDE = 64 * 2**10, 384
"""Of one picture among several: above so many bytes a preview with such sides is shown."""

MOST_TILES = 48
"""More pictures and failures than these are counted, not shown."""

MOST_UNMADE_BYTES = 16 * 2**20
"""Where no previews can be made, pictures are shown until they have so many bytes together."""

MOST_OF_PROMPT = 120
MOST_CAUSES = 5
MOST_DECIMALS = 6

FORMULA, APART = re.compile(r"[$\\]"), r"<span>\g<0></span>"
"""What begins and ends a formula in the HTML of a notebook, and how it is kept from doing so."""

FIGURE = "display:inline-block;vertical-align:top;width:240px;margin:4px 8px 8px 0"
PICTURE = "width:240px;height:auto;margin:0"
TEXT = "border:1px solid;border-radius:4px;padding:8px;overflow-wrap:anywhere"


def show_generation(generation: Generation) -> MimeBundle:
    """Return how a notebook shows a result: its picture, or all of them with their seed, size and cost."""
    if len(generation.images) == 1 and not generation.missing:
        bundle, sides = show_image(generation.image)
        return (bundle | {"text/plain": repr(generation)} if sides else bundle), sides
    return {"text/html": _page("", [generation]), "text/plain": repr(generation)}, {}


def show_failure(failure: Failure) -> MimeBundle:
    """Return how a notebook shows a failure: as text that says what happened, what it may have cost, and what to do."""
    return {"text/plain": printable(f"{_shortened(failure.request.prompt)!r} failed: {_said(failure)}")}, {}


def show_results(results: Sequence[Generation | Failure]) -> MimeBundle:
    """Return how a notebook shows many results: a line that counts them, then pictures and failures in their order."""
    return {"text/html": _page(_heading(results), results), "text/plain": list_results(results)}, {}


def list_results(results: Sequence[Generation | Failure]) -> str:
    """Return many results as text: a line that counts them, and a line for each."""
    lines = (printable(f"{tile.prompt!r}: {tile.text or ' · '.join(tile.lines)}") for tile in _tiles(results))
    return "\n".join((_heading(results), *lines, *_more(results)))


@frozen
class _Tile:
    """One picture, or what stands in its place, and what is told of it."""

    prompt: str
    lines: tuple[str, ...] = ()
    image: Image | None = None
    text: str = ""


def _heading(results: Sequence[Generation | Failure]) -> str:
    done = [result for result in results if isinstance(result, Generation)]
    pictures = sum(len(result.images) for result in done)
    words = [f"{len(done)} of {len(results)} done", counted(pictures, "picture")]
    if costs := [result.cost for result in done if result.cost is not None]:
        words.append(dollars(round(sum(costs, Decimal(0)), MOST_DECIMALS)))
    causes = Counter(cause_of(result.error) for result in results if isinstance(result, Failure)).most_common()
    told = [f"{number} × {cause}" for cause, number in causes[:MOST_CAUSES]]  # noqa: RUF001 - a real ×
    told += ["…"] * (len(causes) > MOST_CAUSES)
    return ", ".join(words) + (f"; failed: {', '.join(told)}" if told else "")


def _page(heading: str, results: Sequence[Generation | Failure]) -> str:
    return (
        '<div class="tex2jax_ignore mathjax_ignore" translate="no">'
        f"{_paragraph(heading)}{''.join(_figures(_tiles(results)))}{''.join(map(_paragraph, _more(results)))}</div>"
    )


def _more(results: Sequence[Generation | Failure]) -> list[str]:
    rest = sum(len(result.images) + bool(result.missing) if isinstance(result, Generation) else 1 for result in results)
    return [f"{rest - MOST_TILES} more are in the list, and not shown"] if rest > MOST_TILES else []


def _tiles(results: Sequence[Generation | Failure]) -> Iterator[_Tile]:
    return islice((tile for result in results for tile in _tiles_of(result)), MOST_TILES)


def _tiles_of(result: Generation | Failure) -> Iterator[_Tile]:
    prompt = _shortened(result.request.prompt)
    if isinstance(result, Failure):
        yield _Tile(prompt, text=f"failed: {_said(result)}")
        return
    yield from (_Tile(prompt, _facts(result, image), image) for image in result.images)
    if result.missing:
        yield _Tile(prompt, text=f"missing: {result.missing} of {result.request.pictures}")


def _facts(generation: Generation, image: Image) -> tuple[str, ...]:
    seed, cost = generation.request.seed, generation.cost
    facts = (
        "" if seed is None else f"seed {seed}",
        f"{image.width} × {image.height}" if image.width and image.height else "",  # noqa: RUF001 - a real ×
        "" if cost is None else dollars(round(cost / len(generation.images), MOST_DECIMALS)),
    )
    return tuple(fact for fact in facts if fact)


def _figures(tiles: Iterable[_Tile]) -> Iterator[str]:
    left = MOST_UNMADE_BYTES
    for tile in tiles:
        image = None if tile.image is None else preview(brought_here(tile.image), most_bytes=TILE_WHOLE, side=TILE_SIDE)
        data = b"" if image is None or image.data is None else image.data
        left -= len(data)
        yield _figure(tile, image, data if left >= 0 else b"")


def _figure(tile: _Tile, image: Image | None, data: bytes) -> str:
    if image is not None and data:
        source = f"data:{html.escape(str(image.media_type))};base64,{pybase64.b64encode_as_string(data)}"
        inner = f'<img src="{source}" alt="{html.escape(printable(tile.prompt))}" style="{PICTURE}">'
    else:
        inner = f'<div style="{TEXT}">{_text(tile.text if image is None else whereabouts(image))}</div>'
    caption = "<br>".join(_text(line) for line in (tile.prompt, " · ".join(tile.lines)) if line)
    return f'<figure style="{FIGURE}">{inner}<figcaption>{caption}</figcaption></figure>'


def _said(failure: Failure) -> str:
    return f"{cause_of(failure.error)}: {failure.error}"


def _shortened(prompt: object) -> str:
    prompt = str(prompt)  # one that was refused may be anything
    return prompt if len(prompt) <= MOST_OF_PROMPT else f"{prompt[:MOST_OF_PROMPT]}…"


def _text(text: str) -> str:
    """Return text as HTML that shows it and nothing else; what begins a formula stands in an element of its own."""
    return f"<bdi>{FORMULA.sub(APART, html.escape(printable(text)))}</bdi>"


def _paragraph(text: str) -> str:
    return f"<p>{_text(text)}</p>" if text else ""
