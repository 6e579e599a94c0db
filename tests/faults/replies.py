"""What a proxy may make of a reply, and replies of its own."""

from __future__ import annotations

from broken_exchange import Rewrite


def reply(status: int, body: bytes = b"{}", *lines: str) -> bytes:
    """Return the bytes of a reply."""
    head = [f"HTTP/1.1 {status} Said", f"Content-Length: {len(body)}", *lines]
    return "\r\n".join([*head, "", ""]).encode("latin-1") + body


def instead(data: bytes) -> Rewrite:
    """Return what sends these bytes instead of the reply."""
    return lambda _head, _body: data


def with_lines(*lines: str, length: bool = True) -> Rewrite:
    """Return what adds these lines to the headers, or puts them in place of the length."""
    return lambda head, body: headed(head, *lines, length=length) + body


def headed(head: bytes, *lines: str, length: bool = True) -> bytes:
    """Return a head with more lines, with or without its own about the length."""
    status, *others = head.decode("latin-1").rstrip().split("\r\n")
    kept = [line for line in others if length or not line.lower().startswith("content-length:")]
    return "\r\n".join([status, *kept, *lines, "", ""]).encode("latin-1")


def with_body(change, *lines: str) -> Rewrite:
    """Return what changes the body, and says so in its length and in more lines."""

    def rewrite(head: bytes, body: bytes) -> bytes:
        changed = change(body)
        return headed(head, f"Content-Length: {len(changed)}", *lines, length=False) + changed

    return rewrite


def chunked(head: bytes, body: bytes) -> bytes:
    """Send the body in chunks, up to the last but for the one that says that it was the last."""
    size = 1000
    parts = (body[start : start + size] for start in range(0, len(body), size))
    pieces = b"".join(f"{len(part):x}\r\n".encode() + part + b"\r\n" for part in parts)
    return headed(head, "Transfer-Encoding: chunked", length=False) + pieces


def until_the_end(head: bytes, body: bytes) -> bytes:
    """Send the body without a length: the end of the connection is its end."""
    return headed(head, "Connection: close", length=False) + body
