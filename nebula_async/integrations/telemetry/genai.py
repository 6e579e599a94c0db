"""The names in traces and metrics: those of OpenTelemetry's conventions for generative AI, and ours.

The conventions' own package is a pre-release whose names still move, so they are written down here, and only here. They
know no operation that makes pictures; the nearest is `generate_content`.
"""

from __future__ import annotations

OPERATION = "gen_ai.operation.name"
PROVIDER = "gen_ai.provider.name"
OUTPUT_TYPE = "gen_ai.output.type"
REQUEST_MODEL = "gen_ai.request.model"
REQUEST_SEED = "gen_ai.request.seed"
REQUEST_COUNT = "gen_ai.request.choice.count"
RESPONSE_MODEL = "gen_ai.response.model"
INPUT_MESSAGES = "gen_ai.input.messages"
SERVER_ADDRESS = "server.address"
SERVER_PORT = "server.port"
ERROR_TYPE = "error.type"
RESENT = "http.request.resend_count"
STATUS = "http.response.status_code"

GENERATE_CONTENT = "generate_content"
NEBULA_BLOCK = "nebula_block"
IMAGE = "image"
OTHER = "_OTHER"
"""Stands for all values beyond those that are told apart."""

CANCELLED = "cancelled"

WIDTH = "nebula.image.width"
HEIGHT = "nebula.image.height"
IMAGES = "nebula.images"
CHARGES = "nebula.charges"
REQUEST_ID = "nebula.request_id"
CODE = "nebula.error.code"
NEGATIVE_PROMPT = "nebula.negative_prompt"
ATTEMPT_NUMBER = "nebula.attempt.number"
RETRY_REASON = "nebula.retry.reason"
RETRY_DELAY = "nebula.retry.delay"
HELD_SECONDS = "nebula.held.seconds"

ATTEMPT = "nebula.attempt"
RETRY = "nebula.retry"
HELD = "nebula.held"
RESUMED = "nebula.resumed"
OUTAGE_BEGAN = "nebula.outage.began"
OUTAGE_ENDED = "nebula.outage.ended"

DURATION_METRIC = "gen_ai.client.operation.duration"
ACTIVE_METRIC = "nebula.client.active_calls"
RETRIES_METRIC = "nebula.client.retries"
IMAGES_METRIC = "nebula.client.images"
AT_LEAST_METRIC = "nebula.client.charges.at_least"
AT_MOST_METRIC = "nebula.client.charges.at_most"
WAIT_METRIC = "nebula.client.rate_limit.wait"
RATE_METRIC = "nebula.client.rate_limit"
CONCURRENCY_METRIC = "nebula.client.concurrency.limit"

CAPTURE_VARIABLE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
CAPTURES = frozenset({"true", "1", "span_only", "span_and_event"})
"""The values of that variable with which spans hold prompts."""
