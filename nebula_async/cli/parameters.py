"""The parameters of a picture as options."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from attrs import asdict, frozen

DEFAULT_MODEL = "black-forest-labs/FLUX.1-schnell"


@frozen(kw_only=True)
class PictureParameters:
    """What a picture is made with."""

    model: str = DEFAULT_MODEL
    "The model's id; `nebula-async models` lists them."
    width: int | None = None
    "Pixels."
    height: int | None = None
    "Pixels."
    num_steps: int | None = None
    "Inference steps."
    guidance_scale: float | None = None
    "How closely to follow the prompt."
    seed: int | None = None
    "The same seed gives the same picture, where the model honours it; without one, it is chosen and told."
    negative_prompt: str | None = None
    "What not to see, where the model honours it."
    image: Path | None = None
    "A picture to start from."
    mask: Path | None = None
    "Which part of that picture is repainted: white is, black is kept."

    def given(self) -> dict[str, Any]:
        """Return the parameters that were given, by name."""
        return {name: value for name, value in asdict(self).items() if value is not None}
