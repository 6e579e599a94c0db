"""How fast the picture server is: replies a second to a receiver that counts bytes and has the kernel throw them away.

The receiver is a process on the second core. It copies nothing (`MSG_TRUNC`), and under TLS it decrypts only the first
reply of a connection: what it reaches is what the server can do, and what no client can be measured beyond. Prints a
table.
"""

from __future__ import annotations

import argparse
import select
import socket
import ssl
import sys
import time
from urllib.parse import urlsplit

from attrs import define
from picture_server import PictureServer, allow_many_files, pin, serving_pictures

SECONDS = 2.0
RECORD_BYTES, RECORD_FRAME_BYTES = 16 * 1024, 22
"""A TLS 1.3 record of AES-GCM or ChaCha20: 5 bytes of header, the content, its type, and 16 to authenticate it."""

BUFFER = bytearray(4 * 2**20)
PICTURES = ((64 * 1024, 64), (1_500_000, 16), (1_500_000, 64), (1_500_000, 256), (6_000_000, 16), (30_000_000, 8))
TINY = (1, 1_000)


def main() -> int:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seconds", type=float, default=SECONDS, help="how long each row is measured")
    seconds = options.parse_args().seconds
    pin(1)
    allow_many_files()
    print("| wire | bytes of a picture | in flight | replies a second | GB a second |\n|---|---|---|---|---|")
    for tls in (False, True):
        with serving_pictures(tls=tls) as server:
            for size, in_flight in (*PICTURES, TINY):
                rate, reply_bytes = measure(server, size, in_flight, seconds)
                row = ("TLS" if tls else "plain", size, in_flight, f"{rate:.0f}", f"{rate * reply_bytes / 1e9:.2f}")
                print("| " + " | ".join(map(str, row)) + " |", flush=True)
    return 0


@define(eq=False)
class Receiver:
    """One connection, that asks again as soon as it has counted a whole reply."""

    socket: socket.socket
    request: bytes
    reply_bytes: int = 0
    wire_bytes: int = 0
    left: int = 0

    @classmethod
    def connect(cls, server: PictureServer, size: int, latency_ms: int) -> Receiver:
        """Connect, and receive one reply to learn how long it is."""
        place = urlsplit(server.url(size, latency_ms))
        connected = socket.create_connection((place.hostname, place.port), timeout=60)
        if server.ca_file is not None:
            tls = ssl.create_default_context(cafile=server.ca_file)
            connected = tls.wrap_socket(connected, server_hostname=place.hostname)
        receiver = cls(connected, f"POST {place.path}/ HTTP/1.1\r\nHost: {place.netloc}\r\n\r\n".encode())
        receiver.reply_bytes = receiver.wire_bytes = receiver.receive_one()
        if server.ca_file is not None:
            receiver.wire_bytes += RECORD_FRAME_BYTES * -(-receiver.reply_bytes // RECORD_BYTES)
        return receiver

    def receive_one(self) -> int:
        """Send a request, wait for all of the reply, and return how long it is, with its head."""
        self.ask()
        data = bytearray()
        while b"\r\n\r\n" not in data:
            data += self.socket.recv(RECORD_BYTES)
        head, _, body = bytes(data).partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        missing = length - len(body)
        while missing:
            missing -= self.socket.recv_into(BUFFER, min(missing, len(BUFFER)))
        return len(head) + 4 + length

    def ask(self) -> None:
        """Send a request."""
        self.socket.sendall(self.request)
        self.left = self.wire_bytes

    def count(self) -> bool:
        """Take what has come, whatever it is, and say whether a reply is complete."""
        self.left -= socket.socket.recv_into(self.socket, BUFFER, min(self.left, len(BUFFER)), socket.MSG_TRUNC)
        return self.left == 0


def measure(server: PictureServer, size: int, in_flight: int, seconds: float, latency_ms: int = 0) -> tuple[float, int]:
    """Return replies a second and how long one is."""
    connected = [Receiver.connect(server, size, latency_ms) for _ in range(in_flight)]
    receivers = {receiver.socket.fileno(): receiver for receiver in connected}
    poll = select.epoll()
    started, replies = time.perf_counter(), 0
    for number, receiver in receivers.items():
        poll.register(number, select.EPOLLIN)
        receiver.ask()
    while (now := time.perf_counter()) < started + seconds:
        for number, _ in poll.poll(1.0):
            if receivers[number].count():
                replies += 1
                receivers[number].ask()
    for receiver in connected:
        receiver.socket.close()
    return replies / (now - started), connected[0].reply_bytes


if __name__ == "__main__":
    sys.exit(main())
