"""The async client and bulk engine for the Nebula Block image API."""

from nebula_async.charges import Charges
from nebula_async.client import AsyncNebula
from nebula_async.config import VERSION, Config, RetryPolicy, Tier, Timeouts
from nebula_async.engine.gate import Gate
from nebula_async.errors import (
    APIStatusError,
    AuthenticationError,
    BadRequestError,
    ConfigurationError,
    ContentPolicyError,
    DeadlineError,
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
from nebula_async.requests import ImageRequest
from nebula_async.results import Failure, Generation, RateLimit

__version__ = VERSION

__all__ = [
    "APIStatusError",
    "AsyncNebula",
    "AuthenticationError",
    "BadRequestError",
    "Charges",
    "Config",
    "ConfigurationError",
    "ContentPolicyError",
    "DeadlineError",
    "Failure",
    "Gate",
    "Generation",
    "Image",
    "ImageRequest",
    "InvalidRequestError",
    "JobError",
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
