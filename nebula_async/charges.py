"""What the account may have been charged, in pictures."""

from __future__ import annotations

from attrs import frozen


@frozen
class Charges:
    """How many pictures the account may have paid for: at least this many, at most that many.

    0-0 was not charged, 0-1 is unknown, 1-1 is settled, 1-2 is a success after one attempt of unknown outcome.
    """

    at_least: int = 0
    at_most: int = 0

    @property
    def settled(self) -> bool:
        """Whether the charge is known exactly."""
        return self.at_least == self.at_most

    def __add__(self, other: Charges) -> Charges:
        return Charges(self.at_least + other.at_least, self.at_most + other.at_most)

    def __mul__(self, pictures: int) -> Charges:
        return Charges(self.at_least * pictures, self.at_most * pictures)

    def __str__(self) -> str:
        return f"{self.at_least}-{self.at_most}"
