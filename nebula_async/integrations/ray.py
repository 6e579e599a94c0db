"""Pictures for the rows of a Ray dataset: a class for `Dataset.map_batches`, and the call of that which serves it best.

Ray itself is imported by `generate_images` alone.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any

from attrs import Attribute, define, evolve, field, fields, frozen

from nebula_async.bulk.manifest.columns import read_columns
from nebula_async.bulk.manifest.items import check_defaults
from nebula_async.checks import Checks, shown
from nebula_async.config import Config
from nebula_async.engine.gate import Gate
from nebula_async.errors import ConfigurationError
from nebula_async.events import Observer
from nebula_async.integrations.ray_actor import Service, ServiceThread
from nebula_async.integrations.ray_batches import Batch, Columns
from nebula_async.sinks.directory import DirectorySink
from nebula_async.sinks.sink import Sink, check_sink

if TYPE_CHECKING:
    from ray.data import Dataset  # type: ignore[import-not-found, unused-ignore]

__all__ = ["NebulaImages", "generate_images"]

BATCHES_AT_ONCE = 4
"""While the last rows of one batch are awaited, those of others are sent."""

FEW_CPUS = 0.1
"""An actor waits for the network. With Ray's whole CPU each, two of them leave none for the tasks that read."""

check = Checks(ConfigurationError)

logger = logging.getLogger(__name__)


def _check_sink(_images: object, _attribute: Attribute[Any], sink: object) -> None:
    check_sink(sink)
    if isinstance(sink, DirectorySink) and not sink.path.is_absolute():
        path = shown(str(sink.path))
        raise ConfigurationError(f"the sink's folder must be absolute: actors run in folders of their own; got {path}")


def _check_callable(_images: object, attribute: Attribute[Any], value: object) -> None:
    if value is not None and not callable(value):
        given = type(value).__name__  # no more of it: it may be a key, or a URL with a password
        raise ConfigurationError(f"{attribute.name} must be a callable, which is called in each actor; got {given}")


@frozen(repr=False)
class _Unshown:
    """Calls what may hold a secret, and does not show it: Ray writes down the arguments of its operators."""

    recipe: Callable[[], Any]

    def __call__(self) -> Any:
        return self.recipe()


@define(eq=False)
class NebulaImages:
    """Makes a picture for each row: `dataset.map_batches(NebulaImages, fn_constructor_kwargs={"sink": sink}, …)`;
    `generate_images` makes that call.

    A column with the name of a field of `ImageRequest` or `InferenceRequest` is that field; `columns` says so of others
    (`{"caption": "prompt"}`), or that one is none (`{"width": None}`). `defaults` are fields for rows that leave them
    out, as a missing value does. Rows come back as they were, with the columns of `RowResult`, whose names begin with
    `prefix`: always all of them, and of the same types. A row is one picture. What happens to it is told there and
    never raised.

    Pictures are streamed into `sink`, under a name made of all that is asked; or, with `keep_bytes`, they are in the
    rows, and go through Ray's object store. When Ray runs a task once more, a picture that the sink holds is adopted,
    and nothing is sent for it; for the others the same is sent as before, with the same seed and idempotency key. Rows
    that ask for the very same, in a batch or in those that an actor has at the same time, share what the first one
    gets, and rows that come later what the sink holds: an `id` tells them apart.

    - `config` is that of the client; without it, the environment of the actor says it. Without a `gate` the actors of a
      host share the account's limit, as with `shared_by="host"`
    - `gate` is called in each actor and returns an async context manager for its gate, such as a `RedisGate`
    - `api_key` is called in the actor and returns the key; without it, the actor's `NEBULA_API_KEY` is read
    - `concurrency` is how many requests an actor has in flight, of all its batches
    - `observer` is told of events, in the actor

    All of them have to be picklable. Raises `ConfigurationError`, and `InvalidRequestError` for `defaults`.
    """

    sink: Sink | None = field(default=None, kw_only=True, validator=_check_sink)
    keep_bytes: bool = field(default=False, kw_only=True, validator=check.flag())
    defaults: Mapping[str, Any] = field(factory=dict, kw_only=True)
    columns: Mapping[str, str | None] = field(factory=dict, kw_only=True)
    prefix: str = field(default="image_", kw_only=True, validator=check.text(blank=True))
    config: Config | None = field(default=None, kw_only=True, validator=check.kind(Config, optional=True))
    gate: Callable[[], AbstractAsyncContextManager[Gate]] | None = field(
        default=None, kw_only=True, validator=_check_callable, repr=False
    )
    api_key: Callable[[], str] | None = field(default=None, kw_only=True, validator=_check_callable, repr=False)
    concurrency: int = field(default=16, kw_only=True, validator=check.whole(1, 10_000))
    observer: Observer | None = field(default=None, kw_only=True, validator=_check_callable)
    _columns: Columns = field(init=False, repr=False)
    _thread: ServiceThread = field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        if self.keep_bytes == (self.sink is not None):
            raise ConfigurationError(
                "give either a sink for the pictures, such as DirectorySink('/data/cats'), or keep_bytes=True"
            )
        check_defaults(self.defaults)
        self._columns = Columns(read_columns(self.columns), self.prefix)
        given = {each.name: getattr(self, each.name) for each in fields(Service)}
        self._thread = ServiceThread(Service(**given))

    def __reduce__(self) -> tuple[Callable[[Mapping[str, Any]], NebulaImages], tuple[Mapping[str, Any]]]:
        return _make, ({each.name: getattr(self, each.name) for each in fields(NebulaImages) if each.init},)

    async def __call__(self, batch: Batch) -> Batch:
        """Return a batch, a mapping of arrays or an Arrow table, with what became of its rows.

        Batches may be under way at the same time. Raises `ConfigurationError`, before anything of the batch is sent,
        for columns that do not fit and where there is no key. Cancelling the call closes its connections; what was sent
        by then may have been paid for.
        """
        rows = self._columns.read(batch)
        return self._columns.add(batch, await self._thread.work(rows))

    def check_columns(self, names: Sequence[str]) -> None:
        """Refuse rows with these columns where they do not fit. Raises `ConfigurationError`."""
        self._columns.check(names)

    def close(self) -> None:
        """Close the connections, where there are any. Where Ray ends an actor it is done by itself."""
        self._thread.close()


def _make(options: Mapping[str, Any]) -> NebulaImages:
    return NebulaImages(**options)


@frozen(kw_only=True)
class _Pool:
    """How many actors there are, what each takes of a CPU, and how many rows come to it at once."""

    actors: int = field(validator=check.whole(1, 100_000))
    batch_size: int = field(validator=check.whole(1, 1_000_000))
    num_cpus: float = field(validator=check.number(0, 10_000))


def generate_images(
    dataset: Dataset, *, actors: int = 2, batch_size: int = 16, num_cpus: float = FEW_CPUS, **options: Any
) -> Dataset:
    """Return a dataset of the same rows with a picture each, made by so many actors; `options` are `NebulaImages`'s.

    Nothing is sent before the dataset is used. Options are checked here, and the columns where they are known. The
    folder of a sink is taken from here where it is relative, as are the settings of the environment, but for the key.
    Raises `ConfigurationError`, and `InvalidRequestError` for `defaults`.
    """
    import ray  # type: ignore[import-not-found, unused-ignore]
    from ray.data import ActorPoolStrategy

    pool = _Pool(actors=actors, batch_size=batch_size, num_cpus=num_cpus)
    options = {**options, "config": options.get("config") or Config.from_env(), "sink": _absolute(options.get("sink"))}
    images = NebulaImages(**options)
    options |= {name: _Unshown(options[name]) for name in ("gate", "api_key") if options.get(name) is not None}
    if (schema := dataset.schema(fetch_if_missing=False)) is not None:
        images.check_columns(schema.names)
    if images.gate is None and sum(node["Alive"] for node in ray.nodes()) > 1:
        logger.warning("actors share the account's limit with those of their own host only; give a gate for all hosts")
    return dataset.map_batches(
        NebulaImages,
        fn_constructor_kwargs=options,
        batch_size=pool.batch_size,
        batch_format="pyarrow",
        compute=ActorPoolStrategy(
            size=pool.actors,
            max_concurrent_calls_per_actor=BATCHES_AT_ONCE,
            max_tasks_in_flight_per_actor=BATCHES_AT_ONCE,  # by default the first that is up gets twice as many
        ),
        num_cpus=pool.num_cpus,
        udf_modifying_row_count=False,
    )


def _absolute(sink: Any) -> Any:
    return evolve(sink, path=sink.path.absolute()) if isinstance(sink, DirectorySink) else sink
