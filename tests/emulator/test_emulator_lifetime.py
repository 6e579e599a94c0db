"""Starting and stopping: ports, threads, signals."""

import contextlib
import gc
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from urllib.parse import urlsplit

import httpx
import pytest

from nebula_async.emulator import Emulator


def test_it_listens_on_loopback_only():
    """Unless told otherwise, nobody but this machine can reach it."""
    with Emulator() as emulator:
        assert emulator.base_url.startswith("http://127.0.0.1:")
        assert emulator.base_url.endswith("/api/v1")


def test_a_port_in_use_is_an_os_error():
    """A busy port raises a plain OSError, and no thread is left behind."""
    threads = threading.active_count()
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        with pytest.raises(OSError, match="in use"), Emulator(port=port):
            pass
        with pytest.raises(OSError, match="in use"):
            Emulator(port=port).serve_forever()
    assert threads == threading.active_count()


def test_it_stops_at_once_with_connections_open():
    """A connection that waits for its reply holds up neither others nor, like an idle one, the end."""
    threads = threading.active_count()
    with httpx.Client(trust_env=False) as http:
        with Emulator(faults=("delay=60:@1",)) as emulator:
            headers = {"Authorization": f"Bearer {emulator.key}"}
            assert 200 == http.get(f"{emulator.base_url}/users/credits", headers=headers).status_code
            waiting = threading.Thread(target=_wait_for_reply, args=(emulator.base_url, headers))
            waiting.start()
            while not emulator.journal.charged:
                time.sleep(0.001)
            _ask(emulator)
            leaving = time.monotonic()
        assert time.monotonic() - leaving < 30  # and not 60
        waiting.join()
    assert threads == threading.active_count()


def test_the_port_is_free_afterwards():
    """After the block the port can be bound again, by another emulator too."""
    with Emulator() as emulator:
        port = int(emulator.base_url.split(":")[2].split("/")[0])
    with Emulator(port=port) as again:
        assert f"http://127.0.0.1:{port}/api/v1" == again.base_url


def test_the_journal_outlives_the_server():
    """What was charged can be read after the emulator has stopped; its address cannot."""
    with Emulator() as emulator:
        _ask(emulator)
    assert 1 == emulator.journal.charged
    with pytest.raises(RuntimeError, match="not running"):
        _ = emulator.base_url


def test_it_can_be_entered_again():
    """An emulator that has stopped can be started again, and remembers."""
    emulator = Emulator()
    for count in (1, 2):
        with emulator:
            _ask(emulator)
        assert count == emulator.journal.charged


def test_it_cannot_be_entered_twice_at_once():
    """A running emulator refuses to be started a second time."""
    with Emulator() as emulator, pytest.raises(RuntimeError, match="already running"):
        emulator.__enter__()


def test_the_callers_own_error_comes_out_bare():
    """An exception inside the block stops the emulator and passes unchanged."""
    with pytest.raises(LookupError, match="mine"), Emulator():
        raise LookupError("mine")


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_serving_for_ever_ends_at_a_signal(sent):
    """`serve_forever` serves until Ctrl-C or a termination, then returns, with nothing on stderr."""
    program = (
        "from nebula_async.emulator import Emulator\n"
        "Emulator().serve_forever(ready=lambda emulator: print(emulator.base_url, flush=True))\n"
        "print('returned')\n"
    )
    command = [sys.executable, "-X", "dev", "-c", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        url = process.stdout.readline().strip()
        assert 401 == httpx.get(f"{url}/users/credits", trust_env=False).status_code
        process.send_signal(sent)
        out, err = process.communicate(timeout=60)
    assert (0, "returned\n", "") == (process.returncode, out, err)


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_who_comes_as_it_stops_is_hung_up_on():
    """A connection that is made in the very moment in which the emulator stops is closed like all others."""
    come = []

    def come_and_stop(emulator):
        address = urlsplit(emulator.base_url)
        come.extend(socket.create_connection((address.hostname, address.port), 5) for _ in range(3))
        signal.raise_signal(signal.SIGINT)  # it is told of both in the same round of its loop

    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        Emulator().serve_forever(ready=come_and_stop)
        gc.collect()
    for connection in come:
        with connection, contextlib.suppress(ConnectionError):
            assert b"" == connection.recv(1)
    assert 3 == len(come)
    assert [] == [str(each.message) for each in warned]


def _ask(emulator):
    headers = {"Authorization": f"Bearer {emulator.key}"}
    body = {"model": "black-forest-labs/FLUX.1-schnell", "prompt": "a cat", "width": 8, "height": 8}
    with httpx.Client(trust_env=False) as http:
        assert 200 == http.post(f"{emulator.base_url}/images/generation", json=body, headers=headers).status_code


def _wait_for_reply(url, headers):
    body = {"model": "black-forest-labs/FLUX.1-schnell", "prompt": "a cat", "width": 8, "height": 8}
    with httpx.Client(trust_env=False, timeout=30) as http, pytest.raises(httpx.TransportError):
        http.post(f"{url}/images/generation", json=body, headers=headers)
