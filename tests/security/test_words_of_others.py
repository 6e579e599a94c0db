"""What users and servers write is shown as words: no terminal obeys it, no header carries it, no key is made of it."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata

import pytest
from canaries import KEY
from echoing import REPLIES, as_json, echoing

from nebula_async import AsyncNebula, BulkJob, Config, ConfigurationError, InferenceRequest, NebulaError, RetryPolicy

ORDERS = {
    "colour": "\x1b[31mred\x1b[0m",
    "title": "\x1b]0;owned\x07",
    "link": "\x1b]8;;https://evil.example/\x1b\\click\x1b]8;;\x1b\\",
    "clipboard": "\x1b]52;c;b3duZWQ=\x07",
    "screen": "\x1b[2J\x1b[H\x1bc",
    "eight bits": "\x9b31m\x9d0;owned\x9c",
    "line": "one\rtwo\x08\x08\x08\x7f\x0b\x0c\0",
    "turned round": "\u202egnp.exe\u202c\u2066\u2028\u2029",
}
REFUSED = "\r\nX-Injected: 1"


def is_order(char: str) -> bool:
    """Whether a terminal may obey a character, or show what follows in another place."""
    return char != "\n" and unicodedata.category(char) in ("Cc", "Cf", "Zl", "Zp")


@pytest.mark.parametrize("is_json", [False, True])
def test_no_terminal_obeys_a_prompt_or_a_server(tmp_path, command, is_json):
    """Prompts, ids, models and what a server says of a failure reach no terminal as more than letters (S22)."""
    words = "".join(ORDERS.values())
    said = as_json(400, {"error": {"code": "invalid_prompt", "message": words, "param": words, "details": [words]}})
    rows = [{"prompt": f"{text} {name}", "id": f"{name}{text}", "model": f"m{text}"} for name, text in ORDERS.items()]
    (tmp_path / "p.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    options = ["--json"] if is_json else []
    with echoing(lambda _: said) as server:
        ended = [
            command(server, "bulk", "p.jsonl", "--out", "out", "--no-gallery", *options),
            command(server, "report", "out", *options),
            command(server, "plan", "p.jsonl", *options),
            command(server, "generate", f"a {words.replace(chr(0), '')}", "--model", "sdxl", *options),
            command(server, "models", *options),
        ]
    assert [] == [(each.text[:200], char) for each in ended for char in set(each.text) if is_order(char)]
    assert "owned" in "".join(each.text for each in ended), "the words themselves are told"


@pytest.mark.anyio
@pytest.mark.parametrize("where", ["prompt", "model", "id"])
async def test_no_text_of_a_request_becomes_a_header(where):
    """Line breaks in whatever a request holds stay in its JSON: one request is sent, with the headers it always has
    (S26).
    """
    request = InferenceRequest(**{"prompt": "a", "model": "m", where: f"x{REFUSED}"})
    with echoing(REPLIES["nowhere"]) as server:
        config = Config(inference_url=f"http://{server.place}/v1", retry=RetryPolicy(attempts=1), idempotency="unknown")
        async with AsyncNebula(KEY, config=config) as nebula:
            with pytest.raises(NebulaError):
                await nebula.generate(request)
    assert [False] == ["x-injected" in head for head in server.heads]


@pytest.mark.parametrize("name", ["base_url", "inference_url", "proxy"])
def test_no_setting_becomes_a_header(name):
    """A setting with a line break is refused when it is given (S26)."""
    with pytest.raises(ConfigurationError):
        Config(**{name: f"https://api.example/v1{REFUSED}"})


@pytest.mark.anyio
async def test_a_call_key_reveals_nothing(tmp_path, nebula_emulator):
    """The same prompt in two jobs is sent under keys that nothing tells about it, nor about each other (S32)."""
    for name in ("one", "two"):
        (tmp_path / f"{name}.txt").write_text("a cat\n")
        config = nebula_emulator.config(idempotency="unknown")
        async with AsyncNebula(nebula_emulator.key, config=config) as nebula:
            model = {"model": "black-forest-labs/FLUX.1-schnell", "width": 64, "height": 64, "seed": 7}
            async with BulkJob(tmp_path / f"{name}.txt", tmp_path / name, nebula, defaults=model, gallery=False) as job:
                await job.run()
    keys = [record.idempotency_key.strip('"') for record in nebula_emulator.journal.generations]
    digests = {make(b"a cat").hexdigest()[:32] for make in (hashlib.sha256, hashlib.sha1, hashlib.md5)}
    assert (2, set()) == (len(set(keys)), digests & set(keys))
    assert all(re.fullmatch("[0-9a-f]{32}", key) for key in keys)
