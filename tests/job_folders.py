"""Folders of jobs as they are after a run: a ledger and the pictures that it knows."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from random import Random

from PIL import Image as Pillow

from nebula_async.bulk.ledger import Ledger
from nebula_async.bulk.states import NewItem, Output, State

TYPES = {"PNG": ("image/png", ".png"), "JPEG": ("image/jpeg", ".jpg"), "WEBP": ("image/webp", ".webp")}

ROW = {
    "dialect": "serverless",
    "id": None,
    "prompt": "a cat",
    "negative_prompt": None,
    "model": "black-forest-labs/FLUX.1-schnell",
    "seed": 2**63 - 1,
    "num_steps": None,
    "guidance_scale": None,
    "extra": None,
    "cost": "0.0019",
    "charges_at_least": 1,
    "charges_at_most": 1,
}


def picture(number: int, kind: str = "PNG", *, side: int = 16) -> bytes:
    """Return a picture of noise, another one for each number."""
    file = io.BytesIO()
    Pillow.frombytes("RGB", (side, side), Random(number).randbytes(3 * side * side)).save(file, kind)  # noqa: S311 - noise
    return file.getvalue()


def begin(out: Path, items: int) -> None:
    """Make the folder of a job of which nothing is done yet."""
    (out / ".nebula").mkdir(parents=True)
    with opened(out) as ledger:
        ledger.note("secret", out.name)
        for number in range(items):
            add(ledger, number)


def add(ledger: Ledger, number: int) -> None:
    """Let the job ask for an item."""
    ledger.add(
        NewItem(
            key=f"#{number}",
            number=number,
            beyond=number + 1,
            body_sha=f"sha-{number}",
            asked=1,
            name=lambda seq: f"images/00000/{seq:09}",
            request="{}",
        )
    )


def finish(out: Path, seqs: Iterable[int], *, pictures: int = 1, kind: str = "PNG", side: int = 16, **row) -> None:
    """Let items be done, in this order, each with so many pictures."""
    with opened(out) as ledger:
        for seq in seqs:
            ledger.move(seq, State.SENT)
            ledger.store([store(out, seq, index, kind, side, row) for index in range(pictures)])
            ledger.move(seq, State.DONE)


def store(out: Path, seq: int, index: int, kind: str, side: int, row: dict[str, object]) -> Output:
    """Write a picture to its place and return what the ledger knows of it."""
    media_type, extension = TYPES[kind]
    data = picture(1000 * seq + index, kind, side=side)
    path = f"images/00000/{seq:09}" + (f"-{index}" if index else "") + extension
    (out / path).parent.mkdir(parents=True, exist_ok=True)
    (out / path).write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    values = {"file_name": path.removeprefix("images/"), "number": seq, **ROW, **row, "sha256": digest}
    return Output(
        seq=seq, index=index, path=path, sha256=digest, bytes=len(data), media_type=media_type, row=json.dumps(values)
    )


def opened(out: Path) -> closing[Ledger]:
    """Open the ledger of a job's folder."""
    return closing(Ledger.open(out / ".nebula" / "ledger.db", "process"))
