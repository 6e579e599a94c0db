"""A Nebula Block without a socket."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import time
from pathlib import Path

import anyio
import pytest
from PIL import Image as Pillow

from nebula_async import (
    AsyncNebula,
    BadRequestError,
    Charges,
    Config,
    ConfigurationError,
    ContentPolicyError,
    InferenceRequest,
    NebulaError,
    NotSentError,
    OutcomeUnknownError,
    RateLimitError,
    RetryPolicy,
    ServerError,
    UnusableReplyError,
)
from nebula_async.testing import NO_WAIT, FakeFailure, FakeReply, FakeTransport, OpenGate

pytestmark = pytest.mark.anyio

SMALL = {"model": "black-forest-labs/FLUX.1-schnell", "width": 64, "height": 48}
ONCE = RetryPolicy(attempts=1)


def client(fake: FakeTransport, retry: RetryPolicy = NO_WAIT) -> AsyncNebula:
    """Return a client of the real API's addresses whose requests the fake takes."""
    return AsyncNebula("sk-secret-of-mine", config=Config(retry=retry), transport=fake, gate=OpenGate())


def pixel(data: bytes) -> tuple[tuple[int, int], tuple[int, ...]]:
    """Return the size and the colour of a picture that can be decoded."""
    with Pillow.open(io.BytesIO(data)) as picture:
        picture.load()
        return picture.size, picture.getpixel((0, 0))


class TestPictures:
    """Without steps every request is answered with pictures."""

    async def test_of_the_serverless_api(self):
        """They have the size that was asked for, and a colour of their own for each prompt and seed."""
        fake = FakeTransport()
        nebula = client(fake)
        made = [await nebula.generate(prompt, seed=seed, **SMALL) for prompt, seed in [("a", 1), ("a", 2), ("a", 1)]]
        first, second, again = [pixel(cat.image.data) for cat in made]
        assert (64, 48) == first[0] == (made[0].image.width, made[0].image.height)
        assert first == again
        assert first[1] != second[1]
        assert Charges(1, 1) == made[0].charges

    @pytest.mark.parametrize("response_format", ["url", "b64_json"])
    async def test_of_the_inference_api(self, response_format):
        """Several pictures come as such or as URLs, which are fetched from the fake too."""
        fake = FakeTransport()
        request = InferenceRequest("a", model="dall-e-3", size="32x16", n=2, response_format=response_format)
        made = await client(fake).generate(request)
        assert [(32, 16)] * 2 == [pixel(image.data)[0] for image in made.images]
        assert 1 == len(fake.generations)
        assert (3 if response_format == "url" else 1) == len(fake.requests)

    async def test_what_is_free(self):
        """Models and balance are answered as well; what is not known is a 404."""
        nebula = client(FakeTransport())
        assert (100, ()) == (await nebula.credits(), await nebula.models())

    async def test_large_ones_come_in_pieces(self):
        """A reply of megabytes is streamed, and others go on meanwhile."""
        reply = await client(FakeTransport()).generate("a cat", model=SMALL["model"], width=2048, height=2048)
        assert (2048, 2048) == pixel(reply.image.data)[0]

    async def test_many_at_once(self):
        """Any number of requests may be under way; each reply takes as long as it is told to."""
        fake = FakeTransport(seconds=0.3)
        began = time.monotonic()
        results = await client(fake).generate_all(["a cat"] * 16, **SMALL)
        assert [True] * 16 == [result.image.width == 64 for result in results]
        assert 0.3 <= time.monotonic() - began < 16 * 0.3


class TestSteps:
    """Steps say what goes wrong."""

    async def test_one_for_each_request(self):
        """A status, a reply with a code, and pictures, in this order; then all is well."""
        fake = FakeTransport([429, FakeReply.error(429, retry_after=60), "ok"])
        fake.then(FakeReply.error(400, code="content_policy_violation", message="no gore"))
        nebula = client(fake)
        assert 3 == (await nebula.generate("a cat", **SMALL)).attempts
        with pytest.raises(ContentPolicyError, match="no gore"):
            await nebula.generate("a cat", **SMALL)
        await nebula.generate("a cat", **SMALL)
        assert 5 == len(fake.generations)

    @pytest.mark.parametrize(
        ("step", "error", "charges"),
        [
            (FakeFailure("connecting"), NotSentError, Charges(0, 0)),
            (FakeFailure("connecting", TimeoutError()), NotSentError, Charges(0, 0)),
            (FakeFailure("sending"), OutcomeUnknownError, Charges(0, 1)),
            (FakeFailure("waiting"), OutcomeUnknownError, Charges(0, 1)),
            (FakeFailure("reading"), OutcomeUnknownError, Charges(1, 1)),
            (OSError(104, "reset"), OutcomeUnknownError, Charges(0, 1)),
            (500, ServerError, Charges(0, 1)),
            (400, BadRequestError, Charges(0, 0)),
            (429, RateLimitError, Charges(0, 0)),
            (FakeReply(200, "<html>"), UnusableReplyError, Charges(1, 1)),
        ],
        ids=lambda value: getattr(value, "__name__", None),
    )
    async def test_each_is_judged_as_over_a_socket(self, step, error, charges):
        """What may have been paid for follows from how far the request came, as it does in production."""
        with pytest.raises(error) as ended:
            await client(FakeTransport([step]), ONCE).generate("a cat", **SMALL)
        assert charges == ended.value.charges

    async def test_a_failure_raises_what_it_is_given(self):
        """The error of a failure is the cause of the one that is told."""
        mine = ConnectionAbortedError("mine")
        with pytest.raises(NebulaError, match="mine"):
            await client(FakeTransport([FakeFailure("waiting", mine)]), ONCE).generate("a cat", **SMALL)

    async def test_a_callable_decides(self):
        """It is handed the request, and may be a coroutine function."""

        async def later(request):
            await anyio.lowlevel.checkpoint()
            return FakeReply.error(400, code="invalid_prompt", message=f"not {request.prompt}")

        fake = FakeTransport([lambda request: "ok" if request.fields["width"] == 64 else 500, later])
        nebula = client(fake, ONCE)
        await nebula.generate("a cat", **SMALL)
        with pytest.raises(BadRequestError, match="not a dog"):
            await nebula.generate("a dog", **SMALL)

    async def test_a_callable_that_asserts(self):
        """What it raises is not taken for a broken connection, which would be tried again and forgotten."""

        def check(request):
            assert "a dog" == request.prompt

        for step, told in [(check, "raised AssertionError"), (lambda _: "pictures", "cannot answer with 'pictures'")]:
            fake = FakeTransport([step])
            with pytest.raises(ConfigurationError, match=told):
                await client(fake).generate("a cat", **SMALL)
            assert 1 == len(fake.requests)

    async def test_a_callable_that_breaks_off(self):
        """An error of a connection that it raises is one."""

        def reset(_request):
            raise ConnectionResetError(104, "reset")

        with pytest.raises(OutcomeUnknownError):
            await client(FakeTransport([reset]), ONCE).generate("a cat", **SMALL)

    @pytest.mark.parametrize("wrong", [200, "500", 600, None, 4.5, True])
    def test_what_is_no_step_is_refused_at_once(self, wrong):
        """The sentence says what was given and what is allowed."""
        with pytest.raises(ValueError, match=r"a fake transport cannot answer with .*; give a status from 400 to 599"):
            FakeTransport([wrong])
        with pytest.raises(ValueError, match="cannot answer with"):
            FakeTransport().then(wrong)

    def test_one_step_needs_no_list(self):
        """What is no step is refused without a list, too, and so is what is no time."""
        assert [503] == list(FakeTransport(503).steps)
        assert 1 == len(FakeTransport(lambda _request: "ok").steps)
        for wrong in (200, None, object()):
            with pytest.raises(ValueError, match="cannot answer with"):
                FakeTransport(wrong)
        for seconds in (-1, float("nan"), "x"):
            with pytest.raises(ValueError, match="seconds must be a number, 0 or more; got"):
                FakeTransport(seconds=seconds)

    def test_a_phase_that_there_is_not(self):
        """The phases are named."""
        with pytest.raises(
            ValueError, match="the phase is 'thinking'; allowed is connecting, sending, waiting, reading"
        ):
            FakeFailure("thinking")


class TestRecord:
    """What was sent is kept, the key is not."""

    async def test_what_was_sent(self):
        """Method, address, headers and fields of each request can be looked at."""
        fake = FakeTransport()
        await client(fake).generate("a cat", seed=3, **SMALL)
        (seen,) = fake.requests
        assert ("POST", "a cat", 3) == (seen.method, seen.prompt, seen.fields["seed"])
        assert seen.url.endswith("/api/v1/images/generation")
        assert "application/json" == seen.headers["content-type"]
        assert "secret" not in repr(fake.requests) + str(vars_of(seen))

    async def test_a_request_that_is_not_answered_stands_there_too(self):
        """A call that is cancelled has asked."""
        fake = FakeTransport(seconds=30)
        with anyio.move_on_after(0.05) as limit:
            await client(fake).generate("a cat", **SMALL)
        assert limit.cancelled_caught
        assert ["a cat"] == [seen.prompt for seen in fake.generations]


def vars_of(seen: object) -> dict[str, object]:
    """Return all that a request holds."""
    return {name: getattr(seen, name) for name in ("method", "url", "headers", "body")}


def test_with_httpx2_in_place_of_httpx(tmp_path: Path):
    """Where an application has aliased httpx2, the fake is a transport of it."""
    code = """
import httpx2
httpx2.alias_httpx()
import anyio
from nebula_async import AsyncNebula
from nebula_async.testing import FakeFailure, FakeTransport

async def main():
    fake = FakeTransport([FakeFailure("connecting")])
    cat = await AsyncNebula("sk-test", transport=fake).generate("a", model="black-forest-labs/FLUX.1-schnell", width=64)
    print(cat.attempts, cat.charges.at_most, isinstance(fake, httpx2.AsyncBaseTransport))

anyio.run(main)
"""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("NEBULA_")}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=tmp_path,
        env=clean,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ("2 1 True\n", "") == (done.stdout, done.stderr)
