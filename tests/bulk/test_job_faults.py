"""What a failing service makes of a job's items: what is sent again, what is given up, and what each may have cost."""

from __future__ import annotations

import json
import stat
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import pytest
from attrs import define, evolve, field
from jobs import CAREFUL, PROMPT, SMALL, asked, pictures, query, run, spooled, write

from nebula_async.bulk.job import BulkJob
from nebula_async.bulk.report import Report
from nebula_async.bulk.storing import Storing
from nebula_async.charges import Charges
from nebula_async.client import AsyncNebula
from nebula_async.config import Config, Timeouts
from nebula_async.events import OutageBegan

pytestmark = pytest.mark.anyio

both = pytest.mark.parametrize("config", [CAREFUL, PROMPT], ids=["never-twice", "once-more"])

PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010100000000376ef9240000000a49444154789c6368000000820081"
    "77cd72b60000000049454e44ae426082"
)
"""The smallest PNG: one pixel."""


def cats(folder: Path, number: int) -> Path:
    """Write a manifest of so many prompts."""
    return write(folder, *(f"cat {each}" for each in range(number)))


def costs(folder: Path, state: str) -> set[tuple[int, int, int]]:
    """Return how often items that stand so were sent, and what the ledger says that each may have cost."""
    return set(query(folder / "out", "SELECT sends, at_least, at_most FROM item WHERE state = ?", state))


# What may have been paid for


@both
@pytest.mark.parametrize("fault", ["500 billed", "504 billed", "drop", "cut"])
async def test_a_prompt_that_always_fails(tmp_path, emulator, config, fault):
    """A prompt that the server cannot answer may be paid for once, or twice where that is allowed; no other one
    suffers, and nothing is taken for an outage (F27, D1).
    """
    told, sends = [], 1 + config.retry.resend_unknown
    emulator.for_prompt("cat 7", fault, repeat=True)
    report = await run(cats(tmp_path, 12), emulator, config=config, observer=told.append)

    at_least = sends if fault == "cut" else 0
    assert (11, 1, 1) == (report.done, report.unknown, report.exit_code)
    assert ({(sends, at_least, sends)}, {(1, 1, 1)}) == (costs(tmp_path, "unknown"), costs(tmp_path, "done"))
    assert (11 + sends, sends) == (emulator.journal.charged, asked(emulator).count("cat 7"))
    assert [] == [event for event in told if isinstance(event, OutageBegan)]


async def test_what_a_server_says_it_failed_at_is_no_duplicate(tmp_path, emulator):
    """However many of a job's requests end in a 500, each is sent once more: they are none of the one in a hundred that
    may be paid for twice; what fails again is listed (F28).
    """
    for number in range(0, 40, 4):
        emulator.for_prompt(f"cat {number}", "500", "500" if number == 20 else "ok")
    report = await run(cats(tmp_path, 40), emulator)

    assert (39, 1, 1, 50) == (report.done, report.unknown, report.exit_code, len(emulator.journal.generations))
    assert Charges(39, 39 + 10 + 1) == report.charges
    listed = (tmp_path / "out/failed.jsonl").read_text().splitlines()
    assert ["cat 20"] == [json.loads(line)["prompt"] for line in listed]


async def breaking_off() -> AsyncIterator[bytes]:
    """Send the beginning of a reply."""
    yield b'{"data": [{"b64_json": "iVBORw0KGgo'
    raise httpx.ReadError("the line is dead")


async def run_against(
    service: Callable[[httpx.Request], httpx.Response], manifest: Path, key: str = "sk-1", **options: bool
) -> Report:
    """Run the job of a manifest against a service in this process."""
    config = Config(base_url="http://localhost", retry=PROMPT.retry, concurrency=16)
    options = {"defaults": SMALL, "durability": "process", "gallery": False, **options}
    async with (
        AsyncNebula(key, config=config, transport=httpx.MockTransport(service)) as nebula,
        BulkJob(manifest, manifest.parent / "out", nebula, **options) as job,
    ):
        return await job.run()


@pytest.mark.parametrize(("items", "again"), [(10, 1), (300, 3)])
async def test_the_budget_for_duplicates_is_used_up(tmp_path, items, again):
    """Where every reply is cut, one picture in a hundred of the job is bought once more, and at least one; all others
    may have been paid for once, are listed, and wait for the user's word (D3).
    """
    sent: list[httpx.Request] = []

    def cut(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return httpx.Response(200, content=breaking_off())

    report = await run_against(cut, cats(tmp_path, items))

    assert (0, items, 1) == (report.done, report.unknown, report.exit_code)
    assert (Charges(items + again, items + again), items + again) == (report.charges, len(sent))
    sends = query(tmp_path / "out", "SELECT sends, count(*) FROM item GROUP BY sends")
    assert {1: items - again, 2: again} == dict(sends)


@both
async def test_a_refusal_after_what_may_be_paid(tmp_path, emulator, config):
    """An item that is refused at its second attempt is refused, and may have been paid for at its first (D11)."""
    emulator.for_prompt("cat 0", "drop", "400")
    report = await run(cats(tmp_path, 1), emulator, config=config)

    state = "rejected" if config.retry.resend_unknown else "unknown"
    assert {(1 + config.retry.resend_unknown, 0, 1)} == costs(tmp_path, state)
    assert (1, Charges(0, 1), 1) == (report.exit_code, report.charges, emulator.journal.charged)


# What was paid for


async def test_what_is_paid_and_unusable_is_not_bought_again(tmp_path, emulator):
    """Of a hundred items none whose reply is of no use is sent again, by this run or the next; what came for them stays
    in the spool, under the numbers that the ledger has for them, until they are sent again on the user's word (D12).
    """
    for number in range(0, 100, 5):
        fault = ("malformed", "malformed=base64", "malformed=html", "malformed=html")[number // 5 % 4]
        emulator.for_prompt(f"cat {number}", fault)
    manifest = cats(tmp_path, 100)
    for _ in range(2):
        report = await run(manifest, emulator, config=evolve(PROMPT, concurrency=8))
        assert (80, 20, 1, Charges(100, 100)) == (report.done, report.bad, report.exit_code, report.charges)
        bad = {str(seq) for (seq,) in query(tmp_path / "out", "SELECT seq FROM item WHERE state = 'bad'")}
        kept = {name.partition(".")[0] for name in spooled(tmp_path / "out")}
        assert (20, bad) == (len(kept), kept)
        pages = [path.read_bytes() for path in (tmp_path / "out/.nebula/spool").glob("*.part")]
        assert (10, {b"<html>"}) == (len(pages), {page[:6] for page in pages})
    assert 100 == len(emulator.journal.generations)
    report = await run(manifest, emulator, retry_failed=True)
    assert (100, 120, []) == (report.done, emulator.journal.charged, spooled(tmp_path / "out"))


KEY = "sk-0123456789abcdef"
ESCAPED = "".join(f"\\u{ord(letter):04X}" for letter in KEY)

OF_NO_USE = {
    "no-picture": (b'{"data": [], "note": "none today"}', b'{"data": [], "note": "none today"}'),
    "a-failure": (b'{"status": "failed", "message": "why?"}', b'{"status": "failed", "message": "why?"}'),
    "a-page": (b"<html><p>hello</p></html>", b"<html><p>hello</p></html>"),
    "much": (b"<p>" + bytes(100_000), b"<p>" + bytes(2**16 - 3)),
    "a-key": (f'{{"you": "{KEY}", "sent": "{ESCAPED}"}}'.encode(), b'{"you": "***", "sent": "***"}'),
    "a-key-that-is-cut": (b"\0" * (2**16 - 9) + KEY.encode(), b"\0" * (2**16 - 9) + b"***"),
    "damaged": (
        json.dumps({"data": [{"b64_json": b64encode(b"no picture").decode()}]}).encode(),
        b'{"data": [{"b64_json": "picture 0"}]}',
    ),
    "nothing": (b"", None),
}  # fmt: skip
"""What a service says with a 200, and what is kept of it."""


@pytest.mark.parametrize(("said", "kept"), OF_NO_USE.values(), ids=OF_NO_USE)
async def test_what_an_unusable_reply_said_is_kept(tmp_path, caplog, said, kept):
    """Beside a picture that is none the job's spool keeps what its reply said, 64 KiB at most, without the key, for its
    owner alone; once the item was bought anew it is gone. It is told nowhere else (D12).
    """
    caplog.set_level("DEBUG")
    replies = iter([httpx.Response(200, content=said)])
    good = {"data": [{"b64_json": b64encode(PNG).decode()}]}

    def answer(_request: httpx.Request) -> httpx.Response:
        return next(replies, None) or httpx.Response(200, json=good)

    manifest = cats(tmp_path, 1)
    report = await run_against(answer, manifest, key=KEY)
    found = list((tmp_path / "out/.nebula/spool").glob("*.said"))
    assert (1, [] if kept is None else [kept]) == (report.bad, [path.read_bytes() for path in found])
    assert {0o600} >= {stat.S_IMODE(path.stat().st_mode) for path in found}
    told = [path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file() and path not in found]
    assert not [text for text in (*told, caplog.text.encode()) if KEY.encode() in text]
    report = await run_against(answer, manifest, key=KEY, retry_failed=True)
    assert (1, []) == (report.done, spooled(tmp_path / "out"))


@define
class AtUrls:
    """An API whose pictures are at URLs, and their storage, which may be down; `asked` are the prompts that came."""

    is_down: bool = True
    asked: list[str] = field(factory=list)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        """Answer a request."""
        if request.method == "GET":
            away = httpx.Response(503, headers={"Retry-After": "1800"})
            return away if self.is_down else httpx.Response(200, content=PNG)
        self.asked.append(json.loads(request.content)["prompt"])
        return httpx.Response(200, json={"data": [{"url": f"https://pictures.example/{len(self.asked)}.png"}]})


@pytest.mark.parametrize("hours", [0, 24, -24])
async def test_a_storage_that_is_down_loses_nothing(tmp_path, monkeypatch, hours):
    """While the storage is away for half an hour a job keeps the URLs of what it paid for; once it is back, the same
    command fetches them, also where the clock was set in between, and pays for none of them again (F38, F47).
    """
    service, manifest = AtUrls(), cats(tmp_path, 6)
    report = await run_against(service, manifest)
    assert (0, 6, Charges(6, 6)) == (report.done, report.unfetched, report.charges)
    assert 0 != report.exit_code
    service.is_down = False
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 3_600 * hours)
    report = await run_against(service, manifest)
    assert (6, 0, Charges(6, 6)) == (report.done, report.exit_code, report.charges)
    assert [f"cat {number}" for number in range(6)] == sorted(service.asked)
    assert (6, []) == (len(pictures(tmp_path / "out")), spooled(tmp_path / "out"))


# What the program does to itself


async def test_an_exception_that_nobody_expected(tmp_path, emulator, monkeypatch):
    """A mistake in this library ends the run with that exception; what was paid for by then is stored by the next run,
    and nothing is bought twice (F45).
    """
    real, placed = Storing.place, []

    def place(*arguments: object) -> object:
        placed.append(arguments)
        if len(placed) == 3:
            raise ZeroDivisionError("nobody expected this")
        return real(*arguments)

    manifest = cats(tmp_path, 12)
    with monkeypatch.context() as patch:
        patch.setattr(Storing, "place", place)
        with pytest.raises(ZeroDivisionError, match="nobody expected this"):
            await run(manifest, emulator)
    assert 3 <= emulator.journal.charged <= 3 + PROMPT.concurrency
    report = await run(manifest, emulator)

    assert (12, 0, Charges(12, 12), 12) == (
        report.done, report.exit_code, report.charges, emulator.journal.charged,
    )  # fmt: skip
    assert (12, []) == (len(pictures(tmp_path / "out")), spooled(tmp_path / "out"))


async def test_a_loop_that_is_blocked(tmp_path, emulator):
    """That the program blocked its own event loop for longer than a read may take is no fault of the server, and does
    the ledger no harm (F46).
    """
    emulator.next("delay=0.1", repeat=True)
    blocked: list[object] = []

    def block(result: object) -> None:
        if not blocked:
            time.sleep(1.1)
        blocked.append(result)

    config = evolve(PROMPT, timeouts=Timeouts(read=0.8, write=0.8, connect=0.8))
    report = await run(cats(tmp_path, 6), emulator, config=config, on_result=block)

    assert (6, 0, Charges(6, 6), 6) == (report.done, report.exit_code, report.charges, len(emulator.journal.requests))
