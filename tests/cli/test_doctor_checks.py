"""What a doctor finds of the API, the network, proxies and certificates, on both event loops."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import ExitStack

import pytest
from certificates import speaks_tls
from doctor_servers import CREDITS, CREDITS_AT, MODELS, MODELS_AT, REPLIES, ApiServer, TunnelProxy, mute, serving
from places import deaf

from nebula_async.cli.doctor.checks import Place, check_all
from nebula_async.cli.doctor.finding import Finding
from nebula_async.config import Config

pytestmark = pytest.mark.anyio

CANARY = "sk-canary-5cXq0Wv7Zt2LrB8nKd4M"


@pytest.fixture
def serve():
    """Let servers answer until the test ends."""
    with ExitStack() as stack:
        yield lambda server: stack.enter_context(serving(server))


@pytest.fixture(autouse=True)
def _own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))


async def examine(url: str, *, inference_url: str | None = None, seconds: float = 9.0, **settings) -> list[Finding]:
    """Return what is found of the API at a URL; the other API is at the same one, so it is called once."""
    config = Config(base_url=url, inference_url=inference_url or url, **settings)
    return await check_all(Place(config, {"NEBULA_API_KEY": CANARY}, ()), seconds=seconds)


def about(findings: list[Finding], name: str) -> Finding:
    """Return the finding about something."""
    return next(finding for finding in findings if finding.about == name)


def problems(findings: list[Finding]) -> list[str]:
    """Return what would stop a run."""
    return [finding.about for finding in findings if finding.state == "problem"]


REFUSALS = {
    "malformed": ({CREDITS_AT: (401, {"detail": "bad"})}, "key", "problem", "HTTP 401"),
    "unknown": ({CREDITS_AT: (404, {"detail": "no such user"})}, "key", "problem", "HTTP 404"),
    "forbidden": ({CREDITS_AT: (403, {"detail": "no"})}, "key", "problem", "HTTP 403"),
    "no money": ({CREDITS_AT: (200, {"data": {"available_balance": "0.00"}})}, "balance", "problem", "$0.00"),
    "no balance": ({CREDITS_AT: (200, {"data": {}})}, "balance", "note", "no balance"),
    "throttled": ({CREDITS_AT: (429, {"detail": "slow"})}, "balance", "note", "HTTP 429"),
    "gateway": ({CREDITS_AT: (502, b"<html>bad gateway</html>")}, "balance", "problem", "HTTP 502"),
    "no models": ({MODELS_AT: (200, {"data": {"models": []}})}, "models", "problem", "lists no model"),
    "broken models": ({MODELS_AT: (200, b'{"data": ')}, "models", "note", ""),
    "hostile models": ({MODELS_AT: (200, b"\x1b[31m" * 100)}, "models", "note", ""),
    "unpriced": (
        {MODELS_AT: (200, {"data": {"models": [*MODELS["data"]["models"], {"model_name": "new/one"}]}})},
        "models",
        "note",
        "no price is known for new/one",
    ),
    "other models": (
        {MODELS_AT: (200, {"data": {"models": [{"model_name": "new/one", "price": 0.1}]}})},
        "models",
        "note",
        "FLUX.1-schnell, which is used by default, is not among them",
    ),
}


@pytest.mark.parametrize(("replies", "name", "state", "text"), REFUSALS.values(), ids=REFUSALS)
async def test_what_the_api_says(serve, replies, name, state, text):
    """Whatever the API answers is one line with advice, and a problem only where it would stop a run."""
    findings = await examine(serve(ApiServer({**REPLIES, **replies})).url)
    found = [each for each in findings if each.about == name and each.state != "ok"]

    assert [state] == [each.state for each in found]
    assert text in found[0].text
    assert found[0].advice
    assert ([name] if state == "problem" else []) == problems(findings)


@pytest.mark.parametrize("status", [401, 404])
async def test_a_key_that_is_refused_is_told_once(serve, status):
    """Every question is answered alike, in whatever words; that is one problem."""
    replies = {CREDITS_AT: (status, {"detail": "API key not found"}), MODELS_AT: (status, {"detail": "no such key"})}

    assert ["key"] == problems(await examine(serve(ApiServer(replies)).url))


@pytest.mark.parametrize(("ahead", "state", "text"), [(0, "ok", "agrees"), (-7200, "note", "2 h 0 min ahead")])
async def test_the_clock(serve, ahead, state, text):
    """A clock that is wrong is noticed: the day's quota and the URLs of pictures go by it."""
    clock = about(await examine(serve(ApiServer(ahead=ahead)).url), "clock")

    assert (state, True) == (clock.state, text in clock.text)


async def test_a_balance_of_many_decimals(serve):
    """A balance is an amount as people read it."""
    replies = {**REPLIES, CREDITS_AT: (200, {**CREDITS, "data": {"available_balance": "1228.55600"}})}

    assert "$1,228.556" == about(await examine(serve(ApiServer(replies)).url), "balance").text


# TLS


@pytest.mark.usefixtures("trusted")
async def test_a_certificate_that_is_trusted(serve, authority):
    """Over TLS the certificate's end is told, and the API answers."""
    findings = await examine(serve(ApiServer(tls=speaks_tls(authority, "localhost"))).url)

    tls = about(findings, "serverless: TLS")
    assert ("ok", 89) == (tls.state, tls.facts["days_left"])
    assert "TLSv1.3" in tls.text
    assert ("ok", "ok") == (about(findings, "API").state, about(findings, "balance").state)
    assert [] == problems(findings)


@pytest.mark.usefixtures("trusted")
async def test_a_certificate_that_ends_soon(serve, authority):
    """A certificate that nobody renewed is noticed days before it ends."""
    findings = await examine(serve(ApiServer(tls=speaks_tls(authority, "localhost", days=3.5))).url)

    tls = about(findings, "serverless: TLS")
    assert ("note", 3) == (tls.state, tls.facts["days_left"])


UNTRUSTED = {
    "expired": (["localhost"], -1, "certificate has expired", "is this machine's clock right?"),
    "wrong host": (["api.example"], 90, "Hostname mismatch", "another server answers under that name"),
}


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize(("names", "days", "text", "advice"), UNTRUSTED.values(), ids=UNTRUSTED)
async def test_a_certificate_that_is_not_trusted(serve, authority, names, days, text, advice):
    """A server that cannot prove its name gets no key, and the line says what that usually means."""
    server = serve(ApiServer(tls=speaks_tls(authority, *names, days=days)))
    findings = await examine(server.url)

    tls = about(findings, "serverless: TLS")
    assert ("problem", True, True) == (tls.state, text in tls.text, advice in tls.advice)
    assert ([], ["serverless: TLS"]) == (server.requests, problems(findings))


async def test_an_authority_that_nobody_knows(serve, authority):
    """Where a company's proxy looks into TLS, the line names the variable for its certificates."""
    server = serve(ApiServer(tls=speaks_tls(authority, "localhost")))
    tls = about(await examine(server.url), "serverless: TLS")

    assert ("problem", True) == (tls.state, "SSL_CERT_FILE" in tls.advice)
    assert [] == server.requests


async def test_no_tls_at_a_port(serve):
    """A port that speaks plain HTTP is told from one with a bad certificate."""
    url = serve(ApiServer()).url.replace("http:", "https:")

    assert "no TLS is spoken at this port" == about(await examine(url), "serverless: TLS").text


async def test_a_store_that_is_not_there(monkeypatch, serve):
    """SSL_CERT_FILE with a typing error is noticed, which OpenSSL passes over."""
    server = serve(ApiServer())
    config = Config(base_url=server.url, inference_url=server.url)
    environ = {"NEBULA_API_KEY": CANARY, "SSL_CERT_FILE": "/no/such.pem"}

    assert "note" == about(await check_all(Place(config, environ, ())), "trust").state


# Proxies. What is called lies behind them, under a name that nobody else knows.

BEYOND = "https://api.nebula.test/api/v1"


@pytest.mark.usefixtures("trusted")
async def test_a_proxy_that_lets_us_pass(serve, authority):
    """Through a proxy the way is told step by step, and the API answers at its end; it finds the name by itself."""
    server = serve(ApiServer(tls=speaks_tls(authority, "api.nebula.test")))
    proxy = serve(TunnelProxy(server.server_address))
    findings = await examine(BEYOND, proxy=f"http://jane:hunter2@{proxy.place}")

    assert [] == problems(findings)
    assert ["ok"] * 4 == [
        about(findings, name).state for name in ("proxy: connection", "serverless: tunnel", "serverless: TLS", "API")
    ]
    assert {("api.nebula.test:443", "Basic amFuZTpodW50ZXIy")} == set(proxy.asked)
    assert not any("hunter2" in str(finding) or "amFuZTpodW50ZXIy" in str(finding) for finding in findings)


@pytest.mark.parametrize(
    ("status", "advice"), [(407, "put user and password into NEBULA_PROXY"), (403, "allow api.neb")]
)
async def test_a_proxy_that_refuses(serve, status, advice):
    """A proxy that wants a password, or forbids the host, is told with what to do about it."""
    proxy = serve(TunnelProxy(("127.0.0.1", 9), status))
    tunnel = about(await examine(BEYOND, proxy=f"http://{proxy.place}"), "serverless: tunnel")

    assert ("problem", status) == (tunnel.state, tunnel.facts["status"])
    assert advice in tunnel.advice


async def test_a_proxy_that_is_not_there():
    """Where the proxy cannot be reached, that is the one problem: nothing behind it is looked at."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

    assert ["proxy: connection"] == problems(await examine(BEYOND, proxy=f"http://127.0.0.1:{port}"))


async def test_a_proxy_that_is_none(serve):
    """A web server in the place of a proxy is told as such."""
    proxy = serve(ApiServer())
    findings = await examine(BEYOND, proxy=f"http://127.0.0.1:{proxy.server_port}")

    assert ["serverless: tunnel"] == problems(findings)


async def test_a_proxy_that_says_nothing():
    """A proxy that accepts connections and never answers does not hold up the rest."""
    with mute() as port:
        findings = await examine(BEYOND, proxy=f"http://127.0.0.1:{port}", seconds=1.5)

    assert "no answer within 0.5 s" in about(findings, "serverless: tunnel").text


async def test_this_machine_is_reached_without_the_proxy(serve):
    """A server on this machine is called directly, whatever proxy is given."""
    proxy = serve(TunnelProxy(("127.0.0.1", 9), 403))
    findings = await examine(serve(ApiServer()).url, proxy=f"http://{proxy.place}")

    assert ([], []) == (problems(findings), proxy.asked)


# What takes for ever


async def test_hosts_that_do_not_answer():
    """A port that drops what it gets and one that says nothing cost their step's time, and both at once."""
    began = time.monotonic()
    with deaf() as one, mute() as other:
        hosts = {"inference_url": f"https://127.0.0.1:{other}/v1"}
        findings = await examine(f"http://127.0.0.1:{one}/api/v1", **hosts, seconds=3.0)

    assert time.monotonic() - began < 3
    assert ["serverless: connection", "inference: TLS"] == problems(findings)


async def test_all_of_it_ends_in_time(monkeypatch):
    """However many things hang, the whole ends at its own deadline, with what was found until then."""
    hang = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: hang.wait())
    monkeypatch.setattr("shutil.disk_usage", lambda _: hang.wait())
    findings = await examine("https://api.nebula.test/api/v1", seconds=1.5)
    hang.set()

    assert ["serverless: name", "disk"] == problems(findings)
    assert "ok" == about(findings, "libraries").state


async def test_what_cannot_be_looked_at_is_a_line(monkeypatch, serve):
    """A check that fails by itself costs its own line alone."""
    monkeypatch.setattr("shutil.disk_usage", lambda _: 1 / 0)
    findings = await examine(serve(ApiServer()).url)

    disk = about(findings, "disk")
    assert ("note", "this could not be looked at: ZeroDivisionError: division by zero") == (disk.state, disk.text)
    assert "ok" == about(findings, "balance").state
