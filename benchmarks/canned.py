"""A service that costs nearly nothing: an httpx transport that answers every request at once with the same picture."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pybase64
from noise_png import noise_png

PICTURE_BYTES = 400
MODEL = "black-forest-labs/FLUX.1-schnell"
PER_MINUTE = 1_000_000
"""Known and higher than anything reached, so that pacing stays out of it."""

REPLY = json.dumps(
    {"data": [{"b64_json": pybase64.b64encode_as_string(noise_png(PICTURE_BYTES)), "index": 0}], "message": "success"}
).encode()


class CannedTransport(httpx.AsyncBaseTransport):
    """Answers at once, without a socket."""

    async def handle_async_request(self, _request: httpx.Request) -> httpx.Response:
        """Answer one request."""
        return httpx.Response(200, content=REPLY, headers={"X-Request-Id": "canned"})


def prompts(items: int) -> Iterator[str]:
    """Yield prompts, all different."""
    return (f"a flying cat, number {number}" for number in range(items))


def write_prompts(folder: Path, items: int) -> Path:
    """Write a manifest of so many prompts into a new folder, and return it."""
    folder.mkdir(parents=True)
    path = folder / "prompts.txt"
    with path.open("w") as file:
        file.writelines(f"{prompt}\n" for prompt in prompts(items))
    return path
