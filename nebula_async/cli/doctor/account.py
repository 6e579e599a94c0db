"""What the API itself says: whether it answers, how fast, its clock, the balance and the models. All of it is free."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import TypeVar

from attrs import define, field, frozen

from nebula_async.api.account import read_credits, read_models
from nebula_async.api.catalog import Model
from nebula_async.api.envelope import read_error
from nebula_async.api.headers import read_date
from nebula_async.api.messages import HttpRequest, Reply
from nebula_async.cli.doctor.finding import Finding, fine, note, problem
from nebula_async.cli.parameters import DEFAULT_MODEL
from nebula_async.config import Timeouts
from nebula_async.engine.phase import Progress
from nebula_async.engine.reading import WholeReply
from nebula_async.engine.transport import ExchangeError, Transport
from nebula_async.engine.verdict import is_fatal
from nebula_async.errors import APIStatusError, NebulaError, RateLimitError
from nebula_async.offload import offload
from nebula_async.quantities import counted, dollars, duration, in_milliseconds

Value = TypeVar("Value")

ANSWER_SECONDS = 3.0
TIMEOUTS = Timeouts(*[ANSWER_SECONDS] * 5)

FEWEST_DOLLARS = Decimal("0.01")
"""What the API wants to see on an account before it makes anything (the vendor's page on billing)."""

KEY_STATUSES = (401, 403, 404)
"""How a key is refused; this API answers 404 to one that it does not know."""

KEY = "key"

SKEW_SECONDS = 5.0
OTHER_KINDS = ("text", "embedding")
MOST_NAMED = 5


@frozen
class Answer:
    """A reply, how long it took, and how far this machine's clock is ahead of the server's, where that tells."""

    reply: Reply
    seconds: float
    ahead_seconds: float | None


class NoAnswerError(Exception):
    """No complete reply came; the text says why."""


@define(eq=False)
class Account:
    """Asks the serverless API, with the key if there is one, and collects what is found."""

    transport: Transport
    base_url: str
    findings: list[Finding] = field(factory=list)
    answers: list[Answer] = field(factory=list)

    async def look(self) -> None:
        """Ask for the balance and the models. Cancellation leaves what was found."""
        has_key = self.transport.credentials is not None
        try:
            if has_key:
                await self._ask("users/credits", read_credits, about="balance", told=_of_balance)
            await self._ask("serverless/models", read_models, about="models", told=_of_models)
        except NoAnswerError as error:
            advice = "wait a little; if it stays, ask Nebula Block, or see what stands between (firewall, proxy)"
            self.findings.append(problem("API", f"no answer from {self.base_url}: {error}", advice))
        if self.answers:
            self.findings[:0] = [_of_speed(self.answers), _of_clock(self.answers)]

    async def _ask(
        self, path: str, read: Callable[[Reply], Value], *, about: str, told: Callable[[Value], Finding]
    ) -> None:
        """Ask one question and add what is found. Raises `NoAnswerError`."""

        async def parse(reply: Reply) -> Value:
            return await offload(read, reply)

        reader = WholeReply(parse)
        try:
            answer = await self._exchange(path, reader)
            if answer.reply.is_success:
                self.findings.append(told(await reader.finish(answer.reply)))
            else:
                self._add_once(self._of_error(about, read_error(answer.reply, now=time.time())))
        except ExchangeError as error:
            raise NoAnswerError(str(error)) from error
        except NebulaError as error:  # a reply that cannot be used
            advice = "what needs it goes by what is built in; check the URL"
            self.findings.append(note(about, error.message, advice))

    def _add_once(self, finding: Finding) -> None:
        """Add a finding; a key that is refused is so at every question, and told once."""
        if finding.about != KEY or all(each.about != KEY for each in self.findings):
            self.findings.append(finding)

    async def _exchange(self, path: str, reader: WholeReply[Value]) -> Answer:
        request, began, clock = HttpRequest(method="GET", url=f"{self.base_url}/{path}"), time.monotonic(), time.time()
        reply = await self.transport.exchange(request, Progress(), {}, TIMEOUTS, reader)
        seconds, date = time.monotonic() - began, read_date(reply.headers)
        ahead = None if date is None else clock + seconds / 2 - (date + 0.5)  # its seconds are whole ones
        self.answers.append(Answer(reply, seconds, ahead))
        return self.answers[-1]

    def _of_error(self, about: str, error: APIStatusError) -> Finding:
        facts = {"status": error.status, "code": error.code}
        if self.transport.credentials is None and error.status in KEY_STATUSES:
            return note(about, "without a key the API does not tell", "see about the key first", **facts)
        if isinstance(error, RateLimitError):
            return note(about, error.message, "a run waits by itself until the API accepts again", **facts)
        about = KEY if is_fatal(error) and error.status in KEY_STATUSES else about
        return problem(about, error.message, error.next_step or "see docs/errors.md", **facts)


def _of_speed(answers: Sequence[Answer]) -> Finding:
    fastest = min(answer.seconds for answer in answers)
    of = "the faster of " if answers[1:] else ""
    text = f"answers in {in_milliseconds(fastest)} ({of}{counted(len(answers), 'free question')})"
    return fine("API", text, seconds=round(fastest, 4), statuses=[answer.reply.status for answer in answers])


def _of_clock(answers: Sequence[Answer]) -> Finding:
    told = [answer.ahead_seconds for answer in answers if answer.ahead_seconds is not None]
    if not told:
        return fine("clock", "not compared: the API's replies have no date")
    ahead = min(told, key=abs)
    if abs(ahead) <= SKEW_SECONDS:
        text = f"agrees with the API's: {datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
        return fine("clock", text, ahead_seconds=round(ahead, 1))
    text = f"this machine's clock is {duration(abs(ahead))} {'ahead' if ahead > 0 else 'behind'}"
    advice = "set it by the network: the day's quota begins at 00:00 UTC, and URLs of pictures end after an hour"
    return note("clock", text, advice, ahead_seconds=round(ahead, 1))


def _of_balance(balance: Decimal) -> Finding:
    if balance < FEWEST_DOLLARS:
        return problem("balance", dollars(balance), "add credit in the Nebula Block console", usd=str(balance))
    return fine("balance", dollars(balance), usd=str(balance))


def _of_models(listed: Sequence[Model]) -> Finding:
    models = [model for model in listed if model.kind.lower() not in OTHER_KINDS]
    unpriced = [model.id for model in models if model.price is None]
    facts = {"models": [model.id for model in models], "without_price": unpriced}
    text = f"{counted(len(models), 'model')} for pictures"
    if not models:
        return problem("models", "the API lists no model for pictures", "is the URL right, and the key?", **facts)
    if DEFAULT_MODEL not in facts["models"]:
        advice = f"name another one with --model, such as {models[0].id}"
        return note("models", f"{text}; {DEFAULT_MODEL}, which is used by default, is not among them", advice, **facts)
    if unpriced:
        more = f" and {len(unpriced) - MOST_NAMED} more" if len(unpriced) > MOST_NAMED else ""
        text = f"{text}, of which no price is known for {', '.join(unpriced[:MOST_NAMED])}{more}"
        return note("models", text, "with these, --max-cost needs --allow-unknown-prices", **facts)
    return fine("models", f"{text}, each with its price", **facts)
