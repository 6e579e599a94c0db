"""The documents' JavaScript sample: compiled against types made from the emulator's OpenAPI document, run by Node."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image as Pillow

from nebula_async.emulator import Emulator

ROOT = Path(__file__).parent.parent
SAMPLE = ROOT / "examples" / "javascript"
PAGE = (ROOT / "tests" / "samples" / "client_sample.js.txt").read_text()
PACKAGES = SAMPLE / "node_modules"
NOT_COPIED = shutil.ignore_patterns("node_modules", "dist", "schema.d.ts", "generated_image.png")

FAILURES = {
    "content_policy_violation: Your request was rejected as it violates our content policy": {
        "forbidden_words": ["serene"]
    },
    "insufficient_quota: Not enough credits or quota": {"credit": 0},
    "rate_limit_exceeded: Too many requests": {"faults": ["429:@1"]},
    "502 Bad Gateway": {"faults": ["502:@1"]},
    "is not valid JSON": {"faults": ["malformed:@1"]},
    "the reply holds no URL of a picture": {"faults": ["malformed=base64:@1"]},
    "is no picture: 200 OK, text/html": {"faults": ["malformed=html:@1"]},
    "is no picture: 404 Not Found, text/plain": {"url_seconds": 0},
}
"""What the sample says, and the emulators with which it says so."""

MISSING = [name for name in ("node", "npm") if shutil.which(name) is None]
needs_node = pytest.mark.skipif(bool(MISSING), reason=f"not on this machine: {' and '.join(MISSING)}")
needs_packages = pytest.mark.skipif(
    not (PACKAGES / ".package-lock.json").exists(),
    reason="examples/javascript/node_modules is missing or incomplete: `make test` installs it",
)
pytestmark = [needs_node, needs_packages]


def exports(emulator: Emulator) -> dict[str, str]:
    """Return what the emulator's command tells to export, as far as the sample needs it."""
    return {"NEBULA_API_KEY": emulator.key, "NEBULA_INFERENCE_URL": emulator.inference_url}


def run(*command: str, cwd: Path, **exported: str) -> subprocess.CompletedProcess[str]:
    """Run a command as someone who has exported these variables, and has no settings of npm."""
    environ = {"PATH": os.environ["PATH"], "HOME": str(cwd), **exported}
    return subprocess.run(command, cwd=cwd, env=environ, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A copy of the sample, its types generated from a running emulator, and compiled."""
    project = tmp_path_factory.mktemp("javascript") / "sample"
    shutil.copytree(SAMPLE, project, ignore=NOT_COPIED)
    (project / "node_modules").symlink_to(PACKAGES)
    with Emulator() as emulator:
        for script in ("generate", "build"):
            done = run("npm", "run", script, cwd=project, **exports(emulator))
            assert 0 == done.returncode, done.stdout + done.stderr
    return project


@pytest.fixture
def start(project, tmp_path):
    """Start the compiled sample in an empty folder."""

    def _start(**exported: str) -> subprocess.CompletedProcess[str]:
        return run("node", str(project / "dist" / "generate-image.js"), cwd=tmp_path, **exported)

    return _start


def asked_on_the_page() -> dict[str, str]:
    """Return the fields that the page's sample asks with."""
    (fields,) = re.findall(r"generateImage\(\{(.*?)\}\)", PAGE, re.DOTALL)
    return dict(re.findall(r"(\w+): '(.*?)'", fields))


def test_the_picture_is_saved(project):
    """It asks for what the page's sample asks for, fetches the picture by its URL without the key, and saves it."""
    with Emulator() as emulator:
        done = run("npm", "start", "--silent", cwd=project, **exports(emulator))
    assert (0, "generated_image.png\n", "") == (done.returncode, done.stdout, done.stderr)
    with Pillow.open(project / "generated_image.png") as picture:
        picture.load()
        assert (1024, 1024) == picture.size
    (generation,) = emulator.journal.generations
    assert asked_on_the_page() == dict(generation.fields)
    assert generation.authorized
    (download,) = [record for record in emulator.journal.requests if record.origin == "storage"]
    assert ("GET", 200, False) == (download.method, download.status, download.authorized)
    assert 1 == emulator.journal.charged


@pytest.mark.parametrize(("told", "options"), FAILURES.items(), ids=FAILURES)
def test_a_failure_is_one_line(told, options, start, tmp_path):
    """Whatever fails is told in one line, by its documented code if it has one; no file is left, and 1 is returned."""
    with Emulator(**options) as emulator:
        done = start(**exports(emulator))
    (line,) = done.stderr.splitlines()
    assert (1, "") == (done.returncode, done.stdout)
    assert line.startswith("generate-image: ")
    assert told in line
    assert [] == list(tmp_path.iterdir())


def test_nobody_listens(start):
    """Without a server the one line says that the connection was refused."""
    with Emulator() as emulator:
        gone = exports(emulator)
    done = start(**gone)
    assert 1 == done.returncode
    assert re.fullmatch(r"generate-image: fetch failed: connect ECONNREFUSED 127\.0\.0\.1:\d+\n", done.stderr)


def test_settings_are_needed(start):
    """Without key and URL it names the two variables, and asks nobody."""
    done = start()
    assert 1 == done.returncode
    assert "generate-image: NEBULA_API_KEY and NEBULA_INFERENCE_URL have to be set\n" == done.stderr


def test_a_wrong_field_does_not_compile(project, tmp_path):
    """A value that the API's document does not allow is an error of the compiler, before anything is sent."""
    copy = tmp_path / "wrong"
    shutil.copytree(project, copy, ignore=shutil.ignore_patterns("node_modules", "dist"))
    (copy / "node_modules").symlink_to(PACKAGES)
    source = copy / "generate-image.ts"
    source.write_text(source.read_text().replace('quality: "hd"', 'quality: "best"'))
    done = run("npm", "run", "build", cwd=copy)
    assert 0 != done.returncode
    assert """Type '"best"' is not assignable to type""" in done.stdout
