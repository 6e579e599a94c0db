"""A decision as it is written in Redis: what follows for the turns, and the state from which the next one goes on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from nebula_async.engine.host_state import HostState, write_state


def written(answer: Mapping[str, Any], state: HostState, now: float, version: int) -> dict[str, Any]:
    """Return what is written, if nobody decided since that answer; `version` is the last that was known before it."""
    state.written_at = now
    pace, course = state.allowance.pace, state.allowance.pace.course
    held_until = now + pace.held_for(now) if course is None else max(0.0, course.held_until)
    closed_until, is_named, asked_at = state.allowance.quota.closing
    return {
        "based_on": answer["version"],
        "version": max(answer["version"], version) + 1,
        "given": answer["given"],
        "interval": "" if course is None else f"{course.interval:.9f}",
        "last": None if course is None or math.isinf(course.last) else f"{course.last:.6f}",
        "held_until": f"{held_until:.6f}",
        "closed_until": f"{closed_until:.6f}",
        "is_named": "1" if is_named else "0",
        "asked_at": f"{asked_at:.6f}",
        "seen_left": answer["policy"]["total"],
        "text": write_state(state),
    }
