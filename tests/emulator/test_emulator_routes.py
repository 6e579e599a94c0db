"""Where the emulator answers, by which methods, and how it bears strange bytes and clients that hang up."""

import json
import socket
import time
from http.client import HTTPResponse

import httpx
import pytest

from nebula_async.emulator import submission as submission_module

SCHNELL = "black-forest-labs/FLUX.1-schnell"


@pytest.mark.parametrize("path", ["/images/generation", "/api/v1/images/generation"])
@pytest.mark.parametrize("method", ["POST", "GET"])
@pytest.mark.parametrize("spelling", ["model", "model_name"])
def test_the_samples_are_served_as_they_stand(rig, path, method, spelling):
    """GET with a body, the path doubled, and either spelling of the model, as the vendor's samples have them."""
    body = {spelling: SCHNELL, "prompt": "a flying cat", "width": 16, "height": 16, "negative_prompt": None}
    reply = rig.http.request(method, path, json=body)
    assert 200 == reply.status_code
    (record,) = rig.emulator.journal.generations
    assert (method, 1, SCHNELL) == (record.method, record.images_charged, record.model)
    assert reply.json()["data"][0]["b64_json"] == rig.ask().json()["data"][0]["b64_json"]


@pytest.mark.parametrize("path", ["/images/generation", "/api/v1/images/generation"])
@pytest.mark.parametrize("method", ["HEAD", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_no_other_method_makes_pictures(rig, path, method):
    """A method that is neither POST nor GET is a 405 that says so, makes nothing and is no request for a picture."""
    body = {"model": SCHNELL, "prompt": "x", "width": 8, "height": 8}
    reply = rig.http.request(method, path, json=body)
    assert (405, {"GET", "POST"}) == (reply.status_code, set(reply.headers["allow"].split(", ")))
    assert ((), 0) == (rig.emulator.journal.generations, rig.emulator.journal.charged)


def test_a_path_with_a_line_feed_is_unknown(rig):
    """Only the very path makes pictures: one that goes on with a line feed is a 404 and costs nothing."""
    assert [404, 404] == [rig.http.post(path, json={}).status_code for path in ("/images/generation%0A", "/images%0A")]
    assert () == rig.emulator.journal.generations


@pytest.mark.parametrize("path", ["/serverless/models", "/users/credits"])
def test_what_is_read_can_be_looked_up_by_head(rig, path):
    """HEAD of models and credit tells status and length without a body, as HTTP wants it."""
    got, looked_up = rig.http.get(path), rig.http.head(path)
    assert (200, b"", got.headers["content-length"]) == (
        looked_up.status_code,
        looked_up.content,
        looked_up.headers["content-length"],
    )


def test_any_content_type_is_read(rig):
    """A body is read as JSON whatever its type is called: curl says it is a form."""
    body = json.dumps({"model": SCHNELL, "prompt": "x", "width": 8, "height": 8})
    for kind in ("application/x-www-form-urlencoded", "text/plain", "application/json; charset=utf-8"):
        reply = rig.http.post("/images/generation", content=body, headers={"Content-Type": kind})
        assert 200 == reply.status_code


def test_unknown_paths_and_methods_are_told_without_an_echo(rig):
    """A wrong path is a 404 and a wrong method a 405, neither repeating what was asked."""
    missing, wrong = rig.http.get("/nothing/here"), rig.http.put("/images/generation")
    assert (404, {"detail": "Not Found"}) == (missing.status_code, missing.json())
    assert (405, {"detail": "Method Not Allowed"}) == (wrong.status_code, wrong.json())
    assert 404 == rig.http.get("/users/credits/").status_code


def test_a_client_that_hangs_up_is_charged_in_silence(start, capfd):
    """A client gone before its reply is charged all the same, and nothing is said on stderr."""
    rig = start(latency=0.1)
    request = {"model": SCHNELL, "prompt": "x", "width": 8, "height": 8}
    with pytest.raises(httpx.ReadTimeout):
        rig.http.post("/images/generation", json=request, timeout=httpx.Timeout(10, read=0.01))
    while not rig.emulator.journal.charged:
        time.sleep(0.001)
    assert 200 == rig.http.get("/users/credits").status_code
    assert ("", "") == capfd.readouterr()


def test_its_openapi_document_is_there_for_everyone(rig):
    """The document is read without a key, names this very server, and is no request for a picture."""
    origin = rig.emulator.base_url.removesuffix("/api/v1")
    reply = rig.stranger.get(f"{origin}/openapi.json")
    assert (200, "application/json") == (reply.status_code, reply.headers["content-type"])
    assert ("3.1.0", [{"url": origin}]) == (reply.json()["openapi"], reply.json()["servers"])
    assert ((), 1) == (rig.emulator.journal.generations, len(rig.emulator.journal.requests))


@pytest.mark.parametrize("path", ["/api/v1/images/generation", "/v1/images/generate"])
def test_a_body_that_does_not_come_is_not_waited_for(rig, monkeypatch, path):
    """A client that stops in the middle of its body is told so with a 408, in the envelope of its dialect."""
    monkeypatch.setattr(submission_module, "UPLOAD_SECONDS", 0.05)
    with socket.create_connection((rig.http.base_url.host, rig.http.base_url.port)) as slow:
        key = f"Authorization: Bearer {rig.emulator.key}"
        slow.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\n{key}\r\nContent-Length: 10\r\n\r\n{{".encode())
        reply = HTTPResponse(slow)
        reply.begin()
        said = json.loads(reply.read())
    assert 408 == reply.status
    assert "The request body did not arrive in time" in (said.get("message"), said.get("error", {}).get("message"))
    assert 0 == rig.emulator.journal.charged


def test_bytes_that_are_no_http_are_survived(rig, capfd):
    """Noise on the port is refused without a word on stderr, and others are served."""
    address = (rig.http.base_url.host, rig.http.base_url.port)
    with socket.create_connection(address) as noise:
        noise.sendall(b"\x16\x03\x01 this is not HTTP\r\n\r\n")
        assert noise.recv(1024).startswith(b"HTTP/1.1 400")
    assert 200 == rig.ask().status_code
    assert ("", "") == capfd.readouterr()


def test_the_control_paths_need_no_key_and_leave_no_trace(rig):
    """The journal and the reset can be reached by HTTP, without a key, and do not appear in the journal."""
    rig.ask()
    shown = _control(rig, "GET", "journal").json()
    assert (1, 1, "0.0019") == (len(shown["requests"]), shown["charged"], shown["spent"])
    assert shown == json.loads(json.dumps(rig.emulator.journal.as_dict()))
    assert 200 == _control(rig, "POST", "reset").status_code
    assert {"requests": [], "charged": 0, "spent": "0.0000"} == _control(rig, "GET", "journal").json()


def _control(rig, method, name):
    url = rig.emulator.base_url.removesuffix("/api/v1") + f"/_emulator/{name}"
    return httpx.request(method, url, trust_env=False)
