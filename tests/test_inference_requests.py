"""A request of the inference API is checked when it is made, and a request of either kind is written down and read."""

from __future__ import annotations

import json
import math
import pickle
from traceback import TracebackException

import pytest
from attrs import evolve, fields
from attrs.exceptions import FrozenInstanceError
from hypothesis import given
from hypothesis import strategies as st

from nebula_async.errors import InvalidRequestError
from nebula_async.requests import DIALECTS, ImageRequest, InferenceRequest, field_names, kind_of_request, read_request

KINDS = (ImageRequest, InferenceRequest)
FIELDS = field_names(InferenceRequest)
OWN = {"n": 2, "size": "64x64", "quality": "hd", "style": "vivid", "response_format": "url"}
FOREIGN = {
    "width": 64, "height": 64, "num_steps": 4, "guidance_scale": 3.5, "seed": 7, "image": "cat.png", "mask": "mask.png",
}  # fmt: skip


def request(prompt="a lake", **given_fields) -> InferenceRequest:
    """Return a request that is right but for the fields given."""
    return InferenceRequest(prompt, **{"model": "dall-e-3", **given_fields})


def refusal(make, *arguments, **given_fields) -> str:
    """Return the message with which something is refused."""
    with pytest.raises(InvalidRequestError) as caught:
        make(*arguments, **given_fields)
    assert len(str(caught.value)) < 1_000
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Fields


def test_the_fields_are_the_documented_ones():
    """A request has the parameters of the vendor's page, and an `id` and `extra` of ours."""
    documented = {"model", "prompt", "n", "size", "quality", "style", "negative_prompt", "response_format"}
    assert documented | {"id", "extra"} == FIELDS


def test_everything_but_prompt_and_model_may_be_left_out():
    """What is not given is `None`: the defaults are the API's, and one picture is asked for."""
    made = request()
    assert {None} == {getattr(made, name) for name in FIELDS - {"prompt", "model"}}
    assert (1, None, "inference") == (made.pictures, made.seed, made.dialect)


def test_only_the_prompt_is_positional():
    """Parameters are named, so that none can be taken for another."""
    with pytest.raises(TypeError):
        InferenceRequest("a lake", "dall-e-3")
    assert request() == InferenceRequest(prompt="a lake", model="dall-e-3")


@pytest.mark.parametrize("prompt", ["a cat", "猫 🐈", "a\0b", "line\nbreak", " x ", "a" * 10_000])
def test_prompts_are_sent_as_they_are(prompt):
    """Any prompt with something to see in it is taken, unchanged."""
    assert prompt == request(prompt).prompt


@pytest.mark.parametrize("prompt", ["", " ", "\t\r\n", "\u200b\ufeff", "\ud800", None, 5, b"a lake", ["a lake"], True])
def test_blank_prompts_are_refused(prompt):
    """A prompt that shows nothing, is no text, or fits into no request is refused before it can cost something (B6)."""
    assert refusal(request, prompt).startswith("prompt must be text that is not blank, ")


@pytest.mark.parametrize("model", ["", " ", None, 5, "x" * 257, "\ud800"])
def test_a_model_is_a_short_text(model):
    """A model that is no short, visible text is refused."""
    assert refusal(request, model=model).startswith("model must be text")


@pytest.mark.parametrize("name", ["negative_prompt", "id"])
@pytest.mark.parametrize("value", [5, True, b"x", ["x"], "\ud800"])
def test_other_texts_are_text(name, value):
    """Whatever else is text is refused where it is none, by its name."""
    assert refusal(request, **{name: value}).startswith(f"{name} must be text")


def test_a_negative_prompt_may_be_blank_and_an_id_may_not():
    """An empty negative prompt is a way to say none; an id is there to be seen."""
    assert "" == request(negative_prompt="").negative_prompt
    assert refusal(request, id=" ").startswith("id must be text that is not blank")


@pytest.mark.parametrize("count", [1, 2, 10])
def test_one_to_ten_pictures_can_be_asked_for(count):
    """`n` pictures are asked for, at most the documented ten."""
    assert (count, count) == (request(n=count).n, request(n=count).pictures)


@pytest.mark.parametrize(
    "count", [0, -1, 11, 2**63, True, False, "2", "", 2.0, 1.5, math.nan, [2], b"2", pytest.param(10**5000, id="long")]
)
def test_the_number_of_pictures_is_strict(count):
    """`n` decides what is paid: no flag, text or float passes for it, and none below one or above ten (B11, B13)."""
    assert refusal(request, n=count).startswith("n must be a whole number from 1 to 10; got ")


@pytest.mark.parametrize("size", ["1024x1024", "512x512", "1x1", "16x99999", "1792x1024"])
def test_sizes_are_width_x_height(size):
    """A size is two numbers with an x between them; which of them a model can paint is its own affair."""
    assert size == request(size=size).size


@pytest.mark.parametrize(
    "size",
    [
        "", " ", "1024", "x", "1024x", "x1024", "1024X1024", "1024×1024", "1024*1024", "1024x1024x3", "1024,1024",  # noqa: RUF001
        "0x5", "5x0", "0x0", "01x5", "1x05", "-1x5", "+1x5", "1.5x2", "1e3x5", "1_0x5", "100000x5", "5x100000",
        " 1024x1024", "1024x1024 ", "1024 x 1024", "1024x1024\n", "\n1024x1024", "1024x1024\0", "٣x٣", "１x１",  # noqa: RUF001
        "auto", "1024x1024px", "²x²", "9" * 10_000, 1024, 1024.0, True, (1024, 1024), [1024, 1024], b"1024x1024",
    ],
    ids=lambda size: ascii(size)[:20],
)  # fmt: skip
def test_a_size_of_another_form_is_refused(size):
    """What is not two plain whole numbers with an x between them is refused, with an example of what is meant."""
    assert refusal(request, size=size).startswith("size must be width x height in pixels, such as 1024x1024")


WORDS = {
    "quality": ("hd", "standard"),
    "style": ("artistic", "natural", "vivid"),
    "response_format": ("b64_json", "url"),
}


@pytest.mark.parametrize(("name", "words"), WORDS.items())
def test_the_documented_words_are_taken(name, words):
    """Each word of the vendor's page is taken as it is."""
    assert words == tuple(getattr(request(**{name: word}), name) for word in words)


@pytest.mark.parametrize(("name", "words"), WORDS.items())
@pytest.mark.parametrize(
    "value", ["", " ", "HD", "Natural", "URL", "url ", "hd\n", "low", "png", 1, True, b"hd", ["hd"], {"hd"}]
)
def test_other_words_are_refused_with_the_known_ones(name, words, value):
    """A word that the page does not know is refused, however near it comes, and those that it knows are listed."""
    assert refusal(request, **{name: value}).startswith(f"{name} must be one of {', '.join(words)}; got ")


@pytest.mark.parametrize("extra", [{1: 2}, ["a"], "a", 5, {"x": {1, 2}}, {"x": math.nan}, {"x": b"1"}, {"\ud800": 1}])
def test_extra_holds_what_json_can_carry(extra):
    """Extra fields that the request body could not carry are refused at once."""
    assert refusal(request, extra=extra).startswith("extra must ")


@pytest.mark.parametrize("name", [*sorted(FIELDS), "model_name"])
def test_extra_does_not_override_what_has_an_argument(name):
    """A field that has an argument of its own cannot be smuggled past its checks."""
    assert f"extra must not hold {name}" in refusal(request, extra={name: "x"})


def test_extra_is_copied():
    """What happens to a dictionary after it was given does not change the request."""
    mine = {"nested": {"list": [1]}}
    made = request(extra=mine)
    mine["nested"]["list"].append(object())
    assert {"nested": {"list": [1]}} == made.extra


# The value


def test_requests_are_frozen_and_changed_copies_are_checked():
    """A request never changes; a changed copy is held to the same rules."""
    made = request()
    with pytest.raises(FrozenInstanceError):
        made.n = 5
    assert 5 == evolve(made, n=5).n
    assert "n must be" in refusal(evolve, made, n=0)


def test_requests_are_compared_by_value_and_pickled():
    """Equal requests are equal, in this process and in another, and never to one of the other kind."""
    made = request(**OWN, extra={"a": [1]}, id="7")
    assert made == request(**OWN, extra={"a": [1]}, id="7")
    assert made == pickle.loads(pickle.dumps(made))  # noqa: S301 - our own bytes
    assert request() != ImageRequest("a lake", model="dall-e-3")


@pytest.mark.parametrize("given_fields", [{"extra": {1: 2}}, {"n": 0}, {"size": "x"}, {"quality": "x"}, {"id": ""}])
def test_a_refusal_can_be_reported_with_local_variables(given_fields):
    """A report that prints the variables of each frame can print the request that is refused."""
    with pytest.raises(InvalidRequestError) as caught:
        request(**given_fields)
    assert TracebackException.from_exception(caught.value, capture_locals=True).stack


@pytest.mark.parametrize("kind", KINDS)
def test_the_likeness_of_a_request_that_could_not_be_made(kind):
    """A failure can show what was asked for although it breaks every rule; whatever was not said is `None`."""
    likeness = kind.refused("", 5)
    assert ("", 5) == (likeness.prompt, likeness.model)
    assert {None} == {getattr(likeness, name) for name in field_names(kind) - {"prompt", "model"}}
    assert (kind, 1, None) == (type(likeness), likeness.pictures, likeness.seed)
    assert kind.__name__ in repr(likeness)
    assert likeness == pickle.loads(pickle.dumps(likeness))  # noqa: S301 - our own bytes


# To plain values and back

any_text = st.text(st.characters(codec="utf-8"), max_size=20)
visible = any_text.map(lambda text: text + "x")
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | any_text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(any_text, inner, max_size=3),
    max_leaves=6,
)
requests = st.builds(
    InferenceRequest,
    visible,
    model=visible,
    n=st.none() | st.integers(1, 10),
    size=st.none() | st.from_regex(r"[1-9][0-9]{0,4}x[1-9][0-9]{0,4}", fullmatch=True, alphabet="0123456789x"),
    quality=st.sampled_from([None, *WORDS["quality"]]),
    style=st.sampled_from([None, *WORDS["style"]]),
    negative_prompt=st.none() | any_text,
    response_format=st.sampled_from([None, *WORDS["response_format"]]),
    id=st.none() | visible,
    extra=st.none() | st.dictionaries(visible, json_values, max_size=3).filter(lambda extra: not extra.keys() & FIELDS),
)


@given(requests)
def test_a_request_survives_being_written_down(made):
    """`to_dict` gives plain JSON with the dialect in it, from which the same request is made, by whoever reads it."""
    plain = json.loads(json.dumps(made.to_dict()))
    assert "inference" == plain["dialect"]
    assert None not in plain.values()
    assert made == InferenceRequest.from_dict(plain) == read_request(plain)


def test_only_what_is_set_is_written_down():
    """What was left out is left out of the plain values, too."""
    assert {"dialect": "inference", "prompt": "a lake", "model": "dall-e-3"} == request().to_dict()
    assert {"dialect": "inference", "prompt": "a lake", "model": "dall-e-3", **OWN} == request(**OWN).to_dict()


@pytest.mark.parametrize("kind", KINDS)
def test_a_dialect_names_its_own_kind(kind):
    """Each kind of request reads values that name its dialect, that leave it out, or that say null."""
    plain = {"prompt": "x", "model": "m"}
    for given_values in (plain, plain | {"dialect": None}, plain | {"dialect": kind.dialect}):
        assert kind("x", model="m") == kind.from_dict(given_values)
    for other in {*DIALECTS, "C", "", 5} - {kind.dialect}:
        assert refusal(kind.from_dict, plain | {"dialect": other}).startswith(f"dialect must be {kind.dialect} here; ")


@pytest.mark.parametrize(
    ("dialect", "kind"), [(None, ImageRequest), ("serverless", ImageRequest), ("inference", InferenceRequest)]
)
def test_values_are_read_as_what_they_name(dialect, kind):
    """`dialect` chooses the API; without it a request is for the serverless one."""
    plain = {"prompt": "x", "model": "m"}
    assert kind("x", model="m") == read_request(plain | {"dialect": dialect})
    assert kind is kind_of_request(dialect) is DIALECTS[kind.dialect]
    assert ImageRequest("x", model="m") == read_request(plain)


@pytest.mark.parametrize("dialect", ["", "C", "Inference", "inference ", 5, True, ["inference"], {}])
def test_a_dialect_that_does_not_exist_is_refused(dialect):
    """A dialect that nobody speaks is refused with those that there are."""
    message = refusal(read_request, {"prompt": "x", "model": "m", "dialect": dialect})
    assert message.startswith("dialect must be one of inference, serverless; got ")
    assert repr(dialect) in message


@pytest.mark.parametrize(
    ("kind", "other", "foreign"), [(ImageRequest, InferenceRequest, OWN), (InferenceRequest, ImageRequest, FOREIGN)]
)
def test_a_field_of_the_other_dialect_is_named_as_such(kind, other, foreign):
    """A field that only the other API has is refused with the name of that dialect, one at a time and all together."""
    assert foreign.keys() == field_names(other) - field_names(kind)
    for names in (*([name] for name in foreign), sorted(foreign)):
        plain = {"prompt": "x", "model": "m", **{name: foreign[name] for name in names}}
        expected = (
            f"the {kind.dialect} API has no {', '.join(names)}: "
            f"give dialect {other.dialect} ({other.__name__}), or leave that out"
        )
        assert expected == refusal(kind.from_dict, plain)


@pytest.mark.parametrize("kind", KINDS)
def test_a_field_that_neither_dialect_has_is_named(kind):
    """A field that does not exist is refused by its name, and the message lists those that do."""
    message = refusal(kind.from_dict, {"prompt": "x", "model": "m", "widht": 5, "sise": 6})
    assert message.startswith("unknown field sise, widht; known are ")
    assert all(attribute.name in message for attribute in fields(kind))


@pytest.mark.parametrize(
    ("given_values", "missing"), [({"prompt": "x"}, "model"), ({"model": "x"}, "prompt"), ({}, "prompt and model")]
)
def test_missing_fields_are_named(given_values, missing):
    """Without a prompt or a model there is no request; the message says which."""
    assert f"{missing} must be given" == refusal(InferenceRequest.from_dict, given_values)


@pytest.mark.parametrize("given_value", [None, [], "x", 5, [("prompt", "x")]])
def test_fields_come_as_a_mapping(given_value):
    """Anything but a mapping of fields is refused as such."""
    assert refusal(InferenceRequest.from_dict, given_value).startswith("a request must be a mapping of fields; got ")
