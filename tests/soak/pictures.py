"""Whether the files of a job are the pictures that were asked for: the same request is painted the same once more."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from attrs import frozen
from job_invariants import Item, Witness
from nemesis import Workload
from PIL import Image

from nebula_async.emulator import RequestRecord
from nebula_async.emulator.dialects import Inference, Serverless
from nebula_async.emulator.journal import INFERENCE_PATH
from nebula_async.emulator.pictures import Sources, render


@frozen
class Easel:
    """Paints once more what the service was asked for."""

    workload: Workload

    def problems(self, witness: Witness) -> Iterator[str]:
        """Yield the files that are not the whole pictures of their items' requests."""
        asked = {record.prompt: record for record in witness.requests if record.images_charged}
        for key, item in witness.kept.items.items():
            record = asked.get(witness.prompts.get(key))
            if record is None and item.stored:
                yield f"{key} has pictures, and none was billed for it"
            elif record is not None and item.stored:
                yield from self._of_item(witness.out, item, record)

    def _of_item(self, out: Path, item: Item, record: RequestRecord) -> Iterator[str]:
        painted = [*self._paint(record)]
        for output in item.stored:
            file = out / output["path"]
            wanted = painted if item.row["epoch"] else [painted[output["idx"]]]  # bought anew: behind what was there
            if _pixels(file.read_bytes() if file.is_file() else b"") not in wanted:
                yield f"{output['path']} is not the picture of {record.prompt!r}"

    def _paint(self, record: RequestRecord) -> Iterator[object]:
        request = _built(record.path, dict(record.fields), record.seed or 0)
        paint = partial(render, request, Sources(None, None), self.workload.image_format)
        return (_pixels(paint(index)) for index in range(request.num_images))


def _built(path: str, fields: Mapping[str, Any], seed: int):
    dialect = Inference(None) if path == INFERENCE_PATH else Serverless("status")
    return dialect.build(fields, seed)


def _pixels(data: bytes) -> object:
    """Return what a whole picture shows; what it says of its making does not count."""
    try:
        with Image.open(io.BytesIO(data)) as picture:
            return picture.size, picture.convert("RGB").tobytes()
    except (OSError, SyntaxError, ValueError):
        return "no whole picture"
