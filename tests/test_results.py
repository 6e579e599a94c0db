"""Results are plain values, and a picture is saved whole, under a true name, or not at all."""

from __future__ import annotations

import io
import os
import pickle
import resource
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import anyio
import pytest
from attrs import evolve
from attrs.exceptions import FrozenInstanceError
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pillow

from nebula_async.charges import Charges
from nebula_async.errors import RateLimitError
from nebula_async.images.image import Image, read_image
from nebula_async.requests import ImageRequest, InferenceRequest
from nebula_async.results import Failure, Generation, RateLimit

pytestmark = pytest.mark.anyio

REQUEST = ImageRequest("a cat", model="m", seed=7)


def image(form: str = "PNG") -> Image:
    """Return a picture as it comes out of a reply."""
    buffer = io.BytesIO()
    Pillow.linear_gradient("L").resize((20, 10)).convert("RGB").save(buffer, form)
    return read_image(buffer.getvalue())


PNG = image()


def names(folder: Path) -> list[str]:
    """Return what is in a folder, hidden files too."""
    return sorted(path.name for path in folder.iterdir())


# Charges

charges = st.builds(lambda low, more: Charges(low, low + more), st.integers(0, 9), st.integers(0, 9))


@pytest.mark.parametrize(
    ("value", "is_settled", "text"),
    [
        (Charges(), True, "0-0"),
        (Charges(0, 1), False, "0-1"),
        (Charges(1, 1), True, "1-1"),
        (Charges(1, 2), False, "1-2"),
    ],
)
def test_charges_say_whether_they_are_settled(value, is_settled, text):
    """A charge is settled where least and most are the same."""
    assert (is_settled, text) == (value.settled, str(value))


def test_charges_of_attempts_add_up():
    """An attempt of unknown outcome and a success after it cost one picture or two."""
    assert Charges(1, 2) == Charges(0, 1) + Charges(1, 1)
    assert Charges(1, 2) == sum([Charges(0, 1), Charges(1, 1)], Charges())
    assert Charges(0, 4) == Charges(0, 1) * 4


@given(charges, charges, st.integers(0, 9))
def test_charges_stay_in_order(one, other, pictures):
    """However charges are summed, the least is never more than the most, and order does not matter."""
    total = (one + other) * pictures
    assert total.at_least <= total.at_most
    assert total == other * pictures + one * pictures
    assert one == one + Charges()


# Values


def generation() -> Generation:
    """Return a result with every field set."""
    return Generation(
        request=REQUEST,
        images=(PNG, image("WEBP")),
        index=3,
        model="m",
        message="done",
        usage={"images_generated": 2},
        inference_seconds=1.5,
        attempts=2,
        charges=Charges(2, 4),
        cost=Decimal("0.0038"),
        request_id="r",
        idempotency_key="k",
        rate_limit=RateLimit(limit=60, remaining=59, reset_seconds=1.0),
        missing=1,
    )


@pytest.mark.parametrize(
    "value",
    [
        PNG,
        Image(url="https://a.example/1.png", expires_at=datetime(2026, 11, 20, tzinfo=UTC)),
        generation(),
        evolve(generation(), request=InferenceRequest("a lake", model="sdxl", n=2, size="64x64")),
        RateLimit(limit=1),
    ],
    ids=lambda value: type(value).__name__,
)
def test_results_are_pickled_whole(value):
    """A result goes to another process and comes back equal, under every pickle protocol."""
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert value == pickle.loads(pickle.dumps(value, protocol))  # noqa: S301 - our own bytes


def test_failures_are_pickled_whole():
    """A failure carries its request and its error to another process."""
    error = RateLimitError("slow down", attempts=2, charges=Charges(0, 1), status=429, scope="day")
    twin = pickle.loads(pickle.dumps(Failure(request=REQUEST, error=error, index=5)))  # noqa: S301 - our own bytes
    assert (REQUEST, 5) == (twin.request, twin.index)
    assert (RateLimitError, repr(error)) == (type(twin.error), repr(twin.error))


def test_results_are_frozen():
    """Nobody changes a result under somebody else."""
    for value, name in (
        (PNG, "data"),
        (generation(), "images"),
        (Failure(request=REQUEST, error=RateLimitError("")), "index"),
    ):
        with pytest.raises(FrozenInstanceError):
            setattr(value, name, None)


def test_the_first_picture_is_at_hand():
    """`image` is the first of `images`."""
    assert PNG is generation().image


def test_printing_a_result_shows_neither_bytes_nor_urls():
    """The repr of a picture says its size; a URL, which anyone could open, stays out of it."""
    assert f"data=<{len(PNG.data)} bytes>" in repr(PNG)
    assert len(repr(generation())) < 2_000
    assert "secret" not in repr(Image(url="https://a.example/secret.png"))


@pytest.mark.parametrize(
    ("form", "media_type", "extension"),
    [
        ("PNG", "image/png", ".png"),
        ("JPEG", "image/jpeg", ".jpg"),
        ("WEBP", "image/webp", ".webp"),
        ("GIF", "image/gif", ".gif"),
        ("AVIF", "image/avif", ".avif"),
    ],
)
def test_a_picture_is_read_from_its_bytes(form, media_type, extension):
    """Type, extension and size are those of the bytes; where they came from and until when stands beside them."""
    buffer = io.BytesIO()
    Pillow.new("RGB", (20, 10)).save(buffer, form)
    until = datetime(2026, 11, 20, tzinfo=UTC)
    picture = read_image(buffer.getvalue(), url="https://a.example/1", expires_at=until)
    assert (buffer.getvalue(), media_type, extension) == (picture.data, picture.media_type, picture.extension)
    assert (20, 10, "https://a.example/1", until) == (picture.width, picture.height, picture.url, picture.expires_at)


@pytest.mark.parametrize(
    "data", [b"", b"<html>", b"<svg xmlns='x'/>", b"\0" * 9, PNG.data[:-12]], ids=lambda data: repr(data[:8])
)
def test_what_is_no_whole_picture_is_refused(data):
    """Bytes that are no picture, or not the whole of one, become none."""
    with pytest.raises(ValueError, match=r"^it is "):
        read_image(data)


# Saving


@pytest.mark.parametrize(
    ("form", "extension"), [("PNG", ".png"), ("JPEG", ".jpg"), ("WEBP", ".webp"), ("GIF", ".gif"), ("AVIF", ".avif")]
)
async def test_the_extension_is_that_of_the_bytes(form, extension, tmp_path):
    """Without an extension the file gets the one of what the picture is, and `save` returns its path."""
    picture = image(form)
    path = await picture.save(tmp_path / "cat")
    assert tmp_path / f"cat{extension}" == path
    assert picture.data == path.read_bytes()


@pytest.mark.parametrize(
    ("form", "name"),
    [("JPEG", "cat.jpg"), ("JPEG", "cat.jpeg"), ("JPEG", "CAT.JPEG"), ("PNG", "cat.Png"), ("PNG", "a.jpg.png")],
)
async def test_a_right_extension_is_kept(form, name, tmp_path):
    """A name that already says what the picture is stays as it is."""
    assert tmp_path / name == await image(form).save(tmp_path / name)


@pytest.mark.parametrize("name", ["cat.v2", "12.5", "a cat.", ".hidden", "cat.tar"])
async def test_a_dot_is_no_extension(name, tmp_path):
    """A name with a dot in it that is no picture's extension is completed."""
    assert tmp_path / f"{name}.png" == await PNG.save(tmp_path / name)


@pytest.mark.parametrize(
    ("form", "name", "right"),
    [
        ("PNG", "cat.jpg", "cat.png"),
        ("JPEG", "cat.PNG", "cat.jpg"),
        ("WEBP", "cat.jpeg", "cat.webp"),
        ("PNG", "x.v1.gif", "x.v1.png"),
    ],
)
async def test_a_wrong_extension_is_refused(form, name, right, tmp_path):
    """A name that says another picture type is refused, with the right name in the message, and nothing is written."""
    with pytest.raises(ValueError, match=f"save it as {right}"):
        await image(form).save(tmp_path / "new" / name)
    assert [] == names(tmp_path)


async def test_text_is_a_path_too(tmp_path, monkeypatch):
    """A path may be text, absolute or from the current folder."""
    monkeypatch.chdir(tmp_path)
    assert Path("cat.png") == await PNG.save("cat")
    assert tmp_path / "dog.png" == await PNG.save(str(tmp_path / "dog"))
    assert ["cat.png", "dog.png"] == names(tmp_path)


async def test_missing_folders_are_made(tmp_path):
    """Saving into a folder that is not there makes it."""
    assert (await PNG.save(tmp_path / "a" / "b" / "cat")).is_file()


async def test_an_existing_file_is_not_overwritten(tmp_path):
    """A file that is there stays as it is, unless one asks for it to be replaced."""
    target = tmp_path / "cat.png"
    target.write_bytes(b"precious")
    with pytest.raises(FileExistsError, match=r"cat\.png exists; give another name, or overwrite=True"):
        await PNG.save(tmp_path / "cat")
    assert b"precious" == target.read_bytes()
    assert target == await PNG.save(tmp_path / "cat", overwrite=True)
    assert PNG.data == target.read_bytes()
    assert ["cat.png"] == names(tmp_path)


async def test_of_several_saves_under_one_name_one_succeeds(tmp_path):
    """Tasks that save under the same name at once leave one whole picture, and the others are told."""
    pictures = [evolve(PNG, data=PNG.data + bytes([number])) for number in range(8)]
    saved = []

    async def save(picture: Image) -> None:
        with suppress(FileExistsError):
            await picture.save(tmp_path / "cat")
            saved.append(picture.data)

    async with anyio.create_task_group() as group:
        for picture in pictures:
            group.start_soon(save, picture)
    assert saved == [(tmp_path / "cat.png").read_bytes()]
    assert ["cat.png"] == names(tmp_path)


@pytest.mark.parametrize("overwrite", [True, False])
async def test_a_link_is_never_followed(overwrite, tmp_path):
    """A link where the file should be is replaced or refused; what it points to is never written to."""
    (tmp_path / "cat.png").symlink_to(tmp_path / "elsewhere")
    if overwrite:
        await PNG.save(tmp_path / "cat", overwrite=True)
    else:
        with pytest.raises(FileExistsError):
            await PNG.save(tmp_path / "cat")
    assert not (tmp_path / "elsewhere").exists()


async def test_without_hard_links_nothing_is_overwritten_either(tmp_path, monkeypatch):
    """On a file system without hard links a picture is saved all the same, and never over another file."""

    def refuse(*_arguments: object, **_options: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    path = await PNG.save(tmp_path / "cat")
    assert PNG.data == path.read_bytes()
    with pytest.raises(FileExistsError, match="overwrite=True"):
        await image("PNG").save(tmp_path / "cat")
    assert ["cat.png"] == names(tmp_path)


@contextmanager
def file_size_limit(limit: int):
    """Let the operating system refuse to write files any further than `limit` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("overwrite", [True, False])
async def test_a_failed_write_leaves_nothing(overwrite, tmp_path):
    """When the disk refuses in the middle of a picture, no part of it is left, and the old file is still there."""
    target = tmp_path / "cat.png"
    if overwrite:
        target.write_bytes(b"precious")
    with pytest.raises(OSError, match="File too large"), file_size_limit(20):
        await PNG.save(target, overwrite=overwrite)
    assert [*["cat.png"] * overwrite] == names(tmp_path)
    assert not overwrite or target.read_bytes() == b"precious"


async def test_a_folder_in_the_way_stays(tmp_path):
    """A folder that has the name of the file is not touched, and no part is left beside it."""
    (tmp_path / "cat.png").mkdir()
    with pytest.raises(FileExistsError):
        await PNG.save(tmp_path / "cat")
    with pytest.raises(OSError, match="directory"):
        await PNG.save(tmp_path / "cat", overwrite=True)
    assert ["cat.png"] == names(tmp_path)
    assert [] == names(tmp_path / "cat.png")


async def test_a_name_has_to_be_one(tmp_path):
    """A path without a file name, or with one too long for the disk, is an error and leaves nothing."""
    for path, error in (("", ValueError), ("/", ValueError), (tmp_path / ("x" * 300), OSError)):
        with pytest.raises(error):
            await PNG.save(path)
    assert [] == names(tmp_path)


@pytest.mark.parametrize(
    ("expires_at", "until"), [(None, "$"), (datetime(2026, 11, 20, 9, 5, 59, tzinfo=UTC), " before 09:05 UTC$")]
)
async def test_a_picture_elsewhere_says_how_to_fetch_it(expires_at, until, tmp_path):
    """Saving a picture that was left at its URL says what fetches it, and until when that works."""
    left = Image(url="https://a.example/1.png", expires_at=expires_at)
    with pytest.raises(ValueError, match=r"fetch it with nebula\.download\(image\)" + until):
        await left.save(tmp_path / "cat")


async def test_a_picture_elsewhere_is_not_saved(tmp_path):
    """A picture of which only the URL is known says so instead of writing an empty file."""
    with pytest.raises(ValueError, match="only a URL: fetch it with"):
        await Image(url="https://a.example/1.png").save(tmp_path / "cat")
    assert [] == names(tmp_path)


# Looking at it


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_a_picture_opens_in_pillow(form):
    """`to_pil` gives the decoded picture."""
    opened = image(form).to_pil()
    assert (form, (20, 10)) == (opened.format, opened.size)


def test_a_picture_elsewhere_does_not_open():
    """Without bytes there is nothing to decode."""
    with pytest.raises(ValueError, match="only a URL: fetch it with"):
        Image(url="https://a.example/1.png").to_pil()
