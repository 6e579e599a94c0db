"""What may go wrong on purpose: which fault, and at which requests for pictures."""

import math
import random
from collections.abc import Iterable, Mapping
from types import MappingProxyType

import attrs

CONNECTION_KINDS = ("drop", "refuse", "cut")
MALFORMED_BODIES = ("", "base64", "html")
_FORMS = (
    "allowed is KIND[=ARGUMENT]:WHEN with KIND a status 400-599 (ARGUMENT an API error code), delay=SECONDS, drop, "
    "refuse, cut or malformed (ARGUMENT base64 or html), and WHEN a probability such as 0.05 or request numbers "
    "such as @3, @3-7 or @3,9"
)


def _ranges(numbers: "int | range | Iterable[int | range]") -> tuple[range, ...]:
    given = (numbers,) if isinstance(numbers, int | range) else tuple(numbers)
    return tuple(part if isinstance(part, range) else range(part, part + 1) for part in given)


def _headers(given: Mapping[str, str]) -> Mapping[str, str]:
    return MappingProxyType(dict(given))


@attrs.frozen
class Fault:
    """One fault of the generation endpoints, by `probability` or at request numbers counted from 1, all together.

    `kind` is a status such as 429, or one of:

    * `delay` (`argument`: seconds): the finished reply waits;
    * `drop`: the picture is made and billed, the connection ends without a byte of reply;
    * `refuse`: the connection ends before any work, nothing is billed;
    * `cut`: billed; the connection ends after about half of the body;
    * `malformed` (`argument`: nothing, `base64` or `html`): billed; 200 with a body that is no JSON, with a
      `b64_json` that is no base64 (or no URL at all), or with a web page where the picture should be (or at its URL).

    A status takes an API error code as `argument`, or a whole `body`; `headers` are added to it;
    `billed` means that the work is done and charged before it is sent.
    """

    kind: str = attrs.field(converter=str)
    argument: str = attrs.field(default="", converter=str)
    probability: float | None = attrs.field(default=None, kw_only=True)
    at: tuple[range, ...] = attrs.field(default=(), converter=_ranges, kw_only=True)
    body: bytes | None = attrs.field(default=None, kw_only=True)
    headers: Mapping[str, str] = attrs.field(factory=dict, converter=_headers, kw_only=True)
    billed: bool = attrs.field(default=False, kw_only=True)

    def __attrs_post_init__(self) -> None:
        problem = self._kind_problem() or self._when_problem()
        if problem:
            raise ValueError(f"fault {self.text!r}: {problem}; {_FORMS}")

    @classmethod
    def parse(cls, text: str) -> "Fault":
        """Read the form of the command line, such as `429:0.05`, `500:@2`, `delay=2:@3-7` or `drop:@3,9`."""
        what, colon, when = text.rpartition(":")
        kind, _, argument = what.partition("=")
        try:
            if not colon:
                raise ValueError("it has no colon")  # noqa: TRY301 - joined with the reader's own errors
            if when.startswith("@"):
                return cls(kind, argument, at=_read_numbers(when[1:]))
            return cls(kind, argument, probability=float(when))
        except ValueError as error:
            if str(error).startswith("fault "):
                raise
            raise ValueError(f"fault {text!r} cannot be read; {_FORMS}") from error

    @property
    def text(self) -> str:
        """The fault as the command line writes it."""
        what = f"{self.kind}={self.argument}" if self.argument else self.kind
        if self.probability is not None:
            return f"{what}:{self.probability:g}"
        return f"{what}:@{','.join(_write_range(part) for part in self.at)}"

    @property
    def status(self) -> int | None:
        """The HTTP status this fault answers with, if it is one."""
        return int(self.kind) if self.kind.isdecimal() and self.kind.isascii() else None

    @property
    def does_work(self) -> bool:
        """Whether the picture is made and billed all the same."""
        return self.billed or self.kind in {"drop", "cut", "malformed"}

    @property
    def is_web_page(self) -> bool:
        """Whether a web page stands where the picture should be."""
        return (self.kind, self.argument) == ("malformed", "html")

    def fires(self, number: int, chance: float) -> bool:
        """Return whether this fault meets the request of this number, given its drawn chance in [0, 1)."""
        if self.probability is not None:
            return chance < self.probability
        return any(number in part for part in self.at)

    def _kind_problem(self) -> str | None:
        if self.kind == "delay":
            return None if _is_delay(self.argument) else "its delay is not a number of seconds"
        if self.kind == "malformed":
            return None if self.argument in MALFORMED_BODIES else "its argument is unknown"
        if self.kind in CONNECTION_KINDS:
            return "it takes no argument" if self.argument else None
        if self.status is None or not 400 <= self.status <= 599:
            return "its kind is unknown"
        return None

    def _when_problem(self) -> str | None:
        if (self.probability is None) == (not self.at):
            return "it needs either a probability or request numbers"
        if self.probability is not None and not 0 < self.probability <= 1:
            return "its probability is not above 0 and at most 1"
        if any(part.start < 1 or not part for part in self.at):
            return "request numbers count upwards from 1"
        return None


@attrs.frozen
class Plan:
    """What goes wrong with one request: one fault at most, after a delay."""

    fault: Fault | None = None
    delay_seconds: float = 0.0
    name: str | None = None


def plan_faults(faults: Iterable[Fault], number: int, source: random.Random) -> Plan:
    """Decide what meets the request of this number: delays add up, of the others the first that fires wins."""
    # Every fault draws, fired or not, so that one more fault at the end changes no earlier decision.
    met = [fault for fault in faults if fault.fires(number, source.random())]
    delays = [fault for fault in met if fault.kind == "delay"]
    others = [fault for fault in met if fault.kind != "delay"]
    names = [fault.kind for fault in (*delays[:1], *others[:1])]
    seconds = sum(float(fault.argument) for fault in delays)
    return Plan(next(iter(others), None), seconds, "+".join(names) or None)


def _read_numbers(text: str) -> tuple[range, ...]:
    return tuple(_read_range(part) for part in text.split(","))


def _read_range(text: str) -> range:
    first, dash, last = text.partition("-")
    return range(int(first), int(last if dash else first) + 1)


def _write_range(part: range) -> str:
    return f"{part.start}" if len(part) == 1 else f"{part.start}-{part.stop - 1}"


def _is_delay(text: str) -> bool:
    try:
        seconds = float(text)
    except ValueError:
        return False
    return math.isfinite(seconds) and seconds >= 0
