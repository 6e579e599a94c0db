"""One request for pictures, from its key to its reply: checks, work, charge, and what goes wrong on purpose."""

import asyncio
import functools
import random
import time
from decimal import Decimal

import attrs
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from nebula_async.emulator.account import Account
from nebula_async.emulator.catalogue import MODELS, Model
from nebula_async.emulator.connections import BrokenOff, CutShort
from nebula_async.emulator.faults import Fault, Plan, plan_faults
from nebula_async.emulator.journal import NOTHING, Entry
from nebula_async.emulator.pictures import decode_sources, render
from nebula_async.emulator.refusals import Refusal
from nebula_async.emulator.replies import malformed_reply, pictures_reply, refusal_reply, status_reply
from nebula_async.emulator.settings import Settings
from nebula_async.emulator.submission import Submission, read_submission
from nebula_async.emulator.validation import GenerationRequest, build_request, named_model

CONCURRENT_RENDERS = 4
EMPTY_PROMPT_SECONDS = (0.8, 1.0)


class Closing(Exception):  # noqa: N818 - an event, as in asyncio: the emulator stops, so this call ends here
    """The emulator is being stopped."""


@attrs.define(eq=False)
class Generations:
    """Serves `POST /api/v1/images/generation` as long as its event loop lives."""

    settings: Settings
    account: Account
    closing: asyncio.Event
    _renders: asyncio.Semaphore = attrs.field(factory=lambda: asyncio.Semaphore(CONCURRENT_RENDERS), init=False)

    async def serve(self, request: Request) -> Response:
        """Answer one request; whatever is charged stands in the journal before the first byte of the reply."""
        try:
            return await self._serve(request, request.state.entry)
        except (ClientDisconnect, Closing):
            return BrokenOff()

    async def _serve(self, request: Request, entry: Entry) -> Response:
        submission = await read_submission(request)
        entry.note(**submission.facts)
        # All that is random about a request follows from its number, so that concurrency changes nothing.
        source = random.Random(f"{self.settings.seed}/{entry.generation}")
        plan = Plan()
        try:
            self.account.check_key(request.headers.get("authorization"))
            plan = plan_faults(self.settings.faults, entry.generation, source)
            reply = await self._answer(submission, plan, entry, source)
        except Refusal as refusal:
            reply = refusal_reply(refusal, self.settings.error_body)
        if plan.delay_seconds and entry.record.fault is None:
            entry.note(fault="delay")
        await self._pause(plan.delay_seconds)
        return reply

    async def _answer(self, submission: Submission, plan: Plan, entry: Entry, source: random.Random) -> Response:
        fault = plan.fault
        if fault is not None and not fault.does_work:
            entry.note(fault=plan.name)
            return BrokenOff() if fault.kind == "refuse" else status_reply(fault, self.settings.error_body)
        self.account.admit()
        self.account.check_credit(_price_asked(submission))
        submission.check()
        request = await _build(submission, source)
        reply = await self._make(request, entry, source)
        if fault is None:
            return reply
        entry.note(fault=plan.name)
        return self._spoil(reply, fault, request.model)

    async def _make(self, request: GenerationRequest, entry: Entry, source: random.Random) -> Response:
        entry.note(seed=request.seed, model=request.model.id, width=request.width, height=request.height)
        if not request.prompt and not request.model.answers_empty_prompt:
            await self._pause(source.uniform(*EMPTY_PROMPT_SECONDS) * self.settings.latency)
            raise Refusal(500, "Internal server error")
        started = time.monotonic()
        seconds = request.model.draw_seconds(source)
        reply = await self._render(request, seconds)
        await self._pause(seconds * self.settings.latency - (time.monotonic() - started))
        cost = request.model.price * request.num_images
        self.account.pay(cost)
        entry.charge(request.num_images, cost)
        return reply

    async def _render(self, request: GenerationRequest, seconds: float) -> Response:
        async with self._renders:
            if self.closing.is_set():
                raise Closing
            render = functools.partial(_render_reply, request, self.settings.image_format, seconds)
            return render() if request.is_tiny else await asyncio.to_thread(render)

    def _spoil(self, reply: Response, fault: Fault, model: Model) -> Response:
        match fault.kind:
            case "drop":
                return BrokenOff()
            case "cut":
                return CutShort(reply)
            case "malformed":
                return malformed_reply(fault, model.id)
        return status_reply(fault, self.settings.error_body)

    async def _pause(self, seconds: float) -> None:
        if seconds <= 0:
            return
        try:
            await asyncio.wait_for(self.closing.wait(), seconds)
        except TimeoutError:
            return
        raise Closing


def _price_asked(submission: Submission) -> Decimal:
    model = MODELS.get(named_model(submission.fields) or "")
    if model is None:
        return NOTHING
    # Credit is checked before the fields are, so the count may still be anything.
    count = submission.fields.get("num_images")
    return model.price * count if isinstance(count, int) and model.honours("num_images") else model.price


async def _build(submission: Submission, source: random.Random) -> GenerationRequest:
    drawn_seed = source.getrandbits(32)
    if "image" not in submission.fields:
        return build_request(submission.fields, drawn_seed)
    # The seed may follow from all parameters, and a picture takes long to hash.
    return await asyncio.to_thread(build_request, submission.fields, drawn_seed)


def _render_reply(request: GenerationRequest, image_format: str, seconds: float) -> Response:
    sources = decode_sources(request)
    pictures = [render(request, sources, image_format, index) for index in range(request.num_images)]
    return pictures_reply(request.model.id, pictures, seconds)
