"""Samples as a Parquet file that Hugging Face `datasets` reads with its pictures: https://huggingface.co/docs/datasets."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from nebula_async.bulk.export.samples import Sample, column_type

GROUP_ROWS, GROUP_BYTES = 100, 2**26
"""A group of rows is read, and written, as a whole: it has as many at most, and is not begun anew above so many bytes
of pictures."""

REPETITIVE = frozenset({"dialect", "model", "negative_prompt", "size", "quality", "style", "cost"})
"""Columns with few values: each is written once for a group."""


def write_parquet(path: Path, samples: Iterable[Sample], columns: Sequence[str]) -> None:
    """Write a shard: a row for each sample, its picture and all columns of the metadata.

    The same samples and the same release of pyarrow give the same bytes. Raises `JobError` and `OSError`.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    texts = [column for column in columns if column_type(column) == "string"]
    codecs = {"image.bytes": "none", **dict.fromkeys(("image.path", *texts), "zstd")}
    schema = _schema(columns)
    with pq.ParquetWriter(
        path,
        schema,
        compression=codecs,
        use_dictionary=sorted(REPETITIVE.intersection(columns)),
        write_page_index=True,
        write_batch_size=1,  # so a page ends after a picture, and the index finds each
    ) as writer:
        for group in _groups(samples):
            rows = pa.Table.from_pylist([sample.row(columns) for sample in group], schema.remove(0))
            writer.write_table(rows.add_column(0, schema.field("image"), _images(group, schema.field("image").type)))


def _schema(columns: Sequence[str]) -> Any:
    import pyarrow as pa

    types = {"int64": pa.int64(), "float64": pa.float64(), "string": pa.string()}
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    features = {"image": {"_type": "Image"}} | {
        column: {"dtype": column_type(column), "_type": "Value"} for column in columns
    }
    return pa.schema(
        [("image", image), *((column, types[column_type(column)]) for column in columns)],
        metadata={"huggingface": json.dumps({"info": {"features": features}})},
    )


def _groups(samples: Iterable[Sample]) -> Iterator[list[Sample]]:
    group: list[Sample] = []
    for sample in samples:
        group.append(sample)
        if len(group) == GROUP_ROWS or sum(member.size for member in group) >= GROUP_BYTES:
            yield group
            group = []
    if group:
        yield group


def _images(group: Sequence[Sample], kind: Any) -> Any:
    """Return the column of a group's pictures, which are in memory once."""
    import pyarrow as pa

    data, ends = bytearray(), array("i", [0])
    for sample in group:
        for piece in sample.pieces():
            data += piece
        ends.append(len(data))
    buffers = [None, pa.py_buffer(ends), pa.py_buffer(data)]
    pictures = pa.Array.from_buffers(pa.binary(), len(group), buffers)
    paths = pa.array([sample.file_name for sample in group], pa.string())
    return pa.StructArray.from_arrays([pictures, paths], fields=list(kind))
