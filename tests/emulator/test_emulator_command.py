"""`nebula-async emulator`, as a shell starts it."""

import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

PROGRAM = "import sys; from nebula_async.cli import main; sys.exit(main())"


def _command(*words: object) -> list[str]:
    return [sys.executable, "-c", PROGRAM, "emulator", *map(str, words)]


@contextmanager
def _running(*words: object) -> Iterator[dict[str, str]]:
    """Start the emulator and give what it announces; it is interrupted at the end."""
    command = _command("--port", 0, "--latency", 0, *words)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        lines = [process.stdout.readline().removeprefix("export ").strip() for _ in range(4)]
        try:
            yield dict(line.split("=", 1) for line in lines)
        finally:
            process.send_signal(signal.SIGINT)
            assert 0 == process.wait(10)


def _infer(announced, **fields):
    headers = {"Authorization": f"Bearer {announced['NEBULA_API_KEY']}"}
    body = {"model": "sdxl", "prompt": "x", "size": "8x8"} | fields
    url = f"{announced['NEBULA_INFERENCE_URL']}/images/generate"
    return httpx.post(url, json=body, headers=headers, trust_env=False)


def test_it_announces_all_that_a_client_needs():
    """Four lines on stdout, to be evaluated by a shell, say where both dialects and the pictures are, and the key."""
    with _running("--key", "sk-mine", "--expired-status", 403, "--url-seconds", 0) as announced:
        names = ["NEBULA_BASE_URL", "NEBULA_API_KEY", "NEBULA_INFERENCE_URL", "NEBULA_ALLOWED_IMAGE_HOSTS"]
        assert names == list(announced)
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/api/v1", announced["NEBULA_BASE_URL"])
        assert announced["NEBULA_BASE_URL"].replace("/api/v1", "/v1") == announced["NEBULA_INFERENCE_URL"]
        (image,) = _infer(announced).json()["data"]["images"]
        assert image["url"].startswith(f"http://{announced['NEBULA_ALLOWED_IMAGE_HOSTS']}/generated/")
        assert 403 == httpx.get(image["url"], trust_env=False).status_code


def test_its_ports_and_windows_can_be_chosen():
    """The port of the pictures and the way a minute is counted are options of the command, too."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with _running("--storage-port", port, "--window", "sliding", "--tier", "engineer-1") as announced:
        assert f"127.0.0.1:{port}" == announced["NEBULA_ALLOWED_IMAGE_HOSTS"]
        assert 200 == _infer(announced).status_code


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--storage-port", 8080), "storage_port is 8080, as is port"),
        (("--url-seconds", -1), "url_seconds is -1.0; allowed is a number of seconds"),
    ],
)
def test_wrong_use_is_told_in_one_sentence(words, said):
    """An option that cannot be is refused with 2, with what was given and what is allowed."""
    done = subprocess.run(_command(*words), capture_output=True, text=True, check=False)
    assert (2, "", 1) == (done.returncode, done.stdout, done.stderr.count("\n"))
    assert f"nebula-async: {said}" in done.stderr


def test_a_busy_port_is_told_with_its_option():
    """A port that cannot be had is named together with the option that chooses another."""
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        for option in ("--port", "--storage-port"):
            words = {"--port": 0, "--storage-port": 0} | {option: port}
            command = _command(*(word for pair in words.items() for word in pair))
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            expected = f"cannot listen on 127.0.0.1:{port}: Address already in use; choose another {option} or --host"
            assert (2, f"nebula-async: {expected}\n") == (done.returncode, done.stderr)
