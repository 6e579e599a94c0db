"""What is trusted besides this library: which packages, which versions, under which licences."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from distributions import brought_by, is_installed, licence_of
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PROJECT = (ROOT / "pyproject.toml").read_text()
EXTRAS = ("cli", "images", "emulator", "s3", "parquet", "fastapi", "redis", "otel")
PIN = re.compile(r"([a-z0-9]+(?:-[a-z0-9]+)*)==([0-9][0-9a-z.]*)(?: ?; .+)?")
LICENCE = re.compile(r"^\| `([a-z0-9-]+)` \| ([^|]+) \| ([^|]+) \|$", flags=re.MULTILINE)

CORE = {"anyio", "attrs", "cattrs", "certifi", "h11", "httpcore", "httpx", "idna", "pybase64", "typing-extensions"}

SAFE = {"certifi": "2024.7.4", "h11": "0.16", "idna": "3.7", "starlette": "0.49.1"}
"""The first releases without an authority nobody trusts, split chunks, and names or ranges that take for ever."""


def asked() -> list[Requirement]:
    """Return what the project asks for, by itself and by its extras."""
    project = tomllib.loads(PROJECT)["project"]
    lines = sum(project["optional-dependencies"].values(), start=project["dependencies"])
    return [each for each in map(Requirement, lines) if each.name != "nebula_async"]


def pins() -> dict[str, set[str]]:
    """Return the versions of `constraints.txt`; a name may have one for older and one for newer Pythons."""
    versions: dict[str, set[str]] = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        name, version = PIN.fullmatch(line).groups()
        versions.setdefault(name, set()).add(version)
    return versions


def licences() -> dict[str, tuple[str, str]]:
    """Return the rows of the page of licences: of each package its licence, and what brings it."""
    page = (ROOT / "docs/licences.md").read_text()
    return {name: (licence, brings) for name, licence, brings in LICENCE.findall(page)}


def test_the_core_brings_ten_packages():
    """`pip install nebula_async` brings the six it names and the four those need, and nothing else."""
    assert CORE == brought_by("nebula-async")


def test_constraints_are_names_and_versions():
    """What is tested with is written as names and versions: no address, no path, no option, in order."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert [] == [line for line in lines if not PIN.fullmatch(line)]
    assert lines == sorted(set(lines))


def test_constraints_allow_what_is_asked_for():
    """Each requirement is pinned, to versions that it allows; Ray is in an environment of its own."""
    pinned = pins()
    wrong = [
        str(each)
        for each in asked()
        if each.name != "ray" and not _allows(each, pinned.get(canonicalize_name(each.name), set()))
    ]
    assert [] == wrong


def _allows(requirement: Requirement, versions: set[str]) -> bool:
    return bool(versions) and all(version in requirement.specifier for version in versions)


def test_constraints_hold_all_that_is_installed():
    """An installation for development takes nothing whose version is not written down."""
    assert set() == brought_by("nebula-async", "all", "dev") - pins().keys()


def test_every_requirement_has_a_lower_bound():
    """No requirement lets an installer take an old release that nothing was tested with."""
    assert [] == [str(each) for each in asked() if not any(bound.operator == ">=" for bound in each.specifier)]


def test_the_lowest_versions_are_tested():
    """Each lower bound of the core and of the extras is what the cell `lowest` of `make matrix` installs."""
    lines = (ROOT / "tests/matrix/lowest.txt").read_text().splitlines()
    project = tomllib.loads(PROJECT)["project"]
    groups = [project["dependencies"], *(project["optional-dependencies"][extra] for extra in EXTRAS)]
    bounds = {f"{each.name}>={_lowest(each)}" for group in groups for each in map(Requirement, group)}
    assert bounds == {line.replace("==", ">=") for line in lines}
    assert lines == sorted(lines)


def _lowest(requirement: Requirement) -> str:
    (version,) = (bound.version for bound in requirement.specifier if bound.operator == ">=")
    return version


def test_every_upper_bound_says_why():
    """Whoever meets an upper bound reads beside it what a newer release would break."""
    bounded = [line for line in PROJECT.splitlines() if re.match(r'\s*(\w+ = \[)?"[\w\[\]-]+>=[^"]*<', line)]
    assert len([each for each in asked() if "<" in str(each.specifier)]) == len(bounded)
    assert [] == [line for line in bounded if not re.search(r"#.{20,}$", line)]


def test_every_licence_is_listed():
    """The page of licences has each package of the core and of the extras, its licence, and what brings it."""
    groups = {"core": brought_by("nebula-async")} | {extra: brought_by("nebula-async", extra) for extra in EXTRAS}
    core = groups["core"]
    brings = {
        name: "core" if name in core else ", ".join(extra for extra in EXTRAS if name in groups[extra])
        for name in sorted(set().union(*groups.values()))
    }
    listed = licences()
    here = {name: (licence_of(name), brings[name]) for name in brings}
    missing = [f"| `{name}` | {' | '.join(row)} |" for name, row in here.items() if row != listed.get(name)]
    assert "" == "\n".join(missing), "these rows of docs/licences.md are missing or wrong"


def test_no_licence_is_listed_in_vain():
    """Each row of that page is of a package that an installation of everything brings."""
    assert {name for name in licences() if is_installed(name)} <= brought_by("nebula-async", "all")
    assert set() == licences().keys() - pins().keys()


@pytest.mark.parametrize(("name", "safe"), SAFE.items())
def test_no_version_with_a_known_hole_is_pinned(name, safe):
    """What reads bytes of strangers is newer than the holes that are known of it."""
    assert all(Requirement(f"{name}>={safe}").specifier.contains(version) for version in pins()[name])
