"""Faults that are scripted while the emulator runs."""

from __future__ import annotations

import re
import socket
from urllib.parse import urlsplit

import httpx
import pytest

from nebula_async.emulator import Fault


def statuses(rig, *prompts: str) -> list[int | None]:
    """Ask for these pictures one after the other; return the statuses, None where no reply came."""
    found: list[int | None] = []
    for prompt in prompts:
        try:
            found.append(rig.ask(prompt=prompt).status_code)
        except httpx.TransportError:
            found.append(None)
    return found


def ask_and_leave(rig) -> None:
    """Send a whole request, and do not wait for the answer."""
    url = urlsplit(rig.emulator.base_url)
    body = b'{"model": "black-forest-labs/FLUX.1-schnell", "prompt": "a cat", "width": 16, "height": 16}'
    with socket.create_connection((url.hostname, url.port)) as client:
        client.sendall(
            f"POST {url.path}/images/generation HTTP/1.1\r\nHost: {url.netloc}\r\n"
            f"Authorization: Bearer {rig.emulator.key}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            + body
        )


class TestNext:
    """`script.next` is for the requests that come next."""

    def test_each_request_meets_one(self, rig):
        """Steps are met in their order, one each; then all is well again."""
        rig.emulator.script.next("429 retry_after=2", "ok", "refuse", "503")
        assert [429, 200, None, 503, 200] == statuses(rig, *"abcde")
        assert ["429", None, "refuse", "503", None] == [record.fault for record in rig.emulator.journal.requests]
        assert 2 == rig.emulator.journal.charged

    def test_what_was_sent_before_a_reset_meets_nothing_after_it(self, rig):
        """Who left without an answer takes no step from the next test, and is not in its journal."""
        for _ in range(20):
            ask_and_leave(rig)
            rig.emulator.reset()
            rig.emulator.script.next("429")
            assert [429, 200] == statuses(rig, "a", "b")
            assert 2 == len(rig.emulator.journal.requests)

    def test_what_is_added_comes_after_what_is_there(self, rig):
        """A script is written while it is played."""
        rig.emulator.script.next("500")
        rig.emulator.script.next("502")
        assert [500, 502, 200] == statuses(rig, *"abc")

    def test_the_last_one_repeats(self, rig):
        """With `repeat` the last step goes on until another is given, or all are forgotten."""
        rig.emulator.script.next("429", "500", repeat=True)
        assert [429, 500, 500] == statuses(rig, *"abc")
        rig.emulator.script.next("503")
        assert [503, 200] == statuses(rig, *"de")
        rig.emulator.script.next("500", repeat=True)
        rig.emulator.script.clear()
        assert [200] == statuses(rig, "f")

    def test_words_say_more_of_a_status(self, rig):
        """A status may come with a Retry-After, and billed; a code makes it an error of the inference API."""
        rig.emulator.script.next("429 retry-after=7", "500 billed", "400=content_policy_violation", "delay=0")
        assert "7" == rig.ask().headers["retry-after"]
        assert 500 == rig.ask().status_code
        assert 1 == rig.emulator.journal.charged
        assert "content_policy_violation" == rig.ask().json()["error"]["code"]
        assert 200 == rig.ask().status_code

    def test_a_fault_as_a_value(self, rig):
        """A `Fault` brings a body and headers of its own; when it is its turn is said by the script."""
        rig.emulator.script.next(Fault("418", probability=0.5, body=b"short and stout", headers={"X-Tea": "yes"}))
        reply = rig.ask()
        assert (418, b"short and stout", "yes") == (reply.status_code, reply.content, reply.headers["x-tea"])

    def test_before_the_faults_of_the_start(self, start):
        """What is scripted goes before other faults; `ok` keeps them off."""
        rig = start(faults=["500:1"])
        rig.emulator.script.next("ok", "429")
        assert [200, 429, 500] == statuses(rig, *"abc")

    def test_who_has_no_key_meets_none(self, rig):
        """A request that is refused for its key takes no step."""
        rig.emulator.script.next("503")
        rig.stranger.post(f"{rig.emulator.base_url}/images/generation", content=b"{}")
        assert 1 == rig.emulator.script.waiting
        assert [503] == statuses(rig, "a")


class TestPrompts:
    """`script.for_prompt` is for what is asked for."""

    def test_only_those_requests_meet_them(self, rig):
        """The prompt is compared as a whole; it goes before what is for everyone."""
        rig.emulator.script.next("503")
        rig.emulator.script.for_prompt("a dog", "500", "429")
        assert [500, 503, 429, 200] == statuses(rig, "a dog", "a dog house", "a dog", "a dog")

    def test_a_pattern_finds_them(self, rig):
        """A compiled pattern is looked for in the prompt."""
        rig.emulator.script.for_prompt(re.compile(r"\bdog"), "400", repeat=True)
        assert [400, 200, 400] == statuses(rig, "a dog house", "a cat", "dogs")

    def test_in_the_inference_api(self, rig):
        """Both APIs have the same script."""
        rig.emulator.script.for_prompt("a dog", "429")
        assert [429, 200] == [rig.infer(prompt="a dog").status_code for _ in range(2)]


class TestTelling:
    """A script says what is wrong with it, and what is left of it."""

    @pytest.mark.parametrize(
        "wrong",
        ["", "600", "slow", "429:@1", "drop billed", "429 retry_after=soon", "429 now", "ok billed", "delay=long", 429],
    )
    def test_what_is_no_fault(self, rig, wrong):
        """The sentence shows what was given and what is allowed, and nothing is scripted."""
        with pytest.raises(ValueError, match="cannot be read; allowed is ok, or KIND") as refused:
            rig.emulator.script.next("500", wrong)
        assert repr(wrong) in str(refused.value)
        assert [200] == statuses(rig, "a")

    def test_no_fault_and_no_prompt(self, rig):
        """Nothing at all is refused too, and a prompt that is neither text nor a pattern."""
        with pytest.raises(ValueError, match="no fault is given; allowed is ok, or KIND"):
            rig.emulator.script.next()
        with pytest.raises(ValueError, match=r"the prompt is 3; allowed is text, or a pattern of re\.compile"):
            rig.emulator.script.for_prompt(3, "500")

    def test_what_is_left(self, rig):
        """Steps that nobody met are counted; those that repeat are not, and a reset forgets all."""
        rig.emulator.script.next("500", "429", repeat=True)
        rig.emulator.script.for_prompt("a", "400", "401")
        assert 3 == rig.emulator.script.waiting
        statuses(rig, "a", "b")
        assert 1 == rig.emulator.script.waiting
        rig.emulator.reset()
        assert 0 == rig.emulator.script.waiting
        assert [200] == statuses(rig, "a")
