"""The parameters of a picture as options."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from attrs import asdict, frozen
from cyclopts import Parameter, Token

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


@frozen(kw_only=True)
class PictureParameters:
    """What a picture is made with."""

    model: str = DEFAULT_MODEL
    "The model's id; `nebula-async models` lists them."
    dialect: Literal["serverless", "inference"] = "serverless"
    "Which of the two APIs is asked; below is said what only one of them takes."
    width: Whole = None
    "Pixels (serverless)."
    height: Whole = None
    "Pixels (serverless)."
    num_steps: Whole = None
    "Denoising steps (serverless)."
    guidance_scale: float | None = None
    "How closely to follow the prompt (serverless)."
    seed: Whole = None
    "The same seed gives the same picture, where the model honours it; without one, it is chosen and told (serverless)."
    negative_prompt: str | None = None
    "What not to see, where the model honours it."
    image: str | None = None
    "The file of a picture to start from (serverless)."
    mask: str | None = None
    "The file of a picture of the same size: its white part is repainted, the black one is kept (serverless)."
    n: Annotated[Whole, Parameter(name="--n")] = None
    "How many pictures, 1 to 10 (inference)."
    size: str | None = None
    "Width x height in pixels, such as 1024x1024 (inference)."
    quality: Quality | None = None
    "The effort that is made (inference)."
    style: Style | None = None
    "The look (inference)."
    response_format: ResponseFormat | None = None
    "How pictures travel; those that come as a URL are fetched (inference)."

    def given(self) -> dict[str, Any]:
        """Return the parameters that were given, by name."""
        return {name: value for name, value in asdict(self).items() if value is not None}
