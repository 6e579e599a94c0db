"""What is published: one wheel and one source archive, the same wherever they are built, with nothing else in them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from nebula_async import __version__

ROOT = Path(__file__).parent.parent
NAME = f"nebula_async-{__version__}"
BESIDE = {"CHANGELOG.md", "LICENSE", "README.md", "pyproject.toml", ".gitignore"}
KINDS = {".py", ".typed", ".js", ".css", ".html", ".lua"}

SECRETS = {
    "a private key": rb"-----BEGIN [A-Z ]*PRIVATE KEY",
    "a key of a service": rb"\b(sk|nb|hf|ghp|xox[bp])[-_][0-9A-Za-z]{16,}|\bAKIA[0-9A-Z]{16}",
    "a folder of someone's machine": rb"(?<![\w.])/(home|root|Users|work)/[a-z]",
}

BUILD = "import sys, hatchling.build as build; build.build_sdist(sys.argv[1]); build.build_wheel(sys.argv[1])"
PLACES = {
    "here": (0o022, {"TZ": "UTC", "LC_ALL": "C.UTF-8", "PYTHONHASHSEED": "1"}, 1_000_000_000),
    "else/where": (0o077, {"TZ": "Pacific/Kiritimati", "LC_ALL": "C", "PYTHONHASHSEED": "2"}, 1_700_000_000),
}


def copy_checkout(folder: Path, *, umask: int, changed_at: int) -> None:
    """Copy what is built, as someone with this umask has it who got it at that time, in another order."""
    shutil.copytree(ROOT / "nebula_async", folder / "nebula_async", ignore=shutil.ignore_patterns("__pycache__"))
    for name in sorted(BESIDE):
        shutil.copyfile(ROOT / name, folder / name)
    for path in sorted(folder.rglob("*"), reverse=changed_at % 2 == 0):
        path.chmod((0o777 if path.is_dir() else 0o666) & ~umask)
        os.utime(path, (changed_at, changed_at))


def build(source: Path, into: Path, **environ: str) -> dict[str, bytes]:
    """Build both archives of a checkout; return their bytes."""
    command = [sys.executable, "-c", BUILD, into]
    environ = {**os.environ, "SOURCE_DATE_EPOCH": "1700000000", **environ}
    subprocess.run(command, cwd=source, env=environ, check=True, capture_output=True)
    return {path.name: path.read_bytes() for path in into.iterdir()}


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> dict[str, dict[str, bytes]]:
    """Both archives, built in two places that differ in all that should not matter."""
    folder = tmp_path_factory.mktemp("places")
    archives = {}
    for place, (umask, environ, changed_at) in PLACES.items():
        copy_checkout(folder / place, umask=umask, changed_at=changed_at)
        archives[place] = build(folder / place, folder / place / "dist", **environ)
    return archives


@pytest.fixture(scope="module")
def unpacked(built, tmp_path_factory) -> Path:
    """A folder that holds what is in the wheel, in `wheel`, and what is in the source archive, in `sdist`."""
    folder = tmp_path_factory.mktemp("unpacked")
    for name, data in built["here"].items():
        (folder / name).write_bytes(data)
    shutil.unpack_archive(folder / f"{NAME}-py3-none-any.whl", folder / "wheel", "zip")
    shutil.unpack_archive(folder / f"{NAME}.tar.gz", folder / "sdist", filter="data")
    return folder


def files_below(folder: Path) -> set[str]:
    """Return the files of a folder, by their paths in it."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def package_files() -> set[str]:
    """Return the files of the package in this checkout."""
    found = files_below(ROOT / "nebula_async")
    return {f"nebula_async/{name}" for name in found if "__pycache__/" not in name}


def test_two_builds_have_the_same_bytes(built):
    """Whoever builds a release again, elsewhere and later, gets its very bytes."""
    assert {f"{NAME}.tar.gz", f"{NAME}-py3-none-any.whl"} == built["here"].keys()
    assert built["here"] == built["else/where"]


def test_the_source_archive_builds_the_same_wheel(built, unpacked, tmp_path):
    """The wheel that is made of the source archive is that of the checkout."""
    again = build(unpacked / "sdist" / NAME, tmp_path)
    assert built["here"] == again


def test_the_archives_hold_the_package_alone(unpacked):
    """Each file of the package is in both archives, and beside them what describes it: no test, nothing else."""
    described = {f"{NAME}.dist-info/{name}" for name in ("METADATA", "RECORD", "WHEEL", "entry_points.txt")}
    described.add(f"{NAME}.dist-info/licenses/LICENSE")
    assert package_files() | described == files_below(unpacked / "wheel")
    assert package_files() | BESIDE | {"PKG-INFO"} == files_below(unpacked / "sdist" / NAME)


def test_the_package_holds_code_and_pages_alone():
    """No database, picture, log, archive or setting of someone's shell can come with a release."""
    assert set() == {name for name in package_files() if Path(name).suffix not in KINDS}


@pytest.mark.parametrize(("what", "pattern"), SECRETS.items(), ids=SECRETS)
def test_no_secret_is_published(unpacked, what, pattern):
    """Neither archive has a key in it, nor the name of a folder of the machine where it was made."""
    archives = (unpacked / "wheel", unpacked / "sdist")
    holding = [f"{path.name}: {found[0]!r}" for folder in archives for path in folder.rglob("*")
               if path.is_file() and (found := re.search(pattern, path.read_bytes()))]  # fmt: skip
    assert [] == holding, what
