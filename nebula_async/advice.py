"""What an error says beside what happened: what it cost, and what to do next. Plain words by class, code and status."""

from __future__ import annotations

import math
from collections.abc import Mapping

from nebula_async.charges import Charges
from nebula_async.quantities import counted

CHECK_KEY = "check the key in NEBULA_API_KEY, or in api_key="
CHECK_MODEL = "check the model's name: nebula-async models lists them, and so does nebula.models()"
CHECK_URL = "check base_url (ends in /api/v1) and inference_url (ends in /v1)"
CHANGE_NAMED = "change what the API names, or else the model, a parameter or the prompt"
CHANGE_PROMPT = "change the prompt"
SLOW_DOWN = "send more slowly, or set the account's tier (tier=, --tier or NEBULA_TIER)"
ADD_CREDIT = "add credit in the Nebula Block console"
OTHER_PICTURE = "give the input picture as a whole PNG, JPEG or WebP"

UNKNOWN_KEY = f"{CHECK_KEY}: this API answers 404 to one that it does not know; then {CHECK_URL}"
ASK = "ask Nebula Block if it"
ASK_WHY = f"{ASK} happens again"
NEXT_DAY = "wait until then, as a job does by itself, or use an account of a higher tier"
FETCH_LATER = "fetch it with nebula.download(image) before its URL expires; a job does with the same command"

BY_CLASS: Mapping[str, str] = {
    "NotSentError": "check the network, the proxy and the URL, as nebula-async doctor does",
    "OutcomeUnknownError": "look at the balance, then send it again (a job: --resend-unknown)",
    "UnusableReplyError": f"{ASK_WHY}; a job asks for the picture anew with --retry-failed",
    "SinkError": "mend the place where the pictures go first",
    "DownloadError": "ask for another one; a job does with --retry-failed",
    "DeadlineError": "allow more time (timeout=, --timeout or NEBULA_TIMEOUT)",
    "APIStatusError": "wait a little",
    "AuthenticationError": CHECK_KEY,
    "PermissionDeniedError": "use a key that may do this",
    "NotFoundError": f"{CHECK_MODEL}; then {CHECK_URL}",
    "RateLimitError": SLOW_DOWN,
    "QuotaExhaustedError": ADD_CREDIT,
    "ContentPolicyError": CHANGE_PROMPT,
    "BadRequestError": CHANGE_NAMED,
    "ServerError": f"wait a little, and {ASK} stays",
}
"""The classes that are missing are those whose message itself says what to do."""

BY_CODE: Mapping[str, str] = {
    "invalid_prompt": CHANGE_PROMPT,
    "invalid_size": "ask for a size that the model makes (width and height, or size)",
    "invalid_request": CHANGE_NAMED,
    "invalid_input": CHANGE_NAMED,
    "invalid_image": OTHER_PICTURE,
    "image_too_large": "give a smaller input picture",
    "unsupported_format": OTHER_PICTURE,
    "content_policy_violation": CHANGE_PROMPT,
    "model_not_found": CHECK_MODEL,
    "invalid_model": CHECK_MODEL,
    "rate_limit_exceeded": SLOW_DOWN,
    "insufficient_quota": ADD_CREDIT,
    "invalid_api_key": CHECK_KEY,
    "token_not_found_in_db": CHECK_KEY,
    "unauthorized": CHECK_KEY,
    "context_length_exceeded": "shorten the prompt",
    "batch_size_exceeded": "ask for fewer pictures in one request",
}

BY_STATUS: Mapping[int, str] = {
    300: f"{CHECK_URL}: a request that is paid for follows no redirect",
    405: CHECK_URL,
    413: "send smaller input pictures, or a shorter prompt",
}
"""300 stands for all that redirect."""


def step_for(kind: str, *, code: str | None = None, status: int = 0) -> str:
    """Return the next step after an error of the class of this name: by the API's code, its status, or the class.

    "" where the error's message says it already.
    """
    if code is not None and code in BY_CODE:
        return BY_CODE[code]
    if kind == "NotFoundError" and status == 404 and code is None:
        return UNKNOWN_KEY
    is_redirect = 300 <= status < 400
    return BY_STATUS.get(300 if is_redirect else status) or BY_CLASS.get(kind, "")


def cost_of(charges: Charges) -> str:
    """Return what may have been paid for, in words."""
    if not charges.at_most:
        return "not charged"
    if charges.settled:
        return f"paid for: {counted(charges.at_most, 'picture')}"
    said = "paid for" if charges.at_least else "may have been paid for"
    return f"{said}: {charges.at_least} to {charges.at_most} pictures"


def prospect_of(charges: Charges, *, retryable: bool, when: str = "") -> str:
    """Return whether trying again can help, `when` it can, and what that may cost, in words."""
    if not retryable:
        return "trying again pays again" if charges.at_least else "trying again does not help"
    may_pay = f", and {'pays again' if charges.at_least else 'may pay twice'}" if charges.at_most else ""
    return f"trying again can help{when and f' {when}'}{may_pay}"


def after(seconds: float | None, *, is_daily: bool = False) -> str:
    """Return when trying again can help, in words; "" where nobody knows."""
    if is_daily:
        hours, minutes = divmod(math.ceil((seconds or 0) / 60), 60)
        return "from 00:00 UTC on" + (f", in {hours} h {minutes:02} min" if seconds else "")
    return f"after {f'{seconds:.3g}' if seconds < 10 else math.ceil(seconds)} s" if seconds else ""


def in_sentences(*parts: str) -> str:
    """Return the parts that say something as sentences on one line."""
    fact, *rest = (part.rstrip(".") for part in parts if part)
    return " ".join(f"{part}." for part in (fact, *(f"{part[:1].upper()}{part[1:]}" for part in rest)))
