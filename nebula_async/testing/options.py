"""The options of `@pytest.mark.nebula`, checked."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from nebula_async.emulator import Emulator
from nebula_async.testing.emulator import Clock, NebulaEmulator

OURS = {"clock", "host", "port", "storage_port"}
"""Options of the emulator that the fixture decides."""

ALLOWED = sorted({*inspect.signature(Emulator).parameters} - OURS | {"waits"})


def make(options: Mapping[str, Any]) -> NebulaEmulator:
    """Return an emulator with these options, not started. Raises `ValueError` in one sentence for one that is wrong."""
    unknown = sorted(options.keys() - {*ALLOWED})
    if unknown:
        raise ValueError(f"{', '.join(unknown)} is no option; allowed are {', '.join(ALLOWED)}")
    waits = options.get("waits", False)
    if not isinstance(waits, bool):
        raise ValueError(f"waits is {waits!r}; allowed is True or False")  # noqa: TRY004 - as all options say it
    clock = Clock()
    given = {name: value for name, value in options.items() if name != "waits"}
    try:
        return NebulaEmulator(Emulator(**given, clock=clock), clock, waits)
    except TypeError as error:
        shown = ", ".join(f"{name}={value!r}" for name, value in given.items())
        raise ValueError(f"{shown} cannot be the options of an emulator: {error}") from error
