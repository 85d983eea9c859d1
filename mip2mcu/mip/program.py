"""Programs in whole numbers, made of expressions: what a given network computes, piece by piece, as rows and columns.

An `Expression` is ``constant + sum of factor * column`` with an interval that holds its value; big-M values come from
there. Where an interval decides a piece, it costs no column. Every column is whole, so a row is divided by what its
factors have in common and its ends are rounded: exact, and it keeps factors small.

    fires      1 where total >= 0                    total >= low (1 - fired),  total <= (high + 1) fired - 1
    rectified  r = max(total, 0)                     r >= total,  r <= total - low (1 - b),  r <= high b
    quotient   q = total // divisor                  0 <= total - divisor q <= divisor - 1
    at_most    m = min(total, limit)                 m <= total,  m >= limit b,  m >= total - (high - limit) b
    largest    m = max of totals                     m >= each,  m <= each + (high - low of it) (1 - b),  sum b = 1

Formulations, which are read and written as text, are Pyomo models (`mip2mcu.mip.pieces`); these programs are built by
the hundred, one a question or a row of data, and go to the solver as arrays.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import gcd

import numpy as np

from mip2mcu.mip.matrix import NO_LIMIT, FloatArray, Matrix
from mip2mcu.ranges import IntArray

FACTOR_LIMIT = 2**17
"""Largest factor of a program whose proofs are believed: a solver's arithmetic is not exact."""


@dataclass(frozen=True, eq=False)
class Expression:
    """``constant + sum of factor * column``; its value always lies in [low, high]."""

    factors: Mapping[int, int]
    constant: int
    low: int
    high: int

    def narrowed(self, low: int, high: int) -> Expression:
        """The same value with a better interval."""
        return Expression(self.factors, self.constant, max(low, self.low), min(high, self.high))


def constant(value: int) -> Expression:
    """A value without columns."""
    return Expression({}, value, value, value)


def combination(parts: Iterable[tuple[int, Expression]], offset: int = 0) -> Expression:
    """``offset + sum of factor * expression``; its interval is that of independent expressions."""
    factors: dict[int, int] = {}
    value = low = high = offset
    for factor, part in parts:
        value += factor * part.constant
        ends = (factor * part.low, factor * part.high)
        low, high = low + min(ends), high + max(ends)
        for column, own in part.factors.items():
            factors[column] = factors.get(column, 0) + factor * own
    return Expression({column: factor for column, factor in factors.items() if factor}, value, low, high)


def difference(first: Expression, second: Expression, offset: int = 0) -> Expression:
    """``first - second + offset``."""
    return combination([(1, first), (-1, second)], offset)


@dataclass
class Program:
    """Whole columns and rows, added one by one."""

    low: list[int] = field(default_factory=list)
    high: list[int] = field(default_factory=list)
    rows: list[tuple[Mapping[int, int], float, float]] = field(default_factory=list)

    def variable(self, low: int, high: int) -> Expression:
        """A new column in [low, high]."""
        if low == high:
            return constant(low)
        self.low.append(low)
        self.high.append(high)
        return Expression({len(self.low) - 1: 1}, 0, low, high)

    def require(self, total: Expression, low: float = -NO_LIMIT, high: float = NO_LIMIT) -> None:
        """Add ``low <= total <= high``."""
        low, high = low - total.constant, high - total.constant
        common = max(1, gcd(*total.factors.values()))
        factors = total.factors
        inner = (low if low == -NO_LIMIT else -(-low // common), high if high == NO_LIMIT else high // common)
        if common > 1 and inner[0] <= inner[1]:  # what no multiple fulfils is left to the solver to prove
            (low, high), factors = inner, {column: factor // common for column, factor in factors.items()}
        self.rows.append((factors, low, high))

    # ---- pieces, see the module ----

    def fires(self, total: Expression) -> Expression:
        """1 where ``total`` is not negative, else 0."""
        if total.low >= 0 or total.high < 0:
            return constant(int(total.low >= 0))
        common = max(1, gcd(*total.factors.values()))
        if common > 1:  # the sign is that of the quotient
            factors = {column: factor // common for column, factor in total.factors.items()}
            total = Expression(factors, total.constant // common, total.low // common, total.high // common)
        fired = self.variable(0, 1)
        self.require(combination([(1, total), (total.low, fired)]), low=total.low)
        self.require(combination([(1, total), (-(total.high + 1), fired)]), high=-1)
        return fired

    def rectified(self, total: Expression) -> Expression:
        """``max(total, 0)``."""
        if total.low >= 0:
            return total
        if total.high <= 0:
            return constant(0)
        positive, above = self.variable(0, total.high), self.variable(0, 1)
        gap = difference(positive, total)
        self.require(gap, low=0)
        self.require(combination([(1, gap), (-total.low, above)]), high=-total.low)
        self.require(combination([(1, positive), (-total.high, above)]), high=0)
        return positive

    def quotient(self, total: Expression, divisor: int) -> Expression:
        """``total // divisor``, rounded down."""
        if divisor == 1:
            return total
        quotient = self.variable(total.low // divisor, total.high // divisor)
        if quotient.factors:
            self.require(combination([(1, total), (-divisor, quotient)]), 0, divisor - 1)
        return quotient

    def at_most(self, total: Expression, limit: int) -> Expression:
        """``min(total, limit)``."""
        if total.high <= limit:
            return total
        if total.low >= limit:
            return constant(limit)
        least, cut = self.variable(total.low, limit), self.variable(0, 1)
        gap = difference(least, total)
        self.require(gap, high=0)
        self.require(combination([(1, least), (total.low - limit, cut)]), low=total.low)
        self.require(combination([(1, gap), (total.high - limit, cut)]), low=0)
        return least

    def largest(self, totals: Sequence[Expression]) -> Expression:
        """The largest of ``totals``."""
        low, high = max(total.low for total in totals), max(total.high for total in totals)
        able = [total for total in totals if total.high > low or total.low == total.high == low]
        if len(able) == 1 or low == high:
            return able[0].narrowed(low, high)
        most, chosen = self.variable(low, high), [self.variable(0, 1) for _ in able]
        self.require(combination((1, one) for one in chosen), 1, 1)
        for total, one in zip(able, chosen, strict=True):
            gap = difference(most, total)
            self.require(gap, low=0)
            self.require(combination([(1, gap), (high - total.low, one)]), high=high - total.low)
        return most

    # ---- the whole ----

    @property
    def entries(self) -> int:
        """Factors of all rows."""
        return sum(len(factors) for factors, _, _ in self.rows)

    @property
    def is_believable(self) -> bool:
        """True where no factor is so large that a solver's proof may be a matter of rounding."""
        largest = max((abs(factor) for factors, _, _ in self.rows for factor in factors.values()), default=0)
        return largest <= FACTOR_LIMIT

    def matrix(self, cost: Expression | None = None) -> Matrix:
        """The arrays for a solver, to minimise ``cost``; without it any point will do."""
        lengths = [len(factors) for factors, _, _ in self.rows]
        objective = np.zeros(len(self.low))
        if cost is not None:
            objective[list(cost.factors)] = list(cost.factors.values())
        return Matrix(
            cost=objective,
            low=np.array(self.low, dtype=np.float64),
            high=np.array(self.high, dtype=np.float64),
            integer=np.ones(len(self.low), dtype=bool),
            start=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32),
            column=np.array([c for factors, _, _ in self.rows for c in factors], dtype=np.int32),
            value=np.array([f for factors, _, _ in self.rows for f in factors.values()], dtype=np.float64),
            row_low=np.array([low for _, low, _ in self.rows], dtype=np.float64),
            row_high=np.array([high for _, _, high in self.rows], dtype=np.float64),
            constant=0.0 if cost is None else float(cost.constant),
        )


def value_of(total: Expression, values: FloatArray | IntArray) -> int:
    """What ``total`` is where the columns have ``values``."""
    return total.constant + sum(factor * round(float(values[column])) for column, factor in total.factors.items())
