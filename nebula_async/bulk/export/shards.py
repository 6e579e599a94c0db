"""Which shards an export should consist of.

What a shard holds follows from the job's pictures in their order and from the limits alone, never from when they
were made or how often the export was repeated.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any

from attrs import define, field, frozen

from nebula_async.bulk.export.samples import Sample

LAYOUT = 1
"""Counted up when the same pictures are to give other shards: those that are there are then written anew."""


@frozen(kw_only=True)
class Limits:
    """A shard ends before it holds more bytes of pictures and metadata, or more pictures; one it always holds."""

    size: int = 10**9
    items: int = 10_000


@frozen(kw_only=True)
class Shard:
    """A file of samples. `made_of` is a digest of what belongs into it; once it is written, `bytes` and `sha256` tell
    what it is.
    """

    name: str
    samples: int
    made_of: str
    bytes: int | None = None
    sha256: str | None = None


@frozen(kw_only=True)
class Plan:
    """All shards of an export, the columns of the metadata, and the types of its pictures; `job` says whose it is."""

    job: str
    shards: tuple[Shard, ...]
    columns: tuple[str, ...]
    media_types: frozenset[str]

    @property
    def samples(self) -> int:
        """Pictures in all shards."""
        return sum(shard.samples for shard in self.shards)


@define(eq=False)
class _Draft:
    samples: int = 0
    size: int = 0
    digest: Any = field(factory=hashlib.sha256)

    def add(self, sample: Sample, size: int) -> None:
        facts = [sample.name, sample.sha256, sample.size, sample.media_type, sample.line]
        self.digest.update(json.dumps(facts).encode() + b"\n")
        self.samples += 1
        self.size += size


def plan_shards(job: str, samples: Iterable[Sample], extension: str, limits: Limits) -> Plan:
    """Say which shards there should be; memory grows with their number alone."""
    drafts: list[_Draft] = []
    columns: dict[str, None] = {}
    media_types = set()
    for sample in samples:
        size = sample.size + len(sample.line)
        if not drafts or drafts[-1].samples == limits.items or drafts[-1].size + size > limits.size:
            drafts.append(_Draft())
        drafts[-1].add(sample, size)
        columns |= dict.fromkeys(sample.values())
        media_types.add(sample.media_type)
    seed = json.dumps([LAYOUT, *columns]).encode()
    shards = (
        Shard(
            name=f"{number:05}{extension}",
            samples=draft.samples,
            made_of=hashlib.sha256(seed + draft.digest.digest()).hexdigest(),
        )
        for number, draft in enumerate(drafts)
    )
    return Plan(job=job, shards=tuple(shards), columns=tuple(columns), media_types=frozenset(media_types))
