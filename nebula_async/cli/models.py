"""`nebula-async models`: what the account can use."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter
from rich.console import Console
from rich.table import Table

from nebula_async.api.catalog import CATALOG, PARAMETERS, Model
from nebula_async.cli.connection import Connection, connected, run


def models(
    *,
    connection: Annotated[Connection, Parameter(name="*")] = Connection(),  # noqa: B008 - frozen
) -> int:
    """List the models that the API offers, with prices and the parameters each is known to honour."""
    return run(_models, connection)


async def _models(connection: Connection) -> int:
    async with connected(connection) as nebula:
        listed = await nebula.models()
    table = Table("model", "kind", "a picture", "honours", box=None, pad_edge=False)
    for model in listed:
        table.add_row(model.id, model.kind, _price(model), _honoured(model))
    Console(soft_wrap=True).print(table)
    return 0


def _price(model: Model) -> str:
    return "not known" if model.price is None else f"${model.price}"


def _honoured(model: Model) -> str:
    if model.id not in CATALOG:
        return "not known"
    return ", ".join(name for name in PARAMETERS if name in model.honours)
