"""TLS is verified, of today, and keeps its session keys to itself, whatever the environment says."""

from __future__ import annotations

import ssl

import anyio
import pytest
from echoing import PNG, echoing, says

from nebula_async.engine.tls import tls_context

LOOSENING = (
    "PYTHONHTTPSVERIFY",
    "CURL_CA_BUNDLE",
    "REQUESTS_CA_BUNDLE",
    "SSLKEYLOGFILE",
    "NODE_TLS_REJECT_UNAUTHORIZED",
)


@pytest.mark.parametrize("value", ["", "0", "a file"])
def test_no_variable_loosens_what_is_verified(monkeypatch, tmp_path, value):
    """Variables that other programs obey change neither what is verified nor which versions are spoken (S8)."""
    for name in LOOSENING:
        monkeypatch.setenv(name, str(tmp_path / "keys") if value == "a file" else value)
    context = tls_context()
    assert (ssl.CERT_REQUIRED, True) == (context.verify_mode, context.check_hostname)
    assert ssl.TLSVersion.TLSv1_2 == context.minimum_version
    assert None is context.keylog_filename


@pytest.mark.anyio
async def test_session_keys_are_not_written(monkeypatch, tmp_path, authority):
    """With `SSLKEYLOGFILE` set a TLS connection is made, and no key of it is written (S13)."""
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))
    server, context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), tls_context()
    authority.issue_cert("localhost").configure_cert(server)
    authority.configure_trust(context)
    with echoing(lambda _: says(200, PNG), tls=server) as there:
        host, port = there.place.split(":")
        way = await anyio.connect_tcp(
            host, int(port), tls_hostname="localhost", ssl_context=context, tls=True, tls_standard_compatible=False
        )
        async with way:
            await way.send(b"GET /a HTTP/1.1\r\n\r\n")
            assert (await way.receive()).startswith(b"HTTP/1.1 200")
    assert not (tmp_path / "keys").exists()
