"""Pictures for the rows of a Ray dataset into a folder: ours, and Ray's own processor of HTTP requests."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import ray
from attrs import frozen
from ray.data.llm import HttpRequestProcessorConfig, build_processor

from nebula_async import Config, DirectorySink
from nebula_async.integrations.ray import generate_images

ACTORS, AT_ONCE = 2, 16
FEW_CPUS = 0.1
KNOWN_PER_MINUTE = 60_000  # with a limit that is not known, the client begins slowly
PICTURE = {"width": 64, "height": 64, "num_steps": 4}
MODEL = "black-forest-labs/FLUX.1-schnell"


@frozen
class Work:
    """So many rows, a prompt each, whose pictures are to be in a folder."""

    url: str
    key: str
    count: int

    def rows(self, blocks: int | None = None) -> Any:
        """Return the rows as a dataset, in so many blocks, or as Ray cuts them."""
        rows = [{"prompt": f"cat {number}", "number": number} for number in range(self.count)]
        return ray.data.from_items(rows, override_num_blocks=blocks)


def run_ours(work: Work, folder: Path) -> None:
    """Make the pictures with `generate_images`."""
    images = generate_images(
        work.rows(),
        actors=ACTORS,
        concurrency=AT_ONCE,
        sink=DirectorySink(folder),
        defaults={"model": MODEL, **PICTURE},
        config=Config(base_url=work.url, rate_limit=KNOWN_PER_MINUTE),
    )
    images.take_all()


def run_rays(work: Work, folder: Path) -> None:
    """Make them with Ray's processor, with as many actors, its own batches of 64 and the dataset as it comes."""
    _run_processor(work, folder, blocks=None)


def run_rays_small(work: Work, folder: Path) -> None:
    """The same with batches of one row, the best of its settings: it asks for the rows of a batch one by one."""
    _run_processor(work, folder, blocks=None, batch_size=1)


def run_rays_cut(work: Work, folder: Path) -> None:
    """The same, and the dataset is cut into a block for each actor, which works on four batches of a block at once."""
    _run_processor(work, folder, blocks=ACTORS, batch_size=1)


def _run_processor(work: Work, folder: Path, *, blocks: int | None, **batches: int) -> None:
    processor = build_processor(
        HttpRequestProcessorConfig(
            url=f"{work.url}/images/generation",
            headers={"Authorization": f"Bearer {work.key}"},
            concurrency=(ACTORS, ACTORS),
            http_request_stage={"num_cpus": FEW_CPUS},  # a whole one each would leave none for the tasks that read
            **batches,
        ),
        preprocess=_payload,
        postprocess=lambda row: _save(row, folder),
    )
    processor(work.rows(blocks)).take_all()


def _payload(row: dict[str, Any]) -> dict[str, Any]:
    return {"payload": {"model_name": MODEL, "prompt": row["prompt"], **PICTURE}}


def _save(row: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Decode a picture and write it, which `generate_images` does by itself."""
    path = folder / f"{row['number']}.png"
    path.write_bytes(base64.b64decode(row["http_response"]["data"][0]["b64_json"]))
    return {"prompt": row["prompt"], "path": str(path)}
