"""The async client and bulk engine for the Nebula Block image API.

PYTEST_DONT_REWRITE: who imports it before pytest starts is not warned of it for the sake of its plugin.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nebula_async.bulk.job import BulkJob
    from nebula_async.charges import Charges
    from nebula_async.client import AsyncNebula
    from nebula_async.config import Config, RetryPolicy, Tier, Timeouts
    from nebula_async.engine.gate import Gate, Limits
    from nebula_async.errors import (
        APIStatusError,
        AuthenticationError,
        BadRequestError,
        BudgetExceededError,
        ConfigurationError,
        ContentPolicyError,
        DeadlineError,
        DownloadError,
        InvalidRequestError,
        JobError,
        NebulaError,
        NotFoundError,
        NotSentError,
        OutcomeUnknownError,
        PermissionDeniedError,
        QuotaExhaustedError,
        RateLimitError,
        ServerError,
        SinkError,
        UnusableReplyError,
    )
    from nebula_async.events import Observer
    from nebula_async.images.image import Image
    from nebula_async.images.provenance import Provenance, read_provenance
    from nebula_async.requests import ImageRequest, InferenceRequest
    from nebula_async.results import Failure, Generation, RateLimit
    from nebula_async.sinks.directory import DirectorySink
    from nebula_async.sinks.memory import MemorySink
    from nebula_async.sinks.objectstore import ObjectStoreSink
    from nebula_async.sinks.sink import Sink, Writer

    __version__: str

__all__ = [
    "APIStatusError",
    "AsyncNebula",
    "AuthenticationError",
    "BadRequestError",
    "BudgetExceededError",
    "BulkJob",
    "Charges",
    "Config",
    "ConfigurationError",
    "ContentPolicyError",
    "DeadlineError",
    "DirectorySink",
    "DownloadError",
    "Failure",
    "Gate",
    "Generation",
    "Image",
    "ImageRequest",
    "InferenceRequest",
    "InvalidRequestError",
    "JobError",
    "Limits",
    "MemorySink",
    "NebulaError",
    "NotFoundError",
    "NotSentError",
    "ObjectStoreSink",
    "Observer",
    "OutcomeUnknownError",
    "PermissionDeniedError",
    "Provenance",
    "QuotaExhaustedError",
    "RateLimit",
    "RateLimitError",
    "RetryPolicy",
    "ServerError",
    "Sink",
    "SinkError",
    "Tier",
    "Timeouts",
    "UnusableReplyError",
    "Writer",
    "read_provenance",
]

_PLACES = {name: "errors" for name in __all__ if name.endswith("Error")} | {
    "AsyncNebula": "client",
    "BulkJob": "bulk.job",
    "Charges": "charges",
    "Config": "config",
    "DirectorySink": "sinks.directory",
    "Failure": "results",
    "Gate": "engine.gate",
    "Generation": "results",
    "Image": "images.image",
    "ImageRequest": "requests",
    "InferenceRequest": "requests",
    "Limits": "engine.gate",
    "MemorySink": "sinks.memory",
    "ObjectStoreSink": "sinks.objectstore",
    "Observer": "events",
    "Provenance": "images.provenance",
    "RateLimit": "results",
    "RetryPolicy": "config",
    "Sink": "sinks.sink",
    "Tier": "config",
    "Timeouts": "config",
    "Writer": "sinks.sink",
    "read_provenance": "images.provenance",
}
"""The module that each name is in."""


def __getattr__(name: str) -> Any:
    """Import a name when it is first asked for: a command that is interrupted while it loads is still at its start."""
    if name in _PLACES.values():  # a module: `nebula_async.errors`
        return import_module(f"{__name__}.{name}")
    place, attribute = ("config", "VERSION") if name == "__version__" else (_PLACES.get(name), name)
    if place is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{place}"), attribute)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})
