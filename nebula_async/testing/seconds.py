"""What tests may say of time."""

from __future__ import annotations

import math
from typing import Any

from nebula_async.checks import shown


def check_seconds(seconds: Any) -> None:
    """Refuse what is no number of seconds, 0 or more. Raises `ValueError`."""
    is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if not (is_number and math.isfinite(seconds) and seconds >= 0):
        raise ValueError(f"seconds must be a number, 0 or more; got {shown(seconds)}")
