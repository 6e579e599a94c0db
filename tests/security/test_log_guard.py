"""The guard over the suite sees what is logged, whoever logs it and however quietly."""

from __future__ import annotations

import logging

import httpx
import pytest
from canaries import KEY, PROMPT, QUERY
from echoing import TARGETS, echoing
from log_guard import GUARD

SECRETS = {"a key": KEY, "a header": f"Bearer {KEY[3:]}", "a prompt": PROMPT, "a signed URL": f"/a?{QUERY}"}
SECRETS |= {"a URL of the storage": f"/generated/{'0f' * 16}.png", "the usual prompt": "prompt='a cat'"}


@pytest.mark.logs_secrets  # on purpose
@pytest.mark.parametrize("secret", SECRETS.values(), ids=SECRETS)
@pytest.mark.parametrize("name", ["nebula_async", "httpcore.http11", "httpcore2.http11", "asyncio", "anyio", "x.y"])
def test_a_secret_is_seen(secret, name):
    """In the words of a record, its arguments, its facts and its exception, at DEBUG of any logger."""
    logger = logging.getLogger(name)
    logger.debug("it is %s", {"header": secret})
    logger.debug("facts", extra={"nebula": {"call": secret}})
    logger.debug("it failed", exc_info=LookupError(secret))
    assert 3 == len(GUARD.take())


def test_what_is_no_secret_is_let_pass():
    """A log that tells of a task, of stars for a key and of a model is no failure of a test."""
    logging.getLogger("nebula_async").debug("task-1 has Bearer *** for a model of cats: %s", "category")
    assert [] == GUARD.take()


@pytest.mark.logs_secrets
@pytest.mark.anyio
async def test_what_other_programs_log_is_their_own():
    """The HTTP library tells as much as ever of exchanges that are not ours: nobody's debugging is spoilt."""
    with echoing(TARGETS["redirected for ever"]) as server:
        async with httpx.AsyncHTTPTransport() as transport:
            response = await transport.handle_async_request(httpx.Request("GET", f"http://{server.place}/a"))
            await response.aread()
            await response.aclose()
    assert any("Location" in text for text in GUARD.take())
