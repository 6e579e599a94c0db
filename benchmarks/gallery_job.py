"""A job of many different pictures, bought from a service that draws each anew, with its gallery and all thumbnails."""

from __future__ import annotations

import base64
import io
import itertools
import json
import random
import subprocess
import sys
from pathlib import Path

import anyio
import httpx
from canned import MODEL, PER_MINUTE
from PIL import Image, ImageDraw

from nebula_async import AsyncNebula, BulkJob, JobError

SIDE, QUALITY = 512, 85
NOISE, SHAPES = 12, 6
REFUSED_EVERY = 50
COMMAND = Path(sys.executable).with_name("nebula-async")

SUBJECTS = (
    *("a lighthouse on a cliff", "a red fox", "a glass city", "an old fishing boat", "a bowl of ripe peaches"),
    *("a desert road", "a quiet library", "a paper crane", "a mountain lake", "a street market", "a copper kettle"),
    *("an astronaut in a garden", "two chess players", "a steam locomotive", "a greenhouse full of ferns"),
)
PLACES = (
    *("in the snow", "at dawn", "after the rain", "under a thunderous sky", "seen from far above", "by candlelight"),
    *("in thick fog", "in a crowded square", "at the edge of a forest", "beside a frozen river"),
)
STYLES = (
    *("oil painting, thick strokes, visible canvas", "studio photograph, softbox, 85 mm, f/1.8, shallow focus"),
    *("watercolour on rough paper, loose edges", "isometric clay render, pastel colours, ambient occlusion"),
    *("35 mm film, grain, slight halation, muted colours", "ink drawing, fine lines, cross-hatching"),
    "flat vector poster, three colours, bold shapes",
)
REFUSAL = {"error": {"message": "The prompt was refused by our content policy.", "code": "content_policy_violation"}}


class DrawingTransport(httpx.AsyncBaseTransport):
    """Answers each request with a picture of its own, and refuses one in fifty."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)

    async def handle_async_request(self, _request: httpx.Request) -> httpx.Response:
        """Answer one request."""
        number = next(self._numbers)
        if number % REFUSED_EVERY == 0:
            return httpx.Response(400, json=REFUSAL)
        data = {"b64_json": base64.b64encode(draw(number)).decode(), "index": 0}
        return httpx.Response(200, json={"data": [data], "message": "success"}, headers={"X-Request-Id": f"{number:x}"})


def draw(number: int) -> bytes:
    """Return a JPEG that no other number has: clouds of colour, and shapes."""
    chance = random.Random(number)  # noqa: S311 - a picture, no secret
    noise = Image.frombytes("RGB", (NOISE, NOISE), chance.randbytes(3 * NOISE * NOISE))
    picture = noise.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    pencil = ImageDraw.Draw(picture)
    for _ in range(SHAPES):
        x, y, size = (chance.randrange(SIDE) for _ in range(3))
        pencil.ellipse((x - size / 4, y - size / 4, x + size / 4, y + size / 4), fill=tuple(chance.randbytes(3)))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=QUALITY)
    return file.getvalue()


def make_job(folder: Path, items: int) -> Path:
    """Run a job of so many items in a new folder, and write its gallery; return the page."""
    manifest, out = folder / "prompts.jsonl", folder / "out"
    folder.mkdir(parents=True)
    manifest.write_text("".join(f"{json.dumps(line)}\n" for line in lines(items)))
    anyio.run(buy, manifest, out)
    subprocess.run([COMMAND, "gallery", out], check=True, stdout=subprocess.DEVNULL)
    return out / "gallery" / "index.html"


def lines(items: int) -> list[dict[str, object]]:
    """Return prompts as people write them, each with what else is asked for."""
    chance = random.Random(items)  # noqa: S311 - a prompt, no secret
    return [
        {
            "id": f"catalogue-{number:06}",
            "prompt": f"{chance.choice(SUBJECTS)} {chance.choice(PLACES)}, {chance.choice(STYLES)}, no. {number}",
            "seed": chance.randrange(2**32),
            "width": SIDE,
            "height": SIDE,
            "num_steps": chance.choice([4, 8]),
        }
        for number in range(items)
    ]


async def buy(manifest: Path, out: Path) -> None:
    """Run the job. Raises `JobError` where it did not end by itself."""
    async with (
        AsyncNebula("sk-gallery", transport=DrawingTransport(), rate_limit=PER_MINUTE) as nebula,
        BulkJob(
            manifest, out, nebula, defaults={"model": MODEL}, concurrency=4, durability="process", gallery=False
        ) as job,
    ):
        report = await job.run()
    if report.waiting or report.stopped_by:
        raise JobError(f"the job did not end: {report}")
