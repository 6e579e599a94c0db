"""How a picture was made, written into its file and read back: what was asked, of which model, with which seed."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import datetime
from hashlib import sha256
from os import PathLike
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

import pybase64
from attrs import asdict, evolve, field, frozen

from nebula_async.config import VERSION
from nebula_async.images.xmp import find_text, with_text
from nebula_async.images.xmp_chunks import read_packet, replace_packet
from nebula_async.json_bounds import has_more_lists

SCHEMA = 1
"""The version of the JSON; a reader refuses a later one."""

VOCABULARY = "http://cv.iptc.org/newscodes/digitalsourcetype/"
MADE, EDITED = f"{VOCABULARY}trainedAlgorithmicMedia", f"{VOCABULARY}compositeWithTrainedAlgorithmicMedia"
"""The IPTC's codes for a picture of a model, and for one that a model made of another picture."""

MOST_INPUTS, MOST_LISTS = 100, 50_000
"""More pictures than that were handed in by nobody, nor more lists and objects, whatever a file says."""

MOST_OF_PROMPT = 4_000
"""Characters of it that other programs are shown; ours reads it whole."""

PIECE = 2**20

GENERATOR = f"nebula_async {VERSION}"


@frozen
class Digest:
    """A picture that was handed in: its SHA-256 in hexadecimal and its size; `None` where that cannot be told."""

    sha256: str | None = None
    bytes: int | None = None


Handed: TypeAlias = "bytes | str | PathLike[str] | Digest"
"""A picture that was handed in, as it was given; once it is written down, its digest."""


@frozen(kw_only=True)
class Provenance:
    """How a picture was made; plain values, and never a key.

    `request` holds what was asked, as its `to_dict()` gives it, with the seed that was sent and without pictures:
    `inputs` has those by field (`image`, `mask`), and no file tells more of them than size and digest. `model` is the
    one that the reply named, `cost` USD for this picture as text, `created` a time in UTC (ISO 8601), `sha256` the
    digest of the picture as it came.
    """

    request: Mapping[str, Any]
    inputs: Mapping[str, Handed] = field(factory=dict, repr=lambda inputs: f"<{', '.join(inputs)}>")
    model: str | None = None
    inference_seconds: float | None = None
    request_id: str | None = None
    cost: str | None = None
    created: str | None = None
    generator: str = GENERATOR
    sha256: str | None = None

    def settled(self, data: bytes) -> Provenance:
        """Return the same with the digests of the picture, whose bytes as they came are `data`, and of the inputs.

        Blocks while files are read. One that changed after the picture was made is not what was sent: no digest.
        """
        own = sha256(data).hexdigest() if self.sha256 is None else self.sha256
        inputs = {name: _digest(handed, self.created) for name, handed in self.inputs.items()}
        return evolve(self, sha256=own, inputs=inputs)

    def to_json(self) -> str:
        """Return it as one line of JSON. Raises `ValueError` where it is not settled: an input has no digest yet."""
        if not all(isinstance(handed, Digest) for handed in self.inputs.values()):
            raise ValueError("an input has no digest yet: call settled() first")
        inputs = {name: asdict(digest) for name, digest in self.inputs.items() if isinstance(digest, Digest)}
        values = {"version": SCHEMA, **asdict(self, recurse=False), "inputs": inputs}
        return json.dumps(values, ensure_ascii=False, allow_nan=False, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Provenance:
        """Read what `to_json` wrote. Raises `ValueError`, and nothing else, for any other text."""
        if has_more_lists(text.encode(errors="replace"), MOST_LISTS):
            raise ValueError("what it says of how it was made is damaged")
        try:
            values = json.loads(text, parse_constant=_refuse_constant)
        except (ValueError, RecursionError):
            raise ValueError("what it says of how it was made is damaged") from None
        if not isinstance(values, dict) or type(values.get("version")) is not int:
            raise ValueError("what it says of how it was made is damaged")
        if values["version"] > SCHEMA:
            raise ValueError("how it was made is told in the words of a newer nebula_async; update to read it")
        return cls(**_known(values))


def write_provenance(data: bytes, provenance: Provenance) -> bytes:
    """Return the bytes of a picture with how it was made in them; pixels, and all else that is in it, stay as they are.

    What it carries of that already is replaced. Blocks for some milliseconds. Raises `ValueError` for a type that has
    no place for it (GIF, AVIF), for more than fits (64 KiB in a JPEG, 1 MiB else), and for XMP that cannot be added to.
    """
    settled = provenance.settled(data)
    return replace_packet(data, lambda packet: with_text(packet, settled.to_json(), _properties(settled)))


def read_provenance(data: bytes) -> Provenance | None:
    """Return what a picture says of how it was made; `None` where it says nothing.

    Raises `ValueError` for what is no whole picture, and for a text that is damaged or of a later version. Whoever
    made the file, it takes little more time and memory than its size.
    """
    packet = read_packet(data)
    text = None if packet is None else find_text(packet)
    return None if text is None else Provenance.from_json(text)


def _properties(provenance: Provenance) -> dict[str, str]:
    """Return what the IPTC Photo Metadata Standard 2025.1 has a name for, for programs that do not know ours."""
    request = provenance.request
    prompt = str(request.get("prompt", ""))
    return {
        "DigitalSourceType": EDITED if provenance.inputs else MADE,
        "AISystemUsed": str(provenance.model or request.get("model", "")),
        "AIPromptInformation": prompt if len(prompt) <= MOST_OF_PROMPT else f"{prompt[:MOST_OF_PROMPT]}…",
    }


def _digest(handed: Handed, created: str | None) -> Digest:
    if isinstance(handed, Digest):
        return handed
    try:
        if isinstance(handed, bytes):
            return Digest(sha256(handed).hexdigest(), len(handed))
        if isinstance(handed, str) and handed.startswith("data:"):
            data = pybase64.b64decode(handed.partition(",")[2], validate=True)
            return Digest(sha256(data).hexdigest(), len(data))
        return _file_digest(Path(handed), created)
    except (OSError, TypeError, ValueError):  # gone, or of a kind that does not keep
        return Digest()


def digest_file(path: Path) -> Digest:
    """Return the digest of a file, read in pieces. Raises `OSError`."""
    digest, size = sha256(), 0
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            digest.update(piece)
            size += len(piece)
    return Digest(digest.hexdigest(), size)


def _file_digest(path: Path, created: str | None) -> Digest:
    if created is None or not path.is_file() or path.stat().st_mtime > datetime.fromisoformat(created).timestamp():
        return Digest()
    return digest_file(path)


_KINDS: Mapping[str, type | tuple[type, ...]] = {
    "request": dict,
    "inputs": dict,
    "inference_seconds": (int, float),
    **dict.fromkeys(("model", "request_id", "cost", "created", "generator", "sha256"), str),
}


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _known(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that we know, each of its kind; what a file lacks is left out."""
    known = {name: values[name] for name in _KINDS if values.get(name) is not None}
    wrong = [name for name, value in known.items() if not isinstance(value, _KINDS[name])]
    if (
        wrong
        or not math.isfinite(known.get("inference_seconds", 0))
        or not isinstance(known.get("request", {}).get("prompt"), str)
        or len(known.get("inputs", ())) > MOST_INPUTS
    ):
        raise ValueError("what it says of how it was made is damaged")
    known.setdefault("generator", "an unknown program")
    return known | {"inputs": {str(name): _read_digest(given) for name, given in known.get("inputs", {}).items()}}


def _read_digest(given: object) -> Digest:
    values = given if isinstance(given, dict) else {}
    digest, size = values.get("sha256"), values.get("bytes")
    return Digest(digest if isinstance(digest, str) else None, size if type(size) is int else None)
