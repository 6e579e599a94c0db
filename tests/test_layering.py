"""The house: which module may import which, and who may name which library."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

import nebula_async

PACKAGE = Path(nebula_async.__file__).parent

FLOORS = {
    "advice": 0,
    "charges": 0,
    "checks": 0,
    "json_bounds": 0,
    "config": 0,
    "errors": 0,
    "events": 0,
    "keys": 0,
    "offload": 0,
    "portal": 0,
    "printing": 0,
    "quantities": 0,
    "urls": 0,
    "images": 1,
    "items": 2,
    "narration": 2,
    "notebook": 2,
    "requests": 2,
    "results": 2,
    "api": 3,
    "engine": 4,
    "sinks": 5,
    "arrival": 6,
    "generation": 6,
    "delivery": 6,
    "wiring": 6,
    "client": 6,
    "bulk": 7,
    "cli": 8,
    "integrations": 8,
    "sync": 8,
    "testing": 8,
}
"""Rooms, from the ground up; a room imports from lower floors, from its own floor below the eighth, and from itself."""

TOP_FLOOR = 8
STARTS_THE_EMULATOR = {"cli", "testing"}
MEETS_IN_REDIS = {"cli/sharing.py"}

CORE = {"anyio", "attrs", "cattrs", "httpcore", "httpx", "pybase64"}
THIRD_PARTY = {
    "cli": CORE | {"cyclopts", "rich", "textual_image"},
    "emulator": {"PIL", "attrs", "starlette", "uvicorn"},
    "testing": CORE | {"pytest"},
}
LAZY = {
    "images/image.py": {"PIL", "numpy"},
    "images/preview.py": {"PIL"},
    "cli/generate.py": {"PIL"},
    "engine/tls.py": {"certifi"},
    "bulk/manifest/parquet.py": {"pyarrow"},
    "bulk/export/parquet.py": {"pyarrow"},
    "bulk/gallery/thumbnailer.py": {"PIL"},
    "integrations/ray.py": {"ray"},
    "sinks/object_shelf.py": {"obstore"},
    "sinks/objectstore.py": {"obstore"},
}
"""What is imported inside a function, where an extra or a slow import is wanted only by some."""

ADAPTERS = {
    "integrations/starlette.py": {"starlette"},
    "integrations/fastapi.py": {"fastapi", "starlette"},
    "integrations/web/bodies.py": {"pydantic", "pydantic_core"},
    "integrations/web/refused_bodies.py": {"fastapi"},
    "integrations/web/": {"starlette"},
    "integrations/redis_": {"coredis"},
    "integrations/opentelemetry.py": {"opentelemetry"},
    "integrations/telemetry/": {"opentelemetry"},
    "integrations/ray_batches.py": {"pyarrow"},
}
"""What is imported at the top of an adapter, or of any file in its folder: nobody imports that without the extra."""

OWNERS = {
    "httpx": {"engine/transport.py", "engine/connections.py", "testing/transport.py"},  # the last is one, for tests
    "httpcore": {
        "engine/transport.py",
        "engine/connections.py",
        "engine/wire_stream.py",
        "engine/asyncio_sockets.py",
    },
    "asyncio": {"engine/asyncio_connect.py", "engine/asyncio_sockets.py", "engine/rounds.py"},
    "sqlite3": {
        "engine/host_store.py",
        "bulk/ledger_file.py",
        "bulk/ledger.py",
        "bulk/ledger_copy.py",
        "bulk/rebuild.py",
    },
}

MODULES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))


def imports(module: str) -> set[str]:
    """Return the dotted names that a module imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse((PACKAGE / module).read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} has a relative import"
            found.add(node.module)
    return found


def room(dotted: str) -> str:
    """Return the room of a module: its folder, or its own name on the ground of the package."""
    return dotted.split(".")[1]


def room_of(module: str) -> str:
    """Return the room in which a file lies."""
    return module.split("/")[0].removesuffix(".py")


@pytest.mark.parametrize("module", [name for name in MODULES if name != "__init__.py"])
def test_a_module_imports_from_below_and_from_its_own_room(module):
    """Each module knows only the floors below it, so any of them can be read without those above."""
    own = room_of(module)
    used = {room(name) for name in imports(module) if name.startswith("nebula_async.")} - {own}
    if own == "emulator":
        allowed = set()
    else:
        allowed = {name for name, floor in FLOORS.items() if floor < FLOORS[own] or floor == FLOORS[own] < TOP_FLOOR}
        allowed |= {"emulator"} if own in STARTS_THE_EMULATOR else set()
        allowed |= {"integrations"} if module in MEETS_IN_REDIS else set()
    assert set() == used - allowed


@pytest.mark.parametrize("module", MODULES)
def test_a_module_uses_only_the_libraries_of_its_room(module):
    """The core imports nothing but the core dependencies; each extra is imported in the room that it is for."""
    used = {name.partition(".")[0] for name in imports(module)} - set(sys.stdlib_module_names) - {"nebula_async"}
    adapted = set().union(*(names for place, names in ADAPTERS.items() if module.startswith(place)))
    assert set() == used - THIRD_PARTY.get(room_of(module), CORE) - LAZY.get(module, set()) - adapted


@pytest.mark.parametrize("library", sorted(OWNERS))
def test_a_library_has_one_owner(library):
    """Transport libraries, asyncio and the database are named where they belong and nowhere else."""
    users = {
        module
        for module in MODULES
        if room_of(module) != "emulator" and any(name.partition(".")[0] == library for name in imports(module))
    }
    assert set() == users - OWNERS[library]


def test_every_room_stands_in_the_table():
    """A new room gets its floor when it is made."""
    rooms = {room_of(module) for module in MODULES} - {"__init__", "emulator"}
    assert set(FLOORS) == rooms
