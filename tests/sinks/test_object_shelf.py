"""The object store of a job: one object for each name, whatever fails and however often it is stored."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from nebula_async import JobError
from nebula_async.sinks.object_shelf import KeptObject, ObjectShelf, open_shelf

NAME = "00000/000000042-a-flying-cat.png"
PNG, DIGEST = "image/png", "ab" * 32


@pytest.fixture
def part(tmp_path) -> Path:
    """A part file of a job."""
    path = tmp_path / "42.1.0.part"
    path.write_bytes(b"picture" * 50_000)
    return path


@pytest.fixture(params=["memory", "file", "moto", "rclone"])
def shelf(request, tmp_path) -> ObjectShelf:
    """An empty shelf of each kind."""
    if request.param == "memory":
        return open_shelf("memory://")
    if request.param == "file":
        return open_shelf((tmp_path / "a shelf").as_uri())
    server = request.getfixturevalue(f"{request.param}_server")
    return open_shelf(server.fresh_url(), server.options)


def names(shelf: ObjectShelf) -> list[str]:
    """Return the names of all objects."""
    return [found["path"] for page in shelf.store.list() for found in page]


def test_a_put_that_is_repeated_is_one_object(shelf, part):
    """A run that was killed after a put does it again: there is one object, and its URL is the same."""
    places = {shelf.put_file(part, NAME, PNG, DIGEST) for _ in range(3)}
    assert {shelf.url_of(NAME)} == places
    assert [NAME] == names(shelf)
    assert part.read_bytes() == bytes(shelf.store.get(NAME).bytes())


def test_what_is_stored_can_be_told(shelf, part):
    """`head` gives the size, and the digest where the store keeps one; `None` for what is not there."""
    assert shelf.head(NAME) is None
    shelf.put_file(part, NAME, PNG, DIGEST)
    digest = None if shelf.url.startswith("file:") else DIGEST
    assert KeptObject(bytes=350_000, sha256=digest) == shelf.head(NAME)


def test_what_is_deleted_is_gone(shelf, part):
    """Deleting what is not there is no error: someone may have done it before."""
    shelf.put_file(part, NAME, PNG, DIGEST)
    shelf.delete(NAME)
    shelf.delete(NAME)
    assert shelf.head(NAME) is None


def test_a_check_leaves_nothing(shelf):
    """The probe before a job's first charge is gone again."""
    shelf.check()
    assert [] == names(shelf)


def test_a_place_belongs_to_one_job(shelf):
    """A job may come back to its place; another, whose pictures would have the same names, is refused."""
    shelf.claim("job 1")
    shelf.claim("job 1")
    with pytest.raises(JobError, match=r"holds the pictures of another job, which would be replaced: use another pre"):
        shelf.claim("job 2")
    shelf.claim("job 1")


def test_of_two_jobs_at_once_one_gets_a_place(fault_proxy, moto_server):
    """Where a store knows conditional puts, jobs that begin in the same moment do not get the same place."""
    url = moto_server.fresh_url()
    fault_proxy.faults.append(lambda: open_shelf(url, moto_server.options).claim("job 2"))
    with pytest.raises(JobError, match="holds the pictures of another job"):
        open_shelf(url, fault_proxy.options).claim("job 1")


def test_a_place_without_conditional_puts_can_be_claimed(rclone_server):
    """Where they are turned off, a place still belongs to the first that came."""
    shelf = open_shelf(rclone_server.fresh_url(), rclone_server.options | {"conditional_put": "disabled"})
    shelf.claim("job 1")
    with pytest.raises(JobError, match="another job"):
        shelf.claim("job 2")


def test_a_place_that_cannot_be_claimed(rclone_server):
    """Whose place it is cannot be told by a store that refuses: the job does not begin."""
    shelf = open_shelf(rclone_server.fresh_url(), rclone_server.options | {"access_key_id": "AKIDOTHER"})
    with pytest.raises(JobError, match=r"^it cannot be told whose pictures .*, so nothing was sent: s3://.* refuses"):
        shelf.claim("job 1")


def test_urls_are_as_tools_take_them(tmp_path):
    """`s3://` URLs have their names as they are, `file://` URLs are percent-encoded."""
    assert "s3://bucket/a b/c d.png" == open_shelf("s3://bucket/a b/").url_of("c d.png")
    assert (tmp_path / "a b/c d.png").as_uri() == open_shelf((tmp_path / "a b").as_uri()).url_of("c d.png")
    assert "memory://c d.png" == open_shelf("memory://").url_of("c d.png")


@pytest.mark.parametrize(
    ("url", "options", "problem"),
    [
        ("s3://nowhere/cats", {}, "there is no such bucket, container or folder; make it first"),
        ("s3://pictures/cats", {"access_key_id": "AKIDOTHER"}, "the store refuses the credentials, .*InvalidAccessKey"),
        ("s3://pictures/cats", {"secret_access_key": "other"}, "the store refuses .*403 .*SignatureDoesNotMatch"),
        (
            "s3://pictures/cats",
            {"endpoint": "http://127.0.0.1:9"},
            r"the store could not be reached, .*no connection\)",
        ),
    ],
    ids=["bucket", "key", "secret", "endpoint"],
)
def test_a_store_that_cannot_be_used_is_told_before_a_job_begins(rclone_server, url, options, problem):
    """Where nothing could be stored, the check is a `JobError` of one sentence, and nothing was paid for."""
    with pytest.raises(JobError, match=rf"^pictures could not be stored, so nothing was sent: {url}: {problem}"):
        open_shelf(url, rclone_server.options | options).check()


def test_a_check_without_the_right_to_delete(fault_proxy, moto_server, caplog):
    """A scratch object that may not be removed is logged, and stops nothing."""
    fault_proxy.faults += [lambda: None, *["500"] * 4]
    shelf = open_shelf(moto_server.fresh_url(), fault_proxy.options)
    shelf.check()
    [name] = names(shelf)
    assert [shelf.url_of(name)] == [record.object for record in caplog.records]


@pytest.mark.parametrize("fault", ["500", "cut", "lose the answer"])
def test_a_fault_that_passes_is_mended(fault_proxy, moto_server, part, fault):
    """A store that fails for a moment is asked again."""
    shelf = open_shelf(moto_server.fresh_url(), fault_proxy.options)
    fault_proxy.faults += [fault, "500"]
    shelf.put_file(part, NAME, PNG, DIGEST)
    assert ["PUT"] * 3 == fault_proxy.seen
    assert KeptObject(350_000, DIGEST) == shelf.head(NAME)
    assert [NAME] == names(shelf)


def test_a_store_that_fails_is_given_up(fault_proxy, moto_server, part):
    """After three retries its own words are told, and what is there is as it was; later the put goes through."""
    shelf = open_shelf(moto_server.fresh_url(), fault_proxy.options)
    fault_proxy.faults += ["500"] * 4
    with pytest.raises(OSError, match=r"could not be reached, or failed \(500 Internal Server Error, InternalError\)$"):
        shelf.put_file(part, NAME, PNG, DIGEST)
    assert ["PUT"] * 4 == fault_proxy.seen
    assert shelf.head(NAME) is None
    assert shelf.url_of(NAME) == shelf.put_file(part, NAME, PNG, DIGEST)


def test_a_store_that_never_answers_has_a_deadline(fault_proxy, moto_server, part):
    """A put ends, and says why."""
    slow = {"client_options": {"allow_http": True, "timeout": "100ms"}, "retry_config": {"max_retries": 1}}
    fault_proxy.faults += ["hang"] * 2
    with pytest.raises(OSError, match=r"could not be reached, or failed \(no answer in time\)$"):
        open_shelf(moto_server.fresh_url(), fault_proxy.options | slow).put_file(part, NAME, PNG, DIGEST)


def test_a_server_that_dies_in_the_middle_of_a_put(own_rclone, tmp_path, fault_proxy):
    """Nothing of the object is seen until, with the server back, the same put is done again; then there is one."""
    big = tmp_path / "big.part"
    big.write_bytes(b"picture" * 1_700_000)
    url = own_rclone.start().fresh_url()
    fault_proxy.upstream = own_rclone.address
    fault_proxy.faults += [lambda: None, own_rclone.kill]  # after the upload was begun, before its first part
    with pytest.raises(OSError, match="could not be reached, or failed"):
        open_shelf(url, fault_proxy.options).put_file(big, NAME, PNG, DIGEST)

    shelf = open_shelf(url, own_rclone.start().options)
    assert shelf.head(NAME) is None
    shelf.put_file(big, NAME, PNG, DIGEST)
    assert [NAME] == names(shelf)
    assert big.read_bytes() == bytes(shelf.store.get(NAME).bytes())


def test_puts_of_many_threads(shelf, part):
    """A shelf may be used by several threads at once."""
    threads = [threading.Thread(target=shelf.put_file, args=(part, f"{i}.png", PNG, DIGEST)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert [f"{i}.png" for i in range(8)] == sorted(names(shelf))
