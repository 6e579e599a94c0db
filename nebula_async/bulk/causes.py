"""What the reasons why items are not done are grouped by, and the next step after each.

Errors have causes of their own: `cause_of`. Those here are of items whose calls ended without one.
"""

from __future__ import annotations

from collections.abc import Mapping

from nebula_async.bulk.states import State
from nebula_async.errors import next_step_of

MISSING = "pictures missing"
GONE = "picture gone"
UNTRACED = "place unknown"
STOPPED = "run stopped"
UNDER_WAY = "under way"
AT_URL = "not fetched"

ABOUT_UNDER_WAY = "its call has not ended; what a stopped run leaves so, the next one settles"
ABOUT_AT_URL = "its pictures are paid for, and still at their URLs"

AFTER: Mapping[State, str] = {
    State.PENDING: "the same command sends it again",
    State.SENT: "the same command settles it",
    State.URLS: "the same command fetches it, which is free",
    State.REJECTED: "nothing was paid: mend it in failed.jsonl, which is input again, or repeat with --retry-failed",
    State.BAD: "--retry-failed sends it again, and pays for it again",
    State.EXPIRED: "--retry-failed sends it again, and pays for it again",
    State.UNKNOWN: "--resend-unknown sends it again, and may pay for it twice",
}


def told(state: State, cause: str | None, error: str | None) -> tuple[str, str]:
    """Return the cause and the error of an item that is not done, also where none is noted, as of one under way."""
    if error is None and state is State.URLS:
        return AT_URL, ABOUT_AT_URL
    if error is None:
        return UNDER_WAY, ABOUT_UNDER_WAY
    return cause or "not noted", error


def next_step(state: State, cause: str) -> str:
    """Return what a user can do about items that stand in a state because of a cause."""
    about_cause, about_state = next_step_of(cause), AFTER.get(state, "")
    if state in (State.URLS, State.SENT):  # whatever went wrong, the same command goes on with it
        return about_state
    if "--" in about_cause and state in (State.BAD, State.EXPIRED, State.UNKNOWN):  # it names the option
        return about_cause
    return "; ".join(step for step in (about_cause, about_state) if step)
