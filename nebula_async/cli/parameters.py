"""The parameters of a picture as options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from attrs import asdict, frozen
from cyclopts import Group, Parameter, Token

from nebula_async.requests import Quality, ResponseFormat, Style

DEFAULT_MODEL = "black-forest-labs/FLUX.1-schnell"


def _read_whole(_kind: object, tokens: Sequence[Token]) -> int:
    text = tokens[0].value
    try:
        return int(text)
    except ValueError:
        raise ValueError(f'unable to convert "{text}" into a whole number') from None


Whole = Annotated[int | None, Parameter(converter=_read_whole)]
"""A whole number as it is written; cyclopts itself would round 2.5."""


if TYPE_CHECKING:
    FileName: TypeAlias = str
else:
    FileName = str | Path
    """The name of a file, or a place elsewhere: it stays text, as cyclopts tries that first; shells complete it."""

TierName: TypeAlias = Literal["engineer-1", "engineer-2", "engineer-3", "expert-1", "expert-2"]
"""The names of `config.TIERS`, for help and shells."""


def _known_models(_context: object) -> Mapping[str, str]:
    """Return what a shell offers for a model: those that are built in, as no shell waits for the network."""
    from nebula_async.api.catalog import CATALOG

    return {model.id: model.name for model in CATALOG.values()}


Serverless = Parameter(group=Group("Serverless API only", sort_key=1))
Inference = Parameter(group=Group("Inference API only", sort_key=2))


@frozen(kw_only=True)
class PictureParameters:
    """What a picture is made with."""

    model: Annotated[str, Parameter(completer=_known_models)] = DEFAULT_MODEL
    "The model's id; `nebula-async models` lists them."
    dialect: Literal["serverless", "inference"] = "serverless"
    "Which of the two APIs is asked."
    negative_prompt: str | None = None
    "What not to see, where the model honours it."
    width: Annotated[Whole, Serverless] = None
    "Pixels."
    height: Annotated[Whole, Serverless] = None
    "Pixels."
    num_steps: Annotated[Whole, Serverless] = None
    "Denoising steps."
    guidance_scale: Annotated[float | None, Serverless] = None
    "How closely to follow the prompt."
    seed: Annotated[Whole, Serverless] = None
    "The same seed gives the same picture, where the model honours it; without one, it is chosen and told."
    image: Annotated[FileName | None, Serverless] = None
    "The file of a picture to start from."
    mask: Annotated[FileName | None, Serverless] = None
    "The file of a picture of the same size: its white part is repainted, the black one is kept."
    n: Annotated[Whole, Inference, Parameter(name="--n")] = None
    "How many pictures, 1 to 10."
    size: Annotated[str | None, Inference] = None
    "Width x height in pixels, such as 1024x1024."
    quality: Annotated[Quality | None, Inference] = None
    "The effort that is made."
    style: Annotated[Style | None, Inference] = None
    "The look."
    response_format: Annotated[ResponseFormat | None, Inference] = None
    "How pictures travel; those that come as a URL are fetched."

    def given(self) -> dict[str, Any]:
        """Return the parameters that were given, by name."""
        return {name: value for name, value in asdict(self).items() if value is not None}
