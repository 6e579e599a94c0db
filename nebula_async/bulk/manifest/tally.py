"""What many requests add up to: items, pictures and pixels for each model, and what will not be as it was asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TypeAlias

from attrs import define, field, frozen

from nebula_async.api.catalog import CATALOG, find_problems
from nebula_async.requests import ImageRequest, Request

USUAL_SIDE = 1024
"""Pixels, where a request does not say: every sample of the API has it."""

MOST_PROBLEMS = 1_000

Kind: TypeAlias = "tuple[str, str]"
"""The dialect and the model of a request."""


@frozen
class Share:
    """What is asked of one model: items (each is one request), their pictures, and the pixels of these."""

    items: int
    pictures: int
    pixels: int


@define(eq=False)
class Tally:
    """Counts requests; memory grows with the models that they name, not with them."""

    items: Counter[Kind] = field(factory=Counter, init=False)
    pictures: Counter[Kind] = field(factory=Counter, init=False)
    pixels: Counter[Kind] = field(factory=Counter, init=False)
    problems: Counter[str] = field(factory=Counter, init=False)

    def add(self, request: Request, times: int = 1) -> None:
        """Count a request; -1 times takes one back."""
        kind, pictures = (request.dialect, request.model), times * request.pictures
        self.items[kind] += times
        self.pictures[kind] += pictures
        self.pixels[kind] += pictures * _pixels(request)
        for problem in _problems(request):
            if problem in self.problems or len(self.problems) < MOST_PROBLEMS:
                self.problems[problem] += times

    def shares(self) -> Mapping[Kind, Share]:
        """Return what is asked of each model, the most first."""
        return {
            kind: Share(items, self.pictures[kind], self.pixels[kind])
            for kind, items in self.items.most_common()
            if items
        }


def _problems(request: Request) -> tuple[str, ...]:
    """Return what the model will not honour; of one that is not known nothing can be said."""
    is_known = isinstance(request, ImageRequest) and request.model in CATALOG
    return find_problems(request) if is_known else ()  # type: ignore[arg-type]


def _pixels(request: Request) -> int:
    if isinstance(request, ImageRequest):
        return (request.width or USUAL_SIDE) * (request.height or USUAL_SIDE)
    if request.size is None:
        return USUAL_SIDE**2
    width, _, height = request.size.partition("x")
    return int(width) * int(height)
