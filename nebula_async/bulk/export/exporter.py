"""A job's pictures written as shards: what is there is kept, what is missing or changed is written."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from itertools import islice
from pathlib import Path

from attrs import define, frozen

from nebula_async.bulk.bucket import STORE, check_here
from nebula_async.bulk.export.parquet import write_parquet
from nebula_async.bulk.export.samples import Sample, read_samples
from nebula_async.bulk.export.shard_folder import ShardFolder
from nebula_async.bulk.export.shards import Limits, Plan, Shard, plan_shards
from nebula_async.bulk.export.webdataset import card, write_tar
from nebula_async.bulk.folder import JobFolder
from nebula_async.bulk.ledger import Ledger
from nebula_async.bulk.manifest.parquet import load_arrow
from nebula_async.bulk.states import State
from nebula_async.errors import JobError


@frozen
class Format:
    """A kind of shards: how their files end, what writes one, and what belongs beside them."""

    extension: str
    write: Callable[[Path, Iterator[Sample], Sequence[str]], None]
    check: Callable[[], object] | None = None
    card: Callable[[Sequence[str], frozenset[str]], bytes] | None = None


FORMATS: Mapping[str, Format] = {
    "webdataset": Format(".tar", write_tar, card=card),
    "parquet": Format(".parquet", write_parquet, check=load_arrow),
}


@frozen(kw_only=True)
class Exported:
    """What lies in the folder of an export now: pictures in so many shards, some of them `written` by this call.

    `unfinished` items of the job are not done, so their pictures are not here, or not all of them.
    """

    folder: Path
    pictures: int
    shards: int
    written: int
    unfinished: int


def _is_of_the_job(out: Path, to: Path) -> bool:
    return to == out or any(to.is_relative_to(out / name) for name in ("images", "gallery", ".nebula"))


def export_job(
    out: Path,
    kind: str,
    to: Path | None = None,
    *,
    limits: Limits = Limits(),  # noqa: B008 - frozen
    on_written: Callable[[Shard], None] = lambda _: None,
    before_each: Callable[[], None] = lambda: None,
) -> Exported:
    """Write the pictures of a job's folder as shards of a kind of `FORMATS`, into `to`, else into `out/export/<kind>`.

    It may be stopped at any time, also by a kill: the same call then writes what is missing, and the files are the
    same, byte for byte. A job that goes on may be exported now and again later. `on_written` is told of each shard.
    `before_each` is called before each picture is looked at: what it raises ends the export, cleanly.

    It blocks. Raises `JobError` where `out` is no job, or a picture is gone or changed: nothing of its shard is left
    then. Raises `OSError` where `to` cannot be written to.
    """
    form = FORMATS[kind]
    if to is not None and _is_of_the_job(out.resolve(), to.resolve()):
        raise JobError(f"{to} is for the job's own files; give another --to, such as {out / 'export' / kind}")
    if form.check is not None:
        form.check()
    with closing(Ledger.read(JobFolder(out).ledger)) as ledger, ledger.together():  # one state, also while it runs
        check_here(ledger.fact(STORE), JobFolder(out))
        read = partial(_read, ledger, out, before_each)
        with closing(read()) as samples:
            plan = plan_shards(_name_of(ledger), samples, form.extension, limits)
        if not plan.shards:
            raise JobError(f"there is nothing to export: no picture of {out} is stored yet; run the job first")
        place = ShardFolder.open(to or out / "export" / kind, plan)
        export = _Export(read, plan, place)
        export.check()
        with place.held(plan):
            written = export.write(form, on_written)
            place.finish(plan.shards, form.card and form.card(plan.columns, plan.media_types))
        return Exported(
            folder=place.path,
            pictures=plan.samples,
            shards=len(plan.shards),
            written=written,
            unfinished=_unfinished(ledger),
        )


def _name_of(ledger: Ledger) -> str:
    """Return what tells a job from every other one, and nothing else of it."""
    return hashlib.sha256(f"export {ledger.fact('secret')}".encode()).hexdigest()[:16]


def _unfinished(ledger: Ledger) -> int:
    counts = ledger.counts()
    return int(ledger.fact("total") or counts.total()) - counts[State.DONE]


def _read(ledger: Ledger, out: Path, before_each: Callable[[], None]) -> Generator[Sample, None, None]:
    with closing(read_samples(ledger, out)) as samples:
        for sample in samples:
            before_each()
            yield sample


@define(eq=False)
class _Export:
    read: Callable[[], Generator[Sample, None, None]]
    plan: Plan
    place: ShardFolder

    def check(self) -> None:
        """Look at each picture that is needed, before any shard is replaced."""
        with closing(self._missing()) as missing:
            for _, samples in missing:
                for sample in samples:
                    sample.check()

    def write(self, form: Format, on_written: Callable[[Shard], None]) -> int:
        """Write what is missing or changed; return how many shards that were."""
        written = 0
        with closing(self._missing()) as missing:
            for shard, samples in missing:
                with self.place.new_file(shard) as part:
                    form.write(part, samples, self.plan.columns)
                on_written(shard)
                written += 1
        return written

    def _missing(self) -> Generator[tuple[Shard, Iterator[Sample]], None, None]:
        if all(map(self.place.has, self.plan.shards)):
            return
        with closing(self.read()) as samples:
            for shard in self.plan.shards:
                its_samples = islice(samples, shard.samples)
                if not self.place.has(shard):
                    yield shard, its_samples
                deque(its_samples, maxlen=0)  # past those of a shard that is there
