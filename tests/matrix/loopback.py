"""Bring up the loopback of a network of one's own, then run a command: `unshare --net python loopback.py …`."""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import sys

GET_FLAGS, SET_FLAGS, UP = 0x8913, 0x8914, 0x1

with socket.socket() as any_socket:
    asked = struct.pack("16sh14x", b"lo", 0)
    (flags,) = struct.unpack_from("16xh", fcntl.ioctl(any_socket, GET_FLAGS, asked))
    fcntl.ioctl(any_socket, SET_FLAGS, struct.pack("16sh14x", b"lo", flags | UP))
names = [name for _, name in socket.if_nameindex()]
if names != ["lo"]:
    sys.exit(f"this is no network of its own: it has {', '.join(names)}")
os.execvp(sys.argv[1], sys.argv[1:])  # noqa: S606 - the command line that was given
