"""The chaos proxy as a fixture, and an authority for TLS."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from broken_exchange import NO_FAULT, Fault
from chaos import ChaosProxy, in_turn

from nebula_async.emulator import Emulator


@pytest.fixture
def chaos(emulator: Emulator) -> Iterator[Callable[..., ChaosProxy]]:
    """Put a proxy before the emulator: `chaos(first, second, …, then=…)` are the faults of its exchanges, in turn.

    `script=` decides by number instead, `upstream=` is another server's URL, `tls=` what clients have to speak.
    """
    with ExitStack() as stack:

        def start(*faults: Fault, then: Fault = NO_FAULT, **options: object) -> ChaosProxy:
            script = options.pop("script", in_turn(*faults, then=then))
            upstream = options.pop("upstream", emulator.base_url)
            return stack.enter_context(ChaosProxy(upstream, script, **options))

        yield start
