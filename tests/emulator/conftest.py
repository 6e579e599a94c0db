"""An emulator with any options, and plain HTTP clients: one that holds its key, and one that holds none."""

import base64
import io
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import attrs
import httpx
import pytest
from PIL import Image

from nebula_async.emulator import Emulator

SCHNELL = "black-forest-labs/FLUX.1-schnell"


class Clock:
    """A clock that moves when it is told to."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        """Tell the time, in seconds since the epoch."""
        return self.now


@attrs.frozen
class Rig:
    """An emulator, a client that talks to it, and a stranger without a key."""

    emulator: Emulator
    http: httpx.Client
    stranger: httpx.Client

    def ask(self, **fields: object) -> httpx.Response:
        """Ask for a picture: a small one of schnell, unless told otherwise; None leaves a field out."""
        given = {"model": SCHNELL, "prompt": "a flying cat", "width": 16, "height": 16} | fields
        body = json.dumps({name: value for name, value in given.items() if value is not None})
        return self.http.post("/images/generation", content=body)

    def file(self, **fields: object) -> bytes:
        """Ask for a picture and return the bytes of its file."""
        reply = self.ask(**fields)
        assert 200 == reply.status_code, reply.text
        return base64.b64decode(reply.json()["data"][0]["b64_json"])

    def infer(self, **fields: object) -> httpx.Response:
        """Ask dialect B for a picture: a small one of dall-e-3, unless told otherwise; None leaves a field out."""
        given = {"model": "dall-e-3", "prompt": "a flying cat", "size": "16x16"} | fields
        return self.post(json.dumps({name: value for name, value in given.items() if value is not None}))

    def post(self, body: bytes | str, **options: object) -> httpx.Response:
        """Send dialect B these bytes."""
        return self.http.post(f"{self.emulator.inference_url}/images/generate", content=body, **options)

    def urls(self, **fields: object) -> list[str]:
        """Ask dialect B for pictures and return their URLs."""
        reply = self.infer(**fields)
        assert 200 == reply.status_code, reply.text
        return [image["url"] for image in reply.json()["data"]["images"]]

    def inferred(self, **fields: object) -> bytes:
        """Ask dialect B for a picture in base64 and return the bytes of its file."""
        reply = self.infer(response_format="b64_json", **fields)
        assert 200 == reply.status_code, reply.text
        return base64.b64decode(reply.json()["data"]["images"][0]["b64_json"])

    def picture(self, **fields: object) -> Image.Image:
        """Ask for a picture and decode it."""
        with Image.open(io.BytesIO(self.file(**fields))) as picture:
            picture.load()
            return picture


@pytest.fixture(scope="session")
def stranger() -> Iterator[httpx.Client]:
    """Talk to any emulator without a key."""
    with httpx.Client(trust_env=False, timeout=20) as client:
        yield client


@pytest.fixture
def start(stranger: httpx.Client) -> Iterator[Callable[..., Rig]]:
    """Start an emulator with these options; it stops when the test ends."""
    with ExitStack() as stack:

        def _start(**options: object) -> Rig:
            emulator = stack.enter_context(Emulator(**options))
            key = {"Authorization": f"Bearer {emulator.key}"}
            client = httpx.Client(base_url=emulator.base_url, headers=key, trust_env=False, timeout=20)
            return Rig(emulator, stack.enter_context(client), stranger)

        yield _start


@pytest.fixture
def rig(start: Callable[..., Rig]) -> Rig:
    """Start an emulator without options."""
    return start()


@pytest.fixture
def clock() -> Clock:
    """Stop the time at noon UTC of a day."""
    return Clock(20_000 * 86_400 + 43_200)


@pytest.fixture
def encode() -> Callable[[Image.Image], str]:
    """Encode a picture as the API takes it."""

    def _encode(picture: Image.Image) -> str:
        file = io.BytesIO()
        picture.save(file, "png")
        return base64.b64encode(file.getvalue()).decode()

    return _encode
