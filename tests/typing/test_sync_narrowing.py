"""What type checkers conclude of the synchronous client: checked by `mypy`, as the sibling of this file is."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, assert_type

from nebula_async import Config, Failure, Generation, Image, ImageRequest, InferenceRequest, RetryPolicy, Timeouts
from nebula_async.sync import ImageResponse, NebulaClient


def generate_one(client: NebulaClient, request: ImageRequest, image: Image) -> None:
    """The verbs return what those of `AsyncNebula` await, and refuse what those refuse."""
    assert_type(client.generate(request), Generation)
    assert_type(client.generate("a cat", model="m"), Generation)
    assert_type(client.generate(InferenceRequest("a cat", model="m"), download=False), Generation)
    assert_type(client.generate(prompt="a cat", model="m", width=512, image=Path("cat.png")), Generation)
    assert_type(client.generate_image(model="m", prompt="a cat", quality="hd"), ImageResponse)
    assert_type(client.generate_image(model="m", prompt="a cat").data, dict[str, Any])
    assert_type(client.credits(), Decimal)
    assert_type(client.download(image), Image)
    assert_type(client.save(image, "cat"), Path)
    client.generate("a cat")  # type: ignore[call-overload]  # no model  # pyright: ignore[reportCallIssue]
    client.generate(request, model="m")  # type: ignore[call-overload]  # two  # pyright: ignore[reportCallIssue, reportArgumentType]
    client.generate_image(model="m", prompt="a cat", quality="best")  # type: ignore[arg-type]  # no such word  # pyright: ignore[reportArgumentType]


def generate_many(client: NebulaClient, requests: list[ImageRequest]) -> None:
    """`generate_many` is a plain block around a plain iterator."""
    with client.generate_many(["a cat", "a dog"], model="m", concurrency=3) as results:
        assert_type(results, Iterator[Generation | Failure])
        for result in results:
            assert_type(result, Generation | Failure)
    assert_type(client.generate_all(requests, concurrency=4), list[Generation | Failure])
    client.generate_many(["a cat"], concurrency="3")  # type: ignore[arg-type]  # text  # pyright: ignore[reportArgumentType]


def configure(client: NebulaClient) -> None:
    """A client is made with the options of `AsyncNebula`, and of no other name."""
    assert_type(client.with_options(timeout=5, retry=RetryPolicy(attempts=1)), NebulaClient)
    with NebulaClient("key", config=Config(tier="expert-1"), timeout=Timeouts(total=5)) as other:
        assert_type(other, NebulaClient)
        assert_type(other.config, Config)
    NebulaClient("key", timeuot=5)  # type: ignore[call-arg]  # misspelt  # pyright: ignore[reportCallIssue]
