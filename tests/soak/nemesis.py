"""What a seed has in store for a job: its workload, and round after round what is done to it. Pure: nothing happens.

Everything is drawn from the seed and the number of the round alone, so that a seed is the same schedule everywhere;
when it strikes is told in exchanges that the line has seen, which only timing decides.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from random import Random
from typing import Any

from attrs import frozen
from weather import LINE, SERVICE

ENDS = ("SIGKILL", "SIGKILL", "SIGKILL", "SIGTERM", "SIGINT", "SIGINT twice")
"""What ends a process, by how often it is drawn."""

FRAMES = (
    *5 * ("plain",), *2 * ("disk that fails",), "few descriptors", "folder that is locked", "other clock", "two at once"
)  # fmt: skip
"""What a process is started under."""

FAILING_CALLS = {
    "ENOSPC": ("pwrite64", "write", "linkat", "link", "rename", "mkdir"),
    "EIO": ("fsync", "fdatasync", "pwrite64"),
}

MIDDLES = (
    *2 * ("stopped",), *3 * ("service says",), *2 * ("service restarts",), "second process", "disk is full",
    "limit changes", "quota used up", "credit used up",
)  # fmt: skip
"""What happens in the middle of a round."""

MOST_ITEMS = 240
SLOW_ITEMS = 25
"""So many items a request in flight: more would take long where many of them meet silence."""

FORMATS = ("png", "jpeg", "webp")
RETRY_AFTER = (None, "seconds", "ms", "http-date")

PLACES = ("flying cat", "whale under ice", "café in the rain", "夜の港", "tin robot 🤖", "field of <b>poppies</b>")


@frozen
class Workload:
    """What a job asks for: so many `items` of so many `pictures`, and with which options each of its runs."""

    items: int
    pictures: int
    defaults: Mapping[str, Any]
    image_format: str
    is_replaying: bool
    resends: int
    options: tuple[str, ...]

    @property
    def is_told(self) -> bool:
        """Whether pictures say how they were made, and so are other bytes than came."""
        return "--provenance" in self.options

    @property
    def prompts(self) -> dict[str, str]:
        """Each item's key and prompt, by which the server's journal knows it."""
        return {f"no-{number}": f"{PLACES[number % len(PLACES)]}, {number}" for number in range(self.items)}

    @property
    def lines(self) -> Iterator[str]:
        """The manifest."""
        return (json.dumps({"id": key, "prompt": prompt, **self.defaults}) for key, prompt in self.prompts.items())

    def __str__(self) -> str:
        what = f"{self.items} items x {self.pictures}, {json.dumps(dict(self.defaults))}, {self.image_format}"
        return f"{what}, {'replaying, ' if self.is_replaying else ''}{' '.join(self.options)}"


@frozen
class Disturbance:
    """One thing that is done to a run, once the line has seen so many exchanges `after` its start."""

    kind: str
    after: int
    amount: float = 0.0
    words: tuple[str, ...] = ()

    def __str__(self) -> str:
        amount = f" {self.amount:.3g}" if self.amount else ""
        return f"after {self.after}: {self.kind}{amount}{': ' if self.words else ''}{told(self.words)}"


@frozen
class Round:
    """A run of the job: what it is started under, with which `options` more, the line's faults, and what is done."""

    number: int
    frame: str
    words: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    share: float = 0.0
    line: tuple[str, ...] = ()
    disturbances: tuple[Disturbance, ...] = ()

    def kinds(self) -> set[str]:
        """Return all that may happen in it."""
        return {self.frame, *(each.kind for each in self.disturbances)}

    def __str__(self) -> str:
        parts = [
            f"round {self.number}: {' '.join((self.frame, *self.words, *self.options))}",
            f"{self.share:.0%} of {', '.join(self.line)}" if self.share else "a good line",
            *map(str, self.disturbances),
        ]
        return "\n    ".join(parts)


@frozen
class Nemesis:
    """All that a seed has in store; `most_items` keeps it short."""

    seed: int
    most_items: int = MOST_ITEMS

    def workload(self) -> Workload:
        """Return what the job asks for."""
        source = self._source("workload")
        pictures = source.choice((1, 1, 1, 2))
        concurrency = source.choice((1, 4, 8, 8, 16, 32))
        is_replaying, resends = source.random() < 0.25, source.choice((0, 1, 1, 1, 2))
        options = _options(source, is_replaying=is_replaying, resends=resends)
        return Workload(
            items=_items(source, self.most_items, concurrency) // pictures,
            pictures=pictures,
            defaults=_defaults(source, pictures),
            image_format=source.choice(FORMATS),
            is_replaying=is_replaying,
            resends=resends,
            options=("--concurrency", str(concurrency), *options),
        )

    def rounds(self) -> Iterator[Round]:
        """Yield what happens, one round after the other."""
        rounds = self._source("rounds").randint(2, 4)
        room = self.workload().items // (rounds + 1)
        for number in range(1, rounds + 1):
            yield self._round(number, max(room, 2), is_last=number == rounds)

    def calm(self) -> Iterator[Round]:
        """Yield how the job is ended: by itself, and once more with all that failed or is unknown."""
        yield Round(1, "calm")
        yield Round(2, "calm", options=("--resend-unknown", "--retry-failed"))

    def __str__(self) -> str:
        return "\n  ".join((f"seed {self.seed}: {self.workload()}", *map(str, self.rounds())))

    def _source(self, what: object) -> Random:
        return Random(f"{self.seed}/{what}")  # noqa: S311 - the same at each run

    def _round(self, number: int, room: int, *, is_last: bool) -> Round:
        source = self._source(number)
        frame = source.choice(FRAMES)
        middles = tuple(_middle(source, source.choice(MIDDLES), room) for _ in range(source.choice((0, 1, 1, 2, 3))))
        if frame == "folder that is locked":
            middles = (*middles, Disturbance("folder locked", _near(source, room), source.uniform(0.2, 1)))
        if frame == "other clock":
            middles = (*middles, Disturbance("clock set", _near(source, room), words=(_clock(source),)))
        latest = max((each.after for each in middles), default=0)
        end = Disturbance(source.choice(ENDS), max(latest, room // 2 + _near(source, room)))
        return Round(
            number,
            frame,
            words=_frame_words(source, frame),
            options=_again(source),
            share=source.choice((0.0, 0.02, 0.05, 0.1, 0.2)),
            line=tuple(source.sample(sorted(LINE), source.randint(1, 6))),
            disturbances=(
                *sorted(middles, key=lambda each: each.after),
                *(() if is_last and source.random() < 0.4 else (end,)),
            ),
        )


def _items(source: Random, most: int, concurrency: int) -> int:
    most = min(most, SLOW_ITEMS * concurrency)
    return source.randint(most // 3, most)


def _defaults(source: Random, pictures: int) -> dict[str, Any]:
    side = source.choice((16, 48, 64))
    if source.random() < 0.5:
        form = source.choice(("url", "b64_json"))
        size = {"size": f"{side}x{side}", "response_format": form}
        return {"dialect": "inference", "model": "dall-e-3", "n": pictures, **size}
    many = {"model": "Bytedance/seedream-3-0-t2i-250415", "extra": {"num_images": pictures}}
    one = {"model": "black-forest-labs/FLUX.1-schnell"}
    return {**(one if pictures == 1 else many), "width": side, "height": side, "num_steps": 1}


def _options(source: Random, *, is_replaying: bool, resends: int) -> Iterator[str]:
    yield from ("--resends", str(resends))
    yield from ("--idempotency", "replay" if is_replaying else source.choice(("off", "unknown")))
    yield from ("--durability", source.choice(("power", "process")))
    yield from ("--backend", source.choice(("asyncio", "asyncio", "trio")))
    yield from ("--rate-limit", "60000") if source.random() < 0.5 else ()
    yield from ("--provenance",) if source.random() < 0.25 else ()
    yield from ("--gallery",) if source.random() < 0.15 else ()


def _again(source: Random) -> tuple[str, ...]:
    drawn = source.random()
    if drawn < 0.1:
        return ("--max-images", str(source.randint(20, 120)))
    return {1: ("--retry-failed",), 2: ("--resend-unknown",)}.get(int(drawn * 10), ())


def _frame_words(source: Random, frame: str) -> tuple[str, ...]:
    match frame:
        case "disk that fails":
            error = source.choice(sorted(FAILING_CALLS))
            return (error, source.choice(FAILING_CALLS[error]), str(source.randint(2, 60)))
        case "few descriptors":
            return (str(source.choice((14, 16, 18, 24, 40))),)
        case "other clock":
            return (_clock(source),)
    return ()


def _middle(source: Random, kind: str, room: int) -> Disturbance:
    after = _near(source, room)
    match kind:
        case "stopped" | "service restarts" | "disk is full":
            return Disturbance(kind, after, round(source.uniform(0.05, 1.2), 2))
        case "service says":
            return Disturbance(kind, after, words=_storm(source))
        case "limit changes":
            form = str(source.choice(RETRY_AFTER))
            return Disturbance(kind, after, source.choice((1_200, 3_000, 12_000)), (form, str(source.choice((1, 20)))))
        case "quota used up":
            return Disturbance(kind, after, source.randint(1, 20), (str(source.choice(RETRY_AFTER)),))
    return Disturbance(kind, after)


def _storm(source: Random) -> tuple[str, ...]:
    if source.random() < 0.5:
        return source.randint(5, 25) * (source.choice(SERVICE),)
    return tuple(source.choices(SERVICE, k=source.randint(3, 25)))


def _clock(source: Random) -> str:
    return source.choice(("+1d", "-1d", "+2h", "-30y", "+30y", "+5m"))


def _near(source: Random, room: int) -> int:
    return source.randint(1, max(room // 2, 1))


def told(words: Sequence[str]) -> str:
    """Return words of which many are the same as they are told."""
    return f"{len(words)} x {words[0]}" if len(words) > 1 and len({*words}) == 1 else ", ".join(words)
