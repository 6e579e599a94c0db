"""Parquet manifests: a row for each request."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from manifests import MODEL, item, read, source_of
from pyarrow import parquet

from nebula_async.bulk.manifest.items import BadLine, Item
from nebula_async.errors import JobError
from nebula_async.requests import ImageRequest, InferenceRequest


def table(folder: Path, columns: dict[str, object], *, rows_in_a_group: int | None = None) -> Path:
    """Write columns as a Parquet file."""
    path = folder / "p.parquet"
    parquet.write_table(pa.table(columns), path, row_group_size=rows_in_a_group)
    return path


def test_rows_are_read_with_their_types(tmp_path):
    """Columns go by name, nulls leave a field out, and an id may be a number."""
    columns = {
        "prompt": ["a", "b"],
        "id": pa.array([7, None], pa.int32()),
        "width": pa.array([64, None], pa.uint16()),
        "guidance_scale": pa.array([None, 1.5], pa.float32()),
        "negative_prompt": pa.array(["n", "n"]).dictionary_encode(),
        "dialect": pa.array([None, "serverless"], pa.large_string()),
        "seed": pa.nulls(2),
    }

    first = item(0, 1, "a", id="7", width=64, negative_prompt="n")
    assert [first, item(1, 2, "b", guidance_scale=1.5, negative_prompt="n")] == read(table(tmp_path, columns))


def test_the_dialect_may_differ(tmp_path):
    """A row says which API it is for."""
    path = table(tmp_path, {"prompt": ["a", "b"], "dialect": ["inference", None], "n": [2, None]})

    first, second = read(path)

    assert InferenceRequest("a", model="m", n=2) == first.request
    assert ImageRequest("b", model="m") == second.request


STRUCT = pa.struct([("a", pa.int64()), ("b", pa.struct([("c", pa.list_(pa.string()))]))])


@pytest.mark.parametrize(
    ("kind", "values", "expected"),
    [
        (STRUCT, [{"a": 1, "b": None}, None, {"a": None, "b": {"c": ["x"]}}], [{"a": 1}, None, {"b": {"c": ["x"]}}]),
        (pa.map_(pa.string(), pa.int64()), [[("a", 1), ("b", None)], None, []], [{"a": 1}, None, {}]),
        (pa.map_(pa.string(), STRUCT), [[("x", {"a": 1})], None, None], [{"x": {"a": 1}}, None, None]),
    ],
)
def test_extra_may_be_a_struct_or_a_map(tmp_path, kind, values, expected):
    """Fields that the library does not know come as a struct or a map; what is null in it is left out."""
    path = table(tmp_path, {"prompt": ["a"] * 3, "extra": pa.array(values, kind)})

    assert expected == [entry.request.extra for entry in read(path)]


def test_a_name_that_is_there_twice_in_a_map_is_a_bad_line(tmp_path):
    """A map is as strict as a JSON object."""
    values = pa.array([[("a", 1), ("a", 2)], [("a", 1)]], pa.map_(pa.string(), pa.int64()))

    bad, good = read(table(tmp_path, {"prompt": ["a", "b"], "extra": values}))

    assert "p.parquet:1: the key 'a' is there more than once; keep one" == str(bad)
    assert item(1, 2, "b", extra={"a": 1}) == good


@pytest.mark.parametrize(
    ("columns", "problem"),
    [
        ({"prompt": ["a"], "width": ["64"]}, "width must be a whole number from 16 to 8192; got '64'"),
        ({"prompt": ["a"], "width": [64.0]}, "width must be a whole number from 16 to 8192; got 64.0 (float)"),
        ({"prompt": [b"a"]}, "prompt must be text"),
        ({"prompt": [None, "a"]}, "prompt must be given"),
        ({"prompt": ["a"], "id": [True]}, "id must be text"),
        ({"prompt": ["a"], "sise": [1]}, "unknown column 'sise'; known are dialect, extra, "),
        ({"width": [1]}, "a column prompt must be given; known are "),
        ({"prompt": [["a"]]}, "column 'prompt' holds 'list<element: string>'; only extra can be a struct or a map"),
        ({"prompt": ["a"], "extra": [[1]]}, "column 'extra' holds 'list<element: int64>'; only extra can be a struct"),
        ({"prompt": ["a"], "extra": ["{}"]}, "extra must be a mapping of field names to JSON values; got '{}'"),
    ],
)
def test_a_mistake_is_named_with_its_row(tmp_path, columns, problem):
    """Types are as strict as in JSON, and rows are counted from 1."""
    bad = read(table(tmp_path, columns))[0]

    assert isinstance(bad, BadLine)
    assert str(bad).startswith(f"p.parquet:1: {problem}")


def test_a_column_that_is_there_twice_is_named(tmp_path):
    """Two columns of one name are refused, as in a CSV header."""
    path = tmp_path / "p.parquet"
    parquet.write_table(pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], ["prompt", "prompt"]), path)

    (bad,) = read(path)

    assert "p.parquet:1: column prompt is there more than once; keep one" == str(bad)


def test_columns_are_mapped_and_dropped(tmp_path):
    """A column that is dropped may hold anything."""
    path = table(tmp_path, {"caption.text": ["a"], "picture": [{"bytes": b"x"}], "w": [64]})

    mapped = read(path, columns={"caption.text": "prompt", "picture": "", "w": "width"})

    assert [item(0, 1, "a", width=64)] == mapped


def test_a_mapped_column_that_is_not_there_is_named(tmp_path):
    """A name that the file has not is said with those that it has."""
    (bad,) = read(table(tmp_path, {"caption": ["a"]}), columns={"text": "prompt"})

    assert "p.parquet:1: there is no column 'text' to map; there are 'caption'" == str(bad)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"x" * 100, None])
def test_a_file_that_is_damaged_is_said(tmp_path, content):
    """What is no Parquet, or is cut off, is one error that names the file."""
    path = table(tmp_path, {"prompt": ["a"] * 1000})
    path.write_bytes(path.read_bytes()[:-30] if content is None else content)

    with pytest.raises(JobError, match=r"p\.parquet:1: the file is no Parquet, or damaged \(.*\); make it again"):
        read(path)


def test_damage_inside_names_the_row(tmp_path):
    """Where pages are damaged, the row that cannot be read is said."""
    columns = {"prompt": [f"prompt {number}" for number in range(20_000)]}
    path = table(tmp_path, columns, rows_in_a_group=5_000)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 3_000] = b"\xff" * 3_000
    path.write_bytes(data)

    with pytest.raises(JobError, match=r"p\.parquet:\d{4,}: the file is no Parquet, or damaged"):
        read(path)


def test_a_file_without_rows_is_refused(tmp_path):
    """A file that holds no request is said."""
    with pytest.raises(JobError, match=r"there is no request in p\.parquet"):
        read(table(tmp_path, {"prompt": pa.array([], pa.string())}))


def test_rows_are_read_in_batches(tmp_path):
    """A file of one large row group is never there all at once."""
    rows = 40_000
    path = tmp_path / "p.parquet"
    prompts = pa.table({"prompt": [f"{number} {'x' * 200}" for number in range(rows)]})
    parquet.write_table(prompts, path, row_group_size=rows, compression="none", use_dictionary=False)
    source, before = source_of(path), pa.total_allocated_bytes()
    tracemalloc.start()
    try:
        entries = source.entries()
        assert all(isinstance(next(entries), Item) for _ in range(3_000))
        assert tracemalloc.get_traced_memory()[1] < 4 * 2**20
        assert pa.total_allocated_bytes() - before < 4 * 2**20 < path.stat().st_size
        entries.close()
    finally:
        tracemalloc.stop()
    assert before == pa.total_allocated_bytes()


def test_the_missing_extra_is_named(tmp_path):
    """Without pyarrow, a Parquet file is refused with the command that installs it; nothing else needs it."""
    path = table(tmp_path, {"prompt": ["a"]})
    code = f"""
import sys
sys.modules["pyarrow"] = None
import anyio, functools, pathlib
from nebula_async.bulk.manifest.source import open_source
run = functools.partial(open_source, {str(path)!r}, spool=pathlib.Path("x"), defaults={{}}, columns={{}}, repeat=1)
try:
    anyio.run(run)
except Exception as error:
    print(type(error).__name__, error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert "JobError Parquet needs an extra: pip install 'nebula_async[parquet]'\n" == done.stdout


ROWS = st.fixed_dictionaries(
    {"prompt": st.text(min_size=1, max_size=20).filter(str.isprintable).filter(str.strip)},
    optional={
        "width": st.integers(16, 8192),
        "seed": st.integers(-1, 2**63 - 1),
        "guidance_scale": st.floats(0.5, 1000),
        "id": st.text(alphabet="abcé", min_size=1),
    },
)


@settings(max_examples=30)
@given(st.lists(ROWS, min_size=1, max_size=5))
def test_what_is_written_is_read(tmp_path_factory, rows):
    """Requests that are written as rows are the same when they are read."""
    path = Path(tmp_path_factory.getbasetemp()) / "round.parquet"
    columns = {name: [row.get(name) for row in rows] for name in ("prompt", "width", "seed", "guidance_scale", "id")}
    parquet.write_table(pa.table(columns), path)

    assert [ImageRequest.from_dict(MODEL | row) for row in rows] == [entry.request for entry in read(path)]
