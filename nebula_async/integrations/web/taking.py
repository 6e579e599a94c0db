"""The items of a batch, as long as it goes on."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from typing import TypeVar

from nebula_async.integrations.web.outcome import goes_on

Item = TypeVar("Item")


def until_over(
    items: Iterable[Item] | AsyncIterable[Item], is_over: Callable[[], bool]
) -> Iterator[Item] | AsyncIterator[Item]:
    """Return an iterator over the items that takes no more of them once it is over."""
    return _take_async(aiter(items), is_over) if isinstance(items, AsyncIterable) else _take(iter(items), is_over)


def _as_exception(error: BaseException) -> BaseException:
    """Return an exception that ends the batch and is told, for one that would end it as if its items were over."""
    if isinstance(error, Exception) or goes_on(error):
        return error
    return RuntimeError(f"the items ended with {error!r}")


def _take(items: Iterator[Item], is_over: Callable[[], bool]) -> Iterator[Item]:
    while not is_over():
        try:
            item = next(items)
        except StopIteration:
            return
        except BaseException as error:
            raise _as_exception(error) from error
        yield item


async def _take_async(items: AsyncIterator[Item], is_over: Callable[[], bool]) -> AsyncIterator[Item]:
    try:
        while not is_over():
            try:
                item = await anext(items)
            except StopAsyncIteration:
                return
            except BaseException as error:
                raise _as_exception(error) from error
            yield item
    finally:
        if (aclose := getattr(items, "aclose", None)) is not None:
            await aclose()
