"""What each model did in a job: a table, or on a narrow terminal some lines for each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal

from attrs import evolve, frozen
from rich.console import Console, Group, RenderableType
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from nebula_async.bulk.shares import ModelShare
from nebula_async.bulk.summary import Summary
from nebula_async.printing import printable
from nebula_async.quantities import counted, dollars

USUAL_DIALECT = "serverless"
COUNTS = ("items", "done", "failed", "left", "pictures")
ALL = "all"
WIDEST = 10_000


@frozen(kw_only=True)
class _Line:
    """One line of the table; `None` stands for what cannot be said."""

    name: str
    items: int
    done: int = 0
    failed: int = 0
    left: int = 0
    pictures: int = 0
    cost: str = ""


def model_table(summary: Summary, console: Console) -> RenderableType:
    """Return what each model did, as wide as a console has room for."""
    lines = _lines(summary)
    short = _shortly_named(lines)
    for candidate in (lines, short, _with_broken_costs(short)):
        table = _table(candidate)
        if Measurement.get(console, console.options.update(width=WIDEST), table).maximum <= console.width:
            return table
    return Group(*(text for line in lines for text in _stacked(line)))


def model_name(model: str, dialect: str) -> str:
    """Return how a model is called where models of both APIs stand."""
    return model if dialect in ("", USUAL_DIALECT) else f"{model} ({dialect})"


def cost_text(at_least: Decimal, at_most: Decimal, unpriced: int) -> str:
    """Return an amount, or its bounds, and how many pictures are not in it because nobody knows their price."""
    amount = dollars(at_least) if at_least == at_most else f"{dollars(at_least)} to {dollars(at_most)}"
    if not unpriced:
        return amount
    return f"{amount} + {unpriced:,} unpriced" if at_most else f"not known ({counted(unpriced, 'picture')})"


def _lines(summary: Summary) -> list[_Line]:
    lines = [_line(share) for share in summary.models]
    report, begun = summary.report, sum(share.items for share in summary.models)
    if report.total > begun:
        lines.append(_Line(name="not sent yet", items=report.total - begun, left=report.total - begun))
    return [*lines, _sum(summary, lines)] if len(lines) > 1 else lines


def _line(share: ModelShare) -> _Line:
    return _Line(
        name=" ".join(printable(model_name(share.model, share.dialect)).splitlines()),
        items=share.items,
        done=share.done,
        failed=share.failed,
        left=share.items - share.done - share.failed,
        pictures=share.pictures,
        cost=cost_text(share.cost_at_least, share.cost_at_most, share.unpriced),
    )


def _sum(summary: Summary, lines: Sequence[_Line]) -> _Line:
    counts = {name: sum(getattr(line, name) for line in lines) for name in COUNTS}
    cost = cost_text(summary.cost_at_least, summary.cost_at_most, summary.unpriced)
    return _Line(name=ALL, cost=cost, **counts)


def _shortly_named(lines: Sequence[_Line]) -> Sequence[_Line]:
    """Return the lines with the names of models without their makers', unless two models have one name then."""
    short = [evolve(line, name=line.name.rpartition("/")[2] or line.name) for line in lines]
    return short if len({line.name for line in short}) == len(short) else lines


def _with_broken_costs(lines: Sequence[_Line]) -> Sequence[_Line]:
    """Return the lines with costs on two lines, where there is something beside an amount."""
    return [evolve(line, cost=line.cost.replace(" + ", "\n+ ").replace(" (", "\n(")) for line in lines]


def _shown(lines: Sequence[_Line]) -> list[str]:
    """Return the counts that say something: an item most often has one picture."""
    says_nothing = {name for name in ("failed", "left") if not any(_counts(lines, name))}
    if all(line.pictures == line.done for line in lines):
        says_nothing.add("pictures")
    return [name for name in COUNTS if name not in says_nothing]


def _table(lines: Sequence[_Line]) -> Table:
    shown = _shown(lines)
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    table.add_column("Model", no_wrap=True)
    for name in shown:
        table.add_column(name.capitalize(), justify="right", no_wrap=True)
    table.add_column("Cost", no_wrap=True)
    for line in lines:
        counts = (f"{getattr(line, name):,}" for name in shown)
        table.add_row(Text(line.name), *counts, line.cost, style="bold" if line.name == ALL else "")
    return table


def _counts(lines: Sequence[_Line], name: str) -> Iterator[int]:
    return (getattr(line, name) for line in lines)


def _stacked(line: _Line) -> Iterator[Text]:
    yield Text(line.name, style="bold", overflow="fold")
    counts = [f"{line.done:,} of {counted(line.items, 'item')} done"]
    counts += [f"{line.failed:,} failed"] if line.failed else []
    counts += [f"{line.left:,} left"] if line.left else []
    yield Text(f"  {', '.join(counts)}")
    if line.cost:
        yield Text(f"  {counted(line.pictures, 'picture')}, {line.cost}")
