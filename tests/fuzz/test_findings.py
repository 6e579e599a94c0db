"""What searches have found, each as a plain test: it stays mended whether or not anyone searches again."""

from __future__ import annotations

import io
import json
import random
import struct
from pathlib import Path

import pyarrow as pa
import pytest
from PIL import Image as Pillow
from pyarrow import parquet
from specimens import chunk, png

from nebula_async.api.envelope import read_body
from nebula_async.bulk.command import Command
from nebula_async.bulk.gallery.entries import Texts, _entry
from nebula_async.bulk.gallery.store_urls import is_browsable
from nebula_async.bulk.manifest.items import BadLine, Item
from nebula_async.bulk.manifest.source import Source
from nebula_async.bulk.spool import Spool
from nebula_async.cli.export import read_size
from nebula_async.engine.host_state import HostState, read_state, write_state
from nebula_async.engine.proxy import public_name
from nebula_async.errors import ConfigurationError, JobError
from nebula_async.images.media import read_media
from nebula_async.images.provenance import MOST_LISTS, Provenance, read_provenance, write_provenance
from nebula_async.images.xmp import OPEN

MADE = Provenance(request={"prompt": "x"}, sha256="a")
DEEP = "[" * 100_000


def gif(screen: tuple[int, int], *pictures: tuple[int, int, int, int]) -> bytes:
    """Return a GIF of a screen and of pictures: left, top, width and height."""
    blocks = (b"," + struct.pack("<HHHH", *place) + b"\0\2\2\x44\1\0" for place in pictures)
    return b"GIF89a" + struct.pack("<HH", *screen) + b"\0\0\0" + b"".join(blocks) + b";"


def source_of(path: Path) -> Source:
    """Return a manifest."""
    kind = path.suffix.removeprefix(".")
    return Source(path=path, name="m", kind=kind, base=path.parent, defaults={"model": "m"}, columns={}, repeat=1)


def test_a_gif_is_as_large_as_what_is_on_its_screen():
    """A picture that is larger than the screen of its GIF makes decoders enlarge that; the size is theirs."""
    data = gif((3, 2), (1, 1, 9, 5))

    assert Pillow.open(io.BytesIO(data)).size == (read_media(data).width, read_media(data).height)
    assert (10, 6) == (read_media(data).width, read_media(data).height)


@pytest.mark.parametrize("pictures", [[(0, 0, 65_535, 65_535)], [(0, 0, 1, 1), (65_535, 65_535, 1, 1)]])
def test_a_gif_with_a_small_screen_asks_for_no_gigabytes(pictures):
    """The limit of 64 megapixels is for all that a decoder is asked to show, the first picture or a later one."""
    with pytest.raises(ValueError, match="more than 64 megapixels"):
        read_media(gif((3, 2), *pictures))


def test_provenance_is_not_hidden_behind_a_tag_of_ours_that_nothing_closes():
    """What is written into a picture is read back; where damaged XMP would hide it, that is said before."""
    packet = f"<rdf:RDF>{OPEN}cut off</rdf:RDF>".encode()
    data = png(1, 1, chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + packet), chunk(b"IDAT", b"x"))

    with pytest.raises(ValueError, match="cannot be added to"):
        write_provenance(data, MADE)


def test_a_prompt_of_brackets_is_read_back():
    """What counts as too many lists is lists, and no brackets in a text."""
    data = png(1, 1, chunk(b"IDAT", b"x"))
    made = Provenance(request={"prompt": '{"[' * MOST_LISTS}, sha256="a")

    assert made == read_provenance(write_provenance(data, made))


@pytest.mark.parametrize("name", ["a" * 5000, "a/" * 5000, "a" * 300 + ".png"])
def test_a_picture_whose_path_can_be_none_is_a_bad_line(tmp_path, name):
    """A path that is too long for any file is no file, as any other that is not there: the line is named."""
    (tmp_path / "m.jsonl").write_text(json.dumps({"prompt": "x", "image": name}))
    (bad,) = source_of(tmp_path / "m.jsonl").entries()

    assert isinstance(bad, BadLine)
    assert bad.problem.endswith("is no file")


def test_a_cell_of_parquet_that_is_no_text_is_a_bad_line(tmp_path):
    """A row whose text is not UTF-8 is named, and the others are read."""
    text = pa.array([b"a cat", b"caf\xe9", b"a dog"]).view(pa.string())
    parquet.write_table(pa.table({"prompt": text}), tmp_path / "m.parquet")
    first, bad, last = source_of(tmp_path / "m.parquet").entries()

    assert ("a cat", "a dog") == (first.request.prompt, last.request.prompt)
    assert "m:2: 'prompt' is not UTF-8 (byte 0xe9); write the file anew" == str(bad)


def test_parquet_with_names_that_are_no_text_is_damaged(tmp_path):
    """A schema that cannot be read is said as any other damage."""
    parquet.write_table(pa.table({"prompt": ["x"]}), tmp_path / "m.parquet", store_schema=False)
    data = (tmp_path / "m.parquet").read_bytes()
    (tmp_path / "m.parquet").write_bytes(data.replace(b"prompt", b"promp\xe9"))
    with pytest.raises(JobError, match="no Parquet, or damaged"):
        list(source_of(tmp_path / "m.parquet").entries())


def test_any_damage_to_parquet_is_said(tmp_path):
    """Whatever bytes of a file are wrong, its rows are read, or one error names it; the same damage each time."""
    parquet.write_table(pa.table({"prompt": ["a", "b"], "width": [512, None]}), tmp_path / "m.parquet")
    whole, chance, refused = (tmp_path / "m.parquet").read_bytes(), random.Random(5), 0  # noqa: S311 - no secret
    for _ in range(300):
        data = bytearray(whole)
        for _ in range(chance.randint(1, 4)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        (tmp_path / "m.parquet").write_bytes(data)
        try:
            assert all(isinstance(entry, Item | BadLine) for entry in source_of(tmp_path / "m.parquet").entries())
        except JobError as error:
            refused += "m:" in str(error)

    assert refused > 100


@pytest.mark.parametrize("size", ["9" * 10_000, f"1.{'0' * 10_000}1GB", "9" * 10_000 + "TiB"])
def test_a_size_without_end_is_no_size(size):
    """A number that nobody has bytes for is refused as any other text."""
    with pytest.raises(ConfigurationError, match="--shard-size must be a size"):
        read_size(size)


def test_a_command_that_is_nested_without_end_is_none():
    """A damaged ledger has no command; it does not keep anyone from looking at the job."""
    assert Command.read(DEEP) is None


def test_a_noted_reply_that_is_nested_without_end_is_none(tmp_path):
    """A damaged note of a reply is none: what came is looked at by itself."""
    (tmp_path / "0.1.reply").write_text(DEEP)

    assert Spool(tmp_path, is_synced=False).read_reply(0, 1) is None


@pytest.mark.parametrize("name", ["written_at", "used"])
def test_a_state_with_a_number_that_is_none_is_damaged(name):
    """A number that no clock can show is no state: the account begins anew."""
    state = json.loads(write_state(HostState("boot")))
    target = state if name == "written_at" else state["allowance"]["quota"]
    target["written_at" if name == "written_at" else "_used"] = -(10**400)
    with pytest.raises(ValueError, match="no state"):
        read_state(json.dumps(state), "boot", 0.0)


def test_an_item_of_anyone_is_shown():
    """A ledger that somebody else wrote is shown in the gallery, whatever numbers and times are in it."""
    request = json.dumps({"prompt": "x", "seed": 10**400})
    row = json.dumps({"width": 10**400, "created": "0001-01-01T00:00:00"})
    entry = _entry(0, 0, "done", 1, 1, 1, request, None, None, "images/x.png", 5, "a", row, 0.5, float("inf"), None)

    assert str(10**400) in entry.columns(None, Texts())


def test_a_host_with_a_nul_is_no_public_name():
    """What no resolver takes is no address, and no error of another kind."""
    assert "a.b\0c" == public_name("a.b\0c")


def test_an_error_of_a_megabyte_is_read_by_its_beginning():
    """Of a long text the beginning is shown; the rest is not looked at."""
    assert "why" == read_body(json.dumps({"message": f"why{' ' * 60_000}not"}).encode()).message


@pytest.mark.parametrize(
    "url", ["\x01\x00 http://s", " https://a.example/cats", "https://a.ex\tample/cats", "http://s\n"]
)
def test_a_url_of_pictures_is_as_it_is_read(url):
    """Where a page looks for pictures holds nothing that those who read the URL leave out."""
    assert not is_browsable(url)
