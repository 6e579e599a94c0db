"""Links that lead nowhere: of the pages that are built, and of the Markdown that people read in the repository."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

FENCE = re.compile(r"^(`{3,}).*?^\1`*$", flags=re.MULTILINE | re.DOTALL)
CODE = re.compile(r"(`+)(.+?)\1", flags=re.DOTALL)
LINK = re.compile(r"!?\[(?:[^][]|\[[^]]*\])*\]\(<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\)")
IN_HTML = re.compile(r"""<[^>]*\s(?:href|src)=["']([^"']+)["']""")
REFERENCE = re.compile(r"^\[[^]]+\]:\s+(\S+)", flags=re.MULTILINE)
HEADING = re.compile(r"^#{1,6}\s+(.+?)\s*#*$", flags=re.MULTILINE)
IDENTIFIER = re.compile(r"""\s(?:id|name)=["']([^"']+)["']""")
PATH = re.compile(r"(?:nebula_async|tests|benchmarks|examples|docs|\.ci)/[\w./-]*\w")

LOADED = {("link", "href"), ("script", "src"), ("img", "src"), ("source", "src"), ("iframe", "src"), ("image", "href")}
"""What a browser fetches by itself."""

FETCHED_BY_CSS = re.compile(r"""(?:url\(\s*["']?|@import\s+["'])((?:https?:)?//[^"')\s]+)""")


class Page(HTMLParser):
    """What a page of HTML links to, and the places in it that can be linked to."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.links: list[tuple[str, str, str]] = []
        self.places: set[str] = set()
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what one element links to, and what it is called."""
        self.places |= {value for name, value in attrs if name in ("id", "name") and value}
        self.links += [(tag, name, value) for name, value in attrs if name in ("href", "src") and value]


def problems_of_site(folder: Path) -> list[str]:
    """Return a sentence for each link of a built site that leads nowhere, or that a browser would fetch elsewhere."""
    pages = {path: Page(path.read_text()) for path in sorted(folder.rglob("*.html"))}
    found = [
        f"{path.relative_to(folder)}: {problem}"
        for path, page in pages.items()
        for tag, name, link in page.links
        if (problem := _site_problem(folder, pages, path, (tag, name), link))
    ]
    styles = [
        f"{path.relative_to(folder)}: {link} is fetched from elsewhere"
        for path in sorted(folder.rglob("*.css"))
        for link in FETCHED_BY_CSS.findall(path.read_text())
    ]
    return sorted({*found, *styles})


def problems_of_markdown(root: Path, pages: list[Path]) -> list[str]:
    """Return a sentence for each relative link of these pages, and each file they name in code, that is not there."""
    return [
        f"{page.relative_to(root)}: {problem}"
        for page in pages
        for problem in (*_dead_links(page), *_missing_files(root, page))
    ]


def anchors(markdown: str) -> set[str]:
    """Return the places of a page that can be linked to: its headings, as GitHub and Python-Markdown name them."""
    text = FENCE.sub("", markdown)
    return {_slug(heading) for heading in HEADING.findall(text)} | set(IDENTIFIER.findall(text))


def _slug(heading: str) -> str:
    plain = re.sub(r"[`*]|\]\([^)]*\)|\[", "", heading)
    return re.sub(r"[^\w\- ]", "", plain).strip().lower().replace(" ", "-")


def _dead_links(page: Path) -> Iterator[str]:
    text = CODE.sub("", FENCE.sub("", page.read_text()))
    for link in (*LINK.findall(text), *IN_HTML.findall(text), *REFERENCE.findall(text)):
        parts = urlsplit(link)
        if parts.scheme or parts.netloc:
            continue
        target = (page.parent / unquote(parts.path)) if parts.path else page
        if not target.exists():
            yield f"{link} leads nowhere: there is no {parts.path}"
        elif parts.fragment and target.suffix == ".md" and unquote(parts.fragment) not in anchors(target.read_text()):
            yield f"{link} leads nowhere: {target.name} has no heading #{parts.fragment}"


def _missing_files(root: Path, page: Path) -> Iterator[str]:
    for _, code in CODE.findall(FENCE.sub("", page.read_text())):
        if PATH.fullmatch(code) and not (root / code).exists():
            yield f"`{code}` is not there"


def _site_problem(folder: Path, pages: dict[Path, Page], path: Path, kind: tuple[str, str], link: str) -> str | None:
    parts = urlsplit(link)
    if parts.scheme in ("data", "mailto", "javascript"):
        return None
    if parts.scheme or parts.netloc:
        return f"{link} is fetched from elsewhere" if kind in LOADED else None
    if parts.path.startswith("/"):
        return f"{link} leads nowhere where the site is not at the root of a host"
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    target = target / "index.html" if target.is_dir() else target
    if not target.is_relative_to(folder.resolve()) or not target.is_file():
        return f"{link} leads nowhere: there is no such page or file"
    fragment = unquote(parts.fragment)
    if fragment and target in pages and fragment not in pages[target].places:
        return f"{link} leads nowhere: {target.name} has no #{fragment}"
    return None
