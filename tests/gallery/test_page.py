"""The page of a gallery as it opens: what it tells of the run, and what it says where something is missing."""

from __future__ import annotations

import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
from browser import new_window, shown_count
from sample_page import REPORT, failure, picture, write_gallery, write_pictures

from nebula_async.bulk.gallery.place import GalleryFolder

NO_FILE = "ERR_FILE_NOT_FOUND"


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    """A small job: pictures, and failures."""
    job = tmp_path_factory.mktemp("page") / "cats"
    entries = [picture(number, f"cat {number}") for number in range(36)]
    entries += [failure(number, f"dog {number}") for number in range(36, 40)]
    write_pictures(job, entries)
    return write_gallery(job, entries, report=REPORT)


@pytest.fixture(scope="module")
def shown(browser, url):
    """A window that shows it."""
    with new_window(browser) as shown, shown.showing(url):
        yield shown


def test_it_opens_from_disk_and_shows_the_pictures(shown):
    """A file URL is enough: the pictures in view are there, each with its prompt as alternative text."""
    with shown.from_its_beginning() as page:
        page.wait_for_function("() => document.querySelectorAll('img.here').length >= 5")
        assert "40 items" == shown_count(page)
        assert "cat 0" == page.get_attribute(".tile img", "alt")
        assert "cats · gallery" == page.title()


def test_the_header_tells_what_the_run_did_and_cost(shown):
    """Done, failed, cost, time and latency stand above the pictures."""
    with shown.from_its_beginning() as page:
        told = page.inner_text("#facts").replace("\n", " ").replace("\u00a0", " ")
    assert "Done 36 of 40 items Failed 4 1 with unknown outcome Cost $0.36 to $0.38" in told
    assert "Time 3 min 12 pictures a minute Latency 2.5 s 90 % in 4.1 s, 99 % in 9.8 s" in told


def test_causes_of_failure_are_seen_at_a_glance(shown):
    """The most frequent ones, with what to do, stand above the pictures; a click on the number shows the failures."""
    with shown.from_its_beginning() as page:
        assert ["2\u00d7the prompt was refusedChange the prompt."] == page.locator("#causes li").all_text_contents()
        page.click("#facts a")
        page.wait_for_function("() => document.querySelector('#count').textContent === '4 of 40 items'")


def test_causes_come_with_what_to_do(shown):
    """The tables hold models, causes with the next step, latency, and the course of the run."""
    with shown.from_its_beginning() as page:
        page.click("#about summary")
        tables = {table.locator("caption").inner_text(): table.inner_text() for table in page.locator("table").all()}
    assert ["By cause of failure", "By model", "Latency of 41 requests", "Over the run"] == list(tables)
    assert "Change the prompt." in tables["By cause of failure"]
    assert "black-forest-labs/FLUX.1-schnell" in tables["By model"]


def test_the_chart_has_words_for_those_who_do_not_see_it(shown):
    """The drawing is an image with a name, and a table holds its numbers."""
    with shown.from_its_beginning() as page:
        drawing = page.get_by_role("img", name="Over the run: at most 20 pictures a minute")
        assert drawing.is_visible()
        assert 3 == drawing.locator("g").count()
        page.click("#about summary")
        rows = page.locator("table", has_text="Pictures a minute").locator("tbody tr").all_inner_texts()
    assert "after 1 min\t0.0\t\t2\t0" == rows[1].replace("\u00a0", " ")


def test_a_run_that_was_stopped_says_why(window, tmp_path):
    """The error that ended the whole job stands above everything, with the next step."""
    stop = {"this_run": {"stopped_by": "the credit is used up", "next_step": "Add credit."}}
    with window.showing(write_gallery(tmp_path, [picture(1, "x")], report=REPORT | stop), but=NO_FILE) as page:
        assert "The run was stopped: the credit is used up. Add credit." == page.inner_text("#notice")


def test_a_job_without_items_says_so(window, tmp_path):
    """An empty gallery is a sentence, not an empty page."""
    with window.showing(write_gallery(tmp_path, [])) as page:
        assert "0 items" == shown_count(page)
        assert page.inner_text("#nothing").startswith("No item has been sent yet.")


def test_a_page_without_its_data_says_what_to_do(window, tmp_path):
    """Where the page was copied alone, it says what is missing and which command writes it."""
    GalleryFolder(tmp_path).put_page("../images/")
    with window.showing((tmp_path / "index.html").as_uri(), but=NO_FILE) as page:
        assert "data/summary.js, beside this page, cannot be read" in page.inner_text("#notice")
        assert "nebula-async gallery" in page.inner_text("#notice")


def test_data_of_another_version_is_not_read(window, tmp_path):
    """A page that is older or newer than its data says so."""
    with window.showing(write_gallery(tmp_path, [], version=2)) as page:
        assert "of another version (2)" in page.inner_text("#notice")


def test_a_part_of_the_data_that_is_missing_is_told(window, tmp_path):
    """The other items are shown all the same."""
    url = write_gallery(tmp_path, [failure(number, "x") for number in range(2_100)])
    (tmp_path / "gallery" / "data" / "00000.js").unlink()
    with window.showing(url, but=NO_FILE) as page:
        page.wait_for_function("() => document.querySelector('#notice').textContent")
        assert page.inner_text("#notice").startswith("1 part of the data cannot be read")
        assert page.locator(".tile").count() > 0


def test_pictures_that_are_gone_are_shown_as_such(window, tmp_path):
    """A tile whose thumbnail and picture cannot be loaded says so; with the picture alone, that is shown."""
    entries = [picture(1, "both are gone"), picture(2, "the thumbnail is gone"), picture(3, "it never had one")]
    entries[2]["thumbnail"] = None
    write_pictures(tmp_path, [picture(2, ""), picture(3, "")])
    (tmp_path / "gallery" / "thumbnails" / "00000" / "000000002.webp").unlink()
    url = write_gallery(tmp_path, entries)
    with window.showing(url, but=NO_FILE) as page:
        page.wait_for_function("() => document.querySelectorAll('img.here').length === 2")
        assert "The picture is not here" == page.locator(".tile").first.inner_text().split("\n")[0]


@pytest.fixture
def store(tmp_path):
    """A server of the pictures below a folder, as a bucket would be; its URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=tmp_path))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class QuietHandler(SimpleHTTPRequestHandler):
    """Serves files, and prints nothing."""

    def log_message(self, *_):
        """Print nothing."""


def test_pictures_in_a_store_are_fetched_from_there(window, tmp_path, store):
    """And from no other origin: the policy of the page names that one alone."""
    entries = [picture(1, "in the store", thumbnail=None)]
    write_pictures(tmp_path, [picture(1, "")])
    url = write_gallery(tmp_path, entries, pictures=f"{store}images/", job=None)
    with window.showing(url, but=f"request: {store}images/00000/000000001.png") as page:
        page.wait_for_function("() => document.querySelectorAll('img.here').length === 1")
        page.click(".tile")
        assert 1 == page.locator("#box-commands pre").count()
    elsewhere = store.replace("127.0.0.1", "localhost")
    with (
        window.showing(url, but="http://") as page,
        page.expect_console_message(lambda message: f"refused: {elsewhere}" in message.text),
    ):
        page.evaluate("(url) => { document.querySelector('#preview').src = url; }", elsewhere)


def test_names_of_files_may_hold_anything(window, tmp_path):
    """Signs that mean something in a URL are escaped, so the picture is found."""
    entries = [picture(1, "x", file="00000/50% #1? a'b&ü.png", thumbnail="00000/50% #1.webp")]
    write_pictures(tmp_path, entries)
    url = write_gallery(tmp_path, entries)
    with window.showing(url) as page:
        page.wait_for_function("() => document.querySelectorAll('img.here').length === 1")
        page.click(".tile")
        page.wait_for_function("() => document.querySelector('#whole').naturalWidth > 0")


def test_what_is_left_out_is_told(window, tmp_path):
    """A job with more entries than a page shows says how many are not there."""
    with window.showing(write_gallery(tmp_path, [failure(1, "x")], omitted=5_000)) as page:
        assert page.inner_text("#notice").startswith("5,000 pictures are not shown")
