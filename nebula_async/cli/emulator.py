"""`nebula-async emulator`: a local Nebula Block, until it is interrupted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from nebula_async.cli.connection import USAGE
from nebula_async.cli.output import say, tell
from nebula_async.cli.parameters import TierName

if TYPE_CHECKING:
    from nebula_async.emulator import Emulator


def emulator(
    *,
    host: str = "127.0.0.1",
    port: int = 8080,
    storage_port: int = 0,
    tier: TierName | None = None,
    window: Literal["bucket", "fixed", "sliding"] = "bucket",
    fault: Annotated[tuple[str, ...], Parameter(negative="", show_default=False)] = (),
    latency: float = 1.0,
    image_format: Annotated[Literal["png", "jpeg", "webp"], Parameter(name="--format")] = "png",
    retry_after: Literal["seconds", "http-date", "ms"] | None = None,
    url_seconds: float = 3600,
    expired_status: Literal[404, 403] = 404,
    key: Annotated[tuple[str, ...], Parameter(negative="", show_default=" ".join)] = ("sk-emulator",),
    credit: str = "100",
    seed: int = 0,
) -> int:
    """Serve a Nebula Block of this machine's own: real pictures, real limits, no money.

    Its journal of requests and charges is at /_emulator/journal; POST /_emulator/reset empties it.

    Parameters
    ----------
    host
        The address to listen on.
    port
        The port; 0 picks a free one.
    storage_port
        The port of the pictures that replies only link to; 0 picks a free one.
    tier
        Keep to the limits of a tier. Without it there are none.
    window
        How a minute's limit is counted: as a bucket that refills, by the clock's minutes, or as any 60 seconds.
    fault
        Something to go wrong, such as 429:0.05 (one in twenty), 500:@3 (the third request), drop:@5-7, cut:0.01,
        delay=2:0.1 or malformed:@9. May be given again.
    latency
        A factor on the models' usual times; 0 answers at once.
    image_format
        The type of the pictures.
    retry_after
        Tell refused requests when to come again, in this style. The real API is not known to.
    url_seconds
        How long links to pictures work.
    expired_status
        What links answer afterwards.
    key
        A key that is accepted. May be given again.
    credit
        The account's balance in USD.
    seed
        What chance draws from.
    """
    from nebula_async.emulator import Emulator

    try:
        server = Emulator(
            host=host,
            port=port,
            storage_port=storage_port,
            tier=tier,
            window=window,
            faults=fault,
            latency=latency,
            image_format=image_format,
            retry_after=retry_after,
            url_seconds=url_seconds,
            expired_status=expired_status,
            keys=key,
            credit=credit,
            seed=seed,
        )
        server.serve_forever(ready=_announce)
    except ValueError as error:
        say(f"nebula-async: {error}")
        return USAGE
    except OSError as error:
        where = error.filename or host
        option = "--storage-port" if storage_port and where.endswith(f":{storage_port}") else "--port"
        say(f"nebula-async: cannot listen on {where}: {error.strerror}; choose another {option} or --host")
        return USAGE
    return 0


def _announce(server: Emulator) -> None:
    say("# Nebula Block emulator; Ctrl-C ends it")
    tell(f"export NEBULA_BASE_URL={server.base_url}\nexport NEBULA_API_KEY={server.key}")
    tell(f"export NEBULA_INFERENCE_URL={server.inference_url}\nexport NEBULA_ALLOWED_IMAGE_HOSTS={server.storage_host}")
