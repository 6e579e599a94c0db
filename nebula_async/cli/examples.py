"""Two examples for the help of each command; the suite runs them all."""

from __future__ import annotations

from collections.abc import Mapping

EXAMPLES: Mapping[str, tuple[str, str]] = {
    "generate": (
        'nebula-async generate "a flying cat" -o cat',
        'nebula-async generate "a lake at dawn" --width 512 --height 512 --seed 7 --provenance',
    ),
    "bulk": (
        "nebula-async bulk prompts.txt --out cats --max-cost 5",
        "nebula-async bulk prompts.txt --emulator",
    ),
    "plan": (
        "nebula-async plan prompts.txt --tier engineer-1",
        "nebula-async plan prompts.txt --out cats --repeat 4 --json",
    ),
    "report": (
        "nebula-async report cats",
        "nebula-async report cats --json",
    ),
    "gallery": (
        "nebula-async gallery cats",
        "nebula-async bulk prompts.txt --no-gallery && nebula-async gallery prompts",
    ),
    "export": (
        "nebula-async export cats --format webdataset",
        "nebula-async export cats --format parquet --to dataset --shard-size 500MB",
    ),
    "rebuild": (
        "nebula-async rebuild cats",
        "nebula-async rebuild cats && nebula-async bulk prompts.txt --out cats",
    ),
    "inspect": (
        "nebula-async inspect cat.png",
        "nebula-async inspect cat.png --json",
    ),
    "reproduce": (
        "nebula-async reproduce cat.png",
        "nebula-async reproduce cat.png -o again --emulator",
    ),
    "models": (
        "nebula-async models",
        "nebula-async models --emulator",
    ),
    "emulator": (
        "nebula-async emulator --port 8080",
        "nebula-async emulator --port 0 --tier engineer-1 --fault 429:0.05",
    ),
    "doctor": (
        "nebula-async doctor",
        "nebula-async doctor --emulator --json",
    ),
    "completion": (
        "nebula-async completion bash --install",
        "nebula-async completion zsh > _nebula-async",
    ),
}


def examples_of(command: str) -> str:
    """Return the examples of a command as the end of its help."""
    return "  \n".join(["Examples:", *(f"`{line}`" for line in EXAMPLES[command])])
