"""Builds the pages of this folder into dist/docs: `make docs`. Ends with 1 where a link leads nowhere."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import links
from zensical import build

DOCS = Path(__file__).parent.resolve()
ROOT = DOCS.parent
SITE = ROOT / "dist/docs"
READ_IN_PLACE = (
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "benchmarks/README.md",
    "examples/README.md",
)


def main() -> int:
    """Check what is read in place, build the pages, and check what came out."""
    pages = [*(ROOT / name for name in READ_IN_PLACE), *sorted(DOCS.rglob("*.md"))]
    if problems := links.problems_of_markdown(ROOT, pages):
        return _told(problems)
    with TemporaryDirectory() as name:
        folder = Path(name).resolve()
        _stage(folder)
        try:
            build(str(folder / "zensical.toml"), {"clean": True, "strict": True})
        except (RuntimeError, KeyboardInterrupt) as error:
            return _told([f"the pages could not be built: {str(error).splitlines()[0]}"])
        _open_from_disk(folder / "site")
        if problems := links.problems_of_site(folder / "site"):
            return _told(problems)
        shutil.rmtree(SITE, ignore_errors=True)
        shutil.copytree(folder / "site", SITE)
    sys.stdout.write(f"{SITE.relative_to(ROOT)}/index.html\n")
    return 0


def _stage(folder: Path) -> None:
    """Put configuration, pages and package where zensical wants them: the first above the others."""
    shutil.copy(DOCS / "zensical.toml", folder)
    is_no_page = shutil.ignore_patterns("*.toml", "*.txt", "*.py", "__pycache__")
    shutil.copytree(DOCS, folder / "docs", ignore=is_no_page)
    shutil.copy(DOCS / "attrs_values.py", folder)
    (folder / "nebula_async").symlink_to(ROOT / "nebula_async")
    os.chdir(folder)


def _open_from_disk(site: Path) -> None:
    """Let the search find its index without a server, and leave out the page that only one shows."""
    (site / "search.js").write_text(f"var __index = {(site / 'search.json').read_text()};\n")
    (site / "404.html").unlink(missing_ok=True)


def _told(problems: list[str]) -> int:
    sys.stderr.write("\n".join(problems) + "\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
