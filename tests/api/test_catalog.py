"""What is known of each model: its price, and which parameters it honours."""

from __future__ import annotations

from decimal import Decimal
from random import Random

import pytest

from nebula_async.api.catalog import CATALOG, PARAMETERS, find_conflict, find_problems, price_of, with_seed
from nebula_async.requests import ImageRequest

SDXL = "stabilityai/stable-diffusion-xl-base-1.0"
SCHNELL = "black-forest-labs/FLUX.1-schnell"
FILL = "black-forest-labs/FLUX.1-Fill-dev"
SEEDREAM = "Bytedance/seedream-3-0-t2i-250415"
KONTEXT = "black-forest-labs/FLUX.1-Kontext-dev"
MODELS = (SDXL, SCHNELL, FILL, SEEDREAM, KONTEXT)

# The vendor's table; the columns are the models in the order above.
HONOURS = {
    "width": "✓✓✓✓✓",
    "height": "✓✓✓✓✓",
    "guidance_scale": "✓✓✓✓✓",
    "negative_prompt": "✓    ",
    "num_steps": "✓✓✓  ",
    "seed": " ✓   ",
    "image": "  ✓ ✓",
    "mask": "  ✓  ",
}

SOURCE = Random(1)  # noqa: S311 - a seed is no secret

VALUES = {
    "width": 1024,
    "height": 1024,
    "guidance_scale": 3.5,
    "negative_prompt": "dogs",
    "num_steps": 4,
    "seed": 7,
    "image": b"x",
    "mask": b"x",
}


def request(model: str, *names: str, **fields) -> ImageRequest:
    """Return a request to a model with these parameters set, and an image where the model or a mask needs one."""
    given = {name: VALUES[name] for name in names}
    needed = {"image": b"x"} if "mask" in given or (model in CATALOG and CATALOG[model].needs_image) else {}
    return ImageRequest("x", model=model, **{**needed, **given, **fields})


def test_the_catalogue_holds_the_documented_models():
    """Each model is found under its own id, and there are no others."""
    assert set(MODELS) == CATALOG.keys()
    assert all(name == model.id for name, model in CATALOG.items())


def test_the_table_has_every_parameter():
    """Each parameter that a model could ignore is a row of the table."""
    assert HONOURS.keys() == set(PARAMETERS)


@pytest.mark.parametrize("name", HONOURS)
@pytest.mark.parametrize("model", MODELS)
def test_models_honour_what_the_vendor_says(model, name):
    """A parameter is honoured exactly where the vendor's table has a tick; elsewhere one sentence says it is not."""
    is_ticked = HONOURS[name][MODELS.index(model)] == "✓"
    assert is_ticked == (name in CATALOG[model].honours)
    made = ImageRequest("x", model=model, **{"image": b"x", name: VALUES[name]})
    told = [problem for problem in find_problems(made) if problem.startswith(f"{model} does not honour {name}; ")]
    assert int(not is_ticked) == len(told)


@pytest.mark.parametrize("model", MODELS)
def test_a_sentence_says_what_the_model_does_honour(model):
    """The sentence about an ignored parameter lists those that the model honours."""
    ignored = next(name for name in PARAMETERS if name not in CATALOG[model].honours)
    made = ImageRequest("x", model=model, **{"image": b"x", ignored: VALUES[ignored]})
    (sentence, *_) = (problem for problem in find_problems(made) if ignored in problem)
    assert all(name in sentence for name in CATALOG[model].honours)


@pytest.mark.parametrize("model", MODELS)
def test_nothing_is_said_of_a_request_that_is_honoured(model):
    """A request with every parameter that its model honours has no problem."""
    assert () == find_problems(request(model, *CATALOG[model].honours))
    assert () == find_problems(request(model))


@pytest.mark.parametrize(
    ("model", "price"), [(SDXL, "0.009"), (SCHNELL, "0.0019"), (SEEDREAM, "0.021"), (FILL, None), (KONTEXT, None)]
)
def test_prices_are_the_published_ones(model, price):
    """Prices are exact decimals, and not known where none is published."""
    assert (price and Decimal(price)) == price_of(model)


def test_the_price_of_an_unknown_model_is_not_known():
    """A model that is not in the catalogue has no price, rather than a guessed one."""
    assert price_of("a/b") is None


@pytest.mark.parametrize("model", [FILL, KONTEXT])
def test_models_that_need_an_image_say_so(model):
    """Inpainting and editing without an image are told before they are paid for."""
    assert (f"{model} needs an image",) == find_problems(ImageRequest("x", model=model))


@pytest.mark.parametrize("names", [("image",), ("image", "mask"), ("image", "width", "seed")])
@pytest.mark.parametrize("model", MODELS)
def test_an_image_for_a_model_that_takes_none_is_a_conflict(model, names):
    """An image that a text model would pass over at full price is told apart from what is merely not honoured."""
    conflict = find_conflict(request(model, *names))
    if model in (FILL, KONTEXT):
        assert conflict is None
    else:
        assert conflict == (
            f"{model} makes pictures from text and takes no image; leave the image out, or use one of {FILL}, {KONTEXT}"
        )


@pytest.mark.parametrize("model", [*MODELS, "a/b"])
def test_without_an_image_there_is_no_conflict(model):
    """No other parameter keeps a request from being sent, and of a model that is not known nothing is."""
    names = set(PARAMETERS) - {"image", "mask"}
    assert find_conflict(ImageRequest("x", model=model, **{name: VALUES[name] for name in names})) is None
    assert find_conflict(request("a/b", "image", "mask")) is None


@pytest.mark.parametrize(
    ("width", "height", "problems"), [(1024, 768, 0), (1000, 768, 1), (1000, 1001, 2), (None, 1001, 1), (None, None, 0)]
)
def test_sides_that_fill_would_round_are_told(width, height, problems):
    """The Fill model changes sides that are no multiple of 16: each of them is told (B12)."""
    told = find_problems(request(FILL, width=width, height=height))
    assert problems == len(told)
    assert all("to a multiple of 16: the picture will differ in size" in sentence for sentence in told)


@pytest.mark.parametrize("model", [SDXL, SCHNELL, SEEDREAM, KONTEXT])
def test_other_models_take_any_side(model):
    """No such rule is documented for the other models."""
    assert () == find_problems(request(model, width=1001, height=999))


def test_an_unknown_model_is_told_once():
    """A model that is not in the catalogue is one problem, whatever its parameters; its name cannot break a
    line (B12).
    """
    (sentence,) = find_problems(request("a/\nb", *VALUES))
    assert "'a/\\nb' is not in the catalogue" in sentence


@pytest.mark.parametrize("model", MODELS)
def test_a_seed_is_chosen_only_where_it_is_honoured(model):
    """A picture can be made again where the model honours a seed; elsewhere none is sent."""
    chosen = with_seed(request(model), SOURCE)
    assert (model == SCHNELL) == (chosen.seed is not None)


def test_no_seed_is_chosen_for_an_unknown_model():
    """Nothing is sent that the model may not know."""
    made = request("a/b")
    assert made is with_seed(made, SOURCE)


@pytest.mark.parametrize("seed", [0, -1, 7])
def test_a_given_seed_is_kept(seed):
    """A seed that was given is not replaced, zero and minus one neither."""
    assert seed == with_seed(request(SCHNELL, seed=seed), SOURCE).seed


def test_chosen_seeds_differ_and_fit():
    """Chosen seeds are whole numbers of 32 bits, and hardly ever the same."""
    seeds = {with_seed(request(SCHNELL), SOURCE).seed for _ in range(100)}
    assert 100 == len(seeds)
    assert all(0 <= seed < 2**32 for seed in seeds)
