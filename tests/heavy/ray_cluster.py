"""Datasets of a real Ray on this machine, whose actors ask an emulator for pictures.

`make test-ray` runs it, in an environment of its own.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

import pyarrow as pa
import ray
from PIL import Image as Pillow
from ray.data._internal.metadata_exporter import sanitize_for_struct

sys.path.append(str(Path(__file__).parents[1] / "integrations"))

from redis_server import RedisServer, why_not

from nebula_async import Config, DirectorySink
from nebula_async.errors import ConfigurationError, InvalidRequestError
from nebula_async.integrations.ray import NebulaImages, generate_images
from nebula_async.integrations.ray_batches import TYPES
from nebula_async.integrations.redis import RedisGate
from nebula_async.testing import NebulaEmulator

# Ray leaves sockets and processes to the end of the interpreter, and uses what newer Pythons warn about.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore:The minimum number of concurrent actors"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray"),
    pytest.mark.filterwarnings("ignore::FutureWarning:ray"),
]

EXAMPLES = Path(__file__).parents[2] / "examples"

SMALL = {"model": "black-forest-labs/FLUX.1-schnell", "width": 64, "height": 64}
ACTORS, AT_ONCE = 2, 16
DELAY = 0.2

PER_MINUTE = 300
BURST = 5
"""What may come at once where a limit is kept, and a little more: turns are not on the stroke."""

slow = pytest.mark.nebula(faults=[f"delay={DELAY}:1"], waits=True)
limited = pytest.mark.nebula(per_minute=PER_MINUTE, burst=BURST, waits=True)


@pytest.fixture(scope="module", autouse=True)
def _cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A Ray with two CPUs, whose actors find no key in their environment."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("NEBULA_")]:
            patch.delenv(name)
        patch.setenv("NEBULA_STATE_DIR", str(tmp_path_factory.mktemp("state")))
        options = {"num_cpus": 2, "include_dashboard": False, "object_store_memory": 200 << 20}
        ray.init(address="local", logging_level="error", log_to_driver=False, **options)
        ray.data.DataContext.get_current().enable_progress_bars = False
        yield
        ray.shutdown()


@pytest.fixture
def make(emulator: NebulaEmulator, tmp_path: Path) -> Callable[..., ray.data.Dataset]:
    """Make pictures for a dataset, with a key that the actors get from a function, into a folder of the test."""
    key, seen = emulator.key, tmp_path / "actors"
    seen.mkdir()

    def key_of_the_actor() -> str:
        (seen / str(os.getpid())).touch()
        return key

    usual = {"config": emulator.config(keep_alive=True), "api_key": key_of_the_actor, "defaults": SMALL}

    def make(rows: list[dict[str, Any]], **options: Any) -> ray.data.Dataset:
        place = {} if "keep_bytes" in options else {"sink": DirectorySink(tmp_path / "out")}
        return generate_images(ray.data.from_items(rows), **{**usual, **place, **options})

    return make


def cats(count: int) -> list[dict[str, Any]]:
    """Return rows with a column that is none of ours."""
    return [{"prompt": f"cat {number}", "number": number} for number in range(count)]


def most_in_flight(emulator: NebulaEmulator) -> int:
    """Return how many requests were in flight together at least: each was for the time by which its reply waits."""
    moments = sorted(record.at for record in emulator.journal.generations)
    return max(sum(began <= moment < began + DELAY for moment in moments) for began in moments)


def most_within(seconds: float, emulator: NebulaEmulator) -> int:
    """Return how many requests came at most in any stretch of so many seconds."""
    moments = sorted(record.at for record in emulator.journal.generations)
    return max(sum(began <= moment < began + seconds for moment in moments) for began in moments)


def statuses(rows: list[dict[str, Any]]) -> dict[str, int]:
    """Count how rows ended."""
    return dict(Counter(row["image_status"] for row in rows))


def test_rows_come_back_with_their_pictures(make, emulator):
    """Every row is there with its own columns, the path of a picture of its own, its seed, and what it cost."""
    rows = make(cats(70)).take_all()
    assert [*range(70)] == sorted(row["number"] for row in rows)
    assert {f"image_{name}" for name in TYPES} | {"prompt", "number"} == set(rows[0])
    assert {"made": 70} == statuses(rows)
    assert 70 == len({row["image_path"] for row in rows}) == len({row["image_seed"] for row in rows})
    for row in rows:
        with Pillow.open(row["image_path"]) as picture:
            assert (64, 64) == picture.size
        assert (1, 1, "image/png", None, None) == tuple(
            row[f"image_{name}"] for name in ("charges_at_least", "charges_at_most", "media_type", "error", "bytes")
        )
    emulator.assert_charged(70)


@slow
@pytest.mark.parametrize("known", [{}, {"rate_limit": 60_000}], ids=["limit unknown", "limit known"])
def test_actors_work_at_the_same_time(make, emulator, known):
    """Two actors with sixteen at once keep at least twenty-five requests in flight at the peak."""
    config = emulator.config(keep_alive=True, **known)
    rows = make(cats(400), actors=ACTORS, concurrency=AT_ONCE, config=config).take_all()
    assert {"made": 400} == statuses(rows)
    assert 25 <= most_in_flight(emulator) <= ACTORS * AT_ONCE
    emulator.assert_charged(400)


@slow
def test_a_killed_actor_costs_what_it_had_in_flight(make, emulator, tmp_path):
    """All rows end well, what the sink holds is not bought again, and what is sent again is the same as before."""
    killed = threading.Thread(target=_kill_one, args=(emulator, tmp_path / "actors"))
    killed.start()
    rows = make(cats(300), concurrency=AT_ONCE).take_all()
    killed.join()
    assert 300 == len(rows) == len({row["image_path"] for row in rows})
    assert {"made", "adopted"} == set(statuses(rows))
    assert emulator.journal.charged <= 300 + AT_ONCE
    assert ACTORS < len([*(tmp_path / "actors").iterdir()])
    sent = {(record.prompt, record.seed, record.idempotency_key) for record in emulator.journal.generations}
    assert 300 == len(sent)
    assert {(row["prompt"], row["image_seed"]) for row in rows} == {(prompt, seed) for prompt, seed, _ in sent}


def _kill_one(emulator: NebulaEmulator, seen: Path) -> None:
    while emulator.journal.charged < 60:
        time.sleep(0.01)
    os.kill(int(next(seen.iterdir()).name), signal.SIGKILL)


def test_what_is_stored_is_not_bought_again(make, emulator):
    """The same dataset run once more finds its pictures, with the same paths and seeds, and sends nothing."""
    first, second = (make(cats(50), batch_size=size).take_all() for size in (32, 7))
    assert ({"made": 50}, {"adopted": 50}) == (statuses(first), statuses(second))
    places = [{row["prompt"]: (row["image_path"], row["image_seed"]) for row in rows} for rows in (first, second)]
    assert places[0] == places[1]
    assert {0.0} == {row["image_cost"] for row in second}
    emulator.assert_charged(50)


def test_pictures_can_be_in_the_rows(make, emulator, tmp_path):
    """With `keep_bytes` the pictures are in a column, and no file is written."""
    rows = make(cats(10), keep_bytes=True).take_all()
    assert {b"\x89PNG"} == {row["image_bytes"][:4] for row in rows}
    assert {None} == {row["image_path"] for row in rows}
    assert not (tmp_path / "out").exists()
    emulator.assert_charged(10)


def test_a_bad_row_is_told_in_its_columns(make, emulator):
    """Rows that cannot be asked for, and those that are refused, come back with their error; the others are made."""
    emulator.for_prompt("cat 3", "400")
    rows = [*cats(5), {"prompt": "", "number": 5}, {"prompt": None, "number": 6}]
    found = {row["number"]: row for row in make(rows, batch_size=2).take_all()}
    assert {"made": 4, "failed": 3} == statuses([*found.values()])
    assert ["BadRequestError", "InvalidRequestError", "InvalidRequestError"] == [
        found[number]["image_error_type"] for number in (3, 5, 6)
    ]
    emulator.assert_charged(4)


def test_blocks_in_which_all_fail_have_the_types_of_the_others(make, emulator, tmp_path):
    """A dataset of made and failed pictures is one table, and can be written as Parquet."""
    emulator.for_prompt("dog", "400", repeat=True)
    rows = [{"prompt": "dog"}] * 4 + [{"prompt": f"cat {number}"} for number in range(4)]
    made = make(rows, batch_size=4).materialize()
    assert list(TYPES.values()) == made.schema().types[1:]
    made.write_parquet(str(tmp_path / "table"))
    assert {"made": 4, "failed": 4} == statuses(ray.data.read_parquet(str(tmp_path / "table")).take_all())


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"keep_bytes": True}, "give either a sink"),
        ({"sink": "out"}, "sink must be a sink"),
        ({"concurrency": 0}, "concurrency must be"),
        ({"api_key": "sk-0123456789"}, "api_key must be a callable, which is called in each actor; got str$"),
        ({"columns": {"caption": "prompt"}}, "columns names 'caption', which is no column; there are 'prompt'"),
        ({"columns": {"prompt": None}}, "no column is the prompt"),
        ({"prefix": "", "columns": {}}, "the rows have 'seed' already"),
        ({"defaults": {"width": 7}}, "width must be"),
        ({"actors": 0}, "actors must be"),
        ({"batch_size": 0}, "batch_size must be"),
        ({"num_cpus": -1}, "num_cpus must be"),
        ({"concurency": 3}, "unexpected keyword argument 'concurency'"),
    ],
    ids=lambda value: "" if isinstance(value, str) else ",".join(value),
)
def test_wrong_options_are_refused_where_they_are_given(options, told, tmp_path):
    """A mistake is one clear sentence in the driver, before any actor is there."""
    given = {"sink": DirectorySink(tmp_path), **options}
    dataset = ray.data.from_arrow(pa.table({"prompt": ["a cat"], "seed": [1]}))
    with pytest.raises((ConfigurationError, InvalidRequestError, TypeError), match=told) as caught:
        generate_images(dataset, **given)
    assert "\n" not in str(caught.value)


def test_a_missing_key_is_said(make, emulator):
    """Where the actors have no key, the run ends with the sentence that says what to do, and nothing is sent."""
    with pytest.raises(Exception, match="NEBULA_API_KEY"):
        make(cats(3), api_key=None).take_all()
    emulator.assert_nothing_asked()


def test_ray_writes_down_no_secret(make):
    """What Ray exports of a dataset's steps, cut after a hundred characters, has neither the key nor a gate's URL."""
    gate = partial(RedisGate, "redis://:hunter2@host/0", account="cats")
    dataset = make(cats(1), gate=gate, api_key=partial(str, "hunter2"))
    said = str(sanitize_for_struct(dataset._logical_plan.dag._get_args()))
    assert "api_key" in said
    assert "hunter2" not in said


def test_a_sink_is_relative_to_the_driver(make, emulator, tmp_path, monkeypatch):
    """Pictures go below the folder in which the program runs, not one of Ray's."""
    monkeypatch.chdir(tmp_path)
    [row] = make(cats(1), sink=DirectorySink("here")).take_all()
    assert Path(row["image_path"]).is_relative_to(tmp_path / "here")


def test_the_class_can_be_mapped_without_its_function(emulator, tmp_path):
    """`map_batches` with Ray's own defaults works too: batches of NumPy arrays."""
    rows = ray.data.from_items(cats(6)).map_batches(
        NebulaImages,
        fn_constructor_kwargs={
            "sink": DirectorySink(tmp_path / "out"),
            "config": emulator.config(),
            "api_key": partial(str, emulator.key),
            "defaults": SMALL,
        },
        batch_size=4,
        num_cpus=0.1,
        compute=ray.data.ActorPoolStrategy(size=1),
    )
    assert {"made": 6} == statuses(rows.take_all())


@limited
def test_actors_of_a_host_keep_to_one_limit(make, emulator):
    """Two actors send together what the account allows, and are not refused."""
    _keeps_to_the_limit(make, emulator)


@limited
@pytest.mark.skipif(why_not() is not None, reason=str(why_not()))
def test_actors_keep_to_one_limit_in_redis(make, emulator):
    """With a Redis gate the same, for the actors of many hosts."""
    with RedisServer() as server:
        config = Config(rate_limit=PER_MINUTE)
        _keeps_to_the_limit(make, emulator, gate=partial(RedisGate, server.url, account="cats", config=config))


def _keeps_to_the_limit(make: Callable[..., ray.data.Dataset], emulator: NebulaEmulator, **options: Any) -> None:
    rows = make(cats(30), config=emulator.config(rate_limit=PER_MINUTE), batch_size=8, **options).take_all()
    assert {"made": 30} == statuses(rows)
    assert {200} == {record.status for record in emulator.journal.generations}
    assert most_within(2.0, emulator) <= 2.0 * PER_MINUTE / 60 + BURST


def test_the_example_runs(emulator, tmp_path):
    """It makes nine pictures on a Ray of its own, and none when it is run again."""
    environ = {**os.environ, **emulator.environ}
    for status, charged in (("made", "9 pictures charged"), ("adopted", "0 pictures charged")):
        said = subprocess.run(
            [sys.executable, EXAMPLES / "ray_bulk.py"],
            cwd=tmp_path,
            env=environ,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        assert (9, True) == (said.count(f" {status} "), charged in said)
    emulator.assert_charged(9)
