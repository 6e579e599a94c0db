"""Pictures as answers: what browsers and caches are told, and no more bytes than are wanted."""

from __future__ import annotations

import base64
import hashlib
import os
from decimal import Decimal

import pytest
from asgi import started
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.routing import Route

from nebula_async import Charges, DirectorySink, Generation, Image, ImageRequest
from nebula_async.integrations.starlette import IMMUTABLE, image_response, images_response, stored_image_response
from nebula_async.integrations.web.image_responses import content_disposition

pytestmark = pytest.mark.anyio

DATA = b"\x89PNG" + os.urandom(700_000)
PICTURE = Image(data=DATA, media_type="image/png", extension=".png", width=8, height=8)
SMALL = Image(data=b"GIF89a", media_type="image/gif", extension=".gif")
TAG = f'"{hashlib.sha256(DATA).hexdigest()}"'
MADE = Generation(
    request=ImageRequest("a cat", model="m", seed=7),
    images=(PICTURE, SMALL),
    charges=Charges(2, 2),
    cost=Decimal("0.0000007"),
)


async def answer_of(make, method="GET", **headers: str):
    """Return what a visitor gets from a route that answers with what `make` returns."""

    async def route(_request):
        return make()

    app = Starlette(routes=[Route("/", route, methods=["GET", "HEAD", "POST"])])
    async with started(app) as running:
        return await running.ask(method, "/", headers={name.replace("_", "-"): text for name, text in headers.items()})


async def test_a_picture_is_sent_with_its_type_and_tag():
    """An answer has the type of the bytes, their size, their SHA-256 as a strong tag, and is for this visitor alone."""
    answer = await answer_of(lambda: image_response(PICTURE))
    assert (200, DATA, True) == (answer.status, answer.body, answer.is_whole)
    expected = {
        "content-type": "image/png",
        "content-length": str(len(DATA)),
        "etag": TAG,
        "cache-control": "private, no-cache",
        "x-content-type-options": "nosniff",
    }
    assert expected == answer.headers


@pytest.mark.parametrize(
    ("given", "is_known"),
    [
        (TAG, True),
        (f"W/{TAG}", True),
        (f'"other", {TAG}', True),
        (f'W/"a,b" ,{TAG}', True),
        ("*", True),
        (" * ", True),
        ('"other"', False),
        (TAG.strip('"'), False),
        ("", False),
        (f'"x{TAG[1:]}', False),
    ],
    ids=["the tag", "weak", "list", "comma in a tag", "any", "any with blanks", "other", "unquoted", "empty", "longer"],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_who_has_a_picture_already_is_told_so(method, given, is_known):
    """`If-None-Match` with its tag, weak or strong, alone or in a list, or `*`, is a 304 without bytes."""
    answer = await answer_of(lambda: image_response(PICTURE, filename="cat"), method, If_None_Match=given)
    assert (304 if is_known else 200) == answer.status
    assert TAG == answer.headers["etag"]
    assert "private, no-cache" == answer.headers["cache-control"]
    assert (b"" if is_known or method == "HEAD" else DATA) == answer.body
    assert is_known == ("content-length" not in answer.headers)


async def test_a_picture_that_is_made_anew_is_never_a_304():
    """A POST makes a picture, and is answered with it whatever its visitor has."""
    answer = await answer_of(lambda: image_response(PICTURE), "POST", If_None_Match="*")
    assert (200, DATA) == (answer.status, answer.body)


async def test_two_lines_of_tags_are_one_list():
    """A header that stands there twice is read as one."""
    app = Starlette(routes=[Route("/", lambda _request: image_response(PICTURE))])
    async with started(app) as running:
        lines = [("if-none-match", '"other"'), ("if-none-match", TAG)]
        assert 304 == (await running.ask("GET", "/", headers=lines)).status


async def test_head_has_the_headers_alone():
    """HEAD tells size, type and tag, and sends no bytes."""
    answer = await answer_of(lambda: image_response(PICTURE), "HEAD")
    assert (200, b"", str(len(DATA)), True) == (
        answer.status,
        answer.body,
        answer.headers["content-length"],
        answer.is_whole,
    )


async def test_facts_and_headers_are_added_where_they_are_wanted():
    """Seed and cost are told if asked for; headers of one's own and `Cache-Control` win."""
    answer = await answer_of(
        lambda: image_response(MADE, facts=True, cache_control=IMMUTABLE, headers={"X-Mine": "1"}, filename="cat")
    )
    assert ("7", "0.0000007", "1") == tuple(answer.headers[name] for name in ("x-image-seed", "x-image-cost", "x-mine"))
    assert IMMUTABLE == answer.headers["cache-control"]
    assert 'inline; filename="cat.png"' == answer.headers["content-disposition"]
    plain = await answer_of(lambda: image_response(MADE))
    assert set() == {"x-image-seed", "x-image-cost", "content-disposition"} & plain.headers.keys()


async def test_any_picture_of_several_is_sent():
    """`number` says which; one that is not there is a 404."""
    answer = await answer_of(lambda: image_response(MADE, number=1))
    assert ("image/gif", b"GIF89a") == (answer.headers["content-type"], answer.body)
    assert 404 == (await answer_of(lambda: image_response(MADE, number=2))).status
    assert 404 == (await answer_of(lambda: image_response(MADE, number=-1))).status


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("cat", 'inline; filename="cat.png"'),
        ("cat.png", 'inline; filename="cat.png"'),
        ("cat.PNG", 'inline; filename="cat.png"'),
        ("../../etc/passwd", 'inline; filename="passwd.png"'),
        ("C:\\x\\cat", 'inline; filename="cat.png"'),
        ('a";evil="\r\nSet-Cookie: x', 'inline; filename="a__evil__Set-Cookie_ x.png"; '),
        ("Käse", "inline; filename=\"K_se.png\"; filename*=UTF-8''K%C3%A4se.png"),
        ("", 'inline; filename="picture.png"'),
        ("..", 'inline; filename="picture.png"'),
        ("\x00\x07", 'inline; filename="picture.png"'),
    ],
    ids=ascii,
)
def test_a_file_name_cannot_do_harm(given, expected):
    """Whatever a visitor calls a file, it is one name without folders, quotes and line breaks."""
    header = content_disposition("inline", given, ".png")
    assert header.startswith(expected)
    assert header.isprintable()
    header.encode("latin-1")


async def test_several_pictures_are_one_answer():
    """All pictures of a generation come as JSON: their bytes as data URLs, or the URLs that the application names."""
    answer = await answer_of(lambda: images_response(MADE))
    assert (7, "0.0000007", 2) == (answer.json["seed"], answer.json["cost"], len(answer.json["images"]))
    head, _, text = answer.json["images"][0]["data"].partition(",")
    assert ("data:image/png;base64", DATA) == (head, base64.b64decode(text))
    named = await answer_of(lambda: images_response(MADE, place=lambda image: f"/p{image.extension}"))
    assert [{"media_type": "image/gif", "width": None, "height": None, "url": "/p.gif"}] == named.json["images"][1:]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("known", ['"none"', "*"], ids=["new", "known"])
async def test_what_is_to_be_done_after_an_answer_is_done(method, known, tmp_path):
    """The background task of an answer runs whatever is sent: a picture, a file, a 304, no bytes for HEAD."""
    (tmp_path / "cat.png").write_bytes(DATA)
    done: list[str] = []
    makers = {
        "memory": lambda: image_response(PICTURE),
        "file": lambda: stored_image_response(tmp_path, "cat"),
        "all": lambda: images_response(MADE),
    }
    for name, make in makers.items():

        def answer(make=make, name=name):
            response = make()
            response.background = BackgroundTask(done.append, name)
            return response

        await answer_of(answer, method, If_None_Match=known)
    assert list(makers) == done


@pytest.fixture
async def stored(tmp_path) -> Image:
    """A picture that a sink has stored."""
    writer = await DirectorySink(tmp_path / "out").open("00000/order-17")
    await writer.write(DATA)
    place = await writer.publish("image/png", ".png")
    return Image(stored=place, media_type="image/png", extension=".png")


async def test_a_stored_picture_is_sent_from_its_file(stored, tmp_path):
    """A picture that a sink stored has the same tag as its bytes, and is sent in parts where parts are asked for."""
    answer = await answer_of(lambda: image_response(stored))
    assert (200, DATA, TAG, "image/png") == (
        answer.status,
        answer.body,
        answer.headers["etag"],
        answer.headers["content-type"],
    )
    assert 304 == (await answer_of(lambda: image_response(stored), If_None_Match=TAG)).status
    part = await answer_of(lambda: image_response(stored), Range="bytes=4-7", If_Range=TAG)
    assert (206, DATA[4:8]) == (part.status, part.body)
    assert b"" == (await answer_of(lambda: image_response(stored), "HEAD")).body


@pytest.mark.parametrize(
    "name", ["00000/order-17.png", "00000/order-17", "00000/../00000/order-17"], ids=["file", "name", "roundabout"]
)
async def test_a_stored_picture_is_found_by_its_name(name, stored, tmp_path):
    """A picture of a folder is found with and without its extension."""
    answer = await answer_of(lambda: stored_image_response(tmp_path / "out", name))
    assert (200, DATA, TAG) == (answer.status, answer.body, answer.headers["etag"])


@pytest.mark.parametrize(
    "name",
    ["../secret.png", "../secret", "/etc/passwd", "link.png", "no-picture.txt", "", ".", "a\0b", "x" * 5_000, "00000"],
    ids=ascii,
)
async def test_nothing_else_is_found(name, stored, tmp_path):
    """What is outside of the folder, no picture, or not there, is a 404 that tells nothing."""
    (tmp_path / "secret.png").write_bytes(b"secret")
    (tmp_path / "out/no-picture.txt").write_bytes(b"secret")
    (tmp_path / "out/link.png").symlink_to(tmp_path / "secret.png")
    answer = await answer_of(lambda: stored_image_response(tmp_path / "out", name))
    assert (404, b"there is no such picture here") == (answer.status, answer.body)


@pytest.mark.parametrize(
    ("image", "sentence"),
    [
        (Image(url="https://a.example/x", media_type="image/png"), r"fetch it with nebula\.download\(image\) first"),
        (Image(stored="s3://bucket/cat.png"), "in an object store"),
    ],
    ids=["url", "object"],
)
def test_a_picture_that_is_elsewhere_is_told(image, sentence):
    """A picture without bytes and file cannot be sent; the sentence says what to do."""
    with pytest.raises(ValueError, match=sentence):
        image_response(image)


async def test_a_file_that_is_gone_is_a_404(stored, tmp_path):
    """A picture whose file was removed is not there any more."""
    response = image_response(stored)
    (tmp_path / "out/00000/order-17.png").unlink()
    with pytest.raises(HTTPException) as caught:
        await response({"type": "http", "method": "GET", "headers": []}, None, None)
    assert 404 == caught.value.status_code
