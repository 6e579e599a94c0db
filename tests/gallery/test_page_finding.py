"""Searching, filtering and sorting on the page of a gallery, and the address that keeps a view."""

from __future__ import annotations

import pytest
from browser import captions, new_window, opened, settled, shown_count
from sample_page import FLUX, SDXL, failure, picture, write_gallery

NO_FILE = "ERR_FILE_NOT_FOUND"  # of the pictures, which these tests do without

ENTRIES = [
    picture(0, "A red Fox in the snow", seed=1, seconds=9.0, cost="0.02", id="fox-1"),
    picture(1, "a café in Paris", seed=2, model=SDXL, width=1344, height=768, seconds=1.0, cost="0.01"),
    picture(2, "a blue fox", seed=2, seconds=4.0, cost=None, created=None),
    failure(3, "an old fox", "rejected"),
    failure(4, "a quiet street", "unknown"),
    picture(5, "zebra, grüne Wiese", seed="1152921504606846976", cost="0.10", created=1_600_000_000),
]


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    """Six items, told apart by whatever there is to search for."""
    return write_gallery(tmp_path_factory.mktemp("finding") / "cats", ENTRIES)


@pytest.fixture(scope="module")
def shown(browser, url):
    """A window that shows the page."""
    with new_window(browser) as shown, shown.showing(url, but=NO_FILE):
        yield shown


@pytest.fixture
def page(shown):
    """The page, as it opens."""
    with shown.from_its_beginning(but=NO_FILE) as page:
        yield page


def numbers(page):
    """Return the numbers of the items that are shown, in order."""
    settled(page)
    prompts = [entry["prompt"] for entry in ENTRIES]
    return [prompts.index(caption) for caption in captions(page)]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("fox", [0, 2, 3]),
        ("  FOX   red ", [0]),
        ("cafe", [1]),
        ("GRÜNE", [5]),
        ("grune", [5]),
        ("fox-1", [0]),
        ("000000002.png", [2]),
        ("#4", [4]),
        ("fox zebra", []),
        ("", [0, 1, 2, 3, 4, 5]),
    ],
)
def test_all_words_are_found_in_prompts_ids_and_names(page, words, found):
    """In any order, in either case, with or without accents."""
    page.fill("#q", words)
    assert found == numbers(page)


def test_the_number_of_what_is_found_is_said(page):
    """A live region tells how many match, and a sentence stands where nothing does."""
    page.fill("#q", "fox")
    assert "3 of 6 items" == shown_count(page)
    page.fill("#q", "elephant")
    assert "0 of 6 items" == shown_count(page)
    assert "No item matches. Search for fewer words, or clear the filters." == page.inner_text("#nothing")
    assert "polite" == page.get_attribute("#count", "aria-live")


def options(page, name):
    """Return what a filter offers."""
    return [text.replace("\u00a0", " ") for text in page.locator(f"#{name} option").all_text_contents()]


def test_filters_offer_what_occurs_with_how_many_there_are(page):
    """No status, model, size or seed is offered that no item has."""
    status = ["All (6)", "All failures (2)", "Done (4)", "Refused, not charged (1)", "Outcome unknown (1)"]
    assert status == options(page, "status")
    assert ["All (6)", f"{FLUX} (5)", f"{SDXL} (1)"] == options(page, "model")
    assert ["All (4)", "1024 \u00d7 1024 (3)", "1344 \u00d7 768 (1)"] == options(page, "size")
    assert {"1", "2", "7", "1152921504606846976"} == set(
        page.eval_on_selector_all("#seeds option", "(all) => all.map((each) => each.value)")
    )


def test_counts_follow_what_else_is_chosen(page):
    """Beside a search, each filter says how many it would leave."""
    page.fill("#q", "fox")
    assert "3 of 6 items" == shown_count(page)
    assert ["All (3)", "All failures (1)", "Done (2)", "Refused, not charged (1)", "Outcome unknown (0)"] == options(
        page, "status"
    )


@pytest.mark.parametrize(
    ("name", "value", "found"),
    [
        ("status", "failed", [3, 4]),
        ("status", "done", [0, 1, 2, 5]),
        ("status", "unknown", [4]),
        ("model", SDXL, [1]),
        ("size", "1344\u00d7768", [1]),
    ],
)
def test_a_filter_leaves_what_is_like_that(page, name, value, found):
    """By status, model and size; all is there again once it is cleared."""
    page.select_option(f"#{name}", value)
    assert found == numbers(page)
    page.click("#clear")
    assert [0, 1, 2, 3, 4, 5] == numbers(page)


def test_a_seed_is_typed_or_picked(page):
    """Also one that is beyond the whole numbers of JavaScript."""
    page.fill("#seed", "2")
    assert [1, 2] == numbers(page)
    page.fill("#seed", "1152921504606846976")
    assert [5] == numbers(page)


@pytest.mark.parametrize(
    ("order", "found"),
    [
        ("newest", [1, 0, 5, 2, 3, 4]),
        ("oldest", [5, 0, 1, 2, 3, 4]),
        ("cost", [5, 0, 1, 2, 3, 4]),
        ("slowest", [0, 2, 5, 1, 3, 4]),
        ("prompt", [2, 1, 4, 0, 3, 5]),
        ("seed", [0, 1, 2, 3, 4, 5]),
    ],
)
def test_items_are_sorted(page, order, found):
    """What has no date, cost or time comes last; equal ones stay in the order of their numbers."""
    page.select_option("#sort", order)
    assert found == numbers(page)


def test_a_view_can_be_sent(browser, url, page):
    """The address keeps search, filters and order; whoever opens it sees the same."""
    page.fill("#q", "fox a&b=c #1")
    page.fill("#q", "fox")
    page.select_option("#status", "done")
    page.select_option("#sort", "slowest")
    assert [0, 2] == numbers(page)
    with opened(browser, page.url, but=NO_FILE) as other:
        assert [0, 2] == numbers(other)
        assert ["fox", "done", "slowest"] == [other.input_value(f"#{name}") for name in ("q", "status", "sort")]


@pytest.mark.parametrize("hash_", ["q=%3Cimg%20onerror%3D1%3E", "model=nobody", "status=%FF%00", "sort=__proto__"])
def test_an_address_that_means_nothing_does_no_harm(window, url, hash_):
    """Whatever stands behind the #, the page opens, and clearing shows everything."""
    with window.showing(f"{url}#{hash_}", but=NO_FILE) as page:
        if page.is_visible("#clear"):
            page.click("#clear")
        page.select_option("#sort", "number")
        assert [0, 1, 2, 3, 4, 5] == numbers(page)


def test_changing_the_address_changes_the_view(page):
    """A link to another view of the same page works without loading it anew."""
    page.evaluate("() => { location.hash = 'q=zebra'; }")
    page.wait_for_function("() => document.querySelectorAll('.tile').length === 1")
    assert [5] == numbers(page)
    page.go_back()
    page.wait_for_function("() => document.querySelectorAll('.tile').length === 6")
    assert [0, 1, 2, 3, 4, 5] == numbers(page)


def test_skipping_to_the_pictures_keeps_the_view(page):
    """The first stop of Tab leads to the tile that Tab would reach; page and address keep what was searched."""
    page.fill("#q", "fox")
    assert "3 of 6 items" == shown_count(page)
    page.evaluate("() => document.activeElement.blur()")
    page.focus(".skip")
    page.keyboard.press("Enter")
    assert "0" == page.evaluate("() => document.activeElement.dataset.place")
    assert ("q=fox", "fox") == (page.evaluate("() => location.hash.slice(1)"), page.input_value("#q"))
    assert [0, 2, 3] == numbers(page)


@pytest.mark.parametrize("hash_", ["grid", "x=1&y", "__proto__=1"])
def test_an_address_of_no_view_changes_nothing(page, hash_):
    """A name behind the # that the page does not know leaves what was searched, and the address is again that of it."""
    page.fill("#q", "fox")
    assert "3 of 6 items" == shown_count(page)
    page.evaluate("(hash) => { location.hash = hash; }", hash_)
    page.wait_for_function("() => location.hash === '#q=fox'")
    assert "3 of 6 items" == shown_count(page)


def test_a_slash_leads_to_the_search(page):
    """And is not typed into it; in the field itself it is a sign like others."""
    page.keyboard.press("/")
    page.keyboard.type("fox/")
    assert "fox/" == page.input_value("#q")


def test_escape_in_an_empty_search_leads_to_the_pictures(page):
    """The arrows move there at once."""
    page.focus("#q")
    page.keyboard.press("Escape")
    page.keyboard.press("ArrowRight")
    assert "1" == page.evaluate("() => document.activeElement.dataset.place")
