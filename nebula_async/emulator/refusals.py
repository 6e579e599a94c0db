"""Why a request is refused, before it is known in which envelope that is said."""

import attrs


@attrs.define(eq=False)
class Refusal(Exception):  # noqa: N818 - it names what the server does, not what went wrong in it
    """A request is answered with `status`; `details` makes it a validation error."""

    status: int
    message: str
    details: tuple[dict[str, object], ...] = ()
    headers: dict[str, str] = attrs.field(factory=dict)


def invalid(*problems: tuple[str, str, str]) -> Refusal:
    """Return the 422 for problems given as (field, message, type); an empty field means the whole body."""
    details: tuple[dict[str, object], ...] = tuple(
        {"loc": ["body", field] if field else ["body"], "msg": message, "type": kind}
        for field, message, kind in problems
    )
    return Refusal(422, "Validation failed", details)
