"""For applications of FastAPI, in three lines.

    app = FastAPI(lifespan=nebula_lifespan(timeout=60))
    handle_errors(app)

    @app.post("/images")
    async def create(body: ImageBody, nebula: Nebula) -> Response:
        return image_response(await nebula.generate(body.to_request()))

Needs the extra `fastapi`. A test of an application sets `app.dependency_overrides[get_nebula]`.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends
from starlette.requests import HTTPConnection

from nebula_async.client import AsyncNebula
from nebula_async.integrations.starlette import (
    IMMUTABLE,
    PRIVATE,
    ClientLeft,
    Departed,
    Finish,
    ShuttingDown,
    finished_key,
    health_routes,
    image_response,
    images_response,
    nebula_lifespan,
    progress_response,
    stored_image_response,
)
from nebula_async.integrations.web.bodies import BodyLimits, ImageBody
from nebula_async.integrations.web.lifespan import nebula_in_turn
from nebula_async.integrations.web.refused_bodies import handle_errors

__all__ = [
    "IMMUTABLE",
    "PRIVATE",
    "BodyLimits",
    "ClientLeft",
    "Departed",
    "Finish",
    "ImageBody",
    "Nebula",
    "ShuttingDown",
    "finished_key",
    "get_nebula",
    "handle_errors",
    "health_routes",
    "image_response",
    "images_response",
    "nebula_lifespan",
    "progress_response",
    "stored_image_response",
]


async def get_nebula(connection: HTTPConnection) -> AsyncNebula:
    """Return the client of a request, whose `generate` obeys the policy for visitors who leave: a dependency.

    Raises `ShuttingDown` (503) once the application ends, and `ConfigurationError` where there is no client.
    """
    return await nebula_in_turn(connection)


Nebula = Annotated[AsyncNebula, Depends(get_nebula)]
"""The client, as a parameter of a route: `nebula: Nebula`."""
