"""Pictures in object stores, as those who generate them see it."""

from __future__ import annotations

import hashlib
import os
import pickle
import sys
import traceback

import anyio
import pytest

from nebula_async import AsyncNebula, Charges, ConfigurationError, ObjectStoreSink, SinkError
from nebula_async.sinks.object_shelf import open_shelf

PNG = ("image/png", ".png")
CANARY = "canary-that-nobody-may-see"
LIKE = "it must be like s3://bucket/prefix, gs://bucket/prefix, az://container/prefix, file:///folder, memory://"

REFUSED_URLS = [
    (None, f"None is no URL of an object store: {LIKE}"),
    ("", f"'' is no URL of an object store: {LIKE}"),
    ("out", f"'out' is no URL of an object store: {LIKE}"),
    ("ftp://host/a", f"'ftp://host/a' is no URL of an object store: {LIKE}"),
    ("s3://", f"'s3://' is no URL of an object store: {LIKE}"),
    ("s3:///a", f"'s3:///a' is no URL of an object store: {LIKE}"),
    ("file://out", f"'file://out' is no URL of an object store: {LIKE}"),
    ("file:///", f"'file:///' is no URL of an object store: {LIKE}"),
    ("memory://a", f"'memory://a' is no URL of an object store: {LIKE}"),
    ("s3://b/../c", "'s3://b/../c' is no URL of an object store: its prefix must have no empty, . or .. part"),
    ("s3://b/a//c", "'s3://b/a//c' is no URL of an object store: its prefix must have no empty, . or .. part"),
    *[
        (url, f"{url!r} is no URL of an object store: it must not hold ?, #, %, a backslash or a control character")
        for url in ("s3://b?versioning", "s3://b/#a", "s3://b/a%20b", "s3://b/a\\b", "s3://b/a\nb")
    ],
    *[
        (url, "the URL of an object store must have no user name or password; credentials come from the environment")
        for url in (f"s3://user:{CANARY}@b/a", f"https://{CANARY}@host/a")
    ],
]

REFUSED_OPTIONS = [
    ("s3://b", {"nonsense": CANARY}, "Configuration key: 'nonsense' is not valid for store 'S3'."),
    ("s3://b", {"region": 5}, "'int' object is not an instance of 'str'"),
    ("s3://b", 5, "'int' object is not a mapping"),
    ("memory://", {"region": "a"}, "MemoryStore does not accept any configuration"),
    ("az://container", {}, "Account must be specified"),
]


async def store(sink: ObjectStoreSink, key: str, data: bytes) -> str:
    """Store a picture as a call does, and return where it is."""
    writer = await sink.open(key)
    try:
        await writer.write(data)
        return await writer.publish(*PNG)
    finally:
        await writer.discard()


def sink_at(server, **options) -> ObjectStoreSink:
    """Return a sink for an empty place of a server."""
    return ObjectStoreSink(server.fresh_url(), store_options=server.options | options)


@pytest.mark.anyio
async def test_a_picture_is_streamed_into_a_bucket(emulator, s3_server):
    """With the sink, `generate` ends with the picture's URL, and the object is the picture that would have come."""
    asked = {"model": "black-forest-labs/FLUX.1-schnell", "width": 512, "height": 512, "seed": 7}
    sink = sink_at(s3_server)
    async with AsyncNebula(emulator.key, base_url=emulator.base_url) as nebula:
        expected = await nebula.generate("A flying cat!", **asked)
        image = (await nebula.generate("A flying cat!", **asked, sink=sink)).image

    assert (None, f"{sink.url}/a-flying-cat.png", True) == (image.data, image.stored, image.is_here)
    found = sink.store.get("a-flying-cat.png")
    digest = hashlib.sha256(expected.image.data).hexdigest()
    assert {"Content-Type": "image/png", "sha256": digest} == dict(found.attributes)
    assert expected.image.data == bytes(found.bytes())


@pytest.mark.anyio
async def test_a_store_that_is_away(emulator, own_rclone):
    """A picture that the store did not take is a `SinkError`, which says what it cost and what is wrong with what."""
    sink = sink_at(own_rclone.start())
    own_rclone.kill()
    async with AsyncNebula(emulator.key, base_url=emulator.base_url) as nebula:
        with pytest.raises(SinkError) as caught:
            await nebula.generate("a cat", model="black-forest-labs/FLUX.1-schnell", width=16, height=16, sink=sink)
    assert Charges(1, 1) == caught.value.charges
    assert (
        f"the sink did not keep the picture: OSError: {sink.url}: the store could not be reached, or failed (no"
        " connection). Paid for: 1 picture. Trying again pays again. Mend the place where the pictures go first."
    ) == str(caught.value)


@pytest.mark.anyio
async def test_a_large_picture_goes_up_in_parts(s3_server):
    """What is larger than 8 MiB is one object too, with its type and digest; the name of another is left alone."""
    sink = sink_at(s3_server)
    data = b"0123456789abcdef" * 600_000
    assert [f"{sink.url}/cat.png", f"{sink.url}/cat-1.png"] == [await store(sink, "cat", data) for _ in range(2)]
    found = sink.store.get("cat-1.png")
    assert {"Content-Type": "image/png", "sha256": hashlib.sha256(data).hexdigest()} == dict(found.attributes)
    assert data == bytes(found.bytes())


@pytest.mark.anyio
async def test_a_name_that_another_process_takes_meanwhile(fault_proxy, moto_server):
    """Between the look at a name and the put another may take it: it keeps it, and the picture gets the next."""
    sink = sink_at(moto_server, endpoint=f"http://{fault_proxy.address}")
    fault_proxy.faults.append(lambda: open_shelf(sink.url, moto_server.options).store.put("cat.png", b"theirs"))
    assert f"{sink.url}/cat-1.png" == await store(sink, "cat", b"ours")
    assert b"theirs" == bytes(sink.store.get("cat.png").bytes())


@pytest.mark.anyio
async def test_an_answer_that_is_lost_does_not_store_twice(fault_proxy, moto_server):
    """The retry of a put whose answer was lost meets its own object, and that is the picture's."""
    sink = sink_at(moto_server, endpoint=f"http://{fault_proxy.address}")
    fault_proxy.faults.append("lose the answer")
    assert f"{sink.url}/cat.png" == await store(sink, "cat", b"one")
    assert ["HEAD", "PUT", "PUT", "HEAD"] == fault_proxy.seen
    assert ["cat.png"] == [found["path"] for page in sink.store.list() for found in page]


@pytest.mark.anyio
async def test_a_store_without_conditional_puts(moto_server):
    """Where they are turned off, a name that is taken is still left alone."""
    sink = sink_at(moto_server, conditional_put="disabled")
    assert [f"{sink.url}/cat.png", f"{sink.url}/cat-1.png"] == [await store(sink, "cat", data) for data in (b"1", b"2")]
    assert b"1" == bytes(sink.store.get("cat.png").bytes())


@pytest.mark.anyio
async def test_the_environment_says_how_to_reach_a_store(rclone_server, monkeypatch):
    """Nothing but the URL is needed where the usual variables are set."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{rclone_server.address}")
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", rclone_server.options["access_key_id"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", rclone_server.options["secret_access_key"])
    url = rclone_server.fresh_url()
    assert f"{url}/cat.png" == await store(ObjectStoreSink(url), "cat", b"one")


@pytest.mark.anyio
async def test_no_credential_is_shown(rclone_server, caplog):
    """A key that the store refuses is neither in the sink's text, nor in the error and its traceback, nor in a log."""
    caplog.set_level("DEBUG")
    sink = sink_at(rclone_server, secret_access_key=CANARY)
    with pytest.raises(PermissionError) as caught:
        await store(sink, "cat", b"one")
    assert f"{sink.url}: the store refuses the credentials, or what they are used for" in str(caught.value)
    assert "(403 Forbidden, SignatureDoesNotMatch)" in str(caught.value)
    shown = [repr(sink), str(sink), caplog.text, *traceback.format_exception(caught.value)]
    assert [] == [text for text in shown if CANARY in text or rclone_server.options["access_key_id"] in text]


@pytest.mark.anyio
async def test_a_bucket_that_is_not_there(s3_server):
    """The sentence names the bucket and says that it has to be made; the sink makes none."""
    sink = ObjectStoreSink("s3://nowhere/cats", store_options=s3_server.options)
    with pytest.raises(FileNotFoundError, match=r"^s3://nowhere/cats: there is no such bucket, .*; make it first$"):
        await store(sink, "cat", b"one")


@pytest.mark.anyio
async def test_an_endpoint_that_is_no_url():
    """A host without https:// before it is told as what it is; so is http:// where it is not allowed."""
    keys = {"access_key_id": "a", "secret_access_key": CANARY}
    for endpoint in ("minio:9000", "http://127.0.0.1:9"):
        sink = ObjectStoreSink("s3://b/cats", store_options=keys | {"endpoint": endpoint})
        with pytest.raises(OSError, match=r"^s3://b/cats: its endpoint must be https://…, or http://… with AWS_ALLOW"):
            await store(sink, "cat", b"one")


@pytest.mark.anyio
async def test_a_file_where_a_folder_should_be(tmp_path):
    """Below `file://` it is said in the words of the file system."""
    (tmp_path / "cats").write_bytes(b"old")
    with pytest.raises(OSError, match=rf"^file://{tmp_path}: .*Not a directory"):
        await store(ObjectStoreSink(tmp_path.as_uri()), "cats/cat", b"one")


@pytest.mark.anyio
async def test_no_descriptor_is_left(own_rclone):
    """Published, discarded or refused: every temporary file is closed, and none has a name."""
    sink = sink_at(own_rclone.start())
    await store(sink, "cat", b"one")
    descriptors = len(os.listdir("/dev/fd"))  # noqa: PTH208 - as many as there are, not which
    for number in range(3):
        writer = await sink.open(f"a{number}")
        await writer.write(b"one" * 100_000)
        await writer.discard()
    writer = await sink.open("b")
    await writer.write(b"one")
    own_rclone.kill()
    with pytest.raises(OSError, match="no connection"):
        await writer.publish(*PNG)
    await writer.discard()
    assert descriptors >= len(os.listdir("/dev/fd"))  # noqa: PTH208 - fewer: the connection is gone


@pytest.mark.anyio
async def test_a_cancelled_publish_ends_whole(fault_proxy, moto_server):
    """A scope that is cancelled while the store works waits for it: the picture is stored."""
    sink = sink_at(moto_server, endpoint=f"http://{fault_proxy.address}")
    fault_proxy.faults.append(fault_proxy.may_go.wait)
    async with anyio.create_task_group() as group:
        group.start_soon(store, sink, "cat", b"one")
        await anyio.to_thread.run_sync(fault_proxy.was_reached.wait, 10)
        group.cancel_scope.cancel()
        fault_proxy.may_go.set()
    assert b"one" == bytes(sink.store.get("cat.png").bytes())


@pytest.mark.parametrize(("url", "problem"), REFUSED_URLS, ids=range(len(REFUSED_URLS)))
def test_what_is_no_place_in_a_store(url, problem):
    """A URL that cannot be one is refused when the sink is made, in one sentence without a password."""
    with pytest.raises(ConfigurationError) as caught:
        ObjectStoreSink(url)
    assert problem == str(caught.value)


@pytest.mark.parametrize(("url", "options", "problem"), REFUSED_OPTIONS, ids=range(len(REFUSED_OPTIONS)))
def test_options_that_the_store_has_not(url, options, problem):
    """So is an option that is wrong, or missing: the sentence says which, and not what a secret was."""
    with pytest.raises(ConfigurationError) as caught:
        ObjectStoreSink(url, store_options=options)
    assert f"{url} cannot be used with its store_options and the environment: {problem}" == str(caught.value)


def test_without_obstore(monkeypatch):
    """Without the extra the sink says what to install."""
    monkeypatch.setitem(sys.modules, "obstore.store", None)
    with pytest.raises(ConfigurationError, match=r"^obstore is not installed; .*: pip install 'nebula_async\[s3\]'$"):
        ObjectStoreSink("memory://")


def test_a_sink_is_a_value():
    """It can be compared, hashed and sent to another process, and shows its URL alone."""
    sink = ObjectStoreSink("s3://bucket/cats", store_options={"access_key_id": "a", "secret_access_key": CANARY})
    assert "ObjectStoreSink(url='s3://bucket/cats')" == repr(sink)
    copy = pickle.loads(pickle.dumps(sink))  # noqa: S301
    assert {sink} == {copy}
    assert copy.store is not None
