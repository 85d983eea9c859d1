"""Exact ranges of the sums that walk over lists: the narrowest safe C types of `sparse` and `grouped`.

An input may have several entries, where a gap between steps is bridged; what it contributes is its value times the sum
of their signs so far, so that an input that is added and subtracted again leaves no trace in the range.
"""

from __future__ import annotations

import numpy as np

from mip2mcu.export.layouts.lists import Entries, Lists, factors
from mip2mcu.ranges import IntArray, sum_range


def running_range(entries: Entries, start: IntArray, low: IntArray, high: IntArray) -> tuple[int, int]:
    """Smallest and largest value that a sum of all entries takes, entry by entry, from ``start`` (units,) on."""
    before = _multiples_before(entries)
    after = before + entries.sign
    x_low, x_high = low[entries.position], high[entries.position]
    below = np.minimum(after * x_low, after * x_high) - np.minimum(before * x_low, before * x_high)
    above = np.maximum(after * x_low, after * x_high) - np.maximum(before * x_low, before * x_high)
    reached = start[entries.unit]
    least = min(int(start.min()), int((reached + _within_units(below, entries.unit)).min(initial=start.min())))
    return least, max(int(start.max()), int((reached + _within_units(above, entries.unit)).max(initial=start.max())))


def level_range(
    lists: Lists, levels: tuple[int, ...], bias: IntArray, low: IntArray, high: IntArray
) -> tuple[int, int]:
    """Smallest and largest value of the sums after each level, and of the products that are added to them."""
    entries, nothing = lists.flat, np.zeros_like(bias)
    running = np.zeros((len(bias), len(low)), dtype=np.int64)
    total = np.zeros_like(running)
    ends = [(int(bias.min()), int(bias.max()))]
    for k, factor in enumerate(factors(levels)):
        chosen = entries.level == k
        np.add.at(running, (entries.unit[chosen], entries.position[chosen]), entries.sign[chosen])
        total += factor * running
        for weights, start in ((factor * running, nothing), (total, bias)):
            below, above = sum_range(weights, start, low, high)
            ends.append((int(below.min()), int(above.max())))
    return min(below for below, _ in ends), max(above for _, above in ends)


def _within_units(steps: IntArray, unit: IntArray) -> IntArray:
    """Sums of ``steps`` from the first entry of each unit on; ``unit`` ascends."""
    sums = np.cumsum(steps)
    begins = np.flatnonzero(np.diff(unit, prepend=-1))
    lengths = np.diff(np.append(begins, len(unit)))
    return sums - np.repeat(sums[begins] - steps[begins], lengths)


def _multiples_before(entries: Entries) -> IntArray:
    """How often each entry's input is in its unit's sum already; not 0 only where inputs have several entries."""
    order = np.lexsort((entries.position, entries.unit))
    unit, position, sign = entries.unit[order], entries.position[order], entries.sign[order]
    inputs = np.cumsum((np.diff(unit, prepend=-1) != 0) | (np.diff(position, prepend=-1) != 0))
    before = np.empty_like(sign)
    before[order] = _within_units(sign, inputs) - sign
    return before
