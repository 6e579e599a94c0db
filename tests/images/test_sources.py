"""Pictures that users hand in are read from whatever they are in; what is wrong with one is said before it costs."""

from __future__ import annotations

import base64
import io
import tempfile
from pathlib import Path, PurePosixPath

import anyio
import pytest
from PIL import Image as Pillow

from nebula_async.errors import InvalidRequestError
from nebula_async.images.sources import MAX_BYTES
from nebula_async.images.sources import read_sources as read_pictures
from nebula_async.requests import ImageRequest


def picture(form: str = "PNG", size: tuple[int, int] = (16, 16)) -> bytes:
    """Return a small picture."""
    buffer = io.BytesIO()
    Pillow.new("RGB", size, "red").save(buffer, form)
    return buffer.getvalue()


PNG = picture()


def request(**fields) -> ImageRequest:
    """Return a request that is right but for the fields given."""
    return ImageRequest("a cat", model="m", **fields)


def read_sources(image: object, mask: object) -> dict[str, bytes]:
    """Read pictures as a client does, and return what is sent of them, decoded, by field."""
    return anyio.run(_read_sources, image, mask)


async def _read_sources(image: object, mask: object) -> dict[str, bytes]:
    pictures = await read_pictures(image, mask)
    return {
        picture.name: base64.b64decode(b"".join([piece async for piece in picture.pieces()]), validate=True)
        for picture in pictures
    }


def read(source: object) -> bytes:
    """Return the bytes of a picture that was given as the image."""
    return read_sources(request(image=source).image, None)["image"]


def refusal(make, *arguments, **fields) -> str:
    """Return the message with which something is refused."""
    with pytest.raises(InvalidRequestError) as caught:
        make(*arguments, **fields)
    assert len(str(caught.value)) < 1_000
    assert "\n" not in str(caught.value)
    return str(caught.value)


KINDS = "a path, bytes, a binary file, a PIL image or an async iterator of bytes"


def sources(folder: Path) -> dict[str, object]:
    """Return the same picture in each form that can be given."""
    path = folder / "cat.png"
    path.write_bytes(PNG)
    spooled = tempfile.SpooledTemporaryFile()  # noqa: SIM115 - closed with the test
    spooled.write(PNG)
    spooled.seek(0)
    return {
        "path": str(path),
        "PathLike": path,
        "bytes": PNG,
        "file": path.open("rb"),
        "BytesIO": io.BytesIO(PNG),
        "SpooledTemporaryFile": spooled,
        "data URL": "data:image/png;base64," + base64.b64encode(PNG).decode(),
    }


@pytest.mark.parametrize("kind", ["path", "PathLike", "bytes", "file", "BytesIO", "SpooledTemporaryFile", "data URL"])
def test_every_kind_of_picture_is_read(kind, tmp_path):
    """A path, bytes, an open binary file and a data URL all give the very same bytes."""
    given_sources = sources(tmp_path)
    try:
        assert PNG == read(given_sources[kind])
    finally:
        given_sources["file"].close()
        given_sources["SpooledTemporaryFile"].close()


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "1"])
def test_a_pil_image_is_sent_as_png(mode):
    """A PIL image of any usual mode is sent as PNG, without loss."""
    original = Pillow.linear_gradient("L").convert(mode)
    data = read(original)
    with Pillow.open(io.BytesIO(data)) as sent:
        assert ("PNG", original.tobytes()) == (sent.format, sent.convert(mode).tobytes())


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_pictures_are_sent_as_they_are(form):
    """A picture is not encoded again: what is sent are the bytes of the file."""
    data = picture(form)
    assert data == read(data)


class Upload:
    """A file of a web framework: its `read` is a coroutine."""

    async def read(self) -> bytes:
        """Return the picture."""
        return PNG


@pytest.mark.parametrize(
    "source",
    [5, 5.0, True, [PNG], {"path": "x"}, bytearray(PNG), memoryview(PNG), io.StringIO("x"), Upload(), object()],
    ids=lambda source: type(source).__name__,
)
def test_what_is_no_picture_source_is_refused_at_once(source):
    """Values of other types, text files and coroutine files are refused when the request is made."""
    for name in ("image", "mask"):
        message = refusal(request, **{"image": PNG, name: source})
        assert message.startswith(f"{name} must be {KINDS}; got ")


def test_a_text_file_is_refused(tmp_path):
    """A file opened without "b" is refused when the request is made, not when it is read."""
    (tmp_path / "cat.png").write_bytes(PNG)
    with (tmp_path / "cat.png").open() as file:
        assert "a binary file" in refusal(request, image=file)


class Odd:
    """A file whose `read` returns, or raises, what one says."""

    def __init__(self, outcome: object) -> None:
        self.outcome = outcome

    def read(self) -> object:
        """Return or raise the outcome."""
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


def closed() -> io.BytesIO:
    """Return a file that is closed."""
    file = io.BytesIO(PNG)
    file.close()
    return file


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        (b"", "it is no picture (empty)"),
        (b"not a picture", "it is no picture (text)"),
        (b"<html>", "it is no picture (HTML)"),
        (PNG[:-20], "it is a PNG cut short"),
        (io.BytesIO(b""), "nothing left to read"),
        (closed(), "closed file"),
        (Odd("text"), "reading it gives str instead of bytes"),
        (Odd(None), "reading it gives NoneType instead of bytes"),
        (Odd(KeyError("lost")), "lost"),
        (Odd(OSError(5, "Input/output error")), "Input/output error"),
        ("/nowhere/cat.png", "No such file or directory; got '/nowhere/cat.png'"),
        ("", "Is a directory"),
        ("/", "Is a directory"),
        (PurePosixPath("/nowhere/cat.png"), "No such file or directory"),
        ("a\0b", "null byte"),
        ("https://example.com/cat.png", "it is a URL; give a path, or the bytes"),
        (base64.b64encode(b"x" * 10_000).decode(), "base64 is given decoded, or as a data URL"),
        ("data:image/png;base64,!!!!", "cannot be used"),
        ("data:image/png;base64,", "it is no picture (empty)"),
        ("data:image/png", "it is no picture (empty)"),
    ],
    ids=lambda value: ascii(value[:40]) if isinstance(value, str | bytes) else type(value).__name__,
)
def test_a_source_that_cannot_be_used_gives_one_clear_error(source, problem):
    """Whatever is wrong with a picture is an `InvalidRequestError` that names the field, before anything is
    sent (B51).
    """
    message = refusal(read, source)
    assert message.startswith("image cannot be used: ")
    assert problem in message


def test_a_picture_and_a_mask_have_a_largest_size():
    """What is larger than 48 MiB is refused, whatever it begins with (B51)."""
    large = PNG + b"x" * MAX_BYTES
    assert "image cannot be used: it is larger than 48 MiB" in refusal(read, large)
    assert "mask cannot be used: it is larger than 48 MiB" in refusal(read_sources, PNG, large)


def test_an_endless_file_is_not_read_to_its_end():
    """A path to something without an end is given up at the limit instead of filling the memory (B51)."""
    assert "larger than 48 MiB" in refusal(read, "/dev/zero")


def test_a_file_is_used_once():
    """The second use of one open file says why there is nothing in it."""
    file = io.BytesIO(PNG)
    read(file)
    assert "give its path to use it more than once" in refusal(read, file)


# An image and its mask


def test_without_a_mask_there_is_none():
    """What is read is told apart by its field, and a mask that was not given is not there."""
    assert {"image": PNG} == read_sources(PNG, None)


@pytest.mark.parametrize("kind", ["path", "PathLike", "bytes", "file", "BytesIO", "SpooledTemporaryFile", "data URL"])
def test_a_mask_comes_in_every_form_too(kind, tmp_path):
    """A mask is read from whatever it is in, beside an image from something else."""
    given_sources = sources(tmp_path)
    try:
        made = request(image=Pillow.new("RGB", (16, 16), "blue"), mask=given_sources[kind])
        found = read_sources(made.image, made.mask)
    finally:
        given_sources["file"].close()
        given_sources["SpooledTemporaryFile"].close()
    assert ["image", "mask"] == list(found)
    assert PNG == found["mask"]


def test_a_pil_mask_is_sent_as_png():
    """A mask that was painted with Pillow is sent as PNG, black and white where they were."""
    mask = Pillow.new("L", (16, 16), 0)
    mask.paste(255, (4, 4, 8, 8))
    with Pillow.open(io.BytesIO(read_sources(PNG, mask)["mask"])) as sent:
        assert ("PNG", mask.tobytes()) == (sent.format, sent.tobytes())


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_image_and_mask_may_be_of_different_types(form):
    """What has to be the same is the size, not the kind of file."""
    assert {"image": picture(form), "mask": PNG} == read_sources(picture(form), PNG)


@pytest.mark.parametrize("size", [(16, 17), (17, 16), (15, 16), (8, 32), (32, 32), (1, 1)])
@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_a_mask_of_another_size_is_refused(size, form):
    """A mask that does not fit its image would spoil a paid picture: it is refused, and both sizes are named (B51)."""
    wide, high = size
    message = refusal(read_sources, picture(form), picture("PNG", size))
    assert f"the mask is {wide}x{high} pixels and the image 16x16; give a mask of the image's size" == message


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        (b"", "it is no picture (empty)"),
        (b"<svg xmlns='x'/>", "it is no picture (SVG)"),
        (PNG[:-20], "it is a PNG cut short"),
        (io.BytesIO(b""), "nothing left to read"),
        (Odd(OSError(5, "Input/output error")), "Input/output error"),
        ("/nowhere/mask.png", "No such file or directory; got '/nowhere/mask.png'"),
        ("https://example.com/mask.png", "it is a URL; give a path, or the bytes"),
        ("data:image/png;base64,AAAA", "it is no picture"),
    ],
    ids=lambda value: ascii(value[:40]) if isinstance(value, str | bytes) else type(value).__name__,
)
def test_a_mask_that_cannot_be_used_gives_one_clear_error(source, problem):
    """What is wrong with a mask is said of the mask, and not of the image beside it."""
    message = refusal(read_sources, PNG, source)
    assert message.startswith("mask cannot be used: ")
    assert problem in message


def test_a_wrong_image_is_said_before_its_mask():
    """Where both are wrong, the image is named first."""
    assert refusal(read_sources, b"", b"").startswith("image cannot be used: ")
