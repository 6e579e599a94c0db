"""What the API says of models and money is read exactly, or refused."""

from __future__ import annotations

from decimal import Decimal

import pytest
from bodies import reply

from nebula_async.api.account import read_credits, read_models
from nebula_async.api.catalog import CATALOG, Model
from nebula_async.errors import UnusableReplyError

MODEL = "stabilityai/stable-diffusion-xl-base-1.0"


def test_models_are_listed():
    """The list gives id, name, kind and price of each model; what the catalogue knows of one is kept."""
    listed = read_models(
        reply(
            {
                "data": {
                    "models": [
                        {
                            "model_name": "a/new",
                            "model_alias": "New",
                            "model_type": "Image",
                            "price": 0.5,
                            "context_length": None,
                        },
                        {"model_name": MODEL, "price": 0.01},
                        {"model_name": "a/chat", "model_type": "Text", "price": 0},
                        {"model_name": "a/bare"},
                    ]
                }
            }
        )
    )
    new, known, chat, bare = listed
    assert Model(id="a/new", name="New", kind="Image", price=Decimal("0.5")) == new
    assert (Decimal("0.01"), CATALOG[MODEL].honours) == (known.price, known.honours)
    assert ("Text", Decimal(0)) == (chat.kind, chat.price)
    assert ("a/bare", None) == (bare.name, bare.price)


@pytest.mark.parametrize(
    "price",
    ["null", '"0.009"', "true", "[1]", "{}", "NaN", "Infinity", "-Infinity", "1e999", "-1", "-0.001", "-1e-300"],
)
@pytest.mark.parametrize(("model", "known"), [(MODEL, Decimal("0.009")), ("a/new", None)])
def test_a_price_that_is_none_leaves_the_known_one(price, model, known):
    """What nobody can be asked to pay is no price: the documented one stays, and a new model has none."""
    (listed,) = read_models(
        reply(b'{"data": {"models": [{"model_name": "%s", "price": %s}]}}' % (model.encode(), price.encode()))
    )
    assert known == listed.price


@pytest.mark.parametrize(
    ("written", "price"),
    [
        ("0", "0"),
        ("0.0", "0.0"),
        ("0.019", "0.019"),
        ("0.0019", "0.0019"),
        ("2", "2.0"),
        ("1e-7", "1E-7"),
        ("0.1", "0.1"),
    ],
)
@pytest.mark.parametrize("model", [MODEL, "a/new"])
def test_a_price_is_the_number_that_is_listed(written, price, model):
    """The account's own price takes the place of the built-in one, to the digit; zero is a price too."""
    (listed,) = read_models(
        reply(b'{"data": {"models": [{"model_name": "%s", "price": %s}]}}' % (model.encode(), written.encode()))
    )
    assert Decimal(price) == listed.price


def test_a_price_left_out_leaves_the_known_one():
    """A list without prices does not take away the documented ones."""
    listed = read_models(reply({"data": {"models": [{"model_name": name} for name in CATALOG]}}))
    assert list(CATALOG.values()) == list(listed)


def test_entries_that_are_no_model_are_passed_over():
    """One odd entry does not hide the rest of the list."""
    listed = read_models(reply({"data": {"models": [None, 5, {}, {"model_name": 5}, {"model_name": "a/b"}]}}))
    assert ["a/b"] == [model.id for model in listed]


@pytest.mark.parametrize("body", [{}, {"data": None}, {"data": []}, {"data": {"models": {}}}, [], b"", b"<html>"])
def test_a_list_that_is_none_is_unusable(body):
    """A reply without a list of models is one clear error."""
    with pytest.raises(UnusableReplyError, match="the reply "):
        read_models(reply(body))


@pytest.mark.parametrize(
    ("written", "balance"),
    [('"1228.55600"', "1228.55600"), ('"0"', "0"), ("-3.5", "-3.5"), ("0.1", "0.1"), ("12", "12")],
)
def test_the_balance_is_exact(written, balance):
    """The balance is a decimal number with the very digits that were sent."""
    read_balance = read_credits(reply(b'{"data": {"available_balance": %s}}' % written.encode()))
    assert (Decimal(balance), balance) == (read_balance, str(read_balance))


@pytest.mark.parametrize(
    "written",
    ['"NaN"', '"Infinity"', "NaN", "1e999", "true", "null", '"lots"', '""', "[0, [1], 2]", "{}", '"1_0"', '"\u0661"'],
)
def test_a_balance_that_is_no_number_is_unusable(written):
    """A balance that nobody can compare with a price is refused."""
    with pytest.raises(UnusableReplyError, match="the reply holds no balance"):
        read_credits(reply(b'{"data": {"available_balance": %s}}' % written.encode()))


@pytest.mark.parametrize("body", [{}, {"data": []}, {"data": {}}])
def test_a_missing_balance_is_unusable(body):
    """Without a balance in the reply there is one clear error."""
    with pytest.raises(UnusableReplyError, match="the reply holds no balance"):
        read_credits(reply(body))
