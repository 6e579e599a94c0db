"""The pictures of terminal and gallery that the documentation shows are of what there is now."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from PIL import Image

DOCS = Path(__file__).parent.parent / "docs"
PICTURES = ("terminal.svg", "gallery.webp", "gallery-dark.webp")


@pytest.fixture
def screenshots():
    """The script behind `make screenshots`."""
    spec = importlib.util.spec_from_file_location("screenshots", DOCS / "screenshots.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_is_small_and_whole(name):
    """Each opens from disk, without the network, and is no burden to a page."""
    path = DOCS / "images" / name
    assert path.stat().st_size <= 300_000
    if name.endswith(".webp"):
        with Image.open(path) as picture:
            assert (1920, 1290) == picture.size
    else:
        assert "https://" not in path.read_text().partition("-->")[2]


def test_the_pictures_can_be_made(screenshots, tmp_path):
    """A run in a terminal is drawn with its live line and its summary, and its gallery as a browser shows it."""
    said = screenshots.draw(tmp_path, pictures=16)
    drawn = (tmp_path / "terminal.svg").read_text().replace("&#160;", " ")
    assert "nebula-async bulk cats.jsonl" in drawn
    assert "limit 600" in drawn
    assert "ContentPolicyError content_policy_violation" in drawn
    assert "cats/gallery/index.html" in drawn
    if screenshots.CHROMIUM is None:
        pytest.skip(said)
    assert sorted(PICTURES) == sorted(path.name for path in tmp_path.iterdir())


def test_without_a_browser_the_terminal_is_drawn(screenshots, tmp_path, monkeypatch):
    """The pictures of the gallery stay as they are then, and it is said why."""
    monkeypatch.setattr(screenshots, "CHROMIUM", None)
    assert "Chromium is not installed" in screenshots.draw(tmp_path, pictures=12)
    assert ["terminal.svg"] == [path.name for path in tmp_path.iterdir()]
