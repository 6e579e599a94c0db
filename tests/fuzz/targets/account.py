"""The list of models and the balance: values or an error of ours, beside `json` and `Decimal`."""

from __future__ import annotations

import json
from decimal import Decimal, InvalidOperation

from nebula_async.api.account import read_credits, read_models
from nebula_async.api.messages import Reply
from nebula_async.errors import UnusableReplyError

REFERENCE = "json, Decimal"

WORDS = [
    b'{"data":', b'{"data":{"available_balance":', b'{"data":{"models":[', b'{"model_name":"', b'"price":', b"12.50",
    b'"model_alias":"', b'"model_type":"', b"1e5", b"-0", b'"', b"}", b"]", b",", b"true", b"null", b"NaN", b"1e-9",
    b"black-forest-labs/FLUX.1-schnell",
]  # fmt: skip

SEEDS = [
    b'{"data": {"available_balance": "12.50"}, "status": "success"}', b'{"data": {"available_balance": -3.5}}',
    b'{"data": {"models": [{"model_name": "a", "price": 0.0019, "model_alias": "A"}, {"model_name": "b"}]}}',
]  # fmt: skip


def check(data: bytes) -> None:
    """Read a reply as either."""
    reply = Reply(status=200, body=data)
    try:
        balance = read_credits(reply)
    except UnusableReplyError:
        pass
    else:
        assert balance.is_finite(), data
        assert balance == amount(json.loads(data.decode("utf-8-sig"))["data"]["available_balance"]), data
    try:
        models = read_models(reply)
    except UnusableReplyError:
        return
    assert all(isinstance(model.id, str) for model in models), data
    assert all(model.price is None or (model.price.is_finite() and model.price >= 0) for model in models), data


def amount(value: object) -> Decimal | None:
    """Return what an amount in JSON is."""
    try:
        return Decimal(str(value))
    except InvalidOperation:
        return None
