"""One picture, large, on the page of a gallery: what is told of it, and the keys that lead on."""

from __future__ import annotations

import json

import pytest
from browser import new_window, opened
from sample_page import failure, picture, write_gallery, write_pictures

NO_FILE = "ERR_FILE_NOT_FOUND"
MADE_OF = json.dumps({"image": {"sha256": "ab" * 32, "bytes": 123}, "width": 512})
INFERENCE = json.dumps({"dialect": "inference", "n": 2, "size": "512x512", "quality": "high", "extra": None})
SEED_BY_EXTRA = json.dumps({"dialect": "inference", "extra": {"seed": 5}})

ENTRIES = [
    picture(0, "first\nsecond line", negative_prompt="blurry", id="cat-1", requests=2, charges_at_most=2),
    picture(1, "made of another", parameters=MADE_OF),
    failure(2, "a failure"),
    picture(3, "two at once", parameters=INFERENCE, seed=None),
    picture(3, "two at once", index=1, parameters=SEED_BY_EXTRA, seed=None, file="gone.png", thumbnail=None),
    picture(5, "more than options", parameters='{"extra":{"loras":[1]},"guidance_scale":3.5}', seed=-1),
    picture(6, "cut…", is_cut=True),
]


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    """A job of all kinds of items; one picture is gone."""
    job = tmp_path_factory.mktemp("lightbox") / "my cats"
    write_pictures(job, [entry for entry in ENTRIES if entry.get("thumbnail")])
    return write_gallery(job, ENTRIES)


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


def title(page):
    """Return which item is open."""
    return page.inner_text("#box-title") if page.is_visible("#lightbox") else None


def facts(page):
    """Return what is told of the open item."""
    names, told = (page.locator(f"#box-facts {part}").all_text_contents() for part in ("dt", "dd"))
    return dict(zip(names, told, strict=True))


def commands(page):
    """Return the commands that are offered."""
    return page.locator("#box-commands pre").all_text_contents()


def test_a_click_shows_the_picture_and_everything_known(page):
    """The original, every parameter, and where the picture came from."""
    page.click(".tile >> nth=0")
    page.wait_for_function("() => document.querySelector('#whole').naturalWidth > 0")
    assert "first\nsecond line" == page.text_content("#box-prompt")
    told = facts(page)
    assert "black-forest-labs/FLUX.1-schnell" == told["Model"]
    assert {
        "Seed": "7",
        "Size": "1024 \u00d7 1024",
        "Negative prompt": "blurry",
        "Steps": "4",
    }.items() <= told.items()
    assert {"Cost": "$0.01", "Charged": "1 to 2 pictures", "Requests sent": "2"}.items() <= told.items()
    assert {"Request id": "req-0", "Id": "cat-1", "SHA-256": f"{0:064x}", "Bytes": "1.4 MB"}.items() <= told.items()
    assert page.get_attribute("#original", "href").endswith("/images/00000/000000000.png")


def test_keys_lead_through_what_was_found(page):
    """Arrows, Home and End stay within the view, and Escape closes it at the tile that was shown last."""
    page.focus(".tile >> nth=0")
    page.keyboard.press("Enter")
    assert "1 of 7" == title(page)
    seen = []
    for key in ("ArrowRight", "ArrowRight", "ArrowLeft", "End", "ArrowRight", "Home", "ArrowLeft", "ArrowRight"):
        page.keyboard.press(key)
        seen.append(title(page))
    assert [f"{place} of 7" for place in (2, 3, 2, 7, 7, 1, 1, 2)] == seen
    page.keyboard.press("Escape")
    page.wait_for_function("() => document.activeElement.dataset.place === '1'")
    assert title(page) is None


def test_the_focus_stays_in_the_open_picture(page):
    """Tab reaches its buttons, and nothing behind it."""
    page.click(".tile >> nth=0")
    places = set()
    for _ in range(20):
        page.keyboard.press("Tab")
        places.add(page.evaluate("() => (document.activeElement.closest('dialog') ?? document.activeElement).id"))
    assert places <= {"lightbox", ""}  # the body: the browser's own controls lie between the last and the first


def test_buttons_do_what_the_keys_do(page):
    """Previous and next are disabled at the ends."""
    page.click(".tile >> nth=0")
    assert page.is_disabled("#previous")
    page.click("#next")
    assert "2 of 7" == title(page)
    page.click("#close")
    assert title(page) is None


def test_an_open_picture_has_an_address(browser, url, page):
    """It can be sent; the browser's Back closes it."""
    page.click(".tile >> nth=4")
    assert page.url.endswith("#open=3.1")
    with opened(browser, page.url, but=NO_FILE) as other:
        other.wait_for_selector("#lightbox[open]")
        assert "5 of 7" == title(other)
    page.go_back()
    page.wait_for_selector("#lightbox", state="hidden")
    assert page.url.endswith("index.html")


def test_an_address_of_no_item_says_so(window, url):
    """One that was sent with another job, or was typed."""
    with window.showing(f"{url}#open=%3Cb%3E", but=NO_FILE) as page:
        page.wait_for_function("() => document.querySelector('#notice').textContent")
        assert "Item <b> is not among those that are shown." == page.inner_text("#notice")


def test_a_picture_that_is_gone_says_where_it_was(page):
    """Moved, removed, or in a store that cannot be reached."""
    page.click(".tile >> nth=4")
    page.wait_for_selector("#box-problem")
    assert "../images/gone.png" in page.inner_text("#box-problem")


def test_a_failure_tells_cause_and_next_step(page):
    """On its card, and large."""
    card = page.locator(".card")
    assert ["Refused, not charged", "the prompt was refused"] == card.locator(".failure > *").all_text_contents()
    card.click()
    assert {"Cause": "ContentPolicyError", "Item": "#2"}.items() <= facts(page).items()
    problem = page.inner_text("#box-problem")
    assert "the prompt was refused" in problem
    assert "Change the prompt." in problem
    assert page.is_hidden("#original")


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        (0, ["nebula-async generate --model=black-forest-labs/FLUX.1-schnell --seed=7 --negative-prompt=blurry"
             " --num-steps=4 -- 'first\nsecond line'",
             "nebula-async reproduce 'my cats/images/00000/000000000.png'"]),
        (1, ["nebula-async reproduce --image=PATH 'my cats/images/00000/000000001.png'"]),
        (3, ["nebula-async generate --model=black-forest-labs/FLUX.1-schnell --dialect=inference --n=2 --size=512x512"
             " --quality=high -- 'two at once'",
             "nebula-async reproduce 'my cats/images/00000/000000003.png'"]),
        (5, ["nebula-async reproduce 'my cats/images/00000/000000005.png'"]),
        (6, ["nebula-async reproduce 'my cats/images/00000/000000006.png'"]),
    ],
)  # fmt: skip
def test_the_command_asks_for_the_picture_again(page, place, expected):
    """With every parameter; where options cannot say it, by the file alone."""
    page.click(f".tile >> nth={place}")
    assert expected == commands(page)


@pytest.mark.parametrize(("place", "is_told"), [(0, False), (2, False), (3, True), (4, False), (5, True)])
def test_what_comes_of_asking_again_is_told(page, place, is_told):
    """Without a seed, or with one that lets the server draw, another picture comes: the page promises no other."""
    page.click(f".tile >> nth={place}")
    hints = page.locator("#box-commands .hint").all_text_contents()
    assert ["No seed was sent: another picture comes."] * is_told == hints
    headings = page.locator("#box-commands h3").all_text_contents()
    assert {"Command that asks for it again"} == {heading[:30] for heading in headings}


def test_parameters_have_names_in_words(page):
    """As the labels around them; what was asked for is told apart from what came."""
    page.click(".tile >> nth=5")
    assert "3.5" == facts(page)["Guidance scale"]
    page.keyboard.press("Escape")
    page.click(".tile >> nth=3")
    told = facts(page)
    assert ("1024 \u00d7 1024", "512x512") == (told["Size"], told["Size asked for"])
    assert {"Dialect": "inference", "Pictures asked for": "2", "Quality": "high"}.items() <= told.items()


def test_prompt_and_command_are_copied(browser, url):
    """By a button, or by a key for the prompt."""
    with opened(browser, url, but=NO_FILE, permissions=["clipboard-read", "clipboard-write"]) as page:
        page.click(".tile >> nth=0")
        page.keyboard.press("c")
        page.wait_for_function("() => document.querySelector('#copied').textContent === 'Copied'")
        assert "first\nsecond line" == page.evaluate("() => navigator.clipboard.readText()")
        page.click("#box-commands button >> nth=1")
        page.wait_for_function("async () => (await navigator.clipboard.readText()).startsWith('nebula-async')")


def test_a_question_mark_shows_the_keys(page):
    """Escape closes them."""
    page.keyboard.press("?")
    assert page.is_visible("#keys")
    page.keyboard.press("Escape")
    assert page.is_hidden("#keys")


def test_arrows_move_among_the_tiles(page):
    """Also up and down, to the tile that is nearest; one tile alone is reached by Tab."""
    page.focus(".tile >> nth=0")
    visited = []
    for key in ("ArrowRight", "ArrowDown", "ArrowUp", "End", "ArrowLeft", "Home", "PageDown"):
        page.keyboard.press(key)
        visited.append(int(page.evaluate("() => document.activeElement.dataset.place")))
    assert [1, 5, 1, 6, 5, 0] == visited[:6]
    assert 1 == page.locator(".tile[tabindex='0']").count()
