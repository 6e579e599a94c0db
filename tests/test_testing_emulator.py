"""The emulator as a test of one's own sees it."""

from __future__ import annotations

import math
import time

import anyio
import pytest

from nebula_async import BulkJob, DownloadError, InferenceRequest, RateLimitError, RetryPolicy
from nebula_async.emulator import Emulator
from nebula_async.testing import NO_WAIT, NebulaEmulator, OpenGate

pytestmark = pytest.mark.anyio

SMALL = {"model": "black-forest-labs/FLUX.1-schnell", "width": 64, "height": 64}


def story_of(failed: pytest.ExceptionInfo[AssertionError]) -> list[str]:
    """Return the lines of a failed assertion."""
    return str(failed.value).splitlines()


class TestWaits:
    """Its clients wait for nothing."""

    @pytest.mark.parametrize("fault", ["429 retry_after=30", "503 retry_after=30", "500 retry_after=30", "500", "429"])
    async def test_a_delay_that_is_asked_for_takes_no_time(self, nebula, nebula_emulator, fault):
        """What the API asks to wait is passed over; the picture comes with the next attempt."""
        nebula_emulator.next(fault)
        began = time.monotonic()
        cat = await nebula.generate("a cat", **SMALL)
        assert time.monotonic() - began < 5
        assert 2 == cat.attempts
        nebula_emulator.assert_asked(2)
        nebula_emulator.assert_charged(1)

    @pytest.mark.nebula(per_minute=6, burst=2, retry_after="seconds")
    async def test_a_limit_is_kept_by_moving_the_clock(self, nebula, nebula_emulator):
        """Pictures beyond the limit come at once as well: the emulator's minutes pass instead of ours."""
        results = await nebula.generate_all(["a cat"] * 12, **SMALL)
        assert 12 == len([result.image for result in results])
        assert nebula_emulator.clock.ahead_seconds >= 90
        nebula_emulator.assert_charged(12)

    @pytest.mark.nebula(per_day=2, retry_after="seconds")
    async def test_a_day_that_is_over_is_over(self, nebula, nebula_emulator):
        """The daily quota ends calls as it does in production."""
        if time.time() % 86_400 > 82_000:
            pytest.skip("the day ends within the hour: that is no daily quota to a client")
        await nebula.generate_all(["a cat", "a dog"], **SMALL)
        for _ in range(2):
            with pytest.raises(RateLimitError, match="daily quota"):
                await nebula.generate("a fish", **SMALL)
        nebula_emulator.assert_charged(2)
        nebula_emulator.assert_asked(3)

    async def test_urls_expire_when_the_clock_is_moved(self, nebula, nebula_emulator):
        """An hour later the URL of a picture is gone."""
        request = InferenceRequest("a cat", model="dall-e-3", size="256x256")
        there = await nebula.generate(request, download=False)
        assert (await nebula.download(there.image)).width == 256
        for wrong in (float("nan"), float("inf"), -5, "3600", True, None):
            with pytest.raises(ValueError, match="seconds must be a number, 0 or more; got"):
                nebula_emulator.pass_time(wrong)
        nebula_emulator.pass_time(3601)
        with pytest.raises(DownloadError):
            await nebula.download(there.image)

    async def test_the_open_gate_alone(self, nebula_emulator):
        """With `NO_WAIT` and an `OpenGate` any client comes again at once."""
        told: list[float] = []
        gate = OpenGate(4, told.append)
        assert (4, None, 0) == (gate.limits.concurrency, gate.limits.per_minute, gate.limits.in_flight)
        async with nebula_emulator.client(retry=NO_WAIT, gate=gate) as nebula:
            nebula_emulator.next("429 retry_after=30", "429")
            await nebula.generate("a cat", **SMALL)
        assert [30, 1] == [round(seconds) for seconds in told]
        await gate.learn(1.0)
        assert math.isclose(0, gate.limits.held_seconds)

    @pytest.mark.nebula(waits=True)
    async def test_with_waits_all_is_as_in_production(self, nebula, nebula_emulator):
        """`waits=True` leaves the client its usual policy, and its waits."""
        assert RetryPolicy() == nebula.config.retry
        nebula_emulator.next("429 retry_after=0.2")
        began = time.monotonic()
        await nebula.generate("a cat", **SMALL)
        assert time.monotonic() - began >= 0.2


class TestClients:
    """Clients of it are made with any setting."""

    async def test_settings_are_changed_by_name(self, nebula_emulator):
        """Any field of `Config` can be given; what is no field is refused."""
        nebula = nebula_emulator.client(concurrency=3, timeouts=20.0)
        assert (3, 20.0) == (nebula.limits.concurrency, nebula.config.timeouts.total)
        with pytest.raises(TypeError, match="colour"):
            nebula_emulator.config(colour="red")

    async def test_a_sibling_waits_as_little(self, nebula, nebula_emulator):
        """`with_options` leaves it a client of a test."""
        nebula_emulator.next("500 retry_after=30")
        began = time.monotonic()
        await nebula.with_options(choose_seed=False).generate("a cat", **SMALL)
        assert time.monotonic() - began < 5

    async def test_no_connection_is_left(self, nebula, nebula_emulator):
        """Each connection is closed after its reply, and none is used again."""
        for _ in range(3):
            await nebula.generate("a cat", **SMALL)
        assert 3 == len({record.connection for record in nebula_emulator.journal.requests})

    async def test_a_cancelled_call_leaves_none(self, nebula, nebula_emulator):
        """A call that is given up closes its connection, and the client goes on."""
        nebula_emulator.next("delay=30")
        with anyio.move_on_after(0.2) as limit:
            await nebula.generate("a cat", **SMALL)
        assert limit.cancelled_caught
        await nebula.generate("a dog", **SMALL)
        nebula_emulator.assert_asked(2)

    async def test_a_job_goes_there(self, nebula, nebula_emulator, tmp_path):
        """A bulk job takes the client, and pays once for each item, whatever their prompts are."""
        (tmp_path / "cats.txt").write_text("a cat\na cat\na dog\n")
        async with BulkJob(tmp_path / "cats.txt", out=tmp_path / "out", nebula=nebula, defaults=SMALL) as job:
            report = await job.run()
        assert 3 == report.done
        nebula_emulator.assert_charged(3)
        nebula_emulator.assert_never_paid_twice()

    def test_it_shows_where_it_is_and_no_key(self, nebula_emulator):
        """Its repr is short."""
        assert f"NebulaEmulator({nebula_emulator.base_url!r}, 0 requests for pictures)" == repr(nebula_emulator)

    async def test_without_pytest(self):
        """Any running emulator can be looked at in this way."""
        with Emulator() as emulator:
            wrapped = NebulaEmulator(emulator)
            await wrapped.client().generate("a cat", **SMALL)
            wrapped.assert_charged(1)


class TestAssertions:
    """What has to be true is asked in a word, and what was is told."""

    async def test_what_was_charged(self, nebula, nebula_emulator):
        """The bill and the requests are counted apart: a refused request costs nothing, a lost picture does."""
        nebula_emulator.assert_nothing_asked()
        nebula_emulator.assert_charged(0)
        nebula_emulator.next("429", "drop")
        await nebula.generate("a cat", **SMALL)
        nebula_emulator.assert_asked(3)
        nebula_emulator.assert_charged(2)
        with pytest.raises(AssertionError) as failed:
            nebula_emulator.assert_charged(1)
        first, *lines = story_of(failed)
        assert "2 pictures were charged, 1 expected; the emulator's journal:" == first
        assert ["HTTP 429, not charged", "no reply, charged 1", "HTTP 200, charged 1"] == [
            ", ".join(line.split(", ")[1:3]) for line in lines
        ]
        assert all("'a cat', seed" in line or "HTTP 429" in line for line in lines)

    async def test_nothing_asked(self, nebula, nebula_emulator):
        """What is free may be asked for; one request for a picture is told."""
        await nebula.credits()
        nebula_emulator.assert_nothing_asked()
        await nebula.generate("a cat", **SMALL)
        with pytest.raises(AssertionError, match="1 request for a picture was seen, 0 expected"):
            nebula_emulator.assert_nothing_asked()

    def test_where_there_is_nothing_to_tell(self, nebula_emulator):
        """An empty journal is told as such."""
        with pytest.raises(AssertionError, match="0 pictures were charged, 1 expected") as failed:
            nebula_emulator.assert_charged(1)
        assert "  no request for pictures" == story_of(failed)[-1]

    async def test_a_long_story_is_cut(self, nebula, nebula_emulator):
        """Of hundreds of requests a few are told, the charged ones first; a long prompt is cut as well."""
        nebula_emulator.next(*["429"] * 40, "ok")
        await nebula.generate_all(["a cat" * 100] * 30, **SMALL)
        with pytest.raises(AssertionError) as failed:
            nebula_emulator.assert_charged(0)
        lines = story_of(failed)
        assert 27 == len(lines)
        assert "  … and 45 more requests" == lines[-1]
        assert all("charged 1" in line and len(line) < 250 for line in lines[1:-1])

    async def test_a_scripted_fault_that_nobody_met(self, nebula, nebula_emulator):
        """A test that did not come to its fault can notice."""
        nebula_emulator.next("429", "500")
        await nebula.generate("a cat", **SMALL)
        nebula_emulator.assert_faults_met()
        nebula_emulator.for_prompt("a dog", "500")
        with pytest.raises(AssertionError, match="1 scripted fault was not met by any request"):
            nebula_emulator.assert_faults_met()
        nebula_emulator.no_faults()
        nebula_emulator.assert_faults_met()


class TestPaidTwice:
    """`assert_never_paid_twice` knows which requests belong to one call."""

    async def test_calls_for_the_same_picture_are_told_apart_by_their_key(self, nebula, nebula_emulator):
        """Three calls for one prompt and seed are three calls."""
        await nebula.generate_all(["a cat"] * 3, seed=7, **SMALL)
        nebula_emulator.assert_charged(3)
        nebula_emulator.assert_never_paid_twice()

    async def test_one_call_that_was_charged_for_twice(self, nebula, nebula_emulator):
        """A picture that was made, lost and made again is told with both of its requests, and others are not."""
        nebula_emulator.for_prompt("a cat", "500 billed")
        await nebula.generate("a dog", **SMALL)
        await nebula.generate("a cat", **SMALL)
        with pytest.raises(AssertionError) as failed:
            nebula_emulator.assert_never_paid_twice()
        first, *lines = story_of(failed)
        assert "1 call was paid for more than once; the emulator's journal:" == first
        assert ["  call 1: #2", "  call 1: #3"] == [line.partition(",")[0] for line in lines]

    async def test_never_where_what_is_unknown_is_not_sent_again(self, nebula_emulator):
        """With `resend_unknown=0` nothing is paid for twice, whatever happens; a refused request may be repeated."""
        nebula = nebula_emulator.client(retry=RetryPolicy(backoff=0, resend_unknown=0))
        nebula_emulator.next("429", "drop", "503 retry_after=1", "cut", "500 billed")
        await nebula.generate_all([f"cat {number}" for number in range(6)], **SMALL)
        nebula_emulator.assert_never_paid_twice()

    async def test_without_keys_the_seed_tells(self, nebula_emulator):
        """Where no keys are sent, requests with the same fields belong together: calls have seeds of their own."""
        nebula = nebula_emulator.client(idempotency="off")
        await nebula.generate_all(["a cat"] * 3, **SMALL)
        nebula_emulator.assert_never_paid_twice()
        nebula_emulator.next("cut")
        await nebula.generate("a cat", **SMALL)
        with pytest.raises(AssertionError, match="no key"):
            nebula_emulator.assert_never_paid_twice()

    async def test_without_keys_and_seeds_it_has_to_be_said(self, nebula_emulator):
        """Without either, `repeats` says how often a prompt was asked for on purpose."""
        nebula = nebula_emulator.client(idempotency="off")
        await nebula.generate_all([InferenceRequest("a cat", model="dall-e-3", size="64x64")] * 2)
        with pytest.raises(AssertionError, match="1 call was paid for more than once"):
            nebula_emulator.assert_never_paid_twice()
        nebula_emulator.assert_never_paid_twice(repeats={"a cat": 2})
