"""Samples as a WebDataset shard: a tar file in which the files of a sample lie side by side under one name.

The format: https://github.com/webdataset/webdataset#the-webdataset-format. The archive is POSIX ustar, written here
byte by byte: what `tarfile` writes differs between releases of Python, and it keeps a note of every member in memory.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import BinaryIO

from nebula_async.bulk.export.samples import Sample, column_type
from nebula_async.images.media import EXTENSIONS

BLOCK = 512
RECORD = 20 * BLOCK
BUFFER_BYTES = 2**20


def write_tar(path: Path, samples: Iterable[Sample], columns: Sequence[str]) -> None:
    """Write a shard: for each sample its picture, its prompt (`.txt`) and its row of the metadata (`.json`).

    The same samples give the same bytes. Memory does not grow with them. Raises `JobError` and `OSError`.
    """
    with path.open("wb", buffering=BUFFER_BYTES) as file:
        for sample in samples:
            _add_picture(file, sample)
            row = sample.row(columns)
            _add(file, f"{sample.name}.txt", (row.get("prompt") or "").encode())
            _add(file, f"{sample.name}.json", json.dumps(row, allow_nan=False).encode())
        file.write(bytes(2 * BLOCK))
        file.write(bytes(-file.tell() % RECORD))


def _add_picture(file: BinaryIO, sample: Sample) -> None:
    file.write(header(sample.file_name, sample.size))
    file.writelines(sample.pieces())
    file.write(bytes(-sample.size % BLOCK))


def _add(file: BinaryIO, name: str, data: bytes) -> None:
    file.writelines((header(name, len(data)), data, bytes(-len(data) % BLOCK)))


def header(name: str, size: int) -> bytes:
    """Return the header of a regular file that all may read, of nobody, from 1970."""
    fields = (
        name.encode("ascii").ljust(100, b"\0"),
        b"0000644\0",  # mode
        b"0000000\0" * 2,  # user, group
        b"%011o\0" % size,
        b"%011o\0" % 0,  # time
        b" " * 8,  # the sum is counted with blanks in its place
        b"0".ljust(101, b"\0"),  # a regular file, no link
        b"ustar\x0000".ljust(72, b"\0"),  # no names of user and group
        b"0000000\0" * 2,  # device
    )
    block = b"".join(fields).ljust(BLOCK, b"\0")
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def card(columns: Iterable[str], media_types: Iterable[str]) -> bytes:
    """Return the README.md that tells Hugging Face `datasets` the type of each column.

    Without it the types are guessed from the first five samples: a column that is null in these, or a second type of
    pictures, would end the loading. https://huggingface.co/docs/hub/datasets-webdataset
    """
    pictures = [_feature(EXTENSIONS[media_type][0][1:], "image") for media_type in sorted(media_types)]
    values = [_feature(json.dumps(column), column_type(column), "    ") for column in columns]
    lines = (
        "---",
        "dataset_info:",
        "  features:",
        *pictures,
        _feature("txt", "string"),
        "  - name: json",
        "    struct:",
        *values,
        "---",
        "",
        "Pictures with their prompts (`txt`) and how they were made (`json`), written by `nebula-async export`.",
    )
    return "".join(f"{line}\n" for line in lines).encode()


def _feature(name: str, kind: str, indent: str = "  ") -> str:
    return f"{indent}- name: {name}\n{indent}  dtype: {kind}"
