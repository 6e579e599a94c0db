"""Settings that are written as text: the environment, sizes, amounts, versions, keys; beside `float` and `Decimal`."""

from __future__ import annotations

from contextlib import suppress
from decimal import Decimal

from nebula_async.bulk.budget import Budget
from nebula_async.bulk.manifest.columns import read_columns
from nebula_async.cli.doctor.key import look_at_key
from nebula_async.cli.doctor.versions import is_within
from nebula_async.cli.export import read_size
from nebula_async.cli.inputs import Inputs
from nebula_async.config import VARIABLES, Config
from nebula_async.errors import ConfigurationError, InvalidRequestError
from nebula_async.keys import ApiKey
from targets import same

REFERENCE = "float, Decimal"

WORDS = [
    b"NEBULA_TIMEOUT=", b"NEBULA_TIER=", b"NEBULA_BASE_URL=", b"NEBULA_PROXY=", b"NEBULA_ALLOWED_IMAGE_HOSTS=", b"\n",
    b"NEBULA_SHARED_BY=", b"NEBULA_INFERENCE_URL=", b"https://a.example/api/v1", b"engineer-1", b"host", b"nan", b"inf",
    b"1e309", b"1_0", b"\xd9\xa1", b" ", b"1.5", b"GiB", b"KB", b"$", b"-", b"=", b"prompt", b"text=prompt", b"sk-",
    b"xxx", b"Bearer ", b"<your-key>", b">=1.2,<2", b"\r", b"\0", b"9" * 30,
]  # fmt: skip
SEEDS = [
    b"NEBULA_TIMEOUT=2.5\nNEBULA_TIER=engineer-2\nNEBULA_SHARED_BY=host",
    b"NEBULA_BASE_URL=http://127.0.0.1:8000/api/v1\nNEBULA_ALLOWED_IMAGE_HOSTS=a.example:443, [::1]:80", b"1.5 GiB",
    b"$2.50", b"text=prompt", b"sk-0123456789abcdef0123456789abcdef", b">=1.2,<2.0rc1",
]  # fmt: skip


def check(data: bytes) -> None:
    """Take lines for the environment, and each for a size, an amount, a key, a column and a version."""
    text = data.decode("utf-8", "surrogateescape")
    lines = text.split("\n")
    given = dict(line.partition("=")[::2] for line in lines)
    with suppress(ConfigurationError):
        config = Config.from_env({name: value for name, value in given.items() if name in VARIABLES})
        if "NEBULA_TIMEOUT" in given:
            same(float(given["NEBULA_TIMEOUT"]), config.timeouts.total, text)
    for line in lines:
        check_line(line)


def check_line(line: str) -> None:
    """Take a line for anything that people write in one."""
    with suppress(ConfigurationError):
        size = read_size(line)
        assert 1 <= size < 10**31, line
        if line.isdecimal() and line.isascii():
            same(int(line), size, line)
    with suppress(ConfigurationError):
        cost = Budget(max_cost=line).max_cost
        same(Decimal(line.strip().removeprefix("$")), cost, line)
    with suppress(ConfigurationError):
        assert line.strip() not in repr(ApiKey(line)) or len(line.strip()) < 9, line
    with suppress(InvalidRequestError):
        read_columns(Inputs(columns=(line,)).given()["columns"])
    finding = look_at_key({"NEBULA_API_KEY": line})
    assert len(line.strip()) < 12 or line.strip() not in str(finding), line
    if len(line) < 1000:
        is_within(line, ">=1.2,<2")
        is_within("1.5", line)
