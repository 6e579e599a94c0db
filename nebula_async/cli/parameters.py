"""The parameters of a picture as options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from attrs import asdict, frozen
from cyclopts import Parameter

from nebula_async.requests import Quality, ResponseFormat, Style

DEFAULT_MODEL = "black-forest-labs/FLUX.1-schnell"


@frozen(kw_only=True)
class PictureParameters:
    """What a picture is made with."""

    model: str = DEFAULT_MODEL
    "The model's id; `nebula-async models` lists them."
    dialect: Literal["serverless", "inference"] = "serverless"
    "Which of the two APIs is asked; below is said what only one of them takes."
    width: int | None = None
    "Pixels (serverless)."
    height: int | None = None
    "Pixels (serverless)."
    num_steps: int | None = None
    "Inference steps (serverless)."
    guidance_scale: float | None = None
    "How closely to follow the prompt (serverless)."
    seed: int | None = None
    "The same seed gives the same picture, where the model honours it; without one, it is chosen and told (serverless)."
    negative_prompt: str | None = None
    "What not to see, where the model honours it."
    image: Path | None = None
    "A picture to start from (serverless)."
    mask: Path | None = None
    "Which part of that picture is repainted: white is, black is kept (serverless)."
    n: Annotated[int | None, Parameter(name="--n")] = None
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
