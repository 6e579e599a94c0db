"""Image to image from a shell: `--image` and `--mask`, and what is refused before it can cost anything."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

FILL = "black-forest-labs/FLUX.1-Fill-dev"
KONTEXT = "black-forest-labs/FLUX.1-Kontext-dev"
SDXL = "stabilityai/stable-diffusion-xl-base-1.0"
BLUE = (0, 0, 255)


def draw(folder: Path, name: str, size: tuple[int, int] = (64, 64), *, is_mask: bool = False) -> None:
    """Save a blue picture, or a mask whose left half is white, in the form that its name says."""
    picture = Image.new("L" if is_mask else "RGB", size, 0 if is_mask else BLUE)
    if is_mask:
        picture.paste(255, (0, 0, size[0] // 2, size[1]))
    picture.save(folder / name)


@pytest.fixture
def folder(shell) -> Path:
    """A folder with a picture and a mask in each form that the API takes, and with what is neither."""
    for form in ("png", "jpeg", "webp"):
        draw(shell.folder, f"cat.{form}")
        draw(shell.folder, f"mask.{form}", is_mask=True)
    draw(shell.folder, "wide.png", (64, 48), is_mask=True)
    (shell.folder / "empty.png").touch()
    (shell.folder / "cut.png").write_bytes((shell.folder / "cat.png").read_bytes()[:60])
    (shell.folder / "text.png").write_text("a cat")
    return shell.folder


def sent(emulator) -> list[str]:
    """Return the models that were asked for pictures."""
    return [record.model for record in emulator.journal.generations]


def test_the_white_part_of_a_picture_is_repainted_and_a_size_that_is_rounded_is_said(shell, emulator, folder):
    """The black part of the mask stays as it was; sides that the model rounds are told beforehand, one note each."""
    given = ("--image", "cat.png", "--mask", "mask.png", "--width", 70, "--height", 64, "--output", "dog")
    result = shell.run("generate", "a dog", "--model", FILL, *given, at=emulator)
    assert (0, "dog.png (64x64, ") == (result.code, result.out[:16])
    assert f"note: {FILL} rounds width 70 to a multiple of 16: the picture will differ in size\n" == result.err
    picture = Image.open(folder / "dog.png").convert("RGB")
    assert (BLUE, False) == (picture.getpixel((60, 4)), picture.getpixel((4, 4)) == BLUE)
    (record,) = emulator.journal.generations
    assert {"image", "mask"} <= record.fields.keys()


def test_a_job_edits_pictures_of_every_form(shell, emulator, folder):
    """PNG, JPEG and WebP are taken from beside the manifest, each with its mask; a second run sends nothing."""
    forms = ("png", "jpeg", "webp")
    fills = [f"{form},{FILL},cat.{form},mask.{form},64" for form in forms]
    edits = [f"{form},{KONTEXT},cat.{form},,64" for form in forms]
    rows = shell.write("edits.csv", "prompt,model,image,mask,width", *fills, *edits)
    result = shell.run("bulk", rows, at=emulator)
    assert (0, [FILL] * 3 + [KONTEXT] * 3) == (result.code, sorted(sent(emulator)))
    assert result.out.startswith("6 of 6 items done\n")

    emulator.reset()
    assert 0 == shell.run("bulk", f"../{folder.name}/edits.csv", at=emulator).code
    assert [] == sent(emulator)


REFUSED = {
    ("--model", FILL, "--image", "cat.png", "--mask", "wide.png"): (
        "the mask is 64x48 pixels and the image 64x64; give a mask of the image's size"
    ),
    ("--model", SDXL, "--image", "cat.png"): f"{SDXL} makes pictures from text and takes no image; leave the image",
    ("--model", FILL, "--mask", "mask.png"): "mask needs an image: it says which part of the image is repainted",
    ("--model", FILL, "--image", "cat.png", "--mask", "text.png"): "mask cannot be used: it is no picture (text)",
    (
        "--model",
        FILL,
        "--image",
        "none.png",
    ): "image cannot be used: No such file or directory; got 'none.png'; give a whole PNG, JPEG or WebP",
    (
        "--model",
        FILL,
        "--image",
        "empty.png",
    ): "image cannot be used: it is no picture (empty); got 'empty.png'; give a whole PNG, JPEG or WebP",
    ("--model", FILL, "--image", "https://pictures.example/a.png"): "image cannot be used: it is a URL; give a path",
}


@pytest.mark.usefixtures("folder")
def test_what_cannot_be_edited_is_one_sentence_and_sends_nothing(shell, emulator):
    """A picture that the model cannot take, or that is none, is refused by name with 2, before it is paid for."""
    before = shell.files()
    results = {given: shell.run("generate", "a dog", *given, at=emulator) for given in REFUSED}
    assert {given: f"nebula-async: {said}" for given, said in REFUSED.items()} == {
        given: result.err[: len(f"nebula-async: {REFUSED[given]}")] for given, result in results.items()
    }
    assert {(2, "", 1)} == {(result.code, result.out, result.err.count("\n")) for result in results.values()}
    assert ([], before) == (sent(emulator), shell.files())


@pytest.mark.usefixtures("folder")
def test_a_job_refuses_the_lines_that_cannot_be_edited_and_pays_for_none_of_them(shell, emulator):
    """What is wrong with a picture costs nothing: its line is told and noted as refused, the others are made."""
    rows = shell.write(
        "edits.csv",
        "prompt,model,image,mask",
        f"other size,{FILL},cat.png,wide.png",
        f"no picture,{FILL},text.png,",
        f"cut short,{FILL},cut.png,",
        f"a dog,{KONTEXT},cat.png,",
    )
    result = shell.run("bulk", rows, "--width", 64, "--height", 64, at=emulator)
    assert (1, [KONTEXT], 1) == (result.code, sent(emulator), emulator.journal.charged)
    assert {
        "failed: item 0, 'other size': the mask is 64x48 pixels and the image 64x64",
        "failed: item 1, 'no picture': image cannot be used: it is no picture (text)",
        "failed: item 2, 'cut short': image cannot be used: it is a PNG cut short",
    } <= {line.partition(";")[0] for line in result.err.splitlines()}


@pytest.mark.usefixtures("folder")
def test_a_model_that_takes_no_picture_is_found_when_the_manifest_is_checked(shell, emulator):
    """A line that its model could never honour is named by its number, and nothing is sent."""
    rows = shell.write("edits.csv", "prompt,model,image", f"a dog,{KONTEXT},cat.png", f"from text,{SDXL},cat.png")
    result = shell.run("bulk", rows, "--width", 64, "--height", 64, at=emulator)
    assert (2, []) == (result.code, sent(emulator))
    assert f"edits.csv:3: {SDXL} makes pictures from text and takes no image" in result.err


@pytest.mark.usefixtures("folder")
def test_a_job_names_the_lines_whose_pictures_are_not_there(shell, emulator):
    """A file that is missing, a URL and a mask alone are found when the manifest is checked: nothing is sent."""
    rows = shell.write(
        "edits.csv",
        "prompt,image,mask",
        "a dog,none.png,",
        "a dog,https://pictures.example/a.png,",
        "a dog,,mask.png",
    )
    result = shell.run("bulk", rows, "--model", FILL, at=emulator)
    assert (2, "", ()) == (result.code, result.out, emulator.journal.requests)
    assert [
        "nebula-async: edits.csv cannot be used, nothing was sent; lines to mend: 3",
        "  edits.csv:2: image none.png is no file",
        "  edits.csv:3: image https://pictures.example/a.png is no file",
        "  edits.csv:4: mask needs an image: it says which part of the image is repainted",
    ] == result.err.splitlines()
