"""Makes thumbnails in a process of its own, one at a time: a line of JSON in for each, a line of JSON out.

Pictures come from a network, and a decoder is much code: here it has little memory, little time, no key in its
environment, and nobody waits for it. It is run by its path, knows nothing of the package, and ends with its input.
"""

import json
import os
import signal
import sys
from typing import Any

PIXELS = 320
"""The longer side of a thumbnail."""

MOST_PIXELS = 2**26
"""Of a picture that is decoded: 8192 by 8192, for which the memory below suffices."""

MEMORY_BYTES, FILE_BYTES, CPU_SECONDS = 2**30, 2**20, 8
"""The most that a picture may take; one of 1024 by 1024 takes 25 ms."""

SECONDS = 30
"""By the clock; who waits for it gives up before."""

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "AVIF")


def main() -> None:
    """Say that pictures may come, then do what each line asks."""
    limit()
    import PIL.AvifImagePlugin
    import PIL.GifImagePlugin
    import PIL.Image
    import PIL.JpegImagePlugin
    import PIL.PngImagePlugin
    import PIL.WebPImagePlugin

    PIL.Image.MAX_IMAGE_PIXELS = None  # ours is compared below
    say({})
    for line in sys.stdin.buffer:
        asked = json.loads(line)
        allow_seconds(CPU_SECONDS)
        signal.alarm(SECONDS)  # also where it waits for a drive that hangs, and nobody is left to end it
        say(answer(asked["picture"], asked["thumbnail"], asked["part"]))


def limit() -> None:
    """Leave the CPU to others, and take no more than is needed, whatever the pictures are."""
    import resource

    os.nice(10)
    limits = {"RLIMIT_AS": MEMORY_BYTES, "RLIMIT_FSIZE": FILE_BYTES, "RLIMIT_CORE": 0, "RLIMIT_NOFILE": 64}
    for name, most in limits.items():
        kind = getattr(resource, name)
        allowed = resource.getrlimit(kind)[1]
        try:
            resource.setrlimit(kind, (most if allowed == resource.RLIM_INFINITY else min(most, allowed),) * 2)
        except (OSError, ValueError):  # not every system knows each of them
            continue


def allow_seconds(seconds: int) -> None:
    """Let the system end this process once it has used so much more of the CPU."""
    import resource

    used = resource.getrusage(resource.RUSAGE_SELF)
    until = int(used.ru_utime + used.ru_stime) + 1 + seconds
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (until if hard == resource.RLIM_INFINITY else min(until, hard), hard))


def answer(picture: str, thumbnail: str, part: str) -> dict[str, str]:
    """Make a thumbnail, and return what is to be said of it: nothing, that it is `bad`, or that the disk `failed`."""
    try:
        small = reduced(picture)
    except FileNotFoundError:
        return {"gone": "the picture is not there"}
    except Exception as error:  # noqa: BLE001 - whatever a decoder raises, the next picture may be better
        return {"bad": f"{type(error).__name__}: {error}"[:200]}
    try:
        os.makedirs(os.path.dirname(thumbnail), exist_ok=True)  # noqa: PTH103, PTH120 - text in, text out
        small.save(part, "WEBP", quality=75, method=2)
        os.replace(part, thumbnail)  # noqa: PTH105
    except OSError as error:
        return {"failed": error.strerror or str(error)}
    return {}


def reduced(picture: str) -> Any:
    """Return a picture as a thumbnail. Raises whatever a decoder does, and `ValueError` for one that is too large."""
    import PIL.Image

    with PIL.Image.open(picture, formats=FORMATS) as image:
        if image.width * image.height > MOST_PIXELS:
            raise ValueError(f"it has {image.width} x {image.height} pixels")
        image.thumbnail((PIXELS, PIXELS), reducing_gap=2.0)  # a JPEG is decoded no larger than is needed
        is_clear = "A" in image.getbands() or "transparency" in image.info
        return image.convert("RGBA" if is_clear else "RGB")


def say(values: dict[str, str]) -> None:
    """Write an answer."""
    sys.stdout.write(f"{json.dumps(values)}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
