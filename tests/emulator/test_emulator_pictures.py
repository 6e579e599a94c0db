"""The pictures: real files of the asked size, the same for the same request and no other."""

import pytest
from PIL import Image, ImageChops

SCHNELL = "black-forest-labs/FLUX.1-schnell"
SDXL = "stabilityai/stable-diffusion-xl-base-1.0"
SEEDREAM = "Bytedance/seedream-3-0-t2i-250415"
FILL = "black-forest-labs/FLUX.1-Fill-dev"
KONTEXT = "black-forest-labs/FLUX.1-Kontext-dev"
MODELS = [None, SDXL, SEEDREAM]


@pytest.mark.parametrize("image_format", ["png", "jpeg", "webp"])
@pytest.mark.parametrize("size", [(1, 1), (3, 2), (1, 700), (700, 1), (250, 97)])
def test_pictures_have_exactly_the_asked_size(start, image_format, size):
    """Every format comes as a real file of that format, to the pixel as large as asked."""
    picture = start(image_format=image_format).picture(width=size[0], height=size[1])
    assert (image_format.upper(), size) == (picture.format, picture.size)


def test_the_default_size_is_1024(rig):
    """Without a size, pictures are 1024 by 1024."""
    assert (1024, 1024) == rig.picture(width=None, height=None).size


def test_the_largest_size_is_served(start):
    """4096 pixels is the longest side, and works."""
    assert (4096, 300) == start(image_format="jpeg").picture(width=4096, height=300).size


@pytest.mark.parametrize("model", [SDXL, SEEDREAM, FILL, KONTEXT])
@pytest.mark.parametrize("size", [(1, 1), (16, 1), (200, 120)])
def test_every_model_paints_every_size(rig, encode, model, size):
    """No model fails at a size, however odd; Fill rounds its sides to multiples of 16."""
    given = encode(Image.new("RGB", (8, 8), "navy"))
    picture = rig.picture(model=model, width=size[0], height=size[1], image=given)
    rounded = tuple(max(16, round(side / 16) * 16) for side in size)
    assert (rounded if model == FILL else size) == picture.size


def test_the_same_request_gives_the_same_file(start):
    """Files repeat byte for byte, in one emulator and in another one."""
    first, second = start(), start()
    assert first.file(width=96, height=64) == first.file(width=96, height=64) == second.file(width=96, height=64)


def test_every_parameter_shows(rig):
    """Each parameter makes another picture with every model, and so does each model."""
    changes = [
        {},
        {"prompt": "a flying dog"},
        {"seed": 1},
        {"seed": 2},
        {"num_steps": 3},
        {"guidance_scale": 3.5},
        {"negative_prompt": "dogs"},
        {"width": 17},
    ]
    files = {rig.file(model=model, **change) for change in changes for model in (SCHNELL, SDXL, SEEDREAM)}
    assert 3 * len(changes) == len(files)


def test_pictures_differ_to_the_eye(rig):
    """Prompts and seeds make pictures that differ in most of their pixels, not just in some."""
    first = rig.picture(width=64, height=64, seed=1)
    for change in ({"seed": 2}, {"seed": 1, "prompt": "a red fox in the snow"}, {"seed": 1, "model": SDXL}):
        other = rig.picture(width=64, height=64, **change)
        changed = ImageChops.difference(first, other).convert("L").point(lambda value: 255 if value > 4 else 0)
        assert changed.histogram()[255] > 64 * 64 / 2


def test_a_seed_of_minus_one_is_random_and_journalled(start):
    """-1 draws a new seed each time, the journal says which, and an emulator of the same seed draws the same."""
    rig, twin = start(seed=5), start(seed=5)
    files = [rig.file(seed=-1), rig.file(seed=-1)]
    seeds = [record.seed for record in rig.emulator.journal.generations]
    assert files[0] != files[1]
    assert files == [rig.file(seed=seed) for seed in seeds]
    assert files == [twin.file(seed=-1), twin.file(seed=-1)]


def test_a_missing_seed_follows_from_the_request(rig):
    """Without a seed the journal names the one that was used, and sending it gives the same picture."""
    drawn = rig.file()
    seed = rig.emulator.journal.generations[0].seed
    assert drawn == rig.file(seed=seed)


@pytest.mark.parametrize(
    "prompt",
    [
        "word " * 200,
        "x" * 10_000,
        "🐈 flying over 東京 café Привет 안녕 العربية नमस्ते",
        "👩‍👩‍👧‍👦🏳️‍🌈" * 20,
        "\x00\x1b[31m\r\n\t\u202e\ufeff\U0010ffff",
        "z" + "\u0301" * 500,
        "﷽" * 50,
        " \n ",
    ],
    ids=["thousand", "one-word", "scripts", "emoji", "control", "zalgo", "wide", "blank"],
)
@pytest.mark.parametrize("model", MODELS)
def test_any_prompt_is_painted(rig, prompt, model):
    """Long, strange and empty-looking prompts give a picture, never an error."""
    fields = {} if model is None else {"model": model}
    assert (180, 120) == rig.picture(prompt=prompt, width=180, height=120, **fields).size
    assert prompt == rig.emulator.journal.generations[0].prompt


def test_a_mask_keeps_what_is_black(rig, encode):
    """Inpainting repaints where the mask is white and keeps every other pixel, although the caption is drawn too."""
    given = Image.effect_noise((320, 160), 90).convert("RGB")
    mask = Image.new("L", (320, 160), 0)
    mask.paste(255, (160, 0, 320, 160))
    fields = {"model": FILL, "width": 320, "height": 160, "image": encode(given), "mask": encode(mask)}
    painted = rig.picture(prompt="a red fox in the snow", **fields)
    left, right = (0, 0, 160, 160), (160, 0, 320, 160)
    assert given.crop(left).tobytes() == painted.crop(left).tobytes()
    assert given.crop(right).tobytes() != painted.crop(right).tobytes()


def test_a_mask_of_another_size_is_fitted(rig, encode):
    """A mask smaller than the picture is stretched over it."""
    given, mask = Image.new("RGB", (64, 64), "navy"), Image.new("L", (2, 1), 0)
    mask.putpixel((1, 0), 255)
    fields = {"model": FILL, "width": 64, "height": 64, "image": encode(given), "mask": encode(mask)}
    painted = rig.picture(**fields)
    assert (0, 0, 128) == painted.getpixel((0, 32))
    assert (0, 0, 128) != painted.getpixel((63, 32))


def test_a_mask_that_is_all_black_keeps_everything(rig, encode):
    """Nothing to repaint gives the picture back."""
    given = Image.effect_noise((64, 64), 90).convert("RGB")
    fields = {
        "model": FILL,
        "width": 64,
        "height": 64,
        "image": encode(given),
        "mask": encode(Image.new("L", (64, 64))),
    }
    assert given.tobytes() == rig.picture(**fields).tobytes()


def test_a_picture_is_recognisable_after_an_edit(rig, encode):
    """Without a mask, the given picture shines through: what was light stays lighter than what was dark."""
    given = Image.new("RGB", (64, 64), "black")
    given.paste("white", (32, 0, 64, 64))
    edited = rig.picture(model=KONTEXT, width=64, height=64, image=encode(given)).convert("L")
    dark, light = (edited.crop(box).resize((1, 1), Image.Resampling.BOX) for box in ((0, 0, 32, 32), (32, 0, 64, 32)))
    assert light.getpixel((0, 0)) > dark.getpixel((0, 0)) + 80


def test_image_and_mask_show_in_what_is_painted(rig, encode):
    """Another image or another mask makes another picture."""
    navy, plum = (encode(Image.new("RGB", (16, 16), name)) for name in ("navy", "plum"))
    masks = [encode(Image.new("L", (16, 16), level)) for level in (255, 128)]
    files = {rig.file(model=FILL, image=image, mask=mask) for image in (navy, plum) for mask in masks}
    assert 4 == len(files)
