"""Galleries for the tests of the page, written by hand in the documented format of its data."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from nebula_async.bulk.gallery.place import GalleryFolder
from nebula_async.bulk.gallery.scripts import script

CHUNK = 2_000
COLUMNS = (
    "number", "index", "state", "prompt", "model", "seed", "width", "height", "file", "thumbnail", "bytes", "cost",
    "seconds", "created", "requests", "charges_at_least", "charges_at_most", "request_id", "sha256", "id",
    "negative_prompt", "parameters", "cause", "error", "next_step", "is_cut",
)  # fmt: skip
SHARED = ("state", "model", "cost", "parameters", "cause", "error", "next_step")
FLUX, SDXL = "black-forest-labs/FLUX.1-schnell", "stabilityai/stable-diffusion-xl-base-1.0"


def picture(number: int, prompt: str, **known: Any) -> dict[str, Any]:
    """Return an entry of a picture, like those that a job leaves."""
    name = f"{number // 1000:05}/{number:09}"
    return {
        "number": number, "index": 0, "state": "done", "prompt": prompt, "model": FLUX, "seed": 7, "width": 1024,
        "height": 1024, "file": f"{name}.png", "thumbnail": f"{name}.webp", "bytes": 1_400_000, "cost": "0.01",
        "seconds": 2.5, "created": 1_790_000_000 + number, "requests": 1, "charges_at_least": 1, "charges_at_most": 1,
        "request_id": f"req-{number}", "sha256": f"{number:064x}", "parameters": '{"num_steps":4}', **known,
    }  # fmt: skip


def failure(number: int, prompt: str, state: str = "rejected", **known: Any) -> dict[str, Any]:
    """Return an entry of an item that has no picture."""
    told = {"cause": "ContentPolicyError", "error": "the prompt was refused", "next_step": "Change the prompt."}
    return {
        "number": number, "index": 0, "state": state, "prompt": prompt, "model": FLUX, "seed": 7, "requests": 1,
        "charges_at_least": 0, "charges_at_most": 0, **told, **known,
    }  # fmt: skip


def write_gallery(
    job: Path, entries: Sequence[dict[str, Any]], /, *, report: dict[str, Any] | None = None, **summary: Any
) -> str:
    """Write the gallery of a job with these entries; return the URL of its page."""
    place = GalleryFolder(job / "gallery")
    place.data.mkdir(parents=True, exist_ok=True)
    place.put_page(summary.get("pictures", "../images/"))
    chunks = [entries[start : start + CHUNK] for start in range(0, len(entries), CHUNK)]
    for number, chunk in enumerate(chunks):
        (place.data / f"{number:05}.js").write_bytes(script("items", number, chunk_of(chunk)))
    facts = {
        "version": 1, "title": job.name, "written": "2026-11-21T10:00:00Z", "commits": 1, "items": len(entries),
        "chunks": len(chunks), "omitted": 0, "data": "data/", "pictures": "../images/", "thumbnails": "thumbnails/",
        "job": job.name, "report": report or {},
    }  # fmt: skip
    place.summary.write_bytes(script("summary", facts | summary))
    return place.page.as_uri()


def chunk_of(entries: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return entries as a chunk of the page's data."""
    texts = sorted({entry[name] for entry in entries for name in SHARED if entry.get(name) is not None})
    places = {text: place for place, text in enumerate(texts)}
    return {"texts": texts, "rows": [_row(entry, places) for entry in entries]}


def _row(entry: dict[str, Any], places: dict[str, int]) -> list[Any]:
    row = [places.get(entry.get(name)) if name in SHARED else entry.get(name) for name in COLUMNS]
    while row[-1] is None:
        row.pop()
    return row


def write_pictures(job: Path, entries: Sequence[dict[str, Any]]) -> None:
    """Write a picture and a thumbnail for each entry that names them, in a colour of its number."""
    for entry in entries:
        if entry.get("file") is None:
            continue
        colour = tuple(entry["number"] * factor % 200 + 40 for factor in (37, 91, 53))
        shape = (entry["width"] // 16, entry["height"] // 16)
        for path in (job / "images" / entry["file"], job / "gallery" / "thumbnails" / entry["thumbnail"]):
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", shape, colour).save(path, "WEBP")


REPORT = json.loads("""{
  "version": 1, "started": "2026-11-21T08:00:00+00:00", "ended": "2026-11-21T08:42:10+00:00", "items": 40, "done": 36,
  "rejected": 2, "bad": 1, "unknown": 1, "unfetched": 0, "waiting": 0, "pictures": 36, "cost_at_least": "0.36",
  "cost_at_most": "0.38", "pictures_without_price": 0, "charges_at_least": 36, "charges_at_most": 38, "requests": 44,
  "refusals": 3,
  "models": [{"dialect": "serverless", "model": "black-forest-labs/FLUX.1-schnell", "items": 40, "done": 36,
    "failed": 4, "pictures": 36, "cost_at_least": "0.36", "cost_at_most": "0.38"}],
  "causes": [{"state": "rejected", "cause": "ContentPolicyError", "error": "the prompt was refused", "texts": 1,
    "items": 2, "next_step": "Change the prompt."}],
  "latency": {"requests": 41, "p50_seconds": 2.5, "p90_seconds": 4.1, "p99_seconds": 9.8, "longest_seconds": 12.0},
  "seconds": 180.0,
  "timeline": [
    {"start": 1790000000, "seconds": 60, "pictures": 20, "failures": 0, "refusals": 3, "p50_seconds": 2.4},
    {"start": 1790000060, "seconds": 60, "pictures": 0, "failures": 2, "refusals": 0, "p50_seconds": null},
    {"start": 1790000120, "seconds": 60, "pictures": 16, "failures": 2, "refusals": 0, "p50_seconds": 3.1}],
  "this_run": {"seconds": 180.0, "stopped_by": null, "next_step": null, "exit_code": 1}
}""")
