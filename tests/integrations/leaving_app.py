"""An application whose visitors leave, and what is known of it."""

from __future__ import annotations

from functools import partial

import anyio
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from nebula_async import ImageRequest
from nebula_async.emulator import Emulator
from nebula_async.events import Abandoned, Failed, Generated
from nebula_async.integrations.starlette import handle_errors, image_response, nebula_lifespan, nebula_of

MODEL = "black-forest-labs/FLUX.1-schnell"
SMALL = {"model": MODEL, "width": 64, "height": 64}


async def create(request: Request) -> Response:
    """Make the picture that a JSON body asks for."""
    given = await request.json()
    return image_response(await nebula_of(request).generate(given.pop("prompt"), **SMALL))


async def show(request: Request) -> Response:
    """Make a picture for a GET, whose body nobody reads."""
    return image_response(await nebula_of(request).generate("a cat", **SMALL))


async def several(request: Request) -> Response:
    """Make three pictures at the same time."""
    nebula = nebula_of(request)
    async with anyio.create_task_group() as group:
        for name in ("a cat", "a dog", "a fox"):
            group.start_soon(partial(nebula.generate, name, **SMALL))
    return JSONResponse(3)


async def named(request: Request) -> Response:
    """Make the picture of a request that the visitor has named."""
    asked = ImageRequest("a secret cat", id=request.query_params["id"], **SMALL)
    return image_response(await nebula_of(request).generate(asked))


async def unread(request: Request) -> Response:
    """Make a picture first, and read the body after it."""
    await nebula_of(request).generate("a cat", **SMALL)
    return JSONResponse(await request.json())


ROUTES = [
    Route("/create", create, methods=["POST"]),
    Route("/show", show),
    Route("/several", several),
    Route("/named", named),
    Route("/unread", unread, methods=["POST"]),
]


def application(emulator: Emulator, events: list | None = None, **options) -> Starlette:
    """Return an application whose events are kept."""
    middleware = options.pop("middleware", [])
    observer = (events if events is not None else []).append
    lifespan = nebula_lifespan(api_key=emulator.key, base_url=emulator.base_url, observer=observer, **options)
    app = Starlette(routes=ROUTES, lifespan=lifespan, middleware=middleware)
    handle_errors(app)
    return app


def asked(emulator: Emulator) -> int:
    """Return how many pictures have been asked for."""
    return len(emulator.journal.generations)


def endings(events: list) -> list[str]:
    """Return how calls have ended."""
    return [type(event).__name__ for event in events if isinstance(event, Generated | Failed | Abandoned)]


async def passed_on(request, call_next):
    """Pass a request on, as a middleware does that looks at its answer."""
    return await call_next(request)


MIDDLEWARE = {"plain": [], "through BaseHTTPMiddleware": [Middleware(BaseHTTPMiddleware, dispatch=passed_on)]}
