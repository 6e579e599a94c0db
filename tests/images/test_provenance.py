"""How a picture was made travels in its file: pixels and all other bytes stay, and what was written is read back."""

from __future__ import annotations

import contextlib
import io
import json
import pickle
import struct
import tracemalloc
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from xml.etree import ElementTree as ET
from zlib import compress, crc32

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pillow

from nebula_async.images import xmp_chunks
from nebula_async.images.image import Image, read_image
from nebula_async.images.media import read_media
from nebula_async.images.provenance import Digest, Provenance, read_provenance, write_provenance
from nebula_async.images.xmp import HEAD, IPTC, NAMESPACE, with_text

HOSTILE = (
    "]]> </nebula:Provenance> <script>alert('x')</script> \"q\" & &quot; \\u0041 \0 \x1b[31m \x85 \uffff é 🐈 \r\n"
)
REQUEST = {"prompt": HOSTILE, "model": "m/x", "seed": 7, "extra": {"deep": [1, None, "]]>"]}}
FACTS = Provenance(
    request=REQUEST, model="m/x-v2", inference_seconds=1.5, cost="0.0019", created="2026-11-20T09:00:00Z"
)

EXIF = Pillow.Exif()
EXIF[0x010E] = "a description"


def drawn(mode: str = "RGB", size: tuple[int, int] = (37, 21)) -> Pillow.Image:
    """Return a picture that is different everywhere."""
    bands = [Pillow.linear_gradient("L").resize(size).rotate(90 * turn) for turn in range(4)]
    picture = Pillow.merge("RGBA", bands)
    return picture if mode == "RGBA" else picture.convert("RGB").convert(mode)


def encoded(form: str, mode: str = "RGB", **options: object) -> bytes:
    """Return a picture file."""
    buffer = io.BytesIO()
    drawn(mode).save(buffer, form, **options)
    return buffer.getvalue()


def animated(form: str, **options: object) -> bytes:
    """Return a picture that moves."""
    frames = [drawn("RGBA").rotate(turn) for turn in (30, 60)]
    return encoded(form, "RGBA", save_all=True, append_images=frames, **options)


PICTURES = {
    "png": encoded("PNG"),
    "png-rgba": encoded("PNG", "RGBA"),
    "png-palette": encoded("PNG", "P"),
    "png-grey": encoded("PNG", "L"),
    "png-exif": encoded("PNG", exif=EXIF, icc_profile=b"colours", dpi=(72, 72)),
    "png-animated": animated("PNG"),
    "jpeg": encoded("JPEG"),
    "jpeg-progressive-exif": encoded("JPEG", progressive=True, exif=EXIF, icc_profile=b"colours" * 20_000),
    "jpeg-cmyk": encoded("JPEG", "CMYK"),
    "jpeg-comment": encoded("JPEG", comment=b"said"),
    "webp-lossy": encoded("WEBP"),
    "webp-lossless": encoded("WEBP", lossless=True),
    "webp-lossless-alpha": encoded("WEBP", "RGBA", lossless=True),
    "webp-lossy-alpha": encoded("WEBP", "RGBA"),
    "webp-exif-icc": encoded("WEBP", exif=EXIF, icc_profile=b"colours"),
    "webp-animated": animated("WEBP"),
}
FORMS = ("PNG", "JPEG", "WEBP")


def interlaced() -> bytes:
    """Return a PNG in Adam7 order (1 by 1 pixels: one pass), which Pillow reads and does not write."""
    header = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 1)
    chunks = ((b"IHDR", header), (b"IDAT", compress(b"\0\x10\x20\x30")), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(kind, content) for kind, content in chunks)


def png_chunk(kind: bytes, content: bytes) -> bytes:
    """Return a chunk of a PNG."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", crc32(kind + content))


PICTURES["png-interlaced"] = interlaced()


def pixels(data: bytes) -> list[tuple[str, tuple[int, int], bytes]]:
    """Return mode, size and pixels of each frame."""
    with Pillow.open(io.BytesIO(data)) as picture:
        frames = []
        for frame in range(getattr(picture, "n_frames", 1)):
            picture.seek(frame)
            frames.append((picture.mode, picture.size, picture.tobytes()))
        return frames


def packet_of(data: bytes) -> bytes:
    """Return the XMP that Pillow finds."""
    with Pillow.open(io.BytesIO(data)) as picture:
        picture.load()
        found = picture.info.get("xmp") or picture.info["XML:com.adobe.xmp"]
    return found if isinstance(found, bytes) else found.encode()


def parsed(data: bytes) -> ET.Element:
    """Return the XMP as XML, which it has to be."""
    return ET.fromstring(packet_of(data))  # noqa: S314 - our own


def as_read(provenance: Provenance, data: bytes) -> Provenance:
    """Return what is read where this was written into `data`."""
    return provenance.settled(data)


@pytest.mark.parametrize("name", PICTURES)
def test_what_was_written_is_read_and_pixels_stay(name):
    """Whatever the picture, its pixels are the same, and how it was made comes back exactly (B47)."""
    data = PICTURES[name]
    written = write_provenance(data, FACTS)
    assert as_read(FACTS, data) == read_provenance(written)
    assert sha256(data).hexdigest() == read_provenance(written).sha256
    assert pixels(data) == pixels(written)
    assert read_media(data) == read_media(written)
    assert read_provenance(data) is None


@pytest.mark.parametrize("name", PICTURES)
def test_all_other_metadata_stays(name):
    """Exif, colour profile, comment and resolution of the picture are still there."""
    with (
        Pillow.open(io.BytesIO(PICTURES[name])) as before,
        Pillow.open(io.BytesIO(write_provenance(PICTURES[name], FACTS))) as after,
    ):
        added = {"xmp", "XML:com.adobe.xmp"}
        assert before.info == {name: value for name, value in after.info.items() if name not in added}
        assert dict(before.getexif()) == dict(after.getexif())


@pytest.mark.parametrize("name", [name for name in PICTURES if not name.startswith("webp")])
def test_the_file_is_the_same_but_for_one_chunk(name):
    """What was inserted is one piece: without it the file is what it was, byte for byte."""
    data, written = PICTURES[name], write_provenance(PICTURES[name], FACTS)
    more = len(written) - len(data)
    start = next(at for at in range(len(data)) if data[at] != written[at])
    # a cut may be moved over bytes that chunk and file have in common
    assert any(data == written[:at] + written[at + more :] for at in range(max(start - 16, 0), start + 1))


@pytest.mark.parametrize("name", [name for name in PICTURES if name.startswith("webp")])
def test_a_webp_is_the_same_but_for_its_header_and_one_chunk(name):
    """A WebP has its old chunks as they were, in their order, with the XMP after them, announced by the header."""
    before, after = (riff_chunks(data) for data in (PICTURES[name], write_provenance(PICTURES[name], FACTS)))
    flags = dict(before).get(b"VP8X", bytes(10))[0]
    alpha = 0x10 if name == "webp-lossless-alpha" else 0
    size = (36).to_bytes(3, "little") + (20).to_bytes(3, "little")
    assert (b"VP8X", bytes([flags | alpha | 4, 0, 0, 0]) + size) == after[0]
    assert b"XMP " == after[-1][0]
    assert [chunk for chunk in before if chunk[0] != b"VP8X"] == after[1:-1]


def riff_chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    """Return the chunks of a WebP, whose size its header has to say right."""
    assert len(data) - 8 == int.from_bytes(data[4:8], "little")
    at, found = 12, []
    while at < len(data):
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        found.append((data[at : at + 4], data[at + 8 : at + 8 + length]))
        at += 8 + length + (length & 1)
    assert len(data) == at
    return found


@pytest.mark.parametrize("form", FORMS)
def test_writing_again_replaces(form):
    """A picture says once how it was made: what is written later stands instead, and nothing grows."""
    data = encoded(form)
    first = write_provenance(data, FACTS)
    other = evolve(FACTS, request={"prompt": "a dog", "model": "n"}, sha256=sha256(data).hexdigest())
    again = write_provenance(first, other)
    assert other == read_provenance(again)
    assert write_provenance(data, other) == again
    assert b"alert" not in again


@pytest.mark.parametrize("form", FORMS)
def test_what_follows_a_picture_stays(form):
    """Bytes after the end of a picture, which decoders ignore, are where they were."""
    data = encoded(form) + b"more"
    written = write_provenance(data, FACTS)
    assert written.endswith(b"more")
    assert pixels(data) == pixels(written)
    assert as_read(FACTS, data) == read_provenance(written)


def test_a_webp_without_its_last_padding_is_written_to():
    """Some programs leave out the zero after a last chunk of odd length: it is added before ours."""
    odd = next(data for size in range(1, 99) if len(riff_chunks(data := webp_of(size))[-1][1]) & 1)
    cut = b"RIFF" + (len(odd) - 9).to_bytes(4, "little") + odd[8:-1]
    written = write_provenance(cut, FACTS)
    assert pixels(odd) == pixels(written)
    assert [kind for kind, _ in riff_chunks(odd)] == [kind for kind, _ in riff_chunks(written)][1:-1]
    assert as_read(FACTS, cut) == read_provenance(written)


def webp_of(size: int) -> bytes:
    """Return a square WebP without an extended header."""
    buffer = io.BytesIO()
    drawn(size=(size, size)).save(buffer, "WEBP", lossless=True)
    return buffer.getvalue()


def test_a_jpeg_with_odd_markers_is_written_to():
    """Fill bytes before a marker, and segments in an unusual order, are no obstacle."""
    data = encoded("JPEG", exif=EXIF)
    odd = data[:2] + b"\xff\xff\xff\xfe\x00\x04hi" + b"\xff" + data[2:]
    written = write_provenance(odd, FACTS)
    assert pixels(data) == pixels(written)
    assert as_read(FACTS, odd) == read_provenance(written)
    assert 1 == write_provenance(written, FACTS).count(b"<nebula:Provenance>")


@pytest.mark.parametrize("form", FORMS)
def test_xmp_of_others_keeps_what_it_says(form):
    """XMP that a picture came with gains our text and loses nothing; a second writing replaces ours alone."""
    theirs = (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/" dc:format="x"/>'
        "</rdf:RDF></x:xmpmeta>"
    )
    data = with_xmp(form, theirs.encode())
    written = write_provenance(write_provenance(data, evolve(FACTS, cost="9")), FACTS)
    assert FACTS.request == read_provenance(written).request
    assert "0.0019" == read_provenance(written).cost
    root = parsed(written)
    described = root.findall(".//{http://www.w3.org/1999/02/22-rdf-syntax-ns#}Description")
    assert ["x", None] == [each.get("{http://purl.org/dc/elements/1.1/}format") for each in described]


def with_xmp(form: str, packet: bytes) -> bytes:
    """Return a picture with XMP of another program."""
    if form != "PNG":
        return encoded(form, xmp=packet)
    data, content = encoded("PNG"), b"XML:com.adobe.xmp\0\0\0en\0x\0" + packet
    return data[:33] + png_chunk(b"iTXt", content) + data[33:]


@pytest.mark.parametrize(
    ("packet", "reason"),
    [(b"<x/>", "cannot be added to"), ("<é/>".encode("latin-1"), "not UTF-8")],
    ids=["odd", "8859"],
)
@pytest.mark.parametrize("form", FORMS)
def test_xmp_that_cannot_be_added_to_is_refused_and_kept(form, packet, reason):
    """Nothing of others is destroyed for our sake."""
    data = with_xmp(form, packet)
    with pytest.raises(ValueError, match=reason):
        write_provenance(data, FACTS)
    assert read_provenance(data) is None


def test_compressed_xmp_is_left_alone():
    """Text that would first have to be unpacked is neither read nor replaced."""
    content = b"XML:com.adobe.xmp\0\1\0\0\0" + compress(with_text(None, FACTS.settled(b"").to_json(), {}))
    data = PICTURES["png"][:33] + png_chunk(b"iTXt", content) + PICTURES["png"][33:]
    assert read_provenance(data) is None
    with pytest.raises(ValueError, match="cannot be added to"):
        write_provenance(data, FACTS)


@pytest.mark.parametrize("form", FORMS)
def test_other_programs_read_the_packet(form):
    """The packet is well-formed XML, and the IPTC's names say prompt, model and that a model made the picture."""
    root = parsed(write_provenance(encoded(form), FACTS))
    said = {element.tag: element.text for element in root.iter() if element.text and element.text.strip()}
    assert "m/x-v2" == said[f"{{{IPTC}}}AISystemUsed"]
    assert said[f"{{{IPTC}}}AIPromptInformation"].startswith("]]> </nebula:Provenance> <script>")
    assert said[f"{{{IPTC}}}DigitalSourceType"].endswith("/trainedAlgorithmicMedia")
    assert HOSTILE == json.loads(said[f"{{{NAMESPACE}}}Provenance"])["request"]["prompt"]


@pytest.mark.parametrize("quoted", ['"', "&quot;"])
def test_a_packet_that_another_program_wrote_anew_is_read(quoted):
    """Programs that edit pictures write all XMP again, in words of their own."""
    text = FACTS.settled(b"").to_json().replace("<", "\\u003c").replace("&", "\\u0026").replace('"', quoted)
    packet = (
        f"<rdf:RDF xmlns:rdf='x'><rdf:Description xmlns:nebula='y'>\n <nebula:Provenance>{text}</nebula:Provenance>"
    )
    assert FACTS.settled(b"") == read_provenance(encoded("WEBP", xmp=packet.encode()))


@given(st.text(max_size=200), st.text(max_size=50))
def test_any_text_comes_back(prompt, other):
    """Whatever people and servers write, lone surrogates included, is read back as it was."""
    facts = Provenance(request={"prompt": prompt, "extra": {other: other}}, model=other, request_id=other)
    for form in ("png", "jpeg", "webp-lossless"):
        written = write_provenance(PICTURES[form], facts)
        assert as_read(facts, PICTURES[form]) == read_provenance(written)
        parsed(written)


@given(st.text(alphabet=st.characters(exclude_categories=())))
def test_lone_surrogates_come_back_too(text):
    """A server's JSON may hold halves of characters, which no XML and no UTF-8 can: they survive all the same."""
    facts = Provenance(request={"prompt": "a cat"}, model=text)
    assert as_read(facts, PICTURES["png"]) == read_provenance(write_provenance(PICTURES["png"], facts))


@pytest.mark.parametrize("form", ["GIF", "AVIF"])
def test_a_type_without_a_place_for_it_is_refused(form):
    """A GIF or an AVIF is refused by name, with what can be done; reading one finds nothing."""
    with pytest.raises(ValueError, match=f"image/{form.lower()}; only PNG, JPEG and WebP can say how"):
        write_provenance(encoded(form), FACTS)
    assert read_provenance(encoded(form)) is None


@pytest.mark.parametrize(
    ("form", "most"), [("PNG", xmp_chunks.MAX_PACKET), ("JPEG", xmp_chunks.MAX_JPEG_PACKET), ("WEBP", 2**20)]
)
def test_a_prompt_that_does_not_fit_is_refused_with_figures(form, most):
    """A JPEG takes 64 KiB, the others a megabyte: what fits is written whole, what does not is refused."""
    data = encoded(form)
    empty = len(packet_of(write_provenance(data, evolve(FACTS, request={"prompt": "x" * 5000}))))
    fits = evolve(FACTS, request={"prompt": "x" * (5000 + most - empty)})
    assert fits.request == read_provenance(write_provenance(data, fits)).request
    with pytest.raises(ValueError, match=rf"takes {most + 1} bytes, and image/\w+ holds {most} in one piece"):
        write_provenance(data, evolve(FACTS, request={"prompt": "x" * (5001 + most - empty)}))


@pytest.mark.parametrize("data", [b"", b"<svg/>", PICTURES["png"][:-4], b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_whole_picture_is_refused(data):
    """Nothing is written into what is no picture, and nothing read from it."""
    with pytest.raises(ValueError, match=r"^it is "):
        write_provenance(data, FACTS)
    with pytest.raises(ValueError, match=r"^it is "):
        read_provenance(data)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"version":true,"request":{"prompt":"x"}}',
        '{"version":1}',
        '{"version":1,"request":{"prompt":5}}',
        '{"version":1,"request":{"prompt":"x"},"cost":3}',
        '{"version":1,"request":{"prompt":"x"},"inputs":[]}',
        '{"version":1,"request":{"prompt":"x"},"inference_seconds":NaN}',
        "[" * 100_000,
        '{"version":' + "9" * 10_000 + "}",
    ],
    ids=range(12),
)
def test_a_damaged_text_is_a_value_error(text):
    """Whoever wrote it, a text that cannot be read is one error."""
    with pytest.raises(ValueError, match="is damaged"):
        read_provenance(encoded("WEBP", xmp=f"<nebula:Provenance>{text}</nebula:Provenance>".encode()))


def test_a_later_version_says_to_update():
    """What is not known yet is not guessed at."""
    packet = b'<nebula:Provenance>{"version":2,"request":{"prompt":"x"}}</nebula:Provenance>'
    with pytest.raises(ValueError, match="newer nebula_async; update"):
        read_provenance(encoded("WEBP", xmp=packet))


def test_a_foreign_document_is_not_expanded():
    """A document type with entities that would grow without end is text like any other: it costs nothing."""
    bomb = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">' + "".join(
        f'<!ENTITY a{n} "{"&a" + str(n - 1) + ";" if n else "&a;"}">' * 10 for n in range(20)
    )
    data = encoded("WEBP", xmp=f"{bomb}]><rdf:RDF>&a19;</rdf:RDF>".encode())
    assert read_provenance(data) is None
    assert FACTS.request == read_provenance(write_provenance(data, FACTS)).request


def test_reading_is_bounded_in_memory():
    """A file whose text is far larger than ours can be is not read, and takes little more than itself."""
    content = b"XML:com.adobe.xmp\0\0\0\0\0<nebula:Provenance>" + b"x" * 2**24
    data = PICTURES["png"][:33] + png_chunk(b"iTXt", content) + PICTURES["png"][33:]
    tracemalloc.start()
    try:
        assert read_provenance(data) is None
        assert tracemalloc.get_traced_memory()[1] < 3 * len(data)
    finally:
        tracemalloc.stop()
    with pytest.raises(ValueError, match="bytes of XMP"):
        write_provenance(data, FACTS)


@given(st.sampled_from(["png", "jpeg", "webp-lossless"]), st.data())
def test_any_bytes_are_read_or_refused(name, data):
    """A file that was damaged anywhere is read, or refused with a `ValueError`, and never anything else."""
    whole = bytearray(write_provenance(PICTURES[name], FACTS))
    for at in data.draw(st.lists(st.integers(0, len(whole) - 1), max_size=4)):
        whole[at] = data.draw(st.integers(0, 255))
    for use in (read_provenance, lambda found: write_provenance(found, FACTS)):
        with contextlib.suppress(ValueError):
            use(bytes(whole))


# Pictures that were handed in


def test_pictures_handed_in_are_told_by_their_digest_alone(tmp_path):
    """Bytes, data URLs and files are recorded as size and SHA-256: neither the picture nor its path is in the file."""
    path = tmp_path / "secret-folder-name.png"
    path.write_bytes(b"precious")
    later = (datetime.now(UTC) + timedelta(minutes=1)).isoformat()
    handed = {"image": path, "mask": "data:image/png;base64,cHJlY2lvdXM="}
    written = write_provenance(PICTURES["png"], evolve(FACTS, inputs=handed, created=later))
    digest = Digest(sha256(b"precious").hexdigest(), 8)
    assert {"image": digest, "mask": digest} == read_provenance(written).inputs
    assert b"secret-folder" not in written
    assert b"compositeWithTrainedAlgorithmicMedia" in written
    assert {"image": digest} == evolve(FACTS, inputs={"image": b"precious"}).settled(b"").inputs


def test_a_file_that_is_another_one_now_has_no_digest(tmp_path):
    """A file that was changed after the picture was made, or is gone, is not what was sent: no digest is told."""
    path = tmp_path / "cat.png"
    path.write_bytes(b"changed")
    handed = {"image": path, "mask": tmp_path / "gone.png"}
    settled = evolve(FACTS, inputs=handed, created="2020-01-01T00:00:00+00:00").settled(b"")
    assert {"image": Digest(), "mask": Digest()} == settled.inputs
    assert settled == Provenance.from_json(settled.to_json())


def test_what_is_not_settled_is_not_written():
    """Bytes that were handed in get into no JSON by mistake."""
    with pytest.raises(ValueError, match="settled"):
        evolve(FACTS, inputs={"image": b"precious"}).to_json()


# Pictures that came back


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.anyio
async def test_saving_with_provenance_is_asked_for(form, tmp_path):
    """A plain save writes the bytes as they came; with `provenance` the file says how it was made."""
    data = encoded(form)
    picture = evolve(read_image(data), provenance=FACTS)
    assert data == (await picture.save(tmp_path / "plain")).read_bytes()
    saved = (await picture.save(tmp_path / "told", provenance=True)).read_bytes()
    assert as_read(FACTS, data) == read_provenance(saved)
    assert data == picture.data


@pytest.mark.parametrize("form", ["PNG", "GIF"])
@pytest.mark.anyio
async def test_a_refused_save_leaves_nothing(form, tmp_path):
    """Without a known making, or without a place for it, one sentence says so, and no file is made."""
    facts = None if form == "PNG" else FACTS
    with pytest.raises(ValueError, match=r"save it without provenance=True|only PNG, JPEG and WebP can say"):
        await evolve(read_image(encoded(form)), provenance=facts).save(tmp_path / "cat", provenance=True)
    assert [] == list(tmp_path.iterdir())


@pytest.mark.anyio
async def test_saving_with_provenance_never_replaces_a_file_unasked(tmp_path):
    """What holds for a plain save holds for this one."""
    (tmp_path / "cat.png").write_bytes(b"precious")
    picture = evolve(read_image(PICTURES["png"]), provenance=FACTS)
    with pytest.raises(FileExistsError, match="overwrite=True"):
        await picture.save(tmp_path / "cat", provenance=True)
    assert b"precious" == (tmp_path / "cat.png").read_bytes()
    await picture.save(tmp_path / "cat", provenance=True, overwrite=True)
    assert FACTS.request == read_provenance((tmp_path / "cat.png").read_bytes()).request


def test_a_picture_with_provenance_can_be_made_without_a_file():
    """`with_provenance` gives bytes to serve; once more changes nothing."""
    picture = evolve(read_image(PICTURES["jpeg"]), provenance=FACTS).with_provenance()
    assert as_read(FACTS, PICTURES["jpeg"]) == read_provenance(picture.data)
    assert picture == picture.with_provenance()


def test_how_a_picture_was_made_is_pickled_and_not_printed():
    """A picture takes it to another process; its repr shows nothing of the prompt."""
    picture = evolve(read_image(PICTURES["png"]), provenance=evolve(FACTS, inputs={"image": b"precious"}))
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert picture == pickle.loads(pickle.dumps(picture, protocol))  # noqa: S301 - our own bytes
    assert "provenance=<provenance>" in repr(picture)
    assert "script" not in repr(picture)
    assert "precious" not in repr(picture.provenance)
    assert "provenance=None" in repr(Image())


def test_our_own_packet_is_known_by_its_head():
    """A packet that is ours is made anew, so that what it says of model and prompt is never stale."""
    packet = with_text(None, "{}", {"AISystemUsed": "old"})
    assert packet.decode().startswith(HEAD)
    assert b"old" not in with_text(packet, "{}", {"AISystemUsed": "new"})
