"""Why a request is refused, before it is known in which envelope that is said."""

import attrs

from nebula_async.emulator.codes import CODES
from nebula_async.emulator.fields import Problem


@attrs.define(eq=False)
class Refusal(Exception):  # noqa: N818 - it names what the server does, not what went wrong in it
    """A request is answered with `status`; `problems` make it a validation error, `code` is dialect B's word for it."""

    status: int
    message: str
    problems: tuple[Problem, ...] = ()
    code: str | None = None
    headers: dict[str, str] = attrs.field(factory=dict)


def invalid(*problems: Problem) -> Refusal:
    """Return the refusal of a body with these problems."""
    return Refusal(422, "Validation failed", problems)


def coded(code: str) -> Refusal:
    """Return the refusal that an error code of dialect B names."""
    return Refusal(CODES[code].status, CODES[code].message, code=code)
