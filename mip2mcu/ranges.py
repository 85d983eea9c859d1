"""Exact intervals of integer sums: the one source for big-M constants **and** for C integer types.

A sum ``bias + weights @ x`` with ``x[i]`` in ``[low[i], high[i]]`` attains exactly

    minimum  bias + sum_i (weights[i] * low[i]  if weights[i] > 0 else weights[i] * high[i])
    maximum  bias + sum_i (weights[i] * high[i] if weights[i] > 0 else weights[i] * low[i])

Both ends are attained, so nothing narrower is valid. All arithmetic is in int64; `Network` bounds its weights and
inputs such that no sum can leave it.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mip2mcu.errors import UsageError

IntArray: TypeAlias = NDArray[np.int64]
BoolArray: TypeAlias = NDArray[np.bool_]

INT32_MIN, INT32_MAX = -(2**31), 2**31 - 1
_INT64_END = 2**63
_EXACT_FLOAT64 = 2**53


def frozen(values: ArrayLike) -> IntArray:
    """A read-only int64 copy of ``values``; raises `UsageError` where one of them is no integer of 64 bits.

    Whole floats (a solver's rounded solution) are taken, fractions are refused rather than cut.
    """
    try:
        given = np.asarray(values)
    except ValueError:
        raise UsageError("an array has rows of unequal length: give every row the same number of values") from None
    if given.dtype.kind not in "biuf" or (
        given.dtype.kind in "uf"
        and not ((given >= -_INT64_END) & (given < _INT64_END) & (given == np.trunc(given))).all()
    ):
        raise UsageError(f"an array of type {given.dtype} holds values that are no 64-bit integers: round them first")
    array = given.astype(np.int64)
    array.setflags(write=False)
    return array


def sum_range(weights: IntArray, bias: IntArray, low: IntArray, high: IntArray) -> tuple[IntArray, IntArray]:
    """Smallest and largest value of each row's ``bias + weights @ x``; weights (units, inputs), the rest 1-D."""
    positive: IntArray = np.maximum(weights, 0)
    negative: IntArray = np.minimum(weights, 0)
    least: IntArray = bias + positive @ low + negative @ high
    most: IntArray = bias + positive @ high + negative @ low
    return least, most


def prefix_range(weights: IntArray, bias: IntArray, low: IntArray, high: IntArray) -> tuple[int, int]:
    """Smallest and largest value of every partial sum, from the bias on, in the order of the columns.

    An accumulator that holds this range cannot overflow at any step of ``sum = bias; sum += w[i] * x[i]; ...``.
    """
    ends = np.stack([weights * low, weights * high])
    start = bias[:, None]
    least = np.concatenate([start, start + np.cumsum(ends.min(axis=0), axis=1)], axis=1)
    most = np.concatenate([start, start + np.cumsum(ends.max(axis=0), axis=1)], axis=1)
    return int(least.min()), int(most.max())


def exact_product(rows: IntArray, weights: IntArray) -> IntArray:
    """``rows @ weights.T`` in exact integers; rows (n, inputs), weights (units, inputs).

    Floating-point BLAS is 50 times faster than numpy's integer product and exact as long as no partial sum can reach
    2**53, which is checked here; beyond that the integer product is taken.
    """
    if rows.size == 0 or weights.size == 0:
        return np.zeros((rows.shape[0], weights.shape[0]), dtype=np.int64)
    bound = int(np.abs(weights).sum(axis=1).max()) * int(np.abs(rows).max())
    if bound < _EXACT_FLOAT64:
        return (rows.astype(np.float64) @ weights.T.astype(np.float64)).astype(np.int64)
    return rows @ weights.T


def c_integer_type(low: int, high: int, *, at_least_bits: int = 8) -> str | None:
    """The narrowest C99 type that holds [low, high], unsigned where nothing is negative; None beyond 32 bits."""
    for bits in (8, 16, 32):
        if bits < at_least_bits:
            continue
        if low >= 0 and high < 2**bits:
            return f"uint{bits}_t"
        if low >= -(2 ** (bits - 1)) and high < 2 ** (bits - 1):
            return f"int{bits}_t"
    return None
