"""The guard over the whole suite: whoever would connect to another machine meets what is there without a network."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
from functools import wraps
from typing import Any

from attrs import define, field


@define(eq=False)
class OneMachine:
    """Lets no socket of this process connect to another machine; `tried` are the addresses since it was last asked.

    Other processes, and C code with sockets of its own, are not seen: `make matrix` runs the suite without a network.
    """

    tried: list[str] = field(factory=list)

    def begin(self) -> None:
        """Guard all sockets, from now on."""
        connect = socket.socket.connect

        @wraps(connect)
        def guarded(one: socket.socket, address: Any) -> None:
            if not is_here(one.family, address):
                self.tried.append(f"{address}")
                raise OSError(errno.ENETUNREACH, os.strerror(errno.ENETUNREACH))
            connect(one, address)

        socket.socket.connect = guarded

    def take(self) -> list[str]:
        """Return what was tried, and forget it."""
        tried, self.tried = self.tried, []
        return tried


def is_here(family: int, address: Any) -> bool:
    """Whether a socket's address is one of this machine, or no address of the internet."""
    if family not in (socket.AF_INET, socket.AF_INET6):
        return True
    try:
        ip = ipaddress.ip_address(address[0])
    except ValueError:
        return address[0] == "localhost"  # which the socket would look up itself
    return ip.is_loopback or ip.is_unspecified
