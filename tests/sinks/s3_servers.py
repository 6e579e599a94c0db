"""Real S3 servers on this machine."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any
from uuid import uuid4

from attrs import define, field, frozen

KEYS = {"access_key_id": "AKIDTEST", "secret_access_key": "secret-of-the-tests"}
BUCKET = "pictures"
START_SECONDS = 30


@frozen
class S3Server:
    """A real S3 server, `name`d, at `address`; it holds the bucket `pictures`."""

    name: str
    address: str

    @property
    def options(self) -> dict[str, Any]:
        """What a sink needs to reach it."""
        return options_for(self.address)

    def fresh_url(self) -> str:
        """Return the URL of a place that is empty."""
        return f"s3://{BUCKET}/{uuid4().hex}"


def options_for(address: str) -> dict[str, Any]:
    """Return what a sink needs to reach the S3 server at an address."""
    return {
        **KEYS,
        "endpoint": f"http://{address}",
        "region": "us-east-1",
        "virtual_hosted_style_request": False,
        "client_options": {"allow_http": True},
    }


@define
class Rclone:
    """The process of a server that checks signatures and knows no conditional puts, over a folder."""

    folder: Path
    process: subprocess.Popen[str] = field(init=False)
    drain: threading.Thread = field(init=False)
    address: str = field(init=False)

    def start(self) -> S3Server:
        """Start it, on a port that the system chooses."""
        (self.folder / BUCKET).mkdir(parents=True, exist_ok=True)
        keys = ",".join(KEYS.values())  # rclone knows no access key of two characters
        options = ["--addr", "127.0.0.1:0", "--auth-key", keys, "--config", ""]
        command = [Path(sys.executable).with_name("rclone"), "serve", "s3", self.folder, *options]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        line = next(line for line in self.process.stderr if "Starting s3 server" in line)
        self.address = line.partition("[http://")[2].partition("/")[0]
        self.drain = threading.Thread(target=self.process.stderr.read)  # so that it never waits for us
        self.drain.start()
        return S3Server("rclone", self.address)

    def kill(self) -> None:
        """End it at once."""
        self.process.kill()
        self.process.wait(START_SECONDS)
        self.drain.join(START_SECONDS)
        self.process.stderr.close()
