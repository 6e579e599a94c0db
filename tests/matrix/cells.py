"""The cells of the matrix: each is a place in which a core of the suite has to hold."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from attrs import field, frozen

HERE = Path(__file__).parent
ROOT = HERE.parent.parent

WIRE = (
    "tests/engine/test_transport.py", "tests/engine/test_connections.py", "tests/engine/test_call.py",
    "tests/engine/test_body.py", "tests/engine/test_asyncio_sockets.py", "tests/test_inference_client.py",
)  # fmt: skip
"""What speaks to sockets."""

DECISIONS = (
    "tests/engine/test_verdict.py", "tests/engine/test_retry.py", "tests/engine/test_pace.py",
    "tests/engine/test_gate.py", "tests/api/test_extract.py", "tests/api/test_envelope.py", "tests/api/test_headers.py",
)  # fmt: skip

FILES = (
    "tests/bulk/test_job.py", "tests/bulk/test_ledger.py", "tests/bulk/test_manifest.py", "tests/bulk/test_metadata.py",
    "tests/sinks/test_directory_sink.py", "tests/images/test_sources.py", "tests/images/test_media.py",
)  # fmt: skip
"""What reads and writes files, clocks and texts."""

FACES = ("tests/test_client.py", "tests/test_errors.py", "tests/test_results.py", "tests/cli/test_commands.py")
"""What users hold in their hands."""

CORE = (*WIRE, *DECISIONS, *FILES, *FACES)

UNUSUAL_HOST = "LC_ALL", "C", "PYTHONUTF8", "0", "PYTHONCOERCECLOCALE", "0", "TZ", "Pacific/Kiritimati"
TURKISH = "LC_ALL", "tr_TR.UTF-8", "PYTHONUTF8", "0", "TZ", "America/St_Johns"

NOT_ON_UVLOOP = (
    "test_an_address_that", "test_where_no_address_answers",  # it resolves names by itself, and not as the tests say
)  # fmt: skip

NOT_IN_ASCII = (
    "test_a_preview_shows_the_picture", "test_help_and_version_of_the_whole",  # they read what is printed in ASCII
    "test_a_malformed_key_is_refused",  # such keys cannot be handed over in the environment
)  # fmt: skip


def _pairs(names_and_values: tuple[str, ...]) -> Mapping[str, str]:
    return dict(zip(names_and_values[::2], names_and_values[1::2], strict=True))


@frozen(kw_only=True)
class Cell:
    """A Python, what is installed for it, how it is started, and which tests it runs.

    `installed`: "editable" with the versions of constraints.txt, the "lowest" that pyproject.toml allows, or the
    "wheel", which the tests then find alone. What stands `before` the command needs a network of its own. `without`
    are parts of the names of tests that cannot be here, for the reasons above.
    """

    name: str
    python: str = "3.11"
    installed: str = "editable"
    tests: tuple[str, ...] = CORE
    options: tuple[str, ...] = ()
    plugin: str | None = None
    environ: Mapping[str, str] = field(default=(), converter=_pairs)
    umask: int = -1
    before: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    workers: int = 2

    @property
    def why_not(self) -> str:
        """Why this machine cannot run it; empty where it can."""
        if self.before and (refused := _refused(*self.before)):
            return f"{self.before[0]}: {refused}"
        wanted = self.environ.get("LC_ALL", "C")
        return "" if wanted == "C" or _has_locale(wanted) else f"there is no locale {wanted}"


def _refused(*command: str) -> str:
    if shutil.which(command[0]) is None:
        return "not installed"
    done = subprocess.run([*command, "true"], capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stderr.strip() or f"exit code {done.returncode}"


def _has_locale(name: str) -> bool:
    found = subprocess.run(["locale", "-a"], capture_output=True, text=True, check=False).stdout.lower()
    return name.lower().replace("-", "") in found.replace("-", "").split()


ALONE = ("unshare", "--net") if hasattr(os, "getuid") and os.getuid() == 0 else ("unshare", "--map-root-user", "--net")

CELLS = (
    Cell(name="3.11"),
    Cell(name="3.12", python="3.12"),
    Cell(name="3.13", python="3.13"),
    Cell(name="httpx2", tests=WIRE, plugin="early_alias"),
    Cell(name="httpx2-3.13", python="3.13", tests=WIRE, plugin="early_alias"),
    Cell(
        name="uvloop",
        tests=(*WIRE, "tests/test_client.py", "tests/bulk/test_job.py"),
        plugin="on_uvloop",
        without=NOT_ON_UVLOOP,
    ),
    Cell(
        name="uvloop-3.13",
        python="3.13",
        tests=(*WIRE, "tests/test_client.py"),
        plugin="on_uvloop",
        without=NOT_ON_UVLOOP,
    ),
    Cell(name="lowest", installed="lowest"),
    Cell(name="strict", options=("-W", "error", "-X", "dev", "-bb"), workers=0, tests=(*WIRE, *FILES)),
    Cell(name="strict-3.13", python="3.13", options=("-W", "error", "-X", "dev", "-bb"), workers=0, tests=WIRE),
    Cell(name="locale-C", environ=UNUSUAL_HOST, umask=0, without=NOT_IN_ASCII, tests=(*FILES, *FACES)),
    Cell(name="turkish", environ=TURKISH, umask=0o077, tests=(*FILES, *FACES)),
    Cell(name="umask-077", umask=0o077, environ=("TZ", "America/St_Johns"), tests=(*FILES, *FACES)),
    Cell(name="wheel", installed="wheel", tests=(*DECISIONS, *FILES, "tests/test_client.py")),
    Cell(name="loopback", before=ALONE, tests=(*WIRE, *FACES)),
)
