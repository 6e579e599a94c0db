"""The data of a gallery: each entry as the page expects it, no text leaves its string, nothing is written twice."""

from __future__ import annotations

import json
import shutil
import sys
from contextlib import closing

import pytest
from galleries import SMALL, Page, made, opened, write
from job_folders import begin, finish
from job_folders import opened as opened_ledger

from nebula_async.bulk.bucket import STORE
from nebula_async.bulk.folder import JobFolder
from nebula_async.bulk.gallery.entries import Entry, Texts, choose, read_entries
from nebula_async.bulk.gallery.scripts import script
from nebula_async.bulk.gallery.store_urls import browser_url
from nebula_async.bulk.ledger import Ledger
from nebula_async.bulk.states import State
from nebula_async.emulator import Emulator
from nebula_async.emulator.faults import Fault
from nebula_async.errors import JobError

HOSTILE = (
    "</script><script>alert(1)</script>", "<!-- <script>", "]]>", "-->", "line\nbreak\r\n", "\u2028 and \u2029",
    "nul \0 bell \a", "lone \ud800 surrogate", "\udfff", "quote ' double \" back \\ slash", "\\u003cscript\\u003e",
    "${alert(1)} `x`",
    "猫 🐱 \U0001f3f4\u200d\u2620\ufe0f", "\ufeff\u202eevil", "&lt;b&gt; &amp;", "javascript:alert(1)",
    ");alert(1);(", "\x7f\x80\x9f", "__proto__", "a" * 9_000,
)  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_leaves_its_string(text):
    """Whatever a prompt holds, the script is one call with that text, without a sign that ends it or begins markup
    (B47).
    """
    data = script("items", 0, {"rows": [[text]]})
    body = data.decode()  # no lone surrogate is left in it
    assert not set(body) & {"<", "\u2028", "\u2029", "\0", "\ufeff"}
    assert body.count("\n") == 1
    inner = body.removeprefix("nebulaGallery.items(0,").removesuffix(");\n")
    assert {"rows": [[text]]} == json.loads(inner)


@pytest.mark.anyio
async def test_every_fate_of_an_item_is_an_entry(tmp_path, emulator):
    """Pictures, several of one item too, refusals and replies that could not be used are all there, with what they
    cost and why.
    """
    rows = [
        {"prompt": "a cat", "id": "first", "seed": 7, "num_steps": 3, **SMALL},
        {"prompt": "two cats", "dialect": "inference", "model": "dall-e-3", "size": "64x64", "n": 2},
        {"prompt": "bad cat", "seed": 2**53 + 1, "negative_prompt": "dogs", **SMALL},
    ]
    async with opened(rows, tmp_path / "cats", emulator, defaults={}, concurrency=1) as job:
        await job.run()
    page = Page.read(tmp_path / "cats")
    assert [(0, 0), (1, 0), (1, 1), (2, 0)] == list(zip(page.column("number"), page.column("index"), strict=True))
    first, second, third, fourth = page.entries
    assert ("done", "a cat", 7, 64, 64, "first") == tuple(
        first[name] for name in ("state", "prompt", "seed", "width", "height", "id")
    )
    assert {"num_steps": 3, "width": 64, "height": 64} == json.loads(first["parameters"])
    assert (1, 1, 1) == (first["requests"], first["charges_at_least"], first["charges_at_most"])
    assert first["file"].startswith("00000/000000000-first.")
    assert (tmp_path / "cats" / "images" / first["file"]).stat().st_size == first["bytes"]
    assert ("dall-e-3", "two cats", "two cats") == (second["model"], second["prompt"], third["prompt"])
    assert (str(2**53 + 1), "dogs") == (fourth["seed"], fourth["negative_prompt"])
    assert [None] * 3 == [fourth[name] for name in ("cause", "error", "next_step")]
    assert {"items": 4, "omitted": 0, "chunks": 1, "title": "cats", "pictures": "../images/"} == {
        name: page.summary[name] for name in ("items", "omitted", "chunks", "title", "pictures")
    }
    assert (3, 4) == (page.summary["report"]["items"], page.summary["report"]["pictures"])


@pytest.mark.anyio
async def test_failures_say_why_and_what_to_do(tmp_path):
    """An item without a picture has its state, cause, error and next step, and what it may have cost."""
    faults = [Fault("400", "content_policy_violation", at=1), Fault("malformed", at=2), Fault("drop", at=3)]
    with Emulator(credit="1000", faults=faults) as emulator:
        async with opened(["a", "b", "c"], tmp_path / "cats", emulator, concurrency=1) as job:
            await job.run()
    page = Page.read(tmp_path / "cats")
    assert "rejected" in page.column("state")
    failed = [entry for entry in page.entries if entry["state"] != "done"]
    assert all(entry["file"] is None and entry["cause"] and entry["error"] and entry["next_step"] for entry in failed)


def test_an_item_under_way_is_an_entry_too(tmp_path):
    """Of a run that was killed, what was under way is shown, and what was never sent is not."""
    out = tmp_path / "cats"
    begin(out, 3)
    with opened_ledger(out) as ledger:
        ledger.sending(1, "key", at=1.0, is_replayed=False)
    write(out)
    (entry,) = Page.read(out).entries
    assert (1, "sent", "under way", None, 0, 1) == tuple(
        entry[name] for name in ("number", "state", "cause", "file", "charges_at_least", "charges_at_most")
    )


def test_prompts_are_whole_up_to_a_bound():
    """A prompt is cut where it, or all of a chunk, would be too much for a page; and the entry says so."""
    values = {"number": 0, "index": 0, "state": "done", "requests": 1, "charges_at_least": 1, "charges_at_most": 1}
    texts = Texts()
    rows = [
        Entry(**values, request={"prompt": "x" * length}).columns(None, texts)
        for length in (200_000, 200_001, *[200_000] * 100)
    ]
    assert [(200_000, 21 + 1), (200_000, 26), (10_000, 26)] == [
        (len(row[3]), len(row)) for row in (*rows[:2], rows[-1])
    ]
    assert all(row[25] is True for row in rows if len(row[3]) == 10_000)


def test_a_job_of_which_nothing_is_done_has_a_page(tmp_path):
    """Nothing to see is a page too."""
    begin(tmp_path / "cats", 2)
    assert (0, 0) == (write(tmp_path / "cats").entries, Page.read(tmp_path / "cats").summary["chunks"])
    assert (tmp_path / "cats" / "gallery" / "index.html").is_file()


def test_more_entries_than_a_page_holds_are_chosen(tmp_path):
    """What did not succeed is shown first, then the newest pictures; the order is that of the items."""
    out = tmp_path / "cats"
    begin(out, 9)
    finish(out, [5, 0, 3, 4], pictures=2)
    with opened_ledger(out) as ledger:
        for seq in (1, 7):
            ledger.move(seq, State.REJECTED, error="no", cause="no")
    with closing(Ledger.read(JobFolder(out).ledger)) as ledger:
        chosen = {most: choose(ledger, most) for most in (1, 2, 6, 10)}
        assert {10} == {choice.entries for choice in chosen.values()}
        shown = {most: [(e.number, e.index) for e in read_entries(ledger, choice)] for most, choice in chosen.items()}
    assert [(7, 0)] == shown[1]
    assert [(1, 0), (7, 0)] == shown[2]
    assert [(1, 0), (3, 0), (3, 1), (4, 0), (4, 1), (7, 0)] == shown[6]
    assert 10 == len(shown[10])


def test_a_page_that_shows_all_is_not_written_again(tmp_path):
    """Where nothing changed the page stays as it is; a new picture, or another place of the job, makes it another."""
    out = tmp_path / "cats"
    begin(out, 2)
    finish(out, [0])
    assert not is_current(out)
    write(out)
    assert is_current(out)
    finish(out, [1])
    assert not is_current(out)
    write(out)
    shutil.move(out, tmp_path / "dogs")
    assert not is_current(tmp_path / "dogs")
    write(tmp_path / "dogs")
    assert is_current(tmp_path / "dogs")
    assert (str(tmp_path / "dogs"), "dogs") == tuple(
        Page.read(tmp_path / "dogs").summary[name] for name in ("job", "title")
    )
    next((tmp_path / "dogs" / "gallery" / "data").glob("*/00000.js")).write_bytes(b"")  # by a power cut
    assert not is_current(tmp_path / "dogs")


def is_current(out):
    """Whether the page of a job is not to be written."""
    with closing(Ledger.read(JobFolder(out).ledger)) as ledger, closing(made(ledger, out)) as gallery:
        return gallery.is_current(ledger)


def test_a_writing_that_is_stopped_leaves_the_page_before(tmp_path):
    """Until the last file is written the page shows what it did; nothing of the rest stays."""
    out = tmp_path / "cats"
    begin(out, 2)
    finish(out, [0])
    write(out)
    before = Page.read(out)
    finish(out, [1])
    with closing(Ledger.read(JobFolder(out).ledger)) as ledger, closing(made(ledger, out)) as gallery:
        gallery.stop(-1)
        with pytest.raises(JobError, match="stopped"):
            gallery.write(ledger, {})
    assert before == Page.read(out)
    assert 1 == sum(path.is_dir() for path in (out / "gallery" / "data").iterdir())


def test_one_process_writes_a_page_at_a_time(tmp_path):
    """A page that another process is writing is left to it, in one sentence."""
    out = tmp_path / "cats"
    begin(out, 1)
    with closing(Ledger.read(JobFolder(out).ledger)) as ledger, closing(made(ledger, out)) as gallery:
        with gallery.place.held(), pytest.raises(JobError, match="another process is writing"):
            write(out)
        write(out)


def test_files_of_others_are_left_alone(tmp_path):
    """A folder `gallery` that holds something else is not touched."""
    out = tmp_path / "cats"
    begin(out, 1)
    finish(out, [0])
    (out / "gallery" / "data").mkdir(parents=True)
    (out / "gallery" / "index.html").write_text("my own")
    with pytest.raises(JobError, match="move them away"):
        write(out)
    assert ["data", "index.html"] == sorted(path.name for path in (out / "gallery").iterdir())
    assert "my own" == (out / "gallery" / "index.html").read_text()


def test_what_a_killed_writing_left_is_removed(tmp_path):
    """Parts and data of no page go with the next writing; thumbnails stay."""
    out = tmp_path / "cats"
    begin(out, 1)
    write(out)
    folder = out / "gallery"
    (folder / "data" / "0badcafe").mkdir()
    (folder / f".{'0' * 32}.part").touch()
    (folder / "thumbnails").mkdir()
    write(out)
    assert 1 == sum(path.is_dir() for path in (folder / "data").iterdir())
    assert not list(folder.rglob("*.part"))
    assert (folder / "thumbnails").is_dir()


def test_without_pillow_the_page_shows_the_pictures(tmp_path, monkeypatch):
    """Where Pillow is not installed there are no thumbnails, which is said when a page is written first."""
    out = tmp_path / "cats"
    begin(out, 1)
    finish(out, [0])
    monkeypatch.setitem(sys.modules, "PIL", None)
    with closing(Ledger.read(JobFolder(out).ledger)) as ledger:
        for is_said in (True, False):
            with closing(made(ledger, out)) as gallery:
                gallery.fill(ledger)
                gallery.write(ledger, {})
                assert is_said == any("pip install 'nebula_async[images]'" in note for note in gallery.notes)
    assert [None] == Page.read(out).column("thumbnail")


def test_pictures_in_a_store_are_shown_from_there(tmp_path):
    """With an object store the page asks that origin, and no other, for pictures; a URL that was told stays."""
    out = tmp_path / "cats"
    begin(out, 1)
    finish(out, [0])
    shutil.rmtree(out / "images")
    with opened_ledger(out) as ledger:
        ledger.note(STORE, "gs://bucket/my cats")
    write(out)
    page = Page.read(out)
    assert ("https://storage.googleapis.com/bucket/my%20cats/images/", None) == (
        page.summary["pictures"], page.summary["job"],
    )  # fmt: skip
    assert policy(out).count("https:") == 1
    assert "https://storage.googleapis.com" in policy(out)
    write(out, store_options={"endpoint": "http://localhost:9000"})  # as a run knows it
    write(out)
    assert "http://localhost:9000/bucket/my%20cats/images/" == Page.read(out).summary["pictures"]
    write(out, pictures_url="https://cdn.example.com/cats/")
    write(out, store_options={"endpoint": "http://localhost:9000"})
    write(out)
    assert "https://cdn.example.com/cats/" == Page.read(out).summary["pictures"]
    assert "https://cdn.example.com" in policy(out)


def policy(out):
    """Return what the page says of pictures in its policy."""
    text = (out / "gallery" / "index.html").read_text()
    return text[text.index("img-src") :].partition(";")[0]


@pytest.mark.parametrize(
    ("store", "options", "url"),
    [
        ("s3://bucket/cats", {}, "https://bucket.s3.amazonaws.com/cats"),
        ("s3://my.bucket/cats/", {}, "https://s3.amazonaws.com/my.bucket/cats"),
        ("s3://bucket", {"endpoint": "http://127.0.0.1:9000/"}, "http://127.0.0.1:9000/bucket"),
        ("gs://bucket/a b", {}, "https://storage.googleapis.com/bucket/a%20b"),
        ("az://container/x", {"account_name": "me"}, "https://me.blob.core.windows.net/container/x"),
        ("az://container/x", {}, None),
        ("s3://bucket", {"endpoint": "http://key:secret@host"}, None),
    ],
)
def test_where_a_browser_finds_a_store(monkeypatch, store, options, url):
    """The public address of a store is told by its URL and endpoint; none that would hold a secret."""
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT", "AZURE_STORAGE_ACCOUNT_NAME"):
        monkeypatch.delenv(name, raising=False)
    assert url == browser_url(store, options)
