"""The async client and bulk engine for the Nebula Block image API."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from nebula_async.charges import Charges
from nebula_async.client import AsyncNebula
from nebula_async.config import VERSION, Config, RetryPolicy, Tier, Timeouts
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
from nebula_async.sinks.sink import Sink, Writer

if TYPE_CHECKING:
    from nebula_async.bulk.job import BulkJob
    from nebula_async.sinks.directory import DirectorySink
    from nebula_async.sinks.memory import MemorySink
    from nebula_async.sinks.objectstore import ObjectStoreSink

__version__ = VERSION

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

_FOR_SOME = {
    "BulkJob": "bulk.job",
    "DirectorySink": "sinks.directory",
    "MemorySink": "sinks.memory",
    "ObjectStoreSink": "sinks.objectstore",
}
"""What only those need who run jobs or stream into a sink, and where it is."""


def __getattr__(name: str) -> Any:
    """Import what only some need when they first name it."""
    if name not in _FOR_SOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_FOR_SOME[name]}"), name)
