"""Dialect B: what `POST /v1/images/generate` answers to requests that are right."""

import json
import re
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import httpx
import pytest

from nebula_async.emulator import Emulator

SDXL = "stabilityai/stable-diffusion-xl-base-1.0"
SCHNELL = "black-forest-labs/FLUX.1-schnell"
SEEDREAM = "Bytedance/seedream-3-0-t2i-250415"
FILL = "black-forest-labs/FLUX.1-Fill-dev"
PAINTERS = {"dall-e-3": "0.0400", "sdxl": "0.0090", SDXL: "0.0090", SCHNELL: "0.0019", SEEDREAM: "0.0210"}


def _spent(rig):
    journal = rig.emulator.journal
    return [(record.images_charged, record.cost) for record in journal.generations], journal.charged, journal.spent


def test_a_reply_has_the_documented_shape(rig):
    """A picture comes by URL in exactly the envelope of the vendor's page, and nothing else is in it."""
    reply = rig.infer()
    assert (200, "application/json") == (reply.status_code, reply.headers["content-type"])
    body = reply.json()
    url = body["data"]["images"][0]["url"]
    assert re.fullmatch(rf"http://{re.escape(rig.emulator.storage_host)}/generated/[0-9a-f]{{32}}\.png", url)
    expected = {
        "status": "success",
        "data": {
            "images": [{"url": url, "b64_json": None}],
            "usage": {"images_generated": 1, "resolution": "16x16"},
        },
    }
    assert expected == body


def test_base64_takes_the_place_of_the_url(rig):
    """With `response_format` b64_json each picture is in the reply, and its URL is null."""
    images = rig.infer(response_format="b64_json", n=2).json()["data"]["images"]
    assert [None, None] == [image["url"] for image in images]
    assert 2 == len({image["b64_json"] for image in images})


@pytest.mark.parametrize(("image_format", "extension"), [("png", "png"), ("jpeg", "jpg"), ("webp", "webp")])
def test_a_picture_is_the_same_by_url_and_in_base64(start, image_format, extension):
    """However a picture is fetched, its file is the same, byte for byte, and the same in another emulator."""
    rig, twin = start(image_format=image_format), start(image_format=image_format, seed=5)
    (url,) = rig.urls(quality="hd")
    assert url.endswith(f".{extension}")
    assert rig.stranger.get(url).content == rig.inferred(quality="hd") == twin.inferred(quality="hd")


def test_the_defaults_are_the_documented_ones(rig):
    """Left out or null, a field has its default: one natural picture of standard quality, 1024 by 1024, by URL."""
    body = json.dumps(
        {"model": "sdxl", "prompt": "x", "size": None, "n": None, "quality": None, "style": None}
        | {"response_format": None, "negative_prompt": None}
    )
    reply = rig.post(body).json()
    assert {"images_generated": 1, "resolution": "1024x1024"} == reply["data"]["usage"]
    picture = {"model": "sdxl", "prompt": "x", "response_format": "b64_json"}
    left_out = rig.post(json.dumps(picture | {"size": "8x8"})).json()
    said = {"n": 1, "size": "8x8", "quality": "standard", "style": "natural", "negative_prompt": ""}
    assert left_out == rig.post(json.dumps(picture | said)).json()


def test_every_parameter_shows(rig):
    """Each parameter makes another picture, `quality` and `style` included, and so does each place among several."""
    changes = [
        {},
        {"prompt": "a flying dog"},
        {"model": "sdxl"},
        {"n": 2},
        {"size": "16x17"},
        {"quality": "hd"},
        {"style": "vivid"},
        {"style": "artistic"},
        {"negative_prompt": "dogs"},
    ]
    assert len(changes) == len({rig.inferred(**change) for change in changes})
    several = rig.urls(n=10)
    assert 10 == len({rig.stranger.get(url).content for url in several})


@pytest.mark.parametrize("model", PAINTERS)
def test_its_models_paint_and_cost_what_they_should(rig, model):
    """The page's two examples and every text-to-image model of the list are served, at their price for each picture."""
    rig.urls(model=model, n=3)
    price = Decimal(PAINTERS[model])
    assert ([(3, 3 * price)], 3, 3 * price) == _spent(rig)
    assert [model] == [record.model for record in rig.emulator.journal.generations]


def test_its_example_models_are_not_in_the_list(rig):
    """dall-e-3 and sdxl are known to dialect B alone, as in the vendor's catalogue."""
    listed = {model["model_name"] for model in rig.http.get("/serverless/models").json()["data"]["models"]}
    assert set() == listed & {"dall-e-3", "sdxl"}
    assert [400, 400] == [rig.ask(model=model).status_code for model in ("dall-e-3", "sdxl")]


@pytest.mark.parametrize("size", ["1x1", "4096x1", "1x4096", "4000x10", "1000x3"])
def test_a_picture_has_the_asked_size(rig, size):
    """Every supported size is told in the reply and in the journal."""
    assert size == rig.infer(size=size).json()["data"]["usage"]["resolution"]
    assert [size] == [f"{record.width}x{record.height}" for record in rig.emulator.journal.generations]


def test_exactly_the_sides_up_to_4096_are_supported(rig):
    """No number is forgotten by the form of a size, and none is let in."""
    from nebula_async.emulator.inference import read_size

    assert [*range(1, 4097)] == [side for side in range(10_000) if read_size(f"{side}x1") == (side, 1)]


def test_an_integer_may_be_written_with_a_fraction_of_nothing(rig):
    """2.0 is an integer, as JSON Schema has it."""
    assert 2 == len(rig.urls(n=2.0))
    assert 2 == rig.emulator.journal.charged


def test_unknown_fields_are_ignored(rig):
    """Fields that the page does not name, those of dialect A among them, change nothing."""
    assert rig.inferred() == rig.inferred(width=64, seed=7, nested={"a": [1]}, num_images=3)


def test_its_requests_are_recorded_like_others(start, clock):
    """A record of dialect B says what was asked, in which size, with what result and at what price."""
    rig = start(clock=clock)
    rig.infer(n=2, seed=3)
    (record,) = rig.emulator.journal.generations
    assert ("POST", "/v1/images/generate", 200, True) == (record.method, record.path, record.status, record.authorized)
    assert ("dall-e-3", "a flying cat", 16, 16) == (record.model, record.prompt, record.width, record.height)
    assert (None, 2, Decimal("0.0800")) == (record.seed, record.images_charged, record.cost)
    assert {"model": "dall-e-3", "prompt": "a flying cat", "size": "16x16", "n": 2, "seed": 3} == dict(record.fields)


def test_a_lone_surrogate_is_survived(rig):
    """A prompt that is no valid Unicode is painted, stored and journalled like any other."""
    reply = rig.post(b'{"model": "dall-e-3", "prompt": "\\udfff cat", "size": "200x200", "negative_prompt": "\\ud800"}')
    (image,) = reply.json()["data"]["images"]
    assert 200 == rig.stranger.get(image["url"]).status_code
    assert "\udfff cat" == rig.emulator.journal.generations[0].prompt


def test_a_very_long_prompt_is_painted(rig):
    """Nothing is known of a longest prompt: even megabytes of it make a picture."""
    (url,) = rig.urls(prompt="cats " * 1_000_000)
    assert 200 == rig.stranger.get(url).status_code


def test_many_at_once_are_all_served_and_charged(rig):
    """Requests of both dialects at once all get pictures, each charged once, none sharing a URL with another."""
    with ThreadPoolExecutor(16) as pool:
        asked = [pool.submit(rig.urls, n=2, prompt=f"cat {number}") for number in range(40)]
        painted = [pool.submit(rig.file, prompt=f"dog {number}") for number in range(20)]
        urls = [url for call in asked for url in call.result()]
        files = {file.content for file in pool.map(rig.stranger.get, urls)}
        assert 20 == len({call.result() for call in painted})
    assert (80, 80) == (len(set(urls)), len(files))
    assert (100, Decimal("3.2380")) == (rig.emulator.journal.charged, rig.emulator.journal.spent)
    assert 60 == len(rig.emulator.journal.generations)


def test_latency_is_the_models(start):
    """A reply waits for its model's inference time, even where its picture is not painted yet."""
    rig = start(latency=1.0, faults="503:@1")
    assert 503 == rig.infer().status_code
    with pytest.raises(httpx.ReadTimeout):
        rig.http.post(
            f"{rig.emulator.inference_url}/images/generate", json={"model": "sdxl", "prompt": "x"}, timeout=0.3
        )
    assert 0 == rig.emulator.journal.charged


def test_where_it_is_is_known_once_it_runs():
    """The URL of dialect B ends in /v1, at the same port as dialect A, and is known while the emulator runs."""
    emulator = Emulator()
    for name in ("inference_url", "storage_host"):
        with pytest.raises(RuntimeError, match="not running"):
            getattr(emulator, name)
    with emulator:
        assert emulator.base_url.removesuffix("/api/v1") + "/v1" == emulator.inference_url
        assert emulator.storage_host not in emulator.base_url
