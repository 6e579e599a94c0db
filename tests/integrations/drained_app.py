"""An application that is ended while it works; uvicorn runs it in a process of its own."""

import json
import logging
import os
import sys

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from nebula_async import DirectorySink
from nebula_async.integrations.starlette import (
    Finish,
    handle_errors,
    health_routes,
    image_response,
    nebula_lifespan,
    nebula_of,
    progress_response,
)

SMALL = {"model": "black-forest-labs/FLUX.1-schnell", "width": 64, "height": 64}
OPTIONS = json.loads(os.environ.get("OPTIONS", "{}"))

logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(message)s")


async def show(request: Request) -> Response:
    """Make a picture."""
    return image_response(await nebula_of(request).generate("a cat", **SMALL))


async def many(request: Request) -> Response:
    """Make pictures, and tell of each."""
    prompts = (f"cat {number}" for number in range(1_000))
    return progress_response(nebula_of(request), prompts, data=True, concurrency=2, **SMALL)


if folder := OPTIONS.pop("finish_into", None):
    OPTIONS["when_left"] = Finish(DirectorySink(folder))

app = Starlette(
    routes=[Route("/show", show), Route("/many", many), *health_routes()], lifespan=nebula_lifespan(**OPTIONS)
)
handle_errors(app)
