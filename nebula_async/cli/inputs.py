"""What is read, and how much of it, as options."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from attrs import frozen
from cyclopts import Group, Parameter

from nebula_async.checks import shown
from nebula_async.cli.parameters import Whole
from nebula_async.errors import InvalidRequestError

Input = Parameter(group=Group("Input", sort_key=0))


@frozen(kw_only=True)
class Inputs:
    """How a manifest is read."""

    columns: Annotated[tuple[str, ...], Input, Parameter(negative=(), show_default=False)] = ()
    "A column's name and the field that it is, such as text=prompt; name= drops it. May be given for each column."
    repeat: Annotated[Whole, Input] = 1
    "How often each prompt is sent, with consecutive seeds. It may be raised later: what is there stays."
    format: Annotated[Literal["txt", "csv", "tsv", "jsonl", "parquet"] | None, Input] = None
    "What the input is, where its name does not say so."
    limit: Annotated[Whole, Input] = None
    "Only the first so many, copies counted."
    sample: Annotated[Whole, Input] = None
    "Only so many, copies counted, picked at random: the same ones each time."

    def given(self) -> dict[str, Any]:
        """Return what a job takes. Raises `InvalidRequestError` for a column without a field."""
        return {
            "columns": self._columns(),
            "repeat": self.repeat,
            "kind": self.format,
            "limit": self.limit,
            "sample": self.sample,
        }

    def _columns(self) -> dict[str, str]:
        """Return the field of each column that is named."""
        pairs = [text.rpartition("=") for text in self.columns]
        for text, (_, sign, _) in zip(self.columns, pairs, strict=True):
            if not sign:
                raise InvalidRequestError(
                    f"--columns takes name=field, such as text=prompt, or name= to drop a column; got {shown(text)}"
                )
        columns = {name: field for name, _, field in pairs}
        if len(columns) < len(pairs):
            raise InvalidRequestError(f"--columns names a column more than once: {' '.join(self.columns)}")
        return columns
