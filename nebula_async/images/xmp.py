r"""An XMP packet (ISO 16684-1) with one JSON text of ours in it, as bytes in and out; nothing is parsed as XML.

XML 1.0 cannot hold every character, and readers of untrusted XML can be led to expand it without end. So the text is
JSON whose troublesome characters are written as `\uXXXX`: it stands in its element as it is, is found by the names of
its tags, and read by a JSON parser.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

NAMESPACE = "urn:nebula-async:provenance/1/"

IPTC = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"

HEAD = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'
    '<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="nebula_async">\n'
    '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">\n'
)
TAIL = '</rdf:RDF>\n</x:xmpmeta>\n<?xpacket end="w"?>'
END_OF_RDF = "</rdf:RDF>"

OPEN, CLOSE = "<nebula:Provenance>", "</nebula:Provenance>"

NOT_IN_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
TO_ESCAPE = re.compile("[<>&'\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
"""What JSON may hold and XML not, and what XML has a use for; the quotes of JSON are no trouble in an element."""


def with_text(packet: bytes | None, text: str, properties: Mapping[str, str]) -> bytes:
    """Return a packet with our JSON text, in place of the one that it has.

    A packet of our own says `properties` of the IPTC extension schema too. One of another program keeps all it says
    and gains our text alone. Raises `ValueError` for one that cannot be added to.
    """
    escaped = TO_ESCAPE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
    found = None if packet is None else _decoded(packet)
    if found is None or found.startswith(HEAD):
        return _fresh(escaped, properties).encode()
    return _added(found, escaped).encode()


def find_text(packet: bytes) -> str | None:
    """Return our JSON text, also from a packet that another program wrote anew; `None` where it is not there."""
    _, opened, rest = packet.decode(errors="replace").partition(OPEN)
    text, closed, _ = rest.partition(CLOSE)
    return text.replace("&quot;", '"') if opened and closed else None


def _decoded(packet: bytes) -> str:
    try:
        return packet.decode()
    except UnicodeDecodeError:
        raise ValueError("it has XMP that is not UTF-8; save it without provenance") from None


def _fresh(text: str, properties: Mapping[str, str]) -> str:
    said = "".join(
        f"<Iptc4xmpExt:{name}>{_escaped(value)}</Iptc4xmpExt:{name}>\n" for name, value in properties.items()
    )
    iptc = f'<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="{IPTC}">\n{said}</rdf:Description>\n'
    return HEAD + iptc + _described(text) + TAIL


def _escaped(value: str) -> str:
    text = NOT_IN_XML.sub("\ufffd", value)
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _described(text: str) -> str:
    return (
        f'<rdf:Description rdf:about="" xmlns:nebula="{NAMESPACE}">\n'
        f"{OPEN}{text}{CLOSE}\n"
        "</rdf:Description>\n"
    )  # fmt: skip


def _added(packet: str, text: str) -> str:
    before, opened, rest = packet.partition(OPEN)
    if opened and CLOSE in rest:
        return before + OPEN + text + CLOSE + rest.partition(CLOSE)[2]
    before, end, after = packet.rpartition(END_OF_RDF)
    if opened or not end:  # behind a tag of ours that nothing closes, no reader would find another
        raise ValueError("it has XMP that cannot be added to; save it without provenance")
    return before + _described(text) + END_OF_RDF + after
