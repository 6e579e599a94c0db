"""The commands, each imported when it is called."""

from __future__ import annotations

from cyclopts import App, CycloptsError
from rich.console import Console

from nebula_async.config import VERSION


def _one_sentence(error: CycloptsError) -> str:
    return f"nebula-async: {error}"


app = App(
    name="nebula-async",
    help="Prompts in, image files out: the Nebula Block image API from a shell.",
    version=VERSION,
    error_console=Console(stderr=True, soft_wrap=True),
    error_formatter=_one_sentence,
)
for name in ("generate", "bulk", "models", "emulator"):
    app.command(f"nebula_async.cli.{name}:{name}", name=name)
