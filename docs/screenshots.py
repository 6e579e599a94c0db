"""Makes docs/images: what a terminal shows of a run, and its gallery in a browser (`make screenshots`).

The run is a real one, of 48 pictures from an emulator, three of which are refused. The terminal is a pseudo-terminal;
its live line, which is gone at the end, stands where it was half way. The gallery needs Chromium; without it the old
pictures stay, and a line says so.
"""

from __future__ import annotations

import fcntl
import io
import json
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image
from rich.console import Console
from rich.text import Text

from nebula_async.emulator import Emulator

IMAGES = Path(__file__).parent / "images"
COLUMNS, ROWS = 108, 50
FAULTS = ("400=content_policy_violation:@11,30", "400=invalid_size:@20")
COMMAND = ("nebula-async", "bulk", "cats.jsonl", "--out", "cats", "--tier", "engineer-3")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
WINDOW = {"width": 1280, "height": 860}
LARGEST = 300_000
PATIENCE_MS = 120_000

SCHNELL, SDXL = "black-forest-labs/FLUX.1-schnell", "stabilityai/stable-diffusion-xl-base-1.0"
THINGS = ("a flying cat", "a cat in the rain", "an owl at dusk", "a fox in the snow", "a lighthouse", "a paper boat")
STYLES = ("in watercolour", "as a woodcut", "in the style of a travel poster", "at sunrise", "in fog", "made of glass")
SIZES = ((512, 512), (768, 512), (512, 768))

FONTS = re.compile(r"@font-face\s*\{.*?\}", re.DOTALL)
REDRAWN = "\r\x1b[K"


def prompts(pictures: int) -> Iterator[dict[str, object]]:
    """Yield the lines of the manifest, of two models and three sizes."""
    for number in range(pictures):
        width, height = SIZES[number % len(SIZES)]
        prompt = f"{THINGS[number % len(THINGS)]} {STYLES[number * 5 // 6 % len(STYLES)]}"
        row = {"prompt": prompt, "width": width, "height": height}
        yield row | ({"model": SDXL} if number % 4 == 3 else {"model": SCHNELL, "seed": 100 + number})


def run(folder: Path, pictures: int) -> str:
    """Run the job in a terminal of its own, and return all that this was sent."""
    (folder / "cats.jsonl").write_text("".join(json.dumps(line) + "\n" for line in prompts(pictures)))
    with Emulator(tier="engineer-3", latency=0.12, credit=50, faults=FAULTS) as emulator:
        environ = {
            "NEBULA_API_KEY": emulator.key,
            "NEBULA_BASE_URL": emulator.base_url,
            "NEBULA_INFERENCE_URL": emulator.inference_url,
            "NEBULA_ALLOWED_IMAGE_HOSTS": emulator.storage_host,
            "NEBULA_STATE_DIR": str(folder / "state"),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "TERM": "xterm-256color",
            "COLORTERM": "truecolor",
        }
        return in_terminal(folder, environ)


def in_terminal(folder: Path, environ: dict[str, str]) -> str:
    """Run the command in a pseudo-terminal, and return what it wrote."""
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    with subprocess.Popen(COMMAND, stdin=its, stdout=its, stderr=its, cwd=folder, env=environ) as process:  # noqa: S603
        os.close(its)
        written = b"".join(pieces(ours))
    os.close(ours)
    if process.returncode != 1:  # some are refused
        raise SystemExit(f"{' '.join(COMMAND)} ended with {process.returncode}:\n{written.decode()}")
    return written.decode()


def pieces(terminal: int) -> Iterator[bytes]:
    """Yield what comes from a terminal until its last program has ended."""
    while True:
        try:
            piece = os.read(terminal, 2**16)
        except OSError:  # as Linux says it
            return
        if not piece:
            return
        yield piece


def lines(written: str) -> list[str]:
    """Return the lines that were shown: those that stayed, and the live line as it was half way, where it was."""
    *parts, summary = written.replace("\r\n", "\n").split(REDRAWN)
    shown = [part for part in parts if part]
    half = next(part for part in shown[len(shown) // 2 :] if "\n" not in part)
    stayed = "".join(part[: part.rindex("\n") + 1] for part in shown if "\n" in part)
    return [f"$ {' '.join(COMMAND)}", *stayed.splitlines(), half.strip(), "", *summary.rstrip().splitlines()]


def draw_terminal(shown: list[str], images: Path) -> None:
    """Write the lines as an SVG that needs no font of the network."""
    console = Console(
        record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, color_system="truecolor", highlight=False
    )
    for line in shown:
        console.print(Text.from_ansi(line))
    svg = console.export_svg(title="", unique_id="terminal")
    (images / "terminal.svg").write_text(FONTS.sub("", svg).replace("Fira Code", "ui-monospace, Menlo, Consolas"))


def draw_gallery(page: Path, images: Path) -> None:
    """Write what a browser shows of the gallery, in its light and its dark form."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for name, scheme in (("gallery", "light"), ("gallery-dark", "dark")):
            window = browser.new_page(viewport=WINDOW, color_scheme=scheme, device_scale_factor=1.5)
            window.set_default_timeout(PATIENCE_MS)
            window.goto(page.as_uri())
            window.wait_for_load_state("networkidle")
            window.wait_for_function("[...document.images].every(image => image.complete)")
            write_small(window.screenshot(), images / f"{name}.webp")
        browser.close()


def write_small(png: bytes, target: Path) -> None:
    """Write a picture as a WebP as good as its size allows."""
    with Image.open(io.BytesIO(png)) as picture:
        for quality in range(90, 30, -10):
            picture.convert("RGB").save(target, quality=quality, method=6)
            if target.stat().st_size <= LARGEST:
                return


def draw(images: Path, *, pictures: int = 48) -> str:
    """Run the job, draw what was seen of it into a folder, and return what is there now, or is not."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        draw_terminal(lines(run(folder, pictures)), images)
        if CHROMIUM is None:
            return "Chromium is not installed: the pictures of the gallery stay as they are"
        draw_gallery(folder / "cats/gallery/index.html", images)
    return "\n".join(f"{path.name}: {path.stat().st_size // 1000} kB" for path in sorted(images.iterdir()))


if __name__ == "__main__":
    IMAGES.mkdir(exist_ok=True)
    sys.stdout.write(f"{draw(IMAGES)}\n")
