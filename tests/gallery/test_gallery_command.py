"""`nebula-async gallery`, and what `bulk` says of its page."""

from __future__ import annotations

import os
import shutil
import signal

import pytest
from galleries import Page, fill, write
from job_folders import begin, finish
from job_folders import opened as opened_ledger

from nebula_async.bulk.bucket import STORE
from nebula_async.bulk.gallery.place import page_files
from nebula_async.bulk.gallery.scripts import script


@pytest.fixture
def cats(tmp_path):
    """The folder of a job of three items, two of them done."""
    begin(tmp_path / "cats", 3)
    finish(tmp_path / "cats", [0, 2])
    return tmp_path / "cats"


def test_the_page_and_all_thumbnails_are_made(shell, cats):
    """The path of the page is all that is printed; the folder may be named from where one is."""
    ended = shell.run("gallery", "cats")
    assert (0, "cats/gallery/index.html\n") == (ended.code, ended.out)
    assert "2 pictures, 2 thumbnails; open it in a browser\n" == ended.err
    page = Page.read(cats)
    assert ("cats", [0, 2]) == (page.summary["job"], page.column("number"))
    assert None not in page.column("thumbnail")


def test_a_folder_like_an_option_is_named_so_that_commands_take_it(shell, tmp_path):
    """What the page tells to paste works for a folder whose name begins with a dash."""
    begin(tmp_path / "-cats", 1)
    ended = shell.run("gallery", "./-cats")
    assert (0, "./-cats") == (ended.code, Page.read(tmp_path / "-cats").summary["job"]), ended.err


@pytest.mark.parametrize("name", ["none", "cats/images", "file", "s3://bucket/cats"])
def test_what_is_no_job_is_refused_in_one_sentence(shell, cats, name):
    """Nothing is made in a folder that is no job's."""
    (cats.parent / "file").touch()
    ended = shell.run("gallery", name)
    assert (2, "", 1) == (ended.code, ended.out, ended.err.count("\n"))
    assert "is not the folder of a job" in ended.err
    assert not list(cats.parent.rglob("gallery"))


@pytest.mark.parametrize("name", ["gallery", "gallery/data"])
def test_a_file_where_a_folder_belongs_is_said(shell, cats, name):
    """Where the page has no place the command says so in a sentence, with what to do, and exits with 2."""
    write(cats)
    shutil.rmtree(cats / name)
    (cats / name).write_text("mine")
    ended = shell.run("gallery", cats)
    assert (2, "", 1) == (ended.code, ended.out, ended.err.count("\n"))
    assert f"{cats / name} is no folder, and the gallery wants that name; move it away" in ended.err
    assert "mine" == (cats / name).read_text()


@pytest.mark.parametrize("name", ["gallery", "gallery/data", "gallery/thumbnails"])
def test_a_link_leads_to_nobody_elses_files(shell, cats, tmp_path, name):
    """What is in the gallery is removed without asking: where a part of it is a link, nothing is, and that is said."""
    write(cats)
    shutil.rmtree(cats / name, ignore_errors=True)
    mine = tmp_path / "mine" / "0123abcd"
    mine.mkdir(parents=True)
    (mine / "letter.txt").write_text("dear")
    (cats / name).symlink_to(mine.parent, target_is_directory=True)
    ended = shell.run("gallery", cats)
    assert (2, "", 1) == (ended.code, ended.out, ended.err.count("\n"))
    assert f"{cats / name} is a link, and the gallery wants a folder of its own there; take it away" in ended.err
    assert [mine / "letter.txt"] == [path for path in mine.parent.rglob("*") if path.is_file()]


def test_folders_that_are_not_its_own_are_left_alone(shell, cats):
    """Only what a gallery named itself is removed from its folder."""
    write(cats)
    (cats / "gallery" / "data" / "letters").mkdir()
    (cats / "gallery" / "data" / "0123abcd").mkdir()
    (cats / "gallery" / "data" / "summary.js").unlink()
    assert 0 == shell.run("gallery", cats).code
    assert (cats / "gallery" / "data" / "letters").is_dir()
    assert not (cats / "gallery" / "data" / "0123abcd").exists()


@pytest.mark.parametrize(
    "url", ['https://a.b"><h1>injected</h1>/', "https://a.b;script-src/", "https://a.b ; x/", "https://a.b'/"]
)
def test_a_page_of_somebody_else_changes_no_policy(shell, cats, url):
    """Where a page that came with the folder says that its pictures are has no part in the policy of ours."""
    write(cats, pictures_url=None)
    with opened_ledger(cats) as ledger:
        ledger.note(STORE, "az://container/cats")
    for picture in (cats / "images").rglob("*.png"):
        picture.unlink()
    summary = cats / "gallery" / "data" / "summary.js"
    values = Page.read(cats).summary | {"pictures": url, "is_told": True}
    summary.write_bytes(script("summary", values))
    assert 0 == shell.run("gallery", cats).code
    assert "" == Page.read(cats).summary["pictures"]
    assert (page_files()["index.html"]) == (cats / "gallery" / "index.html").read_bytes()


def test_where_pictures_are_can_be_told(shell, cats):
    """Of a job with an object store the page shows pictures from the URL that is given, and it keeps that."""
    with opened_ledger(cats) as ledger:
        ledger.note(STORE, "az://container/cats")
    for picture in (cats / "images").rglob("*.png"):
        picture.unlink()
    ended = shell.run("gallery", cats)
    assert 0 == ended.code
    assert "--pictures-url URL" in ended.err
    url = "https://cdn.example.com/cats/images/"
    assert 0 == shell.run("gallery", cats, "--pictures-url", url.rstrip("/")).code
    assert url == Page.read(cats).summary["pictures"]


@pytest.mark.parametrize(
    "url",
    [
        "cats/",
        "ftp://x/y",
        "https://user:secret@x/",
        "https://x/?a=b",
        "javascript:alert(1)",
        "https://[::1/x",
        'https://a.b"><h1>injected</h1>/',
        "https://a.b;script-src/x",
        "https://a.b script-src/x",
        "https://ä.example/x",
    ],
)
def test_a_wrong_url_is_refused(shell, cats, url):
    """Only the URL of a folder on the web will do."""
    ended = shell.run("gallery", cats, "--pictures-url", url)
    assert (2, 1) == (ended.code, ended.err.count("\n"))
    assert "--pictures-url must be" in ended.err


def test_a_url_of_pictures_that_are_here_is_refused(shell, cats):
    """The page of a job in a folder shows the pictures of that folder."""
    ended = shell.run("gallery", cats, "--pictures-url", "https://example.com/")
    assert (2, 1) == (ended.code, ended.err.count("\n"))
    assert "leave out --pictures-url" in ended.err


def test_an_interrupted_command_leaves_a_page(shell, cats):
    """Ctrl-C makes no more thumbnails; the page is written with those that are there, and no process is left."""
    picture = next((cats / "images").rglob("*.png"))
    picture.unlink()
    os.mkfifo(picture)  # no thumbnail of it ever comes
    process = shell.start("gallery", cats)
    writing = os.open(picture, os.O_WRONLY)  # waits until it is read
    process.send_signal(signal.SIGINT)
    ended = shell.ended(process)
    os.close(writing)
    assert (130, f"{cats}/gallery/index.html\n") == (ended.code, ended.out), ended.err
    assert "makes the rest" in ended.err
    assert 2 == len(Page.read(cats).entries)


def test_bulk_writes_a_page_unless_told_not_to(shell, tmp_path):
    """The tour without a key leaves a page too; --no-gallery leaves none."""
    (tmp_path / "prompts.txt").write_text("a cat\ntwo cats\n")
    options = ("--emulator", "--model", "black-forest-labs/FLUX.1-schnell", "--width", "64", "--height", "64")
    ended = shell.run("bulk", "prompts.txt", *options)
    assert 0 == ended.code, ended.err
    assert "gallery/index.html" in ended.text
    assert ["a cat", "two cats"] == Page.read(tmp_path / "prompts").column("prompt")
    ended = shell.run("bulk", "prompts.txt", *options, "--out", "plain", "--no-gallery")
    assert (0, False) == (ended.code, (tmp_path / "plain" / "gallery").exists()), ended.err


def test_thumbnails_of_a_copy_are_made_once(shell, cats):
    """A copy has files of other times: its thumbnails are made anew, and those that came with it are removed."""
    fill(cats)
    copy = cats.with_name("copy")
    shutil.copytree(cats, copy, copy_function=shutil.copyfile)
    for picture in (copy / "images").rglob("*.png"):
        os.utime(picture, (1, 1))
    came = {path.name for path in (copy / "gallery" / "thumbnails").rglob("*.webp")}
    assert 0 == shell.run("gallery", copy).code
    names = {path.name for path in (copy / "gallery" / "thumbnails").rglob("*.webp")}
    assert (2, set()) == (len(names), names & came)


def test_a_job_that_was_moved_names_its_new_place(shell, cats):
    """The thumbnails of a job that was moved are kept, and its commands name the place where it is now."""
    fill(cats)
    thumbnails = sorted((cats / "gallery" / "thumbnails").rglob("*.webp"))
    moved = cats.rename(cats.with_name("moved"))
    assert 0 == shell.run("gallery", moved).code
    assert str(moved) == Page.read(moved).summary["job"]
    assert len(thumbnails) == len(list((moved / "gallery" / "thumbnails").rglob("*.webp")))
