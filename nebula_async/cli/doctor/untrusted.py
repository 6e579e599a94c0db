"""Why a server is not trusted, and what is."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from nebula_async.cli.doctor.finding import Finding, fine, note
from nebula_async.cli.doctor.within import reason

EXPIRED, NOT_YET_VALID, OTHER_HOST, OTHER_ADDRESS = 10, 9, 62, 64
"""OpenSSL's numbers (X509_V_ERR_…); the others mean that nobody vouches for the certificate."""

LOOKED_INTO = (
    "if a company's proxy or a virus scanner looks into what is encrypted: export SSL_CERT_FILE=… (its certificates, as"
    " PEM)"
)


def what_to_trust(error: Exception, host: str) -> tuple[str, str]:
    """Return why no TLS is spoken with a host, and what to do."""
    if not isinstance(error, ssl.SSLCertVerificationError):
        spoken = getattr(error, "reason", None) in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE")
        text = "no TLS is spoken at this port" if spoken else f"no TLS with {host}: {reason(error)}"
        return text, "check the URL and its port, and whether a firewall or a proxy stands between"
    text = f"the certificate of {host} is not trusted: {error.verify_message}"
    if error.verify_code in (EXPIRED, NOT_YET_VALID):
        return text, f"is this machine's clock right? It says {datetime.now(UTC):%Y-%m-%d %H:%M} UTC; {LOOKED_INTO}"
    if error.verify_code in (OTHER_HOST, OTHER_ADDRESS):
        return text, "another server answers under that name: check the URL, the name server and what stands between"
    return text, LOOKED_INTO


def look_at_trust(environ: Mapping[str, str]) -> Finding:
    """Return whose certificates are trusted."""
    missing = [name for name in ("SSL_CERT_FILE", "SSL_CERT_DIR") if _is_missing(environ.get(name))]
    if missing:
        text = f"{missing[0]} names what is not there, so only certifi's certificates are trusted"
        return note("trust", text, f"mend it, or unset {missing[0]}")
    paths = ssl.get_default_verify_paths()
    system = next((path for path in (paths.cafile, paths.capath) if path), "this system")
    return fine("trust", f"the certificates of {system}, and those of certifi {_certifi()}", store=system)


def _is_missing(path: str | None) -> bool:
    return bool(path) and not any(Path(each).exists() for each in (path or "").split(os.pathsep))


def _certifi() -> str:
    try:
        return version("certifi")
    except PackageNotFoundError:
        return "(unknown version)"
