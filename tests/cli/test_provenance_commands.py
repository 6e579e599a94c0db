"""Pictures that say how they were made, from a shell: `--provenance`, `inspect` and `reproduce`."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
from PIL import Image as Pillow

from nebula_async.images.image import read_image
from nebula_async.images.provenance import Provenance, read_provenance, write_provenance

KONTEXT = "black-forest-labs/FLUX.1-Kontext-dev"
SCHNELL = "black-forest-labs/FLUX.1-schnell"
SMALL = ("--width", 64, "--height", 64)
CANARY = "sk-canary-do-not-write-me"
PROMPT = "a \x1b]0;title\x07 cat\ncost: $0 ]]> <script> 🐈"


def draw(path: Path, colour: tuple[int, int, int] = (0, 0, 255)) -> None:
    """Save a picture of one colour."""
    Pillow.new("RGB", (64, 64), colour).save(path)


def describe(path: Path, **request: object) -> None:
    """Let a picture say that this request made it."""
    facts = Provenance(request={"prompt": "a cat", "model": SCHNELL, **request})
    path.write_bytes(write_provenance(path.read_bytes(), facts))


def test_a_picture_says_how_it_was_made_when_that_is_asked_for(shell, emulator):
    """With --provenance the file tells prompt, parameters, seed, time and cost; without it, nothing."""
    given = ("generate", PROMPT, *SMALL, "--seed", 7)
    assert 0 == shell.run(*given, "-o", "told", "--provenance", at=emulator).code
    assert 0 == shell.run(*given, "-o", "plain", at=emulator).code
    told, plain = (read_provenance((shell.folder / f"{name}.png").read_bytes()) for name in ("told", "plain"))
    assert plain is None
    assert {"prompt": PROMPT, "model": SCHNELL, "width": 64, "height": 64, "seed": 7} == told.request
    assert "0.0019" == told.cost

    result = shell.run("inspect", "told.png")
    first, *lines = result.out.splitlines()
    assert (0, "") == (result.code, result.err)
    assert f"told.png: image/png, 64x64 pixels, {(shell.folder / 'told.png').stat().st_size} bytes" == first
    assert r"prompt: a \x1b]0;title\x07 cat\ncost: $0 ]]> <script> 🐈" == lines[0]
    assert [f"model: {SCHNELL}", "seed: 7", "width: 64", "height: 64"] == lines[1:5]
    assert {"cost: $0.0019", "told by: the file"} <= set(lines)

    result = shell.run("inspect", "plain.png")
    assert (1, 1) == (result.code, len(result.out.splitlines()))
    assert "nebula-async: plain.png: it says nothing of how it was made" in result.err


def test_the_key_is_never_written(shell, start):
    """Neither a picture that tells all there is to tell nor a job's metadata holds the key."""
    server = start(keys=(CANARY,))
    place = ("--base-url", server.base_url)
    prompts = shell.write("prompts.txt", "a cat", "two cats")
    assert 0 == shell.run("generate", "a cat", *SMALL, *place, "--provenance", key=CANARY).code
    assert 0 == shell.run("bulk", prompts, *SMALL, *place, "--provenance", key=CANARY).code
    assert 3 == sum(path.suffix == ".png" for path in shell.folder.rglob("*"))
    for path in shell.folder.rglob("*"):
        assert path.is_dir() or CANARY.encode() not in path.read_bytes()


def test_inspect_prints_json(shell):
    """One line of JSON holds all that is known; without provenance it is null, and the exit code says so."""
    draw(shell.folder / "cat.png")
    result = shell.run("inspect", "cat.png", "--json")
    assert (1, None, None) == (result.code, *(json.loads(result.out)[name] for name in ("told_by", "provenance")))
    describe(shell.folder / "cat.png", seed=7)
    result = shell.run("inspect", "cat.png", "--json")
    told = json.loads(result.out)
    assert (0, 64, 64, "image/png", "file") == (
        result.code,
        *(told[name] for name in ("width", "height", "media_type", "told_by")),
    )
    assert {"prompt": "a cat", "model": SCHNELL, "seed": 7} == told["provenance"]["request"]


def test_the_metadata_of_a_job_tell_what_its_pictures_do_not(shell, emulator):
    """`inspect` and `reproduce` find a job's metadata beside a picture that says nothing itself."""
    fields = {"prompt": PROMPT, "model": SCHNELL, "width": 64, "height": 64, "seed": 7}
    rows = shell.write("rows.jsonl", json.dumps(fields))
    assert 0 == shell.run("bulk", rows, at=emulator).code
    (picture,) = (name for name in shell.files() if name.endswith(".png"))
    told = json.loads(shell.run("inspect", picture, "--json").out)
    assert ("metadata", PROMPT) == (told["told_by"], told["provenance"]["request"]["prompt"])
    assert "told by: the metadata of its job\n" in shell.run("inspect", picture).out
    result = shell.run("reproduce", picture, "-o", "again", at=emulator)
    assert (0, f"the same picture as {picture}, byte for byte\n") == (result.code, result.out.splitlines(True)[1])
    assert (shell.folder / picture).read_bytes() == (shell.folder / "again.png").read_bytes()


def test_pictures_of_a_job_can_tell_themselves(shell, emulator):
    """With `bulk --provenance` each stored picture says how it was made, wherever it goes."""
    assert (
        0
        == shell.run("bulk", shell.write("prompts.txt", "a cat", "two cats"), *SMALL, "--provenance", at=emulator).code
    )
    told = [read_provenance((shell.folder / name).read_bytes()) for name in shell.files() if name.endswith(".png")]
    assert ["a cat", "two cats"] == [made.request["prompt"] for made in told]


def test_a_picture_is_made_again(shell, emulator):
    """The same request is sent, what it costs is said before, no file is replaced, and the bytes are compared."""
    assert 0 == shell.run("generate", "a cat", *SMALL, "-o", "cat", "--provenance", at=emulator).code
    before = (shell.folder / "cat.png").read_bytes()
    result = shell.run("reproduce", "cat.png", "--provenance", at=emulator)
    assert (0, f"asking {SCHNELL} for a picture for about $0.0019: this costs as any call does\n") == (
        result.code,
        result.err,
    )
    assert re.match(r"cat-1\.png \(64x64, [\d.]+ kB, seed \d+, \$0\.0019\)\n", result.out)
    assert result.out.endswith("\nthe same picture as cat.png, byte for byte\n")
    assert before == (shell.folder / "cat.png").read_bytes()
    first, second = emulator.journal.generations
    assert first.fields == second.fields

    describe(shell.folder / "cat.png", seed=8)
    result = shell.run("reproduce", "cat.png", "-o", ".", at=emulator)
    assert (0, "another picture than cat.png: the bytes differ") == (result.code, result.out.splitlines()[1])


def test_a_request_for_several_pictures_is_sent_again_whole(shell, emulator):
    """The number of pictures is part of the request, and is said with the price of all."""
    given = ("--dialect", "inference", "--size", "64x64", "--n", 2, "--response-format", "b64_json")
    assert 0 == shell.run("generate", "a cat", *given, "-o", "cat", "--provenance", at=emulator).code
    result = shell.run("reproduce", "cat-1.png", "-o", "again", at=emulator)
    assert "for 2 pictures for about $0.0038" in result.err
    assert "the same picture as cat-1.png, byte for byte\n" in result.out
    assert ["again-1.png", "again.png", "cat-1.png", "cat.png"] == shell.files()


def test_a_picture_made_of_another_one_needs_that(shell, emulator):
    """The file tells the digest of what it was made of; without that picture nothing is sent, another one is noted."""
    draw(shell.folder / "blue.png")
    draw(shell.folder / "red.png", (255, 0, 0))
    given = ("--model", KONTEXT, "--image", "blue.png", "-o", "cat", "--provenance")
    assert 0 == shell.run("generate", "a cat", *given, at=emulator).code
    assert b"blue.png" not in (shell.folder / "cat.png").read_bytes()
    emulator.reset()

    result = shell.run("reproduce", "cat.png", at=emulator)
    assert (2, True) == (result.code, "cat.png was made of another picture; give --image PATH (sha256 " in result.err)
    result = shell.run("reproduce", "cat.png", "--image", "gone.png", at=emulator)
    assert (2, "nebula-async: No such file or directory (gone.png)\n") == (result.code, result.err)
    result = shell.run("reproduce", "cat.png", "--image", "blue.png", "--mask", "red.png", at=emulator)
    assert (2, "nebula-async: cat.png was made without --mask; leave that out\n") == (result.code, result.err)
    os.mkfifo(shell.folder / "pipe")
    result = shell.run("reproduce", "cat.png", "--image", "pipe", at=emulator)
    assert (2, "nebula-async: --image pipe is no file; give the file of a picture\n") == (result.code, result.err)
    assert () == emulator.journal.requests

    result = shell.run("reproduce", "cat.png", "--image", "blue.png", at=emulator)
    assert (0, False) == (result.code, "note: " in result.err)
    assert "byte for byte" in result.out
    result = shell.run("reproduce", "cat.png", "--image", "red.png", at=emulator)
    assert (0, True) == (
        result.code,
        "note: --image red.png is another picture than the one that was sent" in result.err,
    )
    assert "the bytes differ" in result.out


def test_what_a_file_says_opens_no_other_file(shell, emulator):
    """Whoever made a picture cannot have a file of this machine sent by it."""
    draw(shell.folder / "secret.png")
    draw(shell.folder / "cat.png")
    describe(shell.folder / "cat.png", image=str(shell.folder / "secret.png"), model=SCHNELL, width=64, height=64)
    assert 0 == shell.run("reproduce", "cat.png", at=emulator).code
    (record,) = emulator.journal.generations
    assert "image" not in record.fields


def test_what_is_no_picture_or_tells_no_request_is_one_sentence(shell, emulator):
    """Wrong files are named with what is wrong with them; nothing is sent."""
    shell.write("text.png", "a cat")
    draw(shell.folder / "plain.png")
    draw(shell.folder / "odd.png")
    describe(shell.folder / "odd.png", width="wide")
    draw(shell.folder / "newer.webp")
    packet = b'<nebula:Provenance>{"version":9}</nebula:Provenance>'
    Pillow.open(shell.folder / "newer.webp").save(shell.folder / "newer.webp", xmp=packet)
    os.mkfifo(shell.folder / "pipe")
    wrong = {
        ("inspect", "gone.png"): (2, "gone.png is not there; give the file of a picture"),
        ("inspect", "."): (2, ". is no file; give the file of a picture"),
        ("inspect", "pipe"): (2, "pipe is no file; give the file of a picture"),
        ("inspect", "text.png"): (2, "text.png is no picture: it is no picture (text); give a PNG, a JPEG or a WebP"),
        ("inspect", "newer.webp"): (
            1,
            "newer.webp: how it was made is told in the words of a newer nebula_async; update to read it",
        ),
        ("reproduce", "gone.png"): (2, "gone.png is not there; give the file of a picture"),
        ("reproduce", "plain.png"): (
            2,
            "plain.png: it says nothing of how it was made (pictures do that are saved with --provenance)",
        ),
        ("reproduce", "odd.png"): (2, "width must be a whole number from 16 to 8192; got 'wide'"),
    }
    processes = {arguments: shell.start(*arguments, at=emulator) for arguments in wrong}
    ended = {arguments: shell.ended(process) for arguments, process in processes.items()}
    assert {arguments: (code, f"nebula-async: {said}\n") for arguments, (code, said) in wrong.items()} == {
        arguments: (result.code, result.err) for arguments, result in ended.items()
    }
    assert () == emulator.journal.requests


@pytest.mark.parametrize("arguments", [("-o", "taken.png"), ("-o", "taken")])
def test_reproduce_replaces_no_file(shell, emulator, arguments):
    """A name that is taken is refused before anything is paid for."""
    draw(shell.folder / "cat.png")
    describe(shell.folder / "cat.png")
    shell.write("taken.png", "mine")
    result = shell.run("reproduce", "cat.png", *arguments, at=emulator)
    assert (2, "nebula-async: taken.png exists; give another --output\n") == (result.code, result.err)
    assert () == emulator.journal.requests
    assert "mine\n" == (shell.folder / "taken.png").read_text()


def test_a_picture_that_cannot_tell_is_saved_all_the_same(shell, start):
    """What was paid for is saved; that it does not say how it was made is a note with figures."""
    server = start(image_format="jpeg")
    result = shell.run("generate", "cat " * 20_000, *SMALL, "-o", "cat", "--provenance", at=server)
    assert (0, True) == (result.code, result.out.startswith("cat.jpg (64x64, "))
    assert "note: the picture does not say how it was made: that takes " in result.err
    assert " bytes, and image/jpeg holds 65502 in one piece; save it without provenance\n" in result.err
    assert 64 == read_image((shell.folder / "cat.jpg").read_bytes()).width


def test_a_picture_of_a_job_that_cannot_tell_is_stored_all_the_same(shell, emulator):
    """What does not fit into the picture is in the metadata."""
    long = " ".join(["cat"] * 300_000)
    (shell.folder / "prompts.txt").write_text(long)
    result = shell.run("bulk", "prompts.txt", *SMALL, "--provenance", at=emulator)
    assert 0 == result.code
    (picture,) = (name for name in shell.files() if name.endswith(".png"))
    data = (shell.folder / picture).read_bytes()
    assert read_provenance(data) is None
    assert 64 == read_image(data).width
    assert 0 == shell.run("inspect", picture).code
