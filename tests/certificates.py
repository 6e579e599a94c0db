"""What servers of tests need that speak TLS."""

from __future__ import annotations

import datetime
import ssl

import trustme


def speaks_tls(authority: trustme.CA, *names: str, days: float = 90) -> ssl.SSLContext:
    """Return what a server needs whose certificate is for these names and ends in so many days."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    today = datetime.datetime.now(datetime.UTC)
    begin, end = today - datetime.timedelta(days=9), today + datetime.timedelta(days=days)
    authority.issue_cert(*names, not_before=begin, not_after=end).configure_cert(context)
    return context
