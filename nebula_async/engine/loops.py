"""State for each event loop: sockets and locks belong to the loop that made them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary

from anyio import NoEventLoopError
from anyio.lowlevel import current_token
from attrs import define, field

Value = TypeVar("Value")


@define(eq=False, repr=False)
class PerLoop(Generic[Value]):
    """A value for each event loop, made when a loop first asks; it goes with its loop, and with its owner.

    (anyio's `RunVar` lives as long as the loop: a server that makes clients would keep the state of each.)
    """

    make: Callable[[], Value]
    _values: WeakKeyDictionary[object, Value] = field(factory=WeakKeyDictionary, init=False)

    def get(self) -> Value:
        """Return the running loop's value."""
        loop = current_token().native_token
        value = self._values.get(loop)
        if value is None:
            value = self._values[loop] = self.make()
        return value

    def find(self) -> Value | None:
        """Return the running loop's value, if a loop is running and has one."""
        try:
            return self._values.get(current_token().native_token)
        except NoEventLoopError:
            return None

    def pop(self) -> Value | None:
        """Forget the running loop's value and return it, if it has one."""
        return self._values.pop(current_token().native_token, None)
