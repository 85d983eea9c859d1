"""Which changes of a weight some inputs can show at all: the sums that a unit can take, exactly, as sets of bits.

A change of the weight w for an input by d flips the sign of the unit where, for a value v of that input, the rest r of
the sum lies between the two thresholds: -max(w * v, (w + d) * v) <= r < -min(w * v, (w + d) * v). The values that r can
take are a set: bit m of a long integer stands for the least r plus m, and an input with V values and weight w adds V
copies of the set, shifted by multiples of w, in log2 V steps.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mip2mcu.layers import Dense
from mip2mcu.ranges import IntArray


@dataclass(frozen=True)
class Sums:
    """The values ``least`` + m for each bit m of ``bits``."""

    least: int
    bits: int

    def any_in(self, low: int, high: int) -> bool:
        """Whether one of them lies in [low, high]."""
        first = max(0, low - self.least)
        count = high - self.least + 1 - first
        return count > 0 and (self.bits >> first) & ((1 << count) - 1) != 0


def sums_without(layer: Dense, j: int, left_out: int, low: IntArray, high: IntArray) -> Sums:
    """What unit ``j`` can sum up to, bias included, over all inputs but ``left_out`` (the number of inputs: all)."""
    row = layer.weights[j]
    least, bits = int(layer.bias[j]), 1
    for i in np.flatnonzero(row).tolist():
        if i != left_out:
            weight, first, last = int(row[i]), int(low[i]), int(high[i])
            least += min(weight * first, weight * last)
            bits = _with_multiples(bits, abs(weight), last - first + 1)
    return Sums(least, bits)


def _with_multiples(bits: int, step: int, count: int) -> int:
    """``bits`` shifted by 0, 1, ..., count - 1 steps, all together."""
    covered = 1
    while covered < count:
        more = min(covered, count - covered)
        bits |= bits << (more * step)
        covered += more
    return bits


def can_flip(layer: Dense, j: int, position: int, delta: int, low: IntArray, high: IntArray) -> bool:
    """Whether unit ``j`` changes its sign for some inputs when the weight at ``position`` changes by ``delta``.

    ``position`` is the number of inputs for the bias.
    """
    inputs = layer.weights.shape[1]
    rest = sums_without(layer, j, position, low, high)
    if position == inputs:
        return rest.any_in(-max(0, delta), -min(0, delta) - 1)
    weight = int(layer.weights[j, position])
    for value in range(int(low[position]), int(high[position]) + 1):
        before, after = weight * value, (weight + delta) * value
        if rest.any_in(-max(before, after), -min(before, after) - 1):
            return True
    return False


def work(layer: Dense, j: int, low: IntArray, high: IntArray) -> int:
    """Bytes that `can_flip` moves, about."""
    weights = np.abs(layer.weights[j])
    span = int((weights * (high - low)).sum())
    return int(np.count_nonzero(weights)) * int(high.max() - low.min()).bit_length() * (span // 8 + 64)
