"""Where the emulator's servers are, as clients write it."""

import attrs

EVERY_INTERFACE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - only read, never bound unasked


def _reachable(host: str) -> str:
    return EVERY_INTERFACE.get(host, host)


@attrs.frozen
class Origin:
    """A server's host and port; one that listens on every interface is reached over loopback."""

    host: str = attrs.field(converter=_reachable)
    port: int

    @property
    def netloc(self) -> str:
        """Host and port as they stand in a URL."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """How URLs of this server begin."""
        return f"http://{self.netloc}"
