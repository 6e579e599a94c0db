"""The documents' curl samples, run by curl against the emulator: what they give, and what they give as printed."""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image as Pillow
from PIL import ImageChops, ImageStat

ROOT = Path(__file__).parent.parent
SCRIPTS = ROOT / "examples" / "curl"
SAMPLES = ROOT / "tests" / "samples"
PICTURES = ROOT / "examples" / "pictures"

SERVERLESS = {
    "'{API_URL}/api/v1/images/generation'": '"$NEBULA_BASE_URL/api/v1/images/generation"',
    "'Authorization: Bearer {TOKEN/KEY}'": '"Authorization: Bearer $NEBULA_API_KEY"',
}
CHANGES = {
    "serverless_text_to_image": SERVERLESS,
    "serverless_legacy_text_to_image": SERVERLESS,
    "serverless_image_to_image": {
        "https://api.nebulablock.com/api/v1": "$NEBULA_BASE_URL",
        "/9j/4…/Z": """'"$image"'""",
        "/9j/4…ACgD/9k=": """'"$mask"'""",
    },
    "inference_request": {
        "https://api.inference.nebulablock.com/v1/images/generate": '"$NEBULA_INFERENCE_URL/images/generate"',
        "YOUR_API_KEY": "$NEBULA_API_KEY",
    },
}
"""What stands in our scripts for what is printed: host, key and pictures; nothing else differs."""

MISSING = [name for name in ("sh", "curl", "base64") if shutil.which(name) is None]
needs_curl = pytest.mark.skipif(bool(MISSING), reason=f"not on this machine: {', '.join(MISSING)}")


@pytest.fixture
def run(emulator, tmp_path):
    """Run a script of the shell in an empty folder, by someone whose API is the emulator."""
    settings = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "NEBULA_API_KEY": emulator.key,
        "NEBULA_BASE_URL": emulator.base_url,
        "NEBULA_INFERENCE_URL": emulator.inference_url,
    }

    def _run(*command: str | Path, without: str = "") -> subprocess.CompletedProcess[str]:
        environ = {name: value for name, value in settings.items() if name != without}
        return subprocess.run(
            command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=60, check=False
        )

    return _run


def printed(name: str) -> str:
    """Return a sample as it was printed."""
    return (SAMPLES / f"{name}.curl.sh").read_text(encoding="utf-8")


def script(name: str) -> Path:
    """Return the script of a sample."""
    return SCRIPTS / f"{name.removesuffix('_request').replace('_', '-')}.sh"


def at_emulator(name: str, emulator) -> str:
    """Return a sample as it was printed, but for the host."""
    text = printed(name).replace("https://api.inference.nebulablock.com/v1", emulator.inference_url)
    return text.replace("https://api.nebulablock.com/api/v1", emulator.base_url).replace("{API_URL}", emulator.base_url)


def asked(name: str) -> dict[str, object]:
    """Return the fields that a sample asks with, as they were printed."""
    return json.loads(printed(name).split("'")[-2])


def size_of(picture: bytes) -> tuple[int, int]:
    """Decode a whole picture and return its size."""
    with Pillow.open(io.BytesIO(picture)) as decoded:
        decoded.load()
        return decoded.size


def difference_from_the_cat(picture: bytes, box: tuple[int, int, int, int]) -> float:
    """Return how far a picture of 1024x1024 is from what it was made of, from 0 to 255, inside of this box."""
    with Pillow.open(PICTURES / "cat.jpg") as cat, Pillow.open(io.BytesIO(picture)) as made:
        apart = ImageChops.difference(cat.resize(made.size).crop(box), made.crop(box))
        return max(ImageStat.Stat(apart).mean)


def test_every_sample_has_its_script():
    """Each curl sample of the documents can be run, and no other script stands among them."""
    samples = {path.name.removesuffix(".curl.sh") for path in SAMPLES.glob("*.curl.sh")}
    assert samples == CHANGES.keys()
    assert {script(name) for name in samples} == set(SCRIPTS.iterdir())


@pytest.mark.parametrize(("name", "changes"), CHANGES.items(), ids=CHANGES)
def test_a_script_is_the_printed_sample(name, changes):
    """Below its first lines, a script is the sample as printed, but for host, key and pictures."""
    expected = printed(name)
    for old, new in changes.items():
        assert 1 == expected.count(old)
        expected = expected.replace(old, new)
    _, _, ours = script(name).read_text(encoding="utf-8").partition("\n\n")
    assert expected == ours


def test_the_pictures_begin_as_printed():
    """Picture and mask are JPEG files, as those of the sample are, and small enough for an argument of a command."""
    printed_fields = asked("serverless_image_to_image")
    for field, name in (("image", "cat.jpg"), ("mask", "mask.jpg")):
        encoded = base64.b64encode((PICTURES / name).read_bytes()).decode()
        assert str(printed_fields[field]).split("…")[0] == encoded[:5]
        assert len(encoded) < 100_000


# With host, key and pictures


@needs_curl
@pytest.mark.parametrize("name", ["serverless_text_to_image", "serverless_legacy_text_to_image"])
def test_text_to_image(name, run, emulator):
    """GET with a body at the doubled path gives the documented reply in both spellings of `model`, charged once."""
    done = run("sh", script(name))
    assert 0 == done.returncode, done.stderr
    reply = json.loads(done.stdout)
    (picture,) = reply.pop("data")
    documented = json.loads((SAMPLES / "serverless_reply.json").read_text())
    documented.pop("data")
    assert {**documented, "model": "stabilityai/stable-diffusion-xl-base-1.0"} == reply
    assert ({"timings", "index", "b64_json"}, 0) == (picture.keys(), picture["index"])
    assert picture["timings"]["inference"] > 0
    assert (1024, 1024) == size_of(base64.b64decode(picture["b64_json"], validate=True))
    (record,) = emulator.journal.generations
    assert ("GET", "/api/v1/api/v1/images/generation") == (record.method, record.path)
    assert asked(name) == dict(record.fields)
    emulator.assert_charged(1)


@needs_curl
def test_image_to_image(run, emulator):
    """The picture comes back as large as asked for, new only where the mask is white, and is charged once."""
    done = run("sh", script("serverless_image_to_image"))
    assert 0 == done.returncode, done.stderr
    (made,) = json.loads(done.stdout)["data"]
    file = base64.b64decode(made["b64_json"], validate=True)
    assert (1024, 1024) == size_of(file)
    below, cap = (0, 512, 1024, 1024), (256, 192, 768, 384)
    assert difference_from_the_cat(file, below) < 1 < 20 < difference_from_the_cat(file, cap)
    (record,) = emulator.journal.generations
    assert ("POST", "/api/v1/images/generation") == (record.method, record.path)
    emulator.assert_charged(1)


@needs_curl
def test_inference(run, emulator):
    """The inference sample gives the documented reply; curl fetches its URL without a key, and all is charged once."""
    done = run("sh", script("inference_request"))
    assert 0 == done.returncode, done.stderr
    reply = json.loads(done.stdout)
    url = reply["data"]["images"][0]["url"]
    documented = (SAMPLES / "inference_reply.json").read_text()
    assert json.loads(documented.replace("https://storage.nebulablock.com/generated/abc123.png", url)) == reply
    assert 0 == run("curl", "--fail", "--output", "lake.png", url).returncode
    made, fetched = emulator.journal.requests
    assert ("POST", "/v1/images/generate", True) == (made.method, made.path, made.authorized)
    assert asked("inference_request") == dict(made.fields)
    assert ("storage", 200, False) == (fetched.origin, fetched.status, fetched.authorized)
    emulator.assert_charged(1)


@needs_curl
@pytest.mark.parametrize("name", CHANGES)
def test_a_missing_variable_is_named(name, run, emulator):
    """Without the URL in the environment a script sends nothing, and the shell says which variable is missing."""
    variable = "NEBULA_INFERENCE_URL" if name == "inference_request" else "NEBULA_BASE_URL"
    done = run("sh", script(name), without=variable)
    assert 0 != done.returncode
    assert variable in done.stderr
    assert () == emulator.journal.requests


# As printed


@needs_curl
def test_three_dots_are_no_picture(run, emulator):
    """As printed, with `…` for its pictures, the image-to-image sample is a 422 that says so, and costs nothing."""
    done = run("sh", "-c", at_emulator("serverless_image_to_image", emulator))
    message = "Input should be a base64-encoded JPEG, PNG or WebP picture"
    problem = {"loc": ["body", "image"], "msg": message, "type": "value_error"}
    assert {"detail": [problem]} == json.loads(done.stdout)
    assert [422] == [record.status for record in emulator.journal.generations]
    emulator.assert_charged(0)


@needs_curl
@pytest.mark.parametrize("name", ["serverless_text_to_image", "serverless_legacy_text_to_image"])
def test_the_serverless_placeholder_is_no_key(name, run, emulator):
    """As printed, with `{TOKEN/KEY}` for the key, the text-to-image samples are a 401 in the platform's words."""
    done = run("sh", "-c", at_emulator(name, emulator))
    refusal = {"status": "failed", "message": "Missing or invalid API key", "data": None}
    assert refusal == json.loads(done.stdout)
    assert [401] == [record.status for record in emulator.journal.generations]
    emulator.assert_charged(0)


@needs_curl
def test_the_inference_placeholder_is_no_key(run, emulator):
    """As printed, with `YOUR_API_KEY` for the key, the inference sample is a 401 in the documented envelope."""
    done = run("sh", "-c", at_emulator("inference_request", emulator))
    error = {"code": "unauthorized", "message": "Missing or invalid API key", "details": {}}
    assert {"status": "error", "error": error} == json.loads(done.stdout)
    assert [401] == [record.status for record in emulator.journal.generations]
    emulator.assert_charged(0)


@needs_curl
@pytest.mark.parametrize("name", ["serverless_text_to_image", "serverless_legacy_text_to_image"])
def test_the_host_has_to_be_filled_in(name, run, tmp_path):
    """Wholly as printed, curl takes `{API_URL}` for a host of the name API_URL and cannot resolve it: its error 6."""
    # No name server is asked: it is another machine's, and may answer anything.
    (tmp_path / ".curlrc").write_text('doh-url = "https://127.0.0.1:1/"\n')
    done = run("sh", SAMPLES / f"{name}.curl.sh")
    assert (6, "") == (done.returncode, done.stdout)
    assert "curl: (6)" in done.stderr
