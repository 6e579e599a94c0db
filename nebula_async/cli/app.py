"""The commands."""

from __future__ import annotations

from cyclopts import App, CycloptsError, UnusedCliTokensError
from rich.console import Console
from rich.text import Text

from nebula_async.cli.bulk import bulk
from nebula_async.cli.connection import printable
from nebula_async.cli.emulator import emulator
from nebula_async.cli.generate import generate
from nebula_async.cli.models import models
from nebula_async.config import VERSION


def _one_sentence(error: CycloptsError) -> Text:
    text = f"{error}"
    if isinstance(error, UnusedCliTokensError):
        text = f"not understood: {' '.join(error.unused_tokens or ())}; a prompt of several words is written in quotes"
    return Text(printable(f"nebula-async: {text}"))


app = App(
    name="nebula-async",
    help="Prompts in, image files out: the Nebula Block image API from a shell.",
    version=VERSION,
    error_console=Console(stderr=True, soft_wrap=True),
    error_formatter=_one_sentence,
)
for command in (generate, bulk, models, emulator):
    app.command(command)
