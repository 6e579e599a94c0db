"""A folder of shards, and which of them are there, complete.

What each was made of stands in a small index beside them, so that a repeated export writes what is missing or changed.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from attrs import asdict, define, evolve, field

from nebula_async.bulk.export.samples import naming
from nebula_async.bulk.export.shards import Plan, Shard
from nebula_async.bulk.spool import sync_folder
from nebula_async.errors import JobError

INDEX = ".shards.json"
"""Hidden, so that loaders that take all files of a folder leave it out."""

CARD = "README.md"

LEFTOVER = re.compile(r"\.[A-Za-z0-9.]+\.[0-9a-f]{32}\.part")


@define(eq=False)
class ShardFolder:
    """A folder of shards and its index. It is written to while it is `held`; its methods block and raise `OSError`."""

    path: Path
    _job: str = field(default="", init=False)
    _known: dict[str, Shard] = field(factory=dict, init=False)
    _pictures: int = field(default=0, init=False)
    _card: str | None = field(default=None, init=False)

    @classmethod
    def open(cls, path: Path, plan: Plan) -> ShardFolder:
        """Look at a folder that is to hold what is planned, also where it is not there yet; nothing is changed.

        Raises `JobError` where it holds what the plan would take away or overwrite.
        """
        place = cls(path)
        place._read()
        place._check(plan)
        return place

    @contextmanager
    def held(self, plan: Plan) -> Iterator[None]:
        """Keep other processes from writing to the folder, which is made where it is missing, until the block ends.

        Raises `JobError` as `open` does, and where another process writes to it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with locked(self.path):
            self._read()
            self._check(plan)
            self._job, self._pictures = plan.job, plan.samples
            for path in self.path.glob(".*.part"):
                if LEFTOVER.fullmatch(path.name):
                    path.unlink()
            yield

    def has(self, shard: Shard) -> bool:
        """Whether a planned shard is there, complete."""
        known = self._known.get(shard.name)
        return known is not None and known.made_of == shard.made_of and self._is_whole(known)

    @contextmanager
    def new_file(self, shard: Shard) -> Iterator[Path]:
        """Give the place to write a shard to; at the end of the block it appears under its name, durably."""
        with appearing(self.path / shard.name) as part:
            yield part
            with part.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            written = evolve(shard, bytes=part.stat().st_size, sha256=digest)
            self._note(shard)  # killed from here on, the file of that name is ours, and not known to be complete
        self._note(written)

    def finish(self, shards: Sequence[Shard], card: bytes | None) -> None:
        """Remove the shards that are not among these, which hold all of them; put a card beside them, unless somebody
        else has written one.
        """
        for name in self._known.keys() - {shard.name for shard in shards}:
            (self.path / name).unlink(missing_ok=True)
            del self._known[name]
        if card is not None:
            self._put(card)
        self._write()

    def _put(self, card: bytes) -> None:
        place, digest = self.path / CARD, hashlib.sha256(card).hexdigest()
        there = hashlib.sha256(place.read_bytes()).hexdigest() if place.exists() else None
        if there in (None, self._card):
            with appearing(place) as part:
                part.write_bytes(card)
        if there in (None, self._card, digest):
            self._card = digest

    def _is_whole(self, shard: Shard) -> bool:
        try:
            return (self.path / shard.name).stat().st_size == shard.bytes
        except FileNotFoundError:
            return False

    def _read(self) -> None:
        path = self.path / INDEX
        try:
            values = json.loads(path.read_bytes())
            self._known = {shard["name"]: Shard(**shard) for shard in values["shards"]}
            self._job, self._pictures, self._card = values["job"], values["pictures"], values["card"]
        except FileNotFoundError:
            return
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise JobError(f"{path} is damaged; remove {self.path} and export again, or give another --to") from error

    def _check(self, plan: Plan) -> None:
        names = [shard.name for shard in plan.shards]
        foreign = [name for name in names if name not in self._known and os.path.lexists(self.path / name)]
        other = [name for name in self._known if Path(name).suffix != Path(names[0]).suffix]
        if foreign:
            problem = f"{foreign[0]}, which no export has written"
        elif other:
            problem = f"an export in another format ({other[0]})"
        elif self._job not in ("", plan.job):
            problem = "an export of another job"
        elif self._pictures > plan.samples:
            problem = f"{self._pictures} pictures, of which the job has only {plan.samples}"
        else:
            return
        raise JobError(f"{self.path} holds {problem}: nothing was changed; give another --to, or remove that folder")

    def _note(self, shard: Shard) -> None:
        self._known[shard.name] = shard
        self._write()

    def _write(self) -> None:
        shards = [asdict(shard) for _, shard in sorted(self._known.items())]
        values = {"job": self._job, "pictures": self._pictures, "shards": shards, "card": self._card}
        with appearing(self.path / INDEX) as part:
            part.write_text(json.dumps(values, indent=1) + "\n")


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock a folder; the system frees it when this process ends, however it ends. Raises `JobError`."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        _take(descriptor, folder)
        yield
    finally:
        os.close(descriptor)


def _take(descriptor: int, folder: Path) -> None:
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise JobError(f"another export writes to {folder}; wait for it, or give another --to") from error


@contextmanager
def appearing(target: Path) -> Iterator[Path]:
    """Give the place for a file that appears at `target` whole and durably when the block ends, and else not at all."""
    part = target.with_name(f".{target.name.lstrip('.')}.{uuid4().hex}.part")
    try:
        with naming(target.parent):
            yield part
            with part.open("rb+") as file:
                os.fsync(file.fileno())
            part.replace(target)
            sync_folder(target.parent)
    finally:
        part.unlink(missing_ok=True)
