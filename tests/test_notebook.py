"""A notebook shows pictures where there are pictures, and a cell that is stopped harms no other."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pybase64
import pytest
from PIL import Image as Pillow
from places import announced

from nebula_async.emulator import Emulator

NOTEBOOK = Path(__file__).parent.parent / "examples/notebook.ipynb"

JUPYTER = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")

STOPPED = [
    """
import os, signal, threading
from nebula_async import AsyncNebula
from nebula_async.events import Sent

def press_stop(event):
    if isinstance(event, Sent) and not stopped.is_set():
        stopped.set()
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()

stopped = threading.Event()
nebula = AsyncNebula(observer=press_stop)
cat = {"prompt": "a cat", "model": "black-forest-labs/FLUX.1-schnell", "width": 64, "height": 64}
""",
    "await nebula.generate(**cat)",
    "await nebula.generate(**cat)",
    "print(nebula.limits.in_flight)\nawait nebula.aclose()",
]
"""Cells, in the second of which somebody presses the stop button, once its request has left."""


def cell(text: str) -> dict[str, object]:
    """Return a cell of code that was never run."""
    return {"cell_type": "code", "execution_count": None, "metadata": {}, "outputs": [], "source": text}


def execute(notebook: dict[str, object], folder: Path, environ: dict[str, str]) -> list[list[dict[str, object]]]:
    """Run a notebook by `jupyter execute` in a kernel of its own, and return the outputs of each of its code cells."""
    (folder / "given.ipynb").write_text(json.dumps(notebook))
    clean = {name: value for name, value in os.environ.items() if not name.startswith("NEBULA_")}
    subprocess.run(
        [Path(sys.executable).with_name("jupyter-execute"), "given.ipynb", "--output=run.ipynb", "--allow-errors"],
        cwd=folder,
        env=clean | {name: str(folder / name.lower()) for name in JUPYTER} | environ,
        capture_output=True,
        check=True,
        timeout=60,
    )
    cells = json.loads((folder / "run.ipynb").read_text())["cells"]
    return [found["outputs"] for found in cells if found["cell_type"] == "code"]


def sizes(output: dict[str, object]) -> list[tuple[int, int]]:
    """Return the sizes of the pictures of an output, decoded: those shown by their type, and those in its HTML."""
    data = output.get("data", {})
    found = [data[kind] for kind in ("image/png", "image/jpeg") if kind in data]
    found += re.findall(r'src="data:image/\w+;base64,([^"]+)"', "".join(data.get("text/html", "")))
    return [Pillow.open(io.BytesIO(pybase64.b64decode("".join(text)))).size for text in found]


@pytest.mark.parametrize("is_with_key", [True, False], ids=["with a key", "without one"])
def test_the_notebook_shows_pictures(is_with_key, emulator, tmp_path):
    """The example runs with a key and, on a Nebula Block of its own, without one; every cell shows what it should."""
    notebook = json.loads(NOTEBOOK.read_text())
    outputs = execute(notebook, tmp_path, announced(emulator) if is_with_key else {})

    assert [] == [output for each in outputs for output in each if output["output_type"] == "error"]
    shown = [[size for output in each for size in sizes(output)] for each in outputs]
    small = (256, 256)
    assert [[], [(512, 384)], [], [small] * 3, [], [small] * 3, [small] * 2, [small], [], []] == shown
    assert "done=2" in "".join(outputs[-2][0]["data"]["text/plain"])
    assert (tmp_path / "cats/gallery/index.html").is_file()
    assert {"width": 512, "height": 384} == outputs[1][0]["metadata"]["image/png"]
    assert (512, 384) == Pillow.open(io.BytesIO((tmp_path / "cat.png").read_bytes())).size
    assert bool(emulator.journal.charged) == is_with_key


def test_a_failure_is_told_in_a_notebook(emulator, tmp_path):
    """Among pictures and by itself, a failure is a text that says what was wrong; a prompt is never markup."""
    outputs = execute(json.loads(NOTEBOOK.read_text()), tmp_path, announced(emulator))
    several, alone = outputs[3][0]["data"], outputs[4][0]["data"]
    page = "".join(several["text/html"])

    assert "3 of 4 done" in page
    assert "InvalidRequestError: prompt must be text that is not blank" in page
    assert "&lt;b&gt;a bold cat&lt;/b&gt;" in page
    assert "<b>" not in page
    assert ["text/plain"] == list(alone)
    assert "prompt must be text that is not blank" in "".join(alone["text/plain"])


def test_the_notebook_is_kept_clean():
    """The example holds no outputs, no numbers of runs and no trace of anybody's machine."""
    notebook = json.loads(NOTEBOOK.read_text())
    cells = [each for each in notebook["cells"] if each["cell_type"] == "code"]
    assert [] == [output for each in cells for output in each["outputs"]]
    assert {None} == {each["execution_count"] for each in cells}
    assert {"kernelspec", "language_info"} == set(notebook["metadata"])
    assert {"name": "python"} == notebook["metadata"]["language_info"]
    assert not re.search(r"/(home|root|work|tmp|Users)/", NOTEBOOK.read_text())


def test_a_cell_can_be_stopped(tmp_path):
    """The stop button ends the call that waits, whatever the API does meanwhile; the client works on in the next."""
    with Emulator(faults=["delay=3:@1"]) as emulator:
        notebook = {"cells": [cell(text) for text in STOPPED], "metadata": {}, "nbformat": 4, "nbformat_minor": 4}
        first, stopped, after, last = execute(notebook, tmp_path, announced(emulator))

    assert [] == first
    assert ["error"] == [output["output_type"] for output in stopped]
    assert [(64, 64)] == sizes(after[0])
    assert "0\n" == "".join(last[0]["text"])
