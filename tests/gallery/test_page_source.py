"""What the files of the page hold, so that no prompt can become markup and nothing is loaded from elsewhere."""

from __future__ import annotations

import re

import pytest

from nebula_async.bulk.gallery.place import page_files

FILES = {name: data.decode() for name, data in page_files().items()}
SCRIPTS = {name: text for name, text in FILES.items() if name.endswith(".js")}
MOST_LINES, MOST_BYTES = 300, 100_000

POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self'",
    "connect-src": "'none'",
    "base-uri": "'none'",
    "form-action": "'none'",
    "require-trusted-types-for": "'script'",
    "trusted-types": "nebula-data",
}


def test_the_policy_allows_only_what_lies_beside_the_page():
    """Scripts, styles and pictures of its own; nothing inline, nothing from elsewhere, no text as markup."""
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', FILES["index.html"])
    assert POLICY == dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert FILES["index.html"].index("Content-Security-Policy") < FILES["index.html"].index("<link")


def test_nothing_is_inline():
    """No script, no style and no handler stands in the markup."""
    assert not re.search(r"<script(?![^>]* src=)|<style|\sstyle=|\son\w+=", FILES["index.html"])


@pytest.mark.parametrize("name", SCRIPTS)
def test_no_script_makes_markup_of_text(name):
    """Elements are made one by one; their text is text."""
    assert not re.search(r"(inner|outer)HTML|insertAdjacentHTML|document\.write|\beval\b|new Function", SCRIPTS[name])
    assert not re.search(r"DOMParser|createContextualFragment|setHTML|setAttribute\(.(on|style)", SCRIPTS[name])


def test_nothing_comes_from_elsewhere():
    """No file of the page names a server; the one URL is the name of a kind of element."""
    found = {url for text in FILES.values() for url in re.findall(r"(?:https?:)?//[\w.-]+\.[\w/]+", text)}
    assert {"http://www.w3.org/2000/svg"} == found


def test_the_page_is_small():
    """A page that people can read: small files of one purpose each."""
    assert sum(len(text.encode()) for text in FILES.values()) <= MOST_BYTES
    assert max(len(text.splitlines()) for text in FILES.values()) <= MOST_LINES


def test_every_script_is_loaded_once():
    """The markup names each of them, with `defer`, so that they run in order."""
    assert sorted(SCRIPTS) == sorted(re.findall(r'<script defer src="([\w.]+)"></script>', FILES["index.html"]))


def test_nothing_is_as_wide_as_the_window_with_its_scrollbar():
    """In some browsers 100vw reaches below a scrollbar, and what stands at the right edge is cut."""
    assert "100vw" not in FILES["gallery.css"]
