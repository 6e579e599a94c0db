"""`nebula-async models`: what the account can use."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from nebula_async.api.catalog import CATALOG, PARAMETERS, Model
from nebula_async.cli.connection import Connection, connected, run
from nebula_async.cli.output import tell
from nebula_async.quantities import dollars


def models(
    *,
    connection: Annotated[Connection, Parameter(name="*")] = Connection(),  # noqa: B008 - frozen
) -> int:
    """List the models that the API offers, with prices and the parameters each is known to honour."""
    return run(_models, connection)


async def _models(connection: Connection) -> int:
    async with connected(connection) as nebula:
        listed = await nebula.models()
    rows = [("model", "kind", "a picture", "honours")]
    rows += [(model.id, model.kind, _price(model), _honoured(model)) for model in listed]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        tell("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())
    return 0


def _price(model: Model) -> str:
    return "not known" if model.price is None else dollars(model.price)


def _honoured(model: Model) -> str:
    if model.id not in CATALOG:
        return "not known"
    return ", ".join(name for name in PARAMETERS if name in model.honours)
