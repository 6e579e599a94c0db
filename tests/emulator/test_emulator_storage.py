"""The image storage: pictures by URL, on a port of its own, for an hour, to whoever asks."""

import io
import socket
import time

import httpx
import pytest
from PIL import Image

from nebula_async.emulator import Emulator
from nebula_async.emulator import storage as storage_module

GONE = "This picture has expired, or there never was one here.\n"


@pytest.mark.parametrize("image_format", ["png", "jpeg", "webp"])
def test_a_picture_is_a_whole_file(start, image_format):
    """A stored picture comes with its type and its length, as large as it was asked for."""
    rig = start(image_format=image_format)
    (url,) = rig.urls(size="300x200")
    reply = rig.stranger.get(url)
    assert (200, f"image/{image_format}") == (reply.status_code, reply.headers["content-type"])
    assert len(reply.content) == int(reply.headers["content-length"])
    assert (image_format.upper(), (300, 200)) == _look(reply.content)


def _look(data):
    with Image.open(io.BytesIO(data)) as picture:
        return picture.format, picture.size


def test_no_key_is_needed_and_a_sent_one_is_noted(rig):
    """Storage asks nobody for a key; the journal tells a client that sent one from a client that did not."""
    (url,) = rig.urls()
    assert 200 == rig.stranger.get(url).status_code
    assert 200 == rig.stranger.get(url, headers={"Authorization": "Bearer sk-wrong"}).status_code
    path = httpx.URL(url).path
    records = [record for record in rig.emulator.journal.requests if record.origin == "storage"]
    assert [("GET", path, 200)] * 2 == [(record.method, record.path, record.status) for record in records]
    assert [False, True] == [record.authorized for record in records]
    assert [True] == [record.authorized for record in rig.emulator.journal.generations]


def test_fetching_is_free(start, clock):
    """A picture can be fetched again and again: it is not billed, counts towards no limit and meets no fault."""
    rig = start(clock=clock, per_minute=1, faults=["500:@2", "delay=0.001:@2"])
    (url,) = rig.urls()
    assert 1 == len({rig.stranger.get(url).content for _ in range(5)})
    assert (1, 1) == (len(rig.emulator.journal.generations), rig.emulator.journal.charged)
    assert 500 == rig.infer().status_code


@pytest.mark.parametrize(("seconds", "options"), [(3600, {}), (60, {"url_seconds": 60}), (0.5, {"url_seconds": 0.5})])
def test_a_picture_expires(start, clock, seconds, options):
    """A URL works for an hour after its picture was made, or as long as was chosen, by the emulator's clock."""
    rig = start(clock=clock, **options)
    (url,) = rig.urls()
    clock.now += seconds - 0.25
    assert 200 == rig.stranger.get(url).status_code
    clock.now += 0.25
    gone = rig.stranger.get(url)
    assert (404, "text/plain; charset=utf-8", GONE) == (gone.status_code, gone.headers["content-type"], gone.text)


def test_a_url_can_be_expired_from_the_start(start):
    """With `url_seconds=0` a picture is paid for and can never be fetched."""
    rig = start(url_seconds=0)
    (url,) = rig.urls()
    assert (404, 1) == (rig.stranger.get(url).status_code, rig.emulator.journal.charged)


def test_gone_can_be_forbidden(start, clock):
    """With `expired_status=403` the storage answers as object stores do to a link that has run out."""
    rig = start(clock=clock, expired_status=403)
    (url,) = rig.urls()
    clock.now += 3600
    gone = [rig.stranger.get(url), rig.stranger.get(url.replace("/generated/", "/generated/0"))]
    assert [(403, GONE)] * 2 == [(reply.status_code, reply.text) for reply in gone]


@pytest.mark.parametrize(
    "path", ["/generated/unknown.png", "/generated/", "/generated", "/", "/generated/a/b.png", "/%2e%2e/etc/passwd"]
)
def test_what_never_was_is_a_404(rig, path):
    """Whatever else is asked for is a 404, and the same URL with another extension is, too."""
    (url,) = rig.urls()
    assert 404 == rig.stranger.get(httpx.URL(url).copy_with(path=path)).status_code
    assert [404, 404] == [rig.stranger.get(wrong).status_code for wrong in (url[:-3] + "jpg", url + "%0A")]


def test_the_two_ports_serve_nothing_of_each_other(rig):
    """There is no API at the storage's port and no storage at the API's, and nothing is made or billed there."""
    (url,) = rig.urls()
    storage, api = f"http://{rig.emulator.storage_host}", rig.emulator.base_url.removesuffix("/api/v1")
    key = {"Authorization": f"Bearer {rig.emulator.key}"}
    body = {"model": "sdxl", "prompt": "x", "size": "8x8"}
    for path in ("/v1/images/generate", "/api/v1/images/generation", "/_emulator/reset"):
        assert 404 == rig.stranger.post(storage + path, json=body, headers=key).status_code
    for path in ("/_emulator/journal", "/api/v1/users/credits", "/openapi.json"):
        assert 404 == rig.stranger.get(storage + path, headers=key).status_code
    assert 404 == rig.stranger.get(api + httpx.URL(url).path).status_code
    assert (1, 1) == (len(rig.emulator.journal.generations), rig.emulator.journal.charged)
    assert 200 == rig.stranger.get(url).status_code


@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT", "DELETE", "OPTIONS"])
def test_pictures_can_only_be_got(rig, method):
    """Any other method is a 405, and the picture stays."""
    (url,) = rig.urls()
    reply = rig.stranger.request(method, url)
    assert (405, "GET") == (reply.status_code, reply.headers["allow"])
    assert 200 == rig.stranger.get(url).status_code


def test_names_follow_the_seed_and_cannot_be_guessed(start):
    """The same run of the same seed gives the same names, another seed others; no two pictures share one."""
    rigs = [start(seed=1), start(seed=1), start(seed=2)]
    first, again, other = ([httpx.URL(url).path for url in (*rig.urls(n=3), *rig.urls())] for rig in rigs)
    assert first == again
    assert 8 == len({*first, *other})


def test_a_reset_forgets_the_pictures(rig):
    """After a reset no earlier URL works, although names begin anew."""
    before = rig.urls(n=2)
    rig.emulator.reset()
    assert [404, 404] == [rig.stranger.get(url).status_code for url in before]
    (after,) = rig.urls(prompt="a dog")
    assert before[0] == after
    assert rig.stranger.get(after).content == rig.inferred(prompt="a dog")


def test_a_request_in_flight_at_a_reset_stores_nothing(start):
    """What was asked before a reset and is made after it can be fetched by nobody, and takes no name away."""
    rig = start()
    with socket.create_connection((rig.http.base_url.host, rig.http.base_url.port)) as slow:
        body = b'{"model": "sdxl", "prompt": "old", "size": "8x8"}'
        head = f"POST /v1/images/generate HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {rig.emulator.key}\r\n"
        slow.sendall(head.encode() + b"Content-Length: %d\r\n\r\n" % len(body))
        while not rig.emulator.journal.requests:
            time.sleep(0.001)
        rig.emulator.reset()
        (url,) = rig.urls(prompt="new")
        slow.sendall(body)
        assert slow.recv(65536).startswith(b"HTTP/1.1 200")
    assert rig.inferred(prompt="new") == rig.stranger.get(url).content
    assert 2 == rig.emulator.journal.charged


def test_the_oldest_pictures_leave_first(start, monkeypatch):
    """Of very many pictures the newest are kept, and of very long prompts fewer, so that memory does not grow."""
    monkeypatch.setattr(storage_module, "KEPT_PICTURES", 3)
    rig = start()
    urls = [*rig.urls(n=2), *rig.urls(n=2)]
    assert [404, 200, 200, 200] == [rig.stranger.get(url).status_code for url in urls]
    monkeypatch.setattr(storage_module, "KEPT_CHARACTERS", 100)
    long = rig.urls(prompt="x" * 90)
    assert [404, 404, 404, 200] == [rig.stranger.get(url).status_code for url in (*urls[1:], *long)]


def test_what_has_expired_is_let_go(clock):
    """Expired pictures are dropped when new ones come, in the order they were made."""
    shelf = storage_module.Shelf(60)
    for number in range(5):
        shelf.put(f"{number}", _stored(clock.now))
        clock.now += 20
    assert [False, False, True, True, True] == [
        shelf.find(f"{number}", clock.now - 20) is not None for number in range(5)
    ]
    assert 3 == len(shelf._pictures)


def _stored(made_at):
    from nebula_async.emulator.inference import build_request

    request = build_request({"model": "sdxl", "prompt": "x"})
    return storage_module.StoredPicture(request, 0, made_at)


def test_a_port_can_be_chosen(start):
    """`storage_port` fixes the port, so that a client's list of allowed hosts can be written beforehand."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    rig = start(storage_port=port)
    assert f"127.0.0.1:{port}" == rig.emulator.storage_host
    assert 200 == rig.stranger.get(rig.urls()[0]).status_code


def test_an_emulator_for_everyone_links_to_loopback(start):
    """One that listens on every interface writes URLs that work on this machine."""
    rig = start(host="0.0.0.0")  # noqa: S104 - that is what is tried
    (url,) = rig.urls()
    assert url.startswith("http://127.0.0.1:")
    assert 200 == rig.stranger.get(url).status_code


def test_an_emulator_on_ipv6_writes_brackets():
    """Over IPv6 the host stands in brackets, in its URLs and among the hosts to allow."""
    try:
        with Emulator(host="::1") as emulator:
            assert emulator.storage_host.startswith("[::1]:")
            assert emulator.inference_url.startswith("http://[::1]:")
    except OSError:
        pytest.skip("no IPv6 here")


def test_a_busy_storage_port_leaves_nothing_behind():
    """If the second port cannot be had, the error names it, and the first one is given back."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with socket.create_server(("127.0.0.1", 0)) as busy:
        taken = busy.getsockname()[1]
        with pytest.raises(OSError, match="in use") as refused, Emulator(port=port, storage_port=taken):
            pass
    assert f"127.0.0.1:{taken}" == refused.value.filename
    with Emulator(port=port) as emulator:
        assert str(port) in emulator.base_url


def test_the_ports_have_to_differ():
    """The same port twice is refused in one sentence."""
    with pytest.raises(ValueError, match=r"storage_port is 4711, as is port; allowed is another port, or 0"):
        Emulator(port=4711, storage_port=4711)
