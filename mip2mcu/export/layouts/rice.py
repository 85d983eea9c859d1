"""Golomb-Rice codes: a number is a quotient in unary and a remainder of k bits; what compressed weights consist of.

    n = q * 2**k + r        q zeros, a one, then r in k bits, highest first

A number that is known to be less than some limit has a largest quotient, whose closing one is left out. With a limit
of 2 and k = 0 that is a plain bit: 1 for 0, 0 for 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mip2mcu.ranges import IntArray

REMAINDER_LIMIT = 12
"""Largest k, which leaves room for the closing ones and a sign in a reader that holds 16 bits or more."""


@dataclass(frozen=True)
class RiceCode:
    """Codes of numbers 0, 1, ...: ``remainder`` is k, ``largest_quotient`` None where there is no limit."""

    remainder: int
    largest_quotient: int | None = None

    def lengths(self, numbers: IntArray) -> IntArray:
        """Bits that each of ``numbers`` takes."""
        quotients = numbers >> self.remainder
        return quotients + self.remainder + (quotients != self.largest_quotient)

    def bits(self, number: int) -> str:
        """The code of ``number`` as text of 0 and 1."""
        quotient, k = number >> self.remainder, self.remainder
        rest = f"{number & ((1 << k) - 1):0{k}b}" if k else ""
        return "0" * quotient + ("" if quotient == self.largest_quotient else "1") + rest

    def read(self, bits: str, at: int) -> tuple[int, int]:
        """The number whose code begins at ``at``, and where the next code begins."""
        quotient = 0
        while quotient != self.largest_quotient and bits[at] == "0":
            quotient, at = quotient + 1, at + 1
        at += quotient != self.largest_quotient
        end = at + self.remainder
        return (quotient << self.remainder) + int(bits[at:end] or "0", 2), end


def best_code(numbers: IntArray, limit: int | None = None) -> RiceCode:
    """The code that takes the fewest bits for all of ``numbers``, which are less than ``limit``."""
    codes = [RiceCode(k, None if limit is None else (limit - 1) >> k) for k in range(REMAINDER_LIMIT + 1)]
    return min(codes, key=lambda code: int(code.lengths(numbers).sum()))


def to_chunks(bits: str, width: int, count: int) -> list[int]:
    """``bits`` as ``count`` numbers of ``width`` bits, the first bit highest; zeros fill the end."""
    padded = bits.ljust(width * count, "0")
    return [int(padded[k : k + width], 2) for k in range(0, width * count, width)]


def from_chunks(chunks: Sequence[int], width: int) -> str:
    """Inverse of `to_chunks`, the filling zeros included."""
    return "".join(f"{chunk:0{width}b}" for chunk in chunks)


def by_frequency(values: IntArray) -> tuple[int, ...]:
    """The different ``values``, the most frequent first and, of equally frequent ones, the larger first."""
    found, counts = np.unique(values, return_counts=True)
    return tuple(int(found[k]) for k in np.lexsort((-found, -counts)))
