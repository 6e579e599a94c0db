"""How a picture was made, read from files that anyone may have written, and written into them; beside `json`, expat."""

from __future__ import annotations

import json
from xml.etree import ElementTree

from specimens import chunk, picture, png

from nebula_async.images.media import read_media
from nebula_async.images.provenance import Provenance, read_provenance, write_provenance
from nebula_async.images.xmp import CLOSE, NAMESPACE, OPEN, with_text
from targets import same

REFERENCE = "json, expat"

MADE = Provenance(request={"prompt": "a cat <&> \x00\ud800\u2028", "seed": 5}, model="m", sha256="x")
PICTURES = [picture("PNG"), picture("JPEG"), picture("WEBP"), picture("WEBP", lossless=True)]
XMP = b"XML:com.adobe.xmp\0\0\0\0\0"

WORDS = [
    OPEN.encode(), CLOSE.encode(), b"</rdf:RDF>", b"&quot;", b"<?xpacket", b'{"version":1,"request":{"prompt":"x"}',
    b"}", b'"inputs":{"image":{"sha256":"a","bytes":5}}', b'"version":2', b"NaN", b"1e999", b"[[[[", b'"cost":"',
    b"null", b",", b"\xff\xfe", b"\\ud800", b"]]>", b"<!DOCTYPE", b"XML:com.adobe.xmp\0",
    b"http://ns.adobe.com/xap/1.0/\0", b"XMP ",
]  # fmt: skip

SEEDS = [
    b"\0" + write_provenance(PICTURES[0], MADE), b"\0" + write_provenance(PICTURES[1], MADE),
    b"\0" + write_provenance(PICTURES[3], MADE), b"\1" + MADE.to_json().encode(errors="replace"),
    b"\2" + with_text(None, MADE.to_json(), {"AISystemUsed": "m"}), b"\3" + b"a cat ]]> <b> &amp; \xc3\xa9",
]  # fmt: skip


def check(data: bytes) -> None:
    """Read bytes as a picture, as the JSON, as a packet of XMP, or as a prompt: the first byte says which."""
    which, rest = (data[0] if data else 0) % 4, data[1:]
    (check_picture, check_json, check_packet, check_prompt)[which](rest)


def check_picture(data: bytes) -> None:
    """Read what is told in any file; where it is whole, what is written is read back."""
    said = refused(read_provenance, data)
    assert said is None or isinstance(said, Provenance | str), data
    written = refused(write_provenance, data, MADE)
    if isinstance(written, bytes):
        same(MADE, read_provenance(written), data)
        same(read_media(data), read_media(written), data)


def check_json(data: bytes) -> None:
    """Read the JSON; what was read is written as the same again."""
    text = data.decode(errors="replace")
    found = refused(Provenance.from_json, text)
    if isinstance(found, Provenance):
        same(json.loads(text)["request"], found.request, text)
        same(found, Provenance.from_json(found.to_json()), text)


def check_packet(packet: bytes) -> None:
    """Read and write a PNG that has this packet."""
    data = png(3, 3, chunk(b"iTXt", XMP + packet), chunk(b"IDAT", b"x"))
    check_picture(data)


def check_prompt(data: bytes) -> None:
    """Write a prompt; an XML parser finds the same JSON where it belongs."""
    made = Provenance(request={"prompt": data.decode("utf-8", "surrogateescape")})
    packet = with_text(None, made.to_json(), {"AIPromptInformation": made.request["prompt"]})
    found = ElementTree.fromstring(packet).find(f".//{{{NAMESPACE}}}Provenance")  # noqa: S314 - our own
    assert found is not None, data
    same(made, Provenance.from_json(str(found.text)), data)


def refused(read: object, *given: object) -> object:
    """Return what a reader returns, or what it says is wrong."""
    try:
        return read(*given)
    except ValueError as error:
        return str(error)
