"""The routes of the emulator: the API at one origin, its image storage at another."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Mapping
from typing import Any

import attrs
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from nebula_async.emulator.dialects import Inference, Serverless
from nebula_async.emulator.downloads import Downloads
from nebula_async.emulator.easel import Easel
from nebula_async.emulator.generation import Generations
from nebula_async.emulator.journal import GENERATIONS, INFERENCE_PATH
from nebula_async.emulator.openapi import document
from nebula_async.emulator.origins import Origin
from nebula_async.emulator.recording import CONTROL_PREFIX, Recorded
from nebula_async.emulator.replies import error_reply, json_reply
from nebula_async.emulator.service import Service
from nebula_async.emulator.storage import STORAGE_PATH

INFERENCE_PREFIX = "/v1/"
READING = ("GET", "HEAD")

Endpoint = Callable[[Request], Coroutine[Any, Any, Response]]


class ExactRoute(Route):
    """A route of one path and the methods it names: Starlette adds HEAD to GET, and overlooks a last line feed."""

    def __init__(self, path: str, endpoint: Endpoint, methods: tuple[str, ...]) -> None:
        super().__init__(path, endpoint, methods=methods)
        self.methods = set(methods)

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Return whether this route is meant."""
        return (Match.NONE, {}) if scope["path"].endswith("\n") else super().matches(scope)


@attrs.frozen
class ByPort:
    """An ASGI application that hands each request to the one that serves the port it came to."""

    apps: Mapping[int, ASGIApp]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        await self.apps[scope["server"][1]](scope, receive, send)


def build_app(service: Service, closing: asyncio.Event, *, api: Origin, storage: Origin) -> ASGIApp:
    """Return the emulator as an ASGI application for two sockets; setting `closing` ends every wait in it."""
    easel = Easel(closing)
    return ByPort(
        {
            api.port: Recorded(_build_api(service, easel, api, storage), service, "api"),
            storage.port: Recorded(_build_storage(service, easel), service, "storage"),
        }
    )


def _build_api(service: Service, easel: Easel, api: Origin, storage: Origin) -> ASGIApp:
    routes = [*_generation_routes(service, easel, storage), *_reading_routes(service, api), *_control_routes(service)]
    app = Starlette(routes=routes, exception_handlers={HTTPException: _explain, Exception: _apologise})
    # A redirect to the path without a slash would repeat the path to the client.
    app.router.redirect_slashes = False
    return app


def _generation_routes(service: Service, easel: Easel, storage: Origin) -> Iterator[ExactRoute]:
    serverless, inference = Serverless(service.settings.error_body), Inference(service.settings.forbidden)
    for path, methods in GENERATIONS.items():
        dialect = inference if path == INFERENCE_PATH else serverless
        yield ExactRoute(path, Generations(service, dialect, easel, storage.url).serve, methods)


def _reading_routes(service: Service, api: Origin) -> Iterator[ExactRoute]:
    async def describe(request: Request) -> Response:  # noqa: ARG001 - a route's signature
        return json_reply(document(api.url))

    yield ExactRoute("/api/v1/serverless/models", service.models, READING)
    yield ExactRoute("/api/v1/users/credits", service.credits, READING)
    yield ExactRoute("/openapi.json", describe, READING)


def _control_routes(service: Service) -> Iterator[ExactRoute]:
    yield ExactRoute(f"{CONTROL_PREFIX}journal", service.show_journal, READING)
    yield ExactRoute(f"{CONTROL_PREFIX}reset", service.start_over, ("POST",))


def _build_storage(service: Service, easel: Easel) -> ASGIApp:
    app = Starlette(routes=[ExactRoute(f"{STORAGE_PATH}{{name}}", Downloads(service, easel).serve, ("GET",))])
    app.router.redirect_slashes = False
    return app


async def _explain(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - it is registered for no other
    if request.scope["path"].startswith(INFERENCE_PREFIX):
        return error_reply(error.status_code, "invalid_request", error.detail, headers=error.headers)
    return json_reply({"detail": error.detail}, error.status_code, error.headers)


async def _apologise(request: Request, error: Exception) -> Response:  # noqa: ARG001 - a handler's signature
    if request.scope["path"].startswith(INFERENCE_PREFIX):
        return error_reply(500, "server_error")
    return json_reply({"detail": "Internal Server Error"}, 500)
