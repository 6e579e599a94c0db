"""The page of a gallery for everybody: contrast, names and roles, narrow windows, paper."""

from __future__ import annotations

import pytest
from browser import new_window, opened
from sample_page import REPORT, failure, picture, write_gallery, write_pictures

LEAST_CONTRAST = 4.5

LOW_CONTRAST = """(least) => {
  const canvas = Object.assign(document.createElement("canvas"), { width: 1, height: 1 });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const known = new Map();
  const rgba = (colour) => {
    if (!known.has(colour)) known.set(colour, painted(colour));
    return known.get(colour);
  };
  const painted = (colour) => {
    context.clearRect(0, 0, 1, 1);
    context.fillStyle = colour;
    context.fillRect(0, 0, 1, 1);
    return [...context.getImageData(0, 0, 1, 1).data];
  };
  const light = ([r, g, b]) => [r, g, b].map((part) => part / 255)
    .map((part) => (part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4))
    .reduce((sum, part, index) => sum + part * [0.2126, 0.7152, 0.0722][index], 0);
  const behind = (element) => {
    for (let each = element; each; each = each.parentElement) {
      const colour = rgba(getComputedStyle(each).backgroundColor);
      if (colour[3] === 255) return colour;
    }
    return [255, 255, 255];
  };
  const isShown = (element) => element.checkVisibility({ opacityProperty: true }) && element.getClientRects().length > 0
    && !element.disabled;
  const hasText = (element) => element.matches("input, select")
    || [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
  return [...document.querySelectorAll("body *")].filter((element) => isShown(element) && hasText(element))
    .map((element) => {
      const colours = [light(rgba(getComputedStyle(element).color)), light(behind(element))];
      const contrast = (Math.max(...colours) + 0.05) / (Math.min(...colours) + 0.05);
      return [`${element.localName}.${element.className}: ${element.textContent.slice(0, 30)}`, contrast];
    })
    .filter(([, contrast]) => contrast < least);
}"""

UNNAMED = """() => [...document.querySelectorAll("button, a[href], input, select, summary, [role], dialog[open]")]
  .filter((element) => element.checkVisibility() && !element.matches("[role=row], [role=gridcell], [role=status]"))
  .filter((element) => ![element.ariaLabel, element.getAttribute("aria-labelledby"), element.textContent.trim(),
    element.labels?.length, element.querySelector("img[alt]")?.alt].some(Boolean))
  .map((element) => element.outerHTML.slice(0, 80))"""


NAMED_IN_VAIN = """() => [...document.querySelectorAll("[aria-label]")]
  .filter((element) => element.matches(":is(div, span, p, pre, b, i, code):not([role])"))
  .map((element) => element.outerHTML.slice(0, 80))"""

HINT_FITS = """() => {
  const [field, count] = [document.querySelector("#q"), document.querySelector("#count").getBoundingClientRect()];
  const [style, context] = [getComputedStyle(field), document.createElement("canvas").getContext("2d")];
  context.font = style.font;
  const left = field.getBoundingClientRect().left + parseFloat(style.paddingInlineStart);
  return left + context.measureText(field.placeholder).width <= count.left;
}"""

OUT_OF_SIGHT = """() => {
  const box = document.querySelector("#lightbox");
  const right = Math.min(box.getBoundingClientRect().left + box.clientWidth, document.documentElement.clientWidth);
  return [...box.querySelectorAll("button")].filter((button) => button.getBoundingClientRect().right > right)
    .map((button) => button.id);
}"""


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    """A job with pictures and failures, and everything that can be told of it."""
    job = tmp_path_factory.mktemp("looks") / "cats"
    entries = [picture(number, f"a prompt of ordinary length, number {number}") for number in range(30)]
    entries += [failure(number, "dog") for number in range(30, 40)]
    write_pictures(job, entries)
    return write_gallery(job, entries, report=REPORT, omitted=3)


@pytest.fixture(scope="module")
def shown(browser, url):
    """A window that shows it."""
    with new_window(browser) as shown, shown.showing(url):
        yield shown


def views(page):
    """Show what there is, one after the other."""
    page.click("#about summary")
    yield "top"
    page.select_option("#status", "rejected")
    page.wait_for_function("() => !document.querySelector('.tile.picture')")
    yield "failures"
    page.click(".tile")
    yield "a failure"
    page.keyboard.press("Escape")
    page.click("#clear")
    page.wait_for_selector(".tile.picture")
    page.click(".tile.picture >> nth=0")
    yield "a picture"
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    yield "keys"


def test_text_stands_out(shown):
    """Each text has a contrast of at least 4.5 to what is behind it, in light and in dark."""
    with shown.from_its_beginning() as page:
        for view in views(page):
            for scheme in ("dark", "light"):
                page.emulate_media(color_scheme=scheme)
                assert [] == page.evaluate(LOW_CONTRAST, LEAST_CONTRAST), (view, scheme)


def test_everything_that_can_be_used_has_a_name(shown):
    """For a screen reader no button, field or region is nameless, and no id occurs twice."""
    with shown.from_its_beginning() as page:
        for _ in views(page):
            assert [] == page.evaluate(UNNAMED) + page.evaluate(NAMED_IN_VAIN)
            ids = page.eval_on_selector_all("[id]", "(all) => all.map((each) => each.id)")
            assert sorted(set(ids)) == sorted(ids)


def test_a_command_can_be_named_by_a_screen_reader(shown):
    """What is scrolled and copied is a group with the name that stands above it."""
    with shown.from_its_beginning() as page:
        page.click(".tile >> nth=0")
        group = page.get_by_role("group", name="Command that asks for it again", exact=True)
        assert group.inner_text().startswith("nebula-async generate")


def test_landmarks_and_headings_are_there(shown):
    """Header, search, main and one first heading; the grid tells how many lines it has."""
    with shown.from_its_beginning() as page:
        for role, name in (("banner", ""), ("search", "Pictures"), ("main", ""), ("grid", "Pictures")):
            assert 1 == page.get_by_role(role, name=name).count()
        assert 1 == page.get_by_role("heading", level=1).count()
        assert page.get_by_role("row").first.get_attribute("aria-rowindex") == "1"
        assert page.get_by_role("gridcell").first.get_by_role("button", name="a prompt of ordinary").count() == 1


@pytest.fixture(scope="module")
def phone(browser, url):
    """A window of a phone that shows the page."""
    with new_window(browser, has_touch=True) as phone, phone.showing(url):
        yield phone


@pytest.mark.parametrize("width", [320, 360, 500, 768])
def test_a_narrow_window_needs_no_scrolling_to_the_side(phone, width):
    """On a phone everything fits, beside a scrollbar too, and pictures are on the first screen."""
    phone.page.set_viewport_size({"width": width, "height": 740})
    with phone.from_its_beginning() as page:
        for _ in views_of_a_phone(page):
            assert page.evaluate("() => document.documentElement.scrollWidth") <= width
            assert page.evaluate("() => document.querySelector('#lightbox').scrollWidth") <= width
            assert page.evaluate(HINT_FITS)
        assert [] == page.evaluate(OUT_OF_SIGHT)


def views_of_a_phone(page):
    """Show what a phone shows."""
    assert page.locator(".tile >> nth=0").bounding_box()["y"] < 640
    yield "top"
    if page.is_visible("#show-filters"):
        page.click("#show-filters")
        assert page.is_visible("#status")
    yield "filters"
    page.click(".tile >> nth=0")
    yield "a picture"


def test_the_theme_is_switched_and_remembered(window, url):
    """System, light, dark; the next visit begins with what was chosen."""
    with window.showing(url) as page:
        page.click("#theme")
        page.click("#theme")
        assert "Theme: dark" == page.inner_text("#theme")
        assert "rgb(21, 20, 19)" == page.evaluate("() => getComputedStyle(document.body).backgroundColor")
    with window.showing(url) as page:
        assert "Theme: dark" == page.inner_text("#theme")
        page.click("#theme")


def test_forced_colours_and_reduced_motion_are_kept_to(browser, url):
    """Nothing moves by itself, and what is chosen by the system is not overruled."""
    with opened(browser, url, forced_colors="active", reduced_motion="reduce") as page:
        page.wait_for_selector("img.here")
        assert "0s" == page.evaluate("() => getComputedStyle(document.querySelector('img.here')).transitionDuration")


def test_a_print_has_the_pictures_in_view(shown):
    """Without the controls, one line after the other."""
    with shown.from_its_beginning() as page:
        page.emulate_media(media="print")
        assert page.is_hidden("#controls")
        tops = page.eval_on_selector_all(".line", "(all) => all.map((x) => x.getBoundingClientRect().top)")
        assert len(set(tops)) == len(tops) > 1
        page.emulate_media(media="screen")


def test_without_scripts_a_sentence_says_where_the_pictures_are(browser, url):
    """A browser in which JavaScript is switched off shows no empty page."""
    with browser.new_context(java_script_enabled=False) as context:
        page = context.new_page()
        page.goto(url)
        assert "The pictures themselves are in the folder images" in page.inner_text("noscript")
