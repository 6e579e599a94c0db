"""`make mutants`: each small wrong change of what decides about money, and whether a test of its module notices.

Prints the changes that none noticed, and ends with 1 where README.md does not say why. Names of modules choose some.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_loader
from pathlib import Path
from types import ModuleType

import pytest
from attrs import frozen
from mutations import Mutant, mutants_of

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
LOADED_ONCE = (
    "PIL.Image", "anyio", "cattrs", "httpcore", "httpx", "hypothesis", "respx", "sqlite3", "starlette.applications",
    "trio", "trustme", "uvicorn",
)  # fmt: skip
"""What tests load besides the package: loaded here, and had by each process that is forked."""

LOADED_BEFORE = "ignore::pytest.PytestAssertRewriteWarning"


@frozen
class Target:
    """A module, and the tests that are about it, the quickest first."""

    module: str
    tests: tuple[str, ...]

    @property
    def path(self) -> Path:
        """Its file."""
        return ROOT / (self.module.replace(".", "/") + ".py")


TARGETS = {
    "verdict": Target("nebula_async.engine.verdict", ("tests/engine/test_verdict.py",)),
    "retry": Target("nebula_async.engine.retry", ("tests/engine/test_retry.py",)),
    "ledger": Target("nebula_async.bulk.ledger", ("tests/bulk/test_ledger_sums.py", "tests/bulk/test_ledger.py")),
}


@frozen
class Changed(MetaPathFinder, Loader):
    """Loads one module from another source than its file's."""

    target: Target
    source: str

    def find_spec(self, name: str, *_where: object) -> ModuleSpec | None:
        """Answer for that module alone."""
        is_it = name == self.target.module
        return spec_from_loader(name, self, origin=str(self.target.path)) if is_it else None

    def exec_module(self, module: ModuleType) -> None:
        """Run the other source."""
        module.__file__ = str(self.target.path)
        exec(compile(self.source, module.__file__, "exec"), module.__dict__)  # noqa: S102 - a change of our own code


def run_tests(target: Target, source: str, seconds: float) -> int | None:
    """Run the tests of a module with another source for it, in a process of its own; return how they ended, or `None`
    where they did not end in time.
    """
    with tempfile.TemporaryDirectory() as folder:
        child = os.fork()
        if child == 0:
            _become_a_run(target, source, Path(folder))
        return _ended(child, seconds)


def _become_a_run(target: Target, source: str, folder: Path) -> None:
    """Never returns."""
    code = 70
    try:
        os.setpgid(0, 0)
        out = os.open(folder / "output", os.O_CREAT | os.O_WRONLY)
        os.dup2(out, 1)
        os.dup2(out, 2)
        os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = str(folder / "hypothesis")
        sys.meta_path.insert(0, Changed(target, source))
        import_module(target.module)  # ahead of pytest, whose own finder comes before ours
        options = (
            "-x",
            "-q",
            "-p",
            "no:cacheprovider",
            "-p",
            "no:xdist",
            "-p",
            "no:schemathesis",
            "--hypothesis-seed=0",
            "-W",
            LOADED_BEFORE,
        )
        code = int(pytest.main([*options, f"--basetemp={folder / 'tests'}", *target.tests]))
    finally:
        os._exit(code)


def _ended(child: int, seconds: float) -> int | None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def survivors_of(target: Target, workers: int) -> tuple[list[Mutant], int, int]:
    """Return the mutants of a module that its tests do not notice, how many there are, and how many took too long."""
    source = target.path.read_text()
    began = time.monotonic()
    if (ended := run_tests(target, source, seconds=300)) != 0:
        raise SystemExit(f"the tests of {target.module} do not pass as it is: exit code {ended}")
    seconds = 10 + 5 * (time.monotonic() - began)
    mutants = mutants_of(source)
    with ThreadPoolExecutor(workers) as pool:
        ends = list(pool.map(lambda mutant: run_tests(target, mutant.source, seconds), mutants))
    if 4 in ends or 5 in ends:  # pytest was called wrongly, or met no test
        raise SystemExit(f"the tests of {target.module} could not be run")
    return [mutant for mutant, ended in zip(mutants, ends, strict=True) if ended == 0], len(mutants), ends.count(None)


def explained() -> set[str]:
    """Return the survivors that README.md says why of."""
    return set(
        re.findall(r"^\| `{1,2} ?(.+?) ?`{1,2} \| .{20,} \|$", (HERE / "README.md").read_text(), flags=re.MULTILINE)
    )


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main(*names: str) -> int:
    """Judge the tests of these modules, or of all."""
    for library in LOADED_ONCE:
        import_module(library)
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    known, unexplained, met = explained(), 0, set()
    for name in names or TARGETS:
        began = time.monotonic()
        alive, number, late = survivors_of(TARGETS[name], workers=os.cpu_count() or 1)
        labels = {f"{name}: {mutant.name}": mutant.line for mutant in alive}
        met |= labels.keys()
        fresh = labels.keys() - known
        unexplained += len(fresh)
        told = (
            f"{number - len(alive)} noticed ({late} never ended), {len(alive) - len(fresh)} explained, {len(fresh)} not"
        )
        _say(f"{name}: {number} changes, {told}; {time.monotonic() - began:.0f} s")
        for label in sorted(fresh, key=labels.get):
            _say(f"  line {labels[label]}: {label}")
    stale = {label for label in known - met if label.partition(":")[0] in (names or TARGETS)}
    for label in sorted(stale):
        _say(f"README.md explains what is noticed, or is not there: {label}")
    return int(unexplained > 0 or bool(stale))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
