"""What is trusted, and how it is spoken to: the one TLS context of a client."""

from __future__ import annotations

import ssl


def tls_context() -> ssl.SSLContext:
    """Return a verifying context over the system's certificates and certifi's."""
    import certifi  # httpx depends on it; only a client that speaks TLS pays for loading it

    context = verifying_context()
    context.load_default_certs()
    context.load_verify_locations(certifi.where())
    context.set_alpn_protocols(["http/1.1"])
    return context


def verifying_context() -> ssl.SSLContext:
    """Return a context that verifies, and trusts nobody yet.

    Made by hand, because the standard library's default context writes session keys where `SSLKEYLOGFILE` says.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
