"""One request for pictures, from its key to its reply: checks, work, charge, and what goes wrong on purpose."""

import asyncio
import base64
import functools
import random
import time

import attrs
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from nebula_async.emulator.connections import BrokenOff, CutShort
from nebula_async.emulator.dialects import Dialect
from nebula_async.emulator.easel import Closing, Easel
from nebula_async.emulator.faults import Fault, Plan, plan_faults
from nebula_async.emulator.journal import Entry
from nebula_async.emulator.pictures import decode_sources, render
from nebula_async.emulator.refusals import Refusal
from nebula_async.emulator.replies import MALFORMED_PAYLOADS, fault_reply, unreadable_reply
from nebula_async.emulator.request import GenerationRequest
from nebula_async.emulator.service import Service
from nebula_async.emulator.storage import STORAGE_PATH, Shelf, StoredPicture, picture_name
from nebula_async.emulator.submission import Submission, read_submission

EMPTY_PROMPT_SECONDS = (0.8, 1.0)


@attrs.frozen
class Call:
    """One request on its way: what was sent, where it is written down, and what chance has in store for it."""

    submission: Submission
    entry: Entry
    shelf: Shelf
    source: random.Random


@attrs.define(eq=False)
class Generations:
    """Serves one dialect of the API; `storage_url` is where its pictures can be fetched."""

    service: Service
    dialect: Dialect
    easel: Easel
    storage_url: str

    async def serve(self, request: Request) -> Response:
        """Answer one request; whatever is charged stands in the journal before the first byte of the reply."""
        try:
            return await self._serve(request, request.state.entry)
        except (ClientDisconnect, Closing):
            return BrokenOff()

    async def _serve(self, request: Request, entry: Entry) -> Response:
        submission = await read_submission(request, self.dialect.facts)
        entry.note(**submission.facts)
        # All that is random about a request follows from its number, so that concurrency changes nothing.
        source = random.Random(f"{self.service.settings.seed}/{entry.generation}")
        plan = Plan()
        try:
            self.dialect.check_key(self.service.account, request.headers.get("authorization"))
            drawn = plan_faults(self.service.settings.faults, entry.generation, source)  # also where it is not needed
            plan = self.service.script.take(entry.record.prompt) or drawn
            reply = await self._answer(Call(submission, entry, request.state.shelf, source), plan)
        except Refusal as refusal:
            reply = self.dialect.refusal(refusal)
        if plan.delay_seconds and entry.record.fault is None:
            entry.note(fault="delay")
        await self.easel.pause(plan.delay_seconds)
        return reply

    async def _answer(self, call: Call, plan: Plan) -> Response:
        fault = plan.fault
        if fault is not None and not fault.does_work:
            call.entry.note(fault=plan.name)
            return BrokenOff() if fault.kind == "refuse" else fault_reply(fault, self.dialect.error)
        self.service.account.admit()
        self.service.account.check_credit(self.dialect.price(call.submission.fields))
        request = await self._build(call)
        reply = await self._make_once(request, call, fault)
        if fault is None:
            return reply
        call.entry.note(fault=plan.name)
        return self._spoil(reply, fault, request)

    async def _build(self, call: Call) -> GenerationRequest:
        submission = call.submission
        if submission.problem is not None:
            raise submission.problem
        drawn_seed = call.source.getrandbits(32)
        if not submission.is_large:
            return self.dialect.build(submission.fields, drawn_seed)
        # The seed may follow from all parameters, and a picture takes long to hash.
        return await asyncio.to_thread(self.dialect.build, submission.fields, drawn_seed)

    async def _make_once(self, request: GenerationRequest, call: Call, fault: Fault | None) -> Response:
        key = call.entry.record.idempotency_key
        if not self.service.settings.replays or key is None:
            return await self._make(request, call, fault)
        return await self.service.replays.once(
            key, call.submission.fields, functools.partial(self._make, request, call, fault)
        )

    async def _make(self, request: GenerationRequest, call: Call, fault: Fault | None) -> Response:
        call.entry.note(seed=request.seed, width=request.width, height=request.height)
        if not request.prompt and not request.model.answers_empty_prompt:
            await self.easel.pause(call.source.uniform(*EMPTY_PROMPT_SECONDS) * self.service.settings.latency)
            raise Refusal(500, "Internal server error")
        started = time.monotonic()
        seconds = request.model.draw_seconds(call.source)
        painted = None if request.by_url else await self._paint(request, seconds)
        await self.easel.pause(seconds * self.service.settings.latency - (time.monotonic() - started))
        cost = request.model.price * request.num_images
        self.service.account.pay(cost)
        call.entry.charge(request.num_images, cost)
        return painted or self._hand_out(request, call, is_page=fault is not None and fault.is_web_page)

    async def _paint(self, request: GenerationRequest, seconds: float) -> Response:
        return await self.easel.paint(functools.partial(self._render, request, seconds), at_once=request.is_tiny)

    def _render(self, request: GenerationRequest, seconds: float) -> Response:
        image_format, sources = self.service.settings.image_format, decode_sources(request)
        files = [render(request, sources, image_format, index) for index in range(request.num_images)]
        return self.dialect.reply(request, [base64.b64encode(file).decode("ascii") for file in files], seconds)

    def _hand_out(self, request: GenerationRequest, call: Call, *, is_page: bool) -> Response:
        settings, now = self.service.settings, self.service.account.clock()
        names = [
            picture_name(settings.seed, call.entry.generation, index, settings.image_format)
            for index in range(request.num_images)
        ]
        for index, name in enumerate(names):
            call.shelf.put(name, StoredPicture(request, index, now, is_page))
        return self.dialect.reply(request, [f"{self.storage_url}{STORAGE_PATH}{name}" for name in names], 0.0)

    def _spoil(self, reply: Response, fault: Fault, request: GenerationRequest) -> Response:
        match fault.kind:
            case "drop":
                return BrokenOff()
            case "cut":
                return CutShort(reply)
            case "malformed":
                return self._malform(reply, fault, request)
        return fault_reply(fault, self.dialect.error)

    def _malform(self, reply: Response, fault: Fault, request: GenerationRequest) -> Response:
        if not fault.argument:
            return unreadable_reply()
        if request.by_url and fault.is_web_page:
            return reply
        payload = None if request.by_url else MALFORMED_PAYLOADS[fault.argument]
        return self.dialect.reply(request, [payload] * request.num_images, 1.0)
