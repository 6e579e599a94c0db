"""What the API says of models and money: the list of models with their prices, and the account's balance."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal

from attrs import evolve, frozen

from nebula_async.api.catalog import CATALOG, Model
from nebula_async.api.messages import Reply
from nebula_async.api.replies import parsed_object, replies, unusable

BALANCE = re.compile(r"-?[0-9]{1,30}(\.[0-9]{1,30})?")


def read_models(reply: Reply) -> tuple[Model, ...]:
    """Read the list of models. Raises `UnusableReplyError`."""
    data = parsed_object(reply).get("data")
    listed = data.get("models") if isinstance(data, Mapping) else None
    if not isinstance(listed, list):
        raise unusable(reply, "the reply holds no list of models")
    entries = (replies.structure(entry, ListedModel) for entry in listed if isinstance(entry, Mapping))
    return tuple(entry.as_model() for entry in entries if entry.model_name is not None)


@frozen
class ListedModel:
    """A model as the API lists it: the id is under `model_name`."""

    model_name: str | None = None
    model_alias: str | None = None
    model_type: str | None = None
    price: float | None = None

    def as_model(self) -> Model:
        """Return it as a catalogue entry."""
        identity = self.model_name or ""
        listed = Model(id=identity, name=self.model_alias or identity, kind=self.model_type or "")
        known = CATALOG.get(identity, listed)
        is_priced = self.price is not None and self.price >= 0
        return evolve(known, price=Decimal(str(self.price))) if is_priced else known


def read_credits(reply: Reply) -> Decimal:
    """Read the balance in USD. Raises `UnusableReplyError`."""
    data = parsed_object(reply).get("data")
    balance = data.get("available_balance") if isinstance(data, Mapping) else None
    is_amount = isinstance(balance, str | int | float) and not isinstance(balance, bool)
    if is_amount and BALANCE.fullmatch(str(balance)):
        return Decimal(str(balance))
    raise unusable(reply, "the reply holds no balance")
