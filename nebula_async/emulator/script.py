"""Faults that are decided while the emulator runs: for the requests for pictures that come next, and for prompts."""

import re
import threading
from collections import deque
from typing import Any

import attrs

from nebula_async.emulator.faults import Fault, Plan

PASSES = "ok"
_FORMS = (
    "allowed is ok, or KIND[=ARGUMENT] with KIND a status 400-599 (ARGUMENT an API error code), delay=SECONDS, drop, "
    "refuse, cut or malformed (ARGUMENT base64 or html), and after a status retry_after=SECONDS or billed, as in "
    "'429 retry_after=2'; or a Fault"
)

Prompt = str | re.Pattern[str]


@attrs.define(eq=False)
class Line:
    """Steps that are met one after the other; with `repeat` the last of them by all requests from then on."""

    steps: deque[Plan]
    repeat: bool = False

    def take(self) -> Plan | None:
        """Return the next step, None where there is none left."""
        if self.repeat and len(self.steps) == 1:
            return self.steps[0]
        return self.steps.popleft() if self.steps else None

    @property
    def waiting(self) -> int:
        """How many steps no request has met yet; one that repeats is not waited for."""
        return len(self.steps) - (self.repeat and bool(self.steps))


@attrs.define(eq=False)
class Script:
    """What goes wrong next, decided from any thread; a request meets one step at most.

    A step is text such as `"500"`, `"429 retry_after=2"`, `"500 billed"`, `"400=content_policy_violation"`,
    `"delay=0.5"`, `"cut"`, or `"ok"` for a request that passes, whatever other faults there are; or a `Fault`, whose
    request numbers and probability are not looked at. What a prompt has of its own goes before what is for everyone.
    """

    _everyone: Line = attrs.field(factory=lambda: Line(deque()), init=False)
    _prompts: list[tuple[Prompt, Line]] = attrs.field(factory=list, init=False)
    _lock: threading.Lock = attrs.field(factory=threading.Lock, init=False)

    def next(self, *faults: str | Fault, repeat: bool = False) -> None:
        """Let the requests for pictures that come next meet these, one each; with `repeat` all others the last one.

        What was scripted before comes first. Raises `ValueError` for what is no fault.
        """
        steps = read_steps(faults)
        with self._lock:
            if self._everyone.repeat:
                self._everyone.steps.pop()  # what went on without end goes on until now
            self._everyone.steps.extend(steps)
            self._everyone.repeat = repeat

    def for_prompt(self, prompt: Prompt, *faults: str | Fault, repeat: bool = False) -> None:
        """Let the requests with this prompt, or one that a compiled pattern finds something in, meet these.

        Raises `ValueError` for what is no fault.
        """
        if not isinstance(prompt, str | re.Pattern):
            raise ValueError(f"the prompt is {prompt!r}; allowed is text, or a pattern of re.compile")  # noqa: TRY004 - as all options say it
        steps = read_steps(faults)
        with self._lock:
            self._prompts.append((prompt, Line(deque(steps), repeat)))

    def clear(self) -> None:
        """Forget all that is scripted."""
        with self._lock:
            self._everyone = Line(deque())
            self._prompts.clear()

    def take(self, prompt: str | None) -> Plan | None:
        """Return what the request that is here now meets, None where nothing is scripted for it."""
        with self._lock:
            lines = [line for wanted, line in self._prompts if prompt is not None and _is_meant(prompt, wanted)]
            found = (step for line in (*lines, self._everyone) if (step := line.take()) is not None)
            return next(found, None)

    @property
    def waiting(self) -> int:
        """How many steps no request has met yet."""
        with self._lock:
            return sum(line.waiting for line in (self._everyone, *(line for _, line in self._prompts)))


def read_steps(faults: "tuple[str | Fault, ...]") -> list[Plan]:
    """Return the steps that are given as text or as faults. Raises `ValueError`."""
    if not faults:
        raise ValueError(f"no fault is given; {_FORMS}")
    return [_read_step(fault) for fault in faults]


def _read_step(given: str | Fault) -> Plan:
    if isinstance(given, Fault):
        return _as_plan(given)
    if not isinstance(given, str):
        raise ValueError(f"fault {given!r} cannot be read; {_FORMS}")  # noqa: TRY004 - as faults that are text
    what, *more = given.split() or [""]
    if what == PASSES and not more:
        return Plan()
    kind, _, argument = what.partition("=")
    try:
        fault = Fault(kind, argument, at=1)
        return _as_plan(attrs.evolve(fault, **_read_more(fault, more)) if more else fault)
    except ValueError as error:
        raise ValueError(f"fault {given!r} cannot be read; {_FORMS}") from error


def _read_more(fault: Fault, words: list[str]) -> dict[str, Any]:
    if fault.status is None:
        raise ValueError("only a status has more words")
    found: dict[str, Any] = {}
    for word in words:
        name, _, value = word.replace("-", "_", 1).lower().partition("=")
        if name == "retry_after" and _is_seconds(value):
            found["headers"] = {"Retry-After": value}
        elif (name, value) == ("billed", ""):
            found["billed"] = True
        else:
            raise ValueError(f"{word!r} is unknown")
    return found


def _is_seconds(text: str) -> bool:
    return re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,3})?", text) is not None


def _as_plan(fault: Fault) -> Plan:
    if fault.kind == "delay":
        return Plan(None, float(fault.argument), "delay")
    return Plan(fault, 0.0, fault.kind)


def _is_meant(prompt: str, wanted: Prompt) -> bool:
    return prompt == wanted if isinstance(wanted, str) else wanted.search(prompt) is not None
