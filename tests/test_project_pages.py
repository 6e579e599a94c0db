"""What the pages for contributors and reporters name is there."""

from __future__ import annotations

import re
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

from nebula_async.config import RetryPolicy

ROOT = Path(__file__).parent.parent
PAGES = ("CONTRIBUTING.md", "SECURITY.md")
A_PAGE = 80
"""Lines."""

spec = spec_from_file_location("links", ROOT / "docs/links.py")
links = module_from_spec(spec)
spec.loader.exec_module(links)


@pytest.mark.parametrize("page", PAGES)
def test_each_target_is_one_of_make(page):
    """Each `make …` that a page says to run is a target."""
    makefile = (ROOT / "Makefile").read_text()
    targets = {target for line in re.findall(r"^([\w -]+):", makefile, flags=re.MULTILINE) for target in line.split()}
    named = {name for line in re.findall(r"\bmake ([a-z][a-z -]*)", (ROOT / page).read_text()) for name in line.split()}
    assert named
    assert set() == named - targets


@pytest.mark.parametrize("name", PAGES)
def test_each_file_is_there(name):
    """Each file that a page names or links to can be opened."""
    text = (ROOT / name).read_text()
    assert [] == [path for path in re.findall(r"[`/ ]((?:nebula_async|tests|docs|\.ci)/[\w./-]*\w)", text)
                  if not (ROOT / path).exists()]  # fmt: skip
    assert [] == links.problems_of_markdown(ROOT, [ROOT / name])


@pytest.mark.parametrize("name", PAGES)
def test_it_is_one_page(name):
    """Each of these pages can be read at once."""
    assert A_PAGE >= len((ROOT / name).read_text().splitlines())


def test_what_is_named_in_code_is_so_called():
    """The setting that keeps money from being spent twice has the name that the page gives it."""
    assert hasattr(RetryPolicy(), "resend_unknown")
    assert "`resend_unknown`" in (ROOT / "SECURITY.md").read_text()
