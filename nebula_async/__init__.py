"""The async client and bulk engine for the Nebula Block image API."""

from typing import TYPE_CHECKING, Any

from nebula_async.charges import Charges
from nebula_async.client import AsyncNebula
from nebula_async.config import VERSION, Config, RetryPolicy, Tier, Timeouts
from nebula_async.engine.gate import Gate, Limits
from nebula_async.errors import (
    APIStatusError,
    AuthenticationError,
    BadRequestError,
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
    UnusableReplyError,
)
from nebula_async.events import Observer
from nebula_async.images.image import Image
from nebula_async.requests import ImageRequest, InferenceRequest
from nebula_async.results import Failure, Generation, RateLimit

if TYPE_CHECKING:
    from nebula_async.bulk.job import BulkJob

__version__ = VERSION

__all__ = [
    "APIStatusError",
    "AsyncNebula",
    "AuthenticationError",
    "BadRequestError",
    "BulkJob",
    "Charges",
    "Config",
    "ConfigurationError",
    "ContentPolicyError",
    "DeadlineError",
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
    "NebulaError",
    "NotFoundError",
    "NotSentError",
    "Observer",
    "OutcomeUnknownError",
    "PermissionDeniedError",
    "QuotaExhaustedError",
    "RateLimit",
    "RateLimitError",
    "RetryPolicy",
    "ServerError",
    "Tier",
    "Timeouts",
    "UnusableReplyError",
]


def __getattr__(name: str) -> Any:
    """Load what only those need who run jobs, when they first name it."""
    if name != "BulkJob":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from nebula_async.bulk.job import BulkJob

    return BulkJob
