"""What it costs to get from a reply's body to the bytes of its picture: parsed whole, and in pieces as it arrives.

CPU time of one thread, the ways in turn; extra memory is the highest that a way takes beside the body, in times the
picture, which it is itself once. Prints tables and exits 1 when a target is missed.
"""

from __future__ import annotations

import base64
import json
import platform
import re
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import version
from io import BytesIO
from random import Random
from typing import TypeAlias

import anyio
import pybase64

from nebula_async.api.extract import Extractor
from nebula_async.offload import offload

SIZES = {"64 KiB": 64 * 1024, "1.5 MB": 1_500_000, "6 MB": 6_000_000, "30 MB": 30_000_000}
PIECES = {"16 KiB": 16 * 1024, "64 KiB": 64 * 1024, "256 KiB": 256 * 1024, "1 MiB": 2**20}
MEASURED = ("64 KiB", "256 KiB")
"""The pieces that the targets are for: what event loops hand on."""

ROUNDS = 15
HOPS = 200
BYTES_A_ROUND = 12_000_000
TIMES_FASTER = 8
FROM_BYTES = 1_000_000
WORST_RATIO = 1.0

Way: TypeAlias = Callable[[bytes], bytes]
"""Takes a body and returns its picture."""


def main() -> int:
    """Measure, print, and say whether the targets were reached."""
    print(f"Python {platform.python_version()}, pybase64 {pybase64.get_version()}, attrs {version('attrs')}\n")
    print(f"milliseconds of CPU (GB/s of picture), medians of {ROUNDS} rounds\n")
    faster = show_sizes()
    print("\n1.5 MB in other forms, milliseconds of CPU\n")
    slowest = show_forms()
    print("\na piece of base64 decoded where it lies, and by a thread, microseconds of process CPU\n")
    anyio.run(show_threads)
    print(f"\nfrom 1.5 MB, in pieces of {' and '.join(MEASURED)}: {faster:.1f} times as fast (target: {TIMES_FASTER})")
    print(f"other forms: at most {slowest:.2f} of the time of json and base64 (target: {WORST_RATIO:.2f})")
    return 0 if faster >= TIMES_FASTER and slowest <= WORST_RATIO else 1


def show_sizes() -> float:
    """Print a row for each way, and return how much faster pieces are than the whole, where that is least."""
    ways: dict[str, Way] = {"json + base64": parse_whole, "json + pybase64": parse_faster}
    ways |= {f"ours, pieces of {name}": partial(extract, piece_bytes=size) for name, size in PIECES.items()}
    columns = {name: compare(ways, body_of(encoded(size)), size) for name, size in SIZES.items()}
    print(f"| way | {' | '.join(SIZES)} | extra memory, 6 MB, in pictures |\n|{'---|' * (len(SIZES) + 2)}")
    for name, way in ways.items():
        cells = (f"{column[name]:.3f} ({SIZES[size] / column[name] / 1e6:.2f})" for size, column in columns.items())
        print(f"| {name} | {' | '.join(cells)} | {extra_memory(way, SIZES['6 MB']):.2f} |", flush=True)
    large = [column for size, column in columns.items() if SIZES[size] >= FROM_BYTES]
    return min(column["json + base64"] / column[f"ours, pieces of {name}"] for column in large for name in MEASURED)


async def show_threads() -> None:
    """Print what handing a piece to one of two long-lived threads costs beside decoding it: why the client does not."""
    print("| piece | on the loop | by a thread |\n|---|---|---|")
    for name, size in PIECES.items():
        letters = encoded(size * 3 // 4)[:size].encode()
        decode = partial(pybase64.b64decode, letters, validate=True)
        times: dict[bool, list[float]] = {False: [], True: []}
        for turn in range(2 * ROUNDS):
            is_handed, began = bool(turn % 2), time.process_time()
            for _ in range(HOPS):
                if is_handed:
                    await offload(decode)
                else:
                    decode()
            times[is_handed].append((time.process_time() - began) / HOPS * 1e6)
        print(f"| {name} | {statistics.median(times[False]):.0f} | {statistics.median(times[True]):.0f} |", flush=True)


def show_forms() -> float:
    """Print a row for each form of base64, and return the worst ratio to parsing the body whole."""
    ratios = []
    print("| form | json + base64 | ours, pieces of 64 KiB | ratio |\n|---|---|---|---|")
    ways: dict[str, Way] = {"whole": parse_whole, "ours": partial(extract, piece_bytes=PIECES["64 KiB"])}
    for form, text in forms(encoded(SIZES["1.5 MB"])).items():
        times = compare(ways, body_of(text), SIZES["1.5 MB"])
        ratios.append(times["ours"] / times["whole"])
        print(f"| {form} | {times['whole']:.2f} | {times['ours']:.2f} | {ratios[-1]:.2f} |", flush=True)
    return max(ratios)


def forms(text: str) -> Mapping[str, str]:
    """Return base64 in the forms that cannot be decoded where they lie, and in a data URL."""
    lines = re.findall(".{1,76}", text)
    return {
        "data URL": f"data:image/png;base64,{text}",
        "URL-safe alphabet": text.replace("+", "-").replace("/", "_"),
        "lines of 76 letters": "\\n".join(lines),
        "slashes escaped": text.replace("/", "\\/"),
        "signs by number": text.replace("/", "\\u002F").replace("+", "\\u002B").replace("=", "\\u003D"),
        "all by number": "".join(f"\\u{ord(letter):04x}" for letter in text),
    }


def encoded(size: int) -> str:
    """Return base64 of as many bytes."""
    return base64.b64encode(Random(size).randbytes(size)).decode()  # noqa: S311


def body_of(text: str) -> bytes:
    """Return a reply that holds a picture."""
    return f'{{"data": [{{"index": 0, "b64_json": "{text}"}}], "message": "success"}}'.encode()


def parse_whole(body: bytes) -> bytes:
    """Do what every client does, and understand the same forms."""
    return base64.b64decode(value_of(body))


def parse_faster(body: bytes) -> bytes:
    """Do the same with the faster decoder, strictly."""
    return pybase64.b64decode(value_of(body), validate=True)


def value_of(body: bytes) -> str:
    """Parse a body for its base64, in the standard alphabet."""
    text: str = json.loads(body)["data"][0]["b64_json"]
    text = text.partition(",")[2] if text.startswith("data:") else text
    return text.replace("-", "+").replace("_", "/") if "-" in text or "_" in text else text


def extract(body: bytes, piece_bytes: int) -> bytes:
    """Feed a body in pieces, none of which is a copy."""
    extractor, view = Extractor(BytesIO), memoryview(body)
    for start in range(0, len(body), piece_bytes):
        extractor.feed(view[start : start + piece_bytes])
    (cut,) = extractor.finish().pictures.values()
    if cut.writer is None or cut.problem:
        raise ValueError(cut.problem)
    return cut.writer.getvalue()


def compare(ways: Mapping[str, Way], body: bytes, size: int) -> dict[str, float]:
    """Return the milliseconds of each way, having seen that all find the same bytes."""
    if len({way(body) for way in ways.values()}) != 1:
        raise ValueError("the ways differ")
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, way in ways.items():
            times[name].append(milliseconds(way, body, max(BYTES_A_ROUND // size, 1)))
    return {name: statistics.median(of_each) for name, of_each in times.items()}


def milliseconds(way: Way, body: bytes, repeats: int) -> float:
    """Return the CPU of one run."""
    started = time.process_time()
    for _ in range(repeats):
        way(body)
    return (time.process_time() - started) / repeats * 1000


def extra_memory(way: Way, size: int) -> float:
    """Return the highest memory of a run in times the picture."""
    body = body_of(encoded(size))
    tracemalloc.start()
    way(body)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / size


if __name__ == "__main__":
    sys.exit(main())
