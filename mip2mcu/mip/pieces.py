"""Constraints that formulations share. Every total is an integer with its exact interval: big-M values come from there.

"Does not fire" is ``total <= -1``: totals are whole numbers, so there is no epsilon anywhere.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pyomo.environ as pyo
from pyomo.core.expr.numeric_expr import LinearExpression

from mip2mcu.ranges import IntArray


@dataclass(frozen=True)
class Total:
    """A whole number ``constant + sum_i coefficients[i] * variables[i]`` that always lies in [low, high]."""

    variables: tuple[Any, ...]
    coefficients: tuple[int, ...]
    constant: int
    low: int
    high: int

    def expression(self, *more: tuple[float, Any], constant: int = 0) -> LinearExpression:
        """The total plus further (coefficient, variable) terms; one object whatever the length, quick to build."""
        return LinearExpression(
            constant=self.constant + constant,
            linear_coefs=[*self.coefficients, *(c for c, _ in more)],
            linear_vars=[*self.variables, *(v for _, v in more)],
        )

    def negated(self) -> Total:
        """The total with the opposite sign."""
        return Total(self.variables, tuple(-c for c in self.coefficients), -self.constant, -self.high, -self.low)

    def minus(self, other: Total) -> Total:
        """The difference of two totals without common variables."""
        return Total(
            (*self.variables, *other.variables),
            (*self.coefficients, *(-c for c in other.coefficients)),
            self.constant - other.constant,
            self.low - other.high,
            self.high - other.low,
        )


def dense_row(
    variables: Sequence[Any], coefficients: Iterable[int]
) -> tuple[tuple[Any, ...], tuple[int, ...]]:
    """Variables and whole-number coefficients of a row, zeros left out."""
    pairs = [(v, int(c)) for v, c in zip(variables, coefficients, strict=True) if c]
    return tuple(v for v, _ in pairs), tuple(c for _, c in pairs)


def total_of(
    variables: Sequence[Any], coefficients: IntArray, high: IntArray, bias: Any, bias_high: int
) -> Total:
    """``sum_i coefficients[i] * variables[i] + bias`` for |variables[i]| <= high[i] and |bias| <= bias_high.

    The interval is attained at both ends: |coefficients| @ high + bias_high.
    """
    return total_within(variables, coefficients, (-high, high), bias, (-bias_high, bias_high))


def total_within(
    variables: Sequence[Any],
    coefficients: IntArray,
    limits: tuple[IntArray, IntArray],
    bias: Any,
    bias_limits: tuple[int, int],
) -> Total:
    """``sum_i coefficients[i] * variables[i] + bias`` for variables in ``limits``; the interval is exact."""
    ends = np.stack([coefficients * limits[0], coefficients * limits[1]])
    kept, factors = dense_row(variables, coefficients)
    low, high = int(ends.min(axis=0).sum()) + bias_limits[0], int(ends.max(axis=0).sum()) + bias_limits[1]
    return Total((*kept, bias), (*factors, 1), 0, low, high)


def sign_link(
    model: pyo.Block, index: Hashable, total: Total, fired: Any, *, margins: tuple[float, float] = (0, 1)
) -> None:
    """Add ``fired = 1  <=>  total >= 0`` to the constraint lists ``model.fires`` and ``model.rests``.

        total >= above + (low - above) * (1 - fired)         fired = 1 forces total >= above
        total <= (high + below) * fired - below              fired = 0 forces total <= -below

    Both hold with equality at a bound of ``total``, so no smaller big-M is valid. Whole totals have the ``margins``
    (above, below) of 0 and 1; those of continuous weights must stay away from zero on both sides.
    """
    above, below = margins
    model.fires[index] = total.expression((total.low - above, fired)) >= total.low
    model.rests[index] = total.expression((-(total.high + below), fired)) <= -below


def margin_link(model: pyo.Block, index: Hashable, total: Total, fired: Any, margin: Any) -> None:
    """Add ``fired = 1  =>  total >= margin`` and ``fired = 0  =>  total <= -1 - margin`` for 0 <= margin <= margin.ub.

        total >= margin + (low - top) * (1 - fired)           constraint list ``model.fires_with_margin``
        total <= -1 - margin + (high + 1 + top) * fired       constraint list ``model.rests_with_margin``
    """
    top = int(margin.ub)
    model.fires_with_margin[index] = total.expression((-1, margin), (total.low - top, fired)) >= total.low - top
    model.rests_with_margin[index] = total.expression((1, margin), (-(total.high + 1 + top), fired)) <= -1


def product_link(
    model: pyo.Block, index: Hashable, product: Any, weight: Any, fired: Any, *, high: int, low: int | None = None
) -> None:
    """Add ``product = weight * (2 * fired - 1)`` for low <= weight <= high: the convex hull, exact at fired = 0 and 1.

    Without ``low`` it is -high. Constraint lists ``model.kept_above``, ``kept_below`` (fired = 1: product = weight) and
    ``negated_above``, ``negated_below`` (fired = 0: product = -weight).
    """
    low = -high if low is None else low
    model.kept_below[index] = product <= weight - 2 * low * (1 - fired)
    model.kept_above[index] = product >= weight - 2 * high * (1 - fired)
    model.negated_below[index] = product <= -weight + 2 * high * fired
    model.negated_above[index] = product >= -weight + 2 * low * fired


def program_size(inputs: IntArray, widths: Sequence[int]) -> tuple[int, int]:
    """Rows and entries, roughly, of a program in which each row of ``inputs`` goes through layers of these ``widths``.

    Two rows a sign (`sign_link`), four a product of deeper layers (`product_link`), one an output.
    """
    products = sum(a * b for a, b in pairwise(widths))
    rows = len(inputs) * (2 * sum(widths[:-1]) + 4 * products + widths[-1])
    return rows, 2 * int(np.count_nonzero(inputs)) * widths[0] + 14 * len(inputs) * products


def reaches_margin(total: Total, sign: int, target: int, shortfall: Any) -> Any:
    """``sign * total + shortfall >= target``.

    With shortfall >= 0 minimised this is the hinge max(0, target - sign * total).
    """
    signed = LinearExpression(
        constant=sign * total.constant,
        linear_coefs=[*(sign * c for c in total.coefficients), 1],
        linear_vars=[*total.variables, shortfall],
    )
    return signed >= target


def declare_weights(
    model: pyo.Block, indices: Sequence[Hashable], high: dict[Any, int], binary: bool, *, whole: bool = True
) -> None:
    """Add ``model.weight`` in [-high, high], ``whole`` numbers or not; binary ones are ``2 * plus - high``.

    A binary weight of high m is the sum of m weights of -1 and +1: ``plus`` of them are +1.
    """
    domain = pyo.Integers if whole else pyo.Reals
    model.weight = pyo.Var(indices, domain=domain, bounds=lambda _, *i: (-high[_key(i)], high[_key(i)]))
    if binary:
        model.plus = pyo.Var(indices, domain=pyo.Integers, bounds=lambda _, *i: (0, high[_key(i)]))
        model.weight_is_plus_or_minus = pyo.Constraint(
            indices, rule=lambda m, *i: m.weight[_key(i)] == 2 * m.plus[_key(i)] - high[_key(i)]
        )


def _key(index: tuple[Any, ...]) -> Any:
    return index if len(index) > 1 else index[0]


def count_links(model: pyo.Block, indices: Sequence[Hashable], copies: dict[Any, int], bound: int) -> None:
    """Add ``model.links``, the number of non-zero weights behind each ``model.weight``: ``|weight| <= bound * links``.

    A weight that stands for m equal inputs takes up to m links.
    """
    model.links = pyo.Var(indices, domain=pyo.Integers, bounds=lambda _, *i: (0, copies[_key(i)]))
    model.link_carries_plus = pyo.Constraint(
        indices, rule=lambda m, *i: m.weight[_key(i)] <= bound * m.links[_key(i)]
    )
    model.link_carries_minus = pyo.Constraint(
        indices, rule=lambda m, *i: -m.weight[_key(i)] <= bound * m.links[_key(i)]
    )
