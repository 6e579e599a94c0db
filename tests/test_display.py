"""What a notebook is given of results: pictures by their type, several as HTML, and words where there is no picture."""

from __future__ import annotations

import io
import pickle
import random
import re
import sys
from datetime import UTC, datetime
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path

import pybase64
import pytest
from attrs import evolve
from IPython.lib.pretty import pretty
from PIL import Image as Pillow

from nebula_async.charges import Charges
from nebula_async.errors import BadRequestError, OutcomeUnknownError
from nebula_async.images.image import Image, read_image
from nebula_async.notebook import MOST_TILES
from nebula_async.requests import ImageRequest, InferenceRequest
from nebula_async.results import Failure, Generation, ResultList

HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '" onmouseover="alert(1)',
    "' style='position:fixed",
    "</figure></div><iframe src=//evil.example>",
    "<!-- ",
    "]]><svg onload=alert(1)>",
    "&lt;b&gt; &#60;b&#62;",
    r"$\href{javascript:alert(1)}{x}$ \(y\) $$z$$",
    r"\begin{matrix}a\end{matrix}",
    "\u202egnp.tac",
    "nul\0 bell\a escape\x1b[2J",
    "![x](javascript:alert(1)) **bold**",
    "{{ 7 * 7 }} {% raw %} ${7*7}",
    "\ud800 half a character",
    "x" * 100_000,
]


def noise(side: int, mode: str = "RGB", form: str = "PNG") -> Image:
    """Return a picture that no format can make small."""
    data = random.Random(side).randbytes(side * side * len(mode))  # noqa: S311 - any bytes do
    buffer = io.BytesIO()
    Pillow.frombytes(mode, (side, side), data).save(buffer, form)
    return read_image(buffer.getvalue())


SMALL, LARGE = noise(16), noise(1_200)
REQUEST = ImageRequest("a cat", model="m", seed=7)


def generation(*images: Image, **facts: object) -> Generation:
    """Return a result with these pictures."""
    return Generation(request=REQUEST, images=images or (SMALL,), cost=Decimal("0.0019") * len(images or "1"), **facts)


def failure(prompt: str = "a dog", message: str = "the size is not allowed") -> Failure:
    """Return what is left of a request that the API refused."""
    error = BadRequestError(message, attempts=1, status=400, code="invalid_size")
    return Failure(request=ImageRequest.refused(prompt, "m"), error=error)


def page_of(value: Generation | ResultList) -> str:
    """Return the HTML that stands for it."""
    return value._repr_mimebundle_()[0]["text/html"]


class Elements(HTMLParser):
    """Notes which elements, attributes and text a page has."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.texts: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        """Note an element."""
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data):
        """Note a text."""
        self.texts.append(data)


def tiles(page: str) -> list[Image]:
    """Return the pictures of a page."""
    return [read_image(pybase64.b64decode(data)) for data in re.findall(r'src="data:image/\w+;base64,([^"]+)"', page)]


# One picture


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF"])
def test_a_picture_is_shown_as_it_is(form):
    """A notebook is given the bytes of a picture, its type, and the size to keep free for it."""
    picture = noise(16, form=form)
    data, sizes = picture._repr_mimebundle_(include=None, exclude=None)
    assert {picture.media_type: picture.data, "text/plain": repr(picture)} == data
    assert {picture.media_type: {"width": 16, "height": 16}} == sizes


def test_a_large_picture_does_not_fill_the_notebook():
    """Above a megabyte a JPEG of at most 1024 pixels is shown; the picture itself stays whole."""
    (kind, shown), _ = LARGE._repr_mimebundle_()[0].items()
    assert ("image/jpeg", (1024, 1024)) == (kind, (read_image(shown).width, read_image(shown).height))
    assert len(shown) < len(LARGE.data) / 3
    assert {"image/jpeg": {"width": 1024, "height": 1024}} == LARGE._repr_mimebundle_()[1]


def test_a_large_transparent_picture_stays_transparent():
    """What is transparent is shown as a PNG, whatever its size."""
    data, _ = noise(1_200, "RGBA")._repr_mimebundle_()
    assert "RGBA" == Pillow.open(io.BytesIO(data["image/png"])).mode


def test_an_avif_is_shown_as_a_jpeg():
    """A type that front ends do not know is made one that they do."""
    assert "image/jpeg" in noise(64, form="AVIF")._repr_mimebundle_()[0]


def test_without_pillow_a_large_picture_is_shown_whole(monkeypatch):
    """No preview can be made then, and the picture matters more."""
    monkeypatch.setitem(sys.modules, "PIL", None)
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    assert LARGE.data == LARGE._repr_mimebundle_()[0]["image/png"]


def test_a_picture_that_pillow_cannot_read_is_shown_whole():
    """A browser may well show it."""
    middle = len(LARGE.data) // 2
    damaged = evolve(LARGE, data=LARGE.data[:middle] + b"\xff" * 64 + LARGE.data[middle + 64 :])
    assert damaged.data == damaged._repr_mimebundle_()[0]["image/png"]


# A picture that is elsewhere


def test_a_picture_at_its_url_is_a_text():
    """It says how the picture is fetched, and until when; the URL, which anyone could open, stays out of it."""
    left = Image(url="https://a.example/secret.png", expires_at=datetime(2026, 11, 21, 9, 5, tzinfo=UTC))
    data, _ = left._repr_mimebundle_()
    assert ["text/plain"] == list(data)
    assert "await nebula.download(image) before 09:05 UTC" in data["text/plain"]
    for shown in (data["text/plain"], page_of(generation(left, left)), page_of(ResultList([generation(left)]))):
        assert "secret" not in shown
        assert "nebula.download" in shown
    assert "nebula.download" in generation(left)._repr_mimebundle_()[0]["text/plain"]


def test_a_picture_that_a_sink_stored_in_a_file_is_shown(tmp_path):
    """What is streamed into a folder of this machine is seen in the notebook all the same."""
    (tmp_path / "cat.png").write_bytes(SMALL.data)
    stored = evolve(SMALL, data=None, stored=str(tmp_path / "cat.png"))
    assert SMALL.data == stored._repr_mimebundle_()[0]["image/png"]
    assert SMALL.data == generation(stored)._repr_mimebundle_()[0]["image/png"]
    assert [SMALL.data] == [tile.data for tile in tiles(page_of(ResultList([generation(stored)])))]


@pytest.mark.parametrize("place", ["s3://bucket/cat.png", "gone.png", "\0", "x" * 5_000, "other.png", "text.png", "."])
def test_a_picture_that_is_stored_elsewhere_is_a_text(place, tmp_path, monkeypatch):
    """Where no file is the picture that was stored, it is said where that is; another file is never shown."""
    monkeypatch.chdir(tmp_path)
    Path("other.png").write_bytes(noise(8).data)
    Path("text.png").write_text("a secret")
    data, _ = evolve(SMALL, data=None, stored=place)._repr_mimebundle_()
    assert ["text/plain"] == list(data)
    assert "stored as" in data["text/plain"]


# One result


def test_a_result_is_shown_as_its_picture():
    """With one picture, a result is that picture."""
    data, sizes = generation()._repr_mimebundle_()
    assert SMALL.data == data["image/png"]
    assert {"image/png": {"width": 16, "height": 16}} == sizes


def test_a_result_shows_all_its_pictures():
    """Each has its seed, its size and what it cost below it; what is missing has its place."""
    shown = page_of(generation(SMALL, noise(24), missing=1))
    assert [(16, 16), (24, 24)] == [(tile.width, tile.height) for tile in tiles(shown)]
    text = "".join(Elements(shown).texts)
    assert "seed 7 · 16 × 16 · $0.0019" in text  # noqa: RUF001
    assert "seed 7 · 24 × 24 · $0.0019" in text  # noqa: RUF001
    assert "missing: 1 of 1" in text


def test_an_inference_result_without_seed_or_cost():
    """What is not known is left out of the caption."""
    lakes = evolve(generation(SMALL, SMALL), request=InferenceRequest("a lake", model="sdxl", n=2), cost=None)
    text = "".join(Elements(page_of(lakes)).texts)
    assert "16 × 16" in text  # noqa: RUF001
    assert "seed" not in text
    assert "$" not in text


def test_a_failure_says_what_to_do():
    """It is a text: what was asked, what happened, what it may have cost, and the next step."""
    error = OutcomeUnknownError("the connection was lost", attempts=2, charges=Charges(0, 2), retryable=True)
    data, sizes = Failure(request=REQUEST, error=error)._repr_mimebundle_()
    assert (["text/plain"], {}) == (list(data), sizes)
    assert f"'a cat' failed: OutcomeUnknownError: {error}" == data["text/plain"]


# Many results


def test_a_list_of_results_counts_them():
    """A line says how many are done, what they cost, and which causes of failure there are."""
    many = ResultList([generation(), failure(), generation(SMALL, SMALL), failure()])
    text = "".join(Elements(page_of(many)).texts)
    assert "2 of 4 done, 3 pictures, $0.0057; failed: 2 × BadRequestError invalid_size" in text  # noqa: RUF001
    assert 3 == len(tiles(page_of(many)))
    assert 2 == text.count("the size is not allowed")


def test_a_list_of_results_is_a_list():
    """It equals the list of the same results, is pickled and sliced as one, and stays one for whoever expects that."""
    results = [generation(), generation()]
    assert results == ResultList(results)
    assert isinstance(ResultList(results), list)
    assert ResultList(results) == pickle.loads(pickle.dumps(ResultList(results)))  # noqa: S301 - our own bytes


def test_of_many_results_some_are_shown():
    """A list of thousands does not fill the notebook: the first are shown, and all are counted."""
    many = ResultList([generation(LARGE)] * 3 + [generation()] * 10_000)
    shown = page_of(many)
    assert MOST_TILES == len(tiles(shown))
    assert "10003 of 10003 done" in shown
    assert f"{10_003 - MOST_TILES} more are in the list, and not shown" in shown
    assert max(tile.width for tile in tiles(shown)) <= 384
    assert len(shown) < 2**20


def test_without_pillow_many_large_pictures_do_not_fill_the_notebook(monkeypatch):
    """Where no previews can be made, pictures are shown up to 16 MB, and the others are told."""
    monkeypatch.setitem(sys.modules, "PIL", None)
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    shown = page_of(ResultList([generation(LARGE)] * 8))
    assert (16 * 2**20) // len(LARGE.data) == shown.count("<img")
    assert "bytes, too many to be shown here; save it" in shown


def test_no_results_are_shown_as_none():
    """An empty list is told, too."""
    assert "0 of 0 done, 0 pictures" in page_of(ResultList())


# Hostile text


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_a_prompt_is_never_markup(text):
    """Whatever a prompt or a message holds, the page has our elements alone, and shows it as it is written."""
    asked = evolve(generation(SMALL, SMALL), request=ImageRequest.refused(text, "m"))
    for shown in (page_of(asked), page_of(ResultList([asked, failure(text, text)]))):
        page = Elements(shown)
        assert {"div", "p", "bdi", "figure", "figcaption", "img", "span", "br"} >= page.tags
        assert {"class", "translate", "style", "src", "alt"} >= page.attributes
        assert all(char.isprintable() or char == "\n" for char in shown)
        assert len(shown) < 300_000


@pytest.mark.parametrize("text", HOSTILE[:8], ids=range(8))
def test_a_prompt_is_shown_as_it_was_written(text):
    """Nothing is lost of it."""
    page = page_of(ResultList([failure(text)]))
    assert text in "".join(Elements(page).texts)


def test_a_prompt_is_never_a_formula():
    """Each character that could begin one stands in an element of its own, where it finds no partner."""
    page = page_of(ResultList([failure(r"$x$ \(y\)", "costs $5 or $6")]))
    assert [] == re.findall(r"(?<!<span>)[$\\]|[$\\](?!</span>)", page)


def test_ipython_prints_a_line_for_each_result():
    """In a terminal a list of results is read line by line."""
    results = ResultList([generation(), failure()])
    told = pretty(results).splitlines()
    assert told == results._repr_mimebundle_()[0]["text/plain"].splitlines()
    assert "1 of 2 done, 1 picture, $0.0019; failed: 1 × BadRequestError invalid_size" == told[0]  # noqa: RUF001
    assert "'a cat': seed 7 · 16 × 16 · $0.0019" == told[1]  # noqa: RUF001
    assert told[2].startswith("'a dog': failed: BadRequestError invalid_size: the size is not allowed")
