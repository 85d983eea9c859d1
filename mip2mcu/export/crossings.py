"""Candidates for vectors of NAME_selftest on which a sum of the first layer lies next to its threshold.

Such a vector is a row in which a run of inputs is taken from another row. As the run grows, a unit's sum goes from its
value in the one row to that in the other by steps of single inputs; where it passes 0 on its way, two lengths give the
values next to 0 on either side: there a change of any weight, up or down, whose input is not 0 changes the unit's sign.
A unit whose sign is the same in all rows gets a pattern: the row of minima and maxima that takes its sum to the other
end of its range, at least next to 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from mip2mcu.export.drawing import CORNERS, PATTERN, SEEDS, Drawing, Vector
from mip2mcu.layers import Dense
from mip2mcu.ranges import BoolArray, IntArray

_PAIRS, _MOST_PAIRS = 24, 512
"""Pairs of rows that are tried for a unit at a time: the fewer units there are, the more."""
_FAR = 1 << 40


def patterns_for(layer: Dense, units: Iterable[int], drawing: Drawing, rows: IntArray) -> BoolArray:
    """(patterns, inputs): where inputs are at their maximum, for each of ``units`` with one sign in all ``rows``."""
    found = []
    for j in units:
        fired = rows @ layer.weights[j] + layer.bias[j] >= 0
        if fired.all() or not fired.any():
            at_maximum = layer.weights[j] < 0 if fired.all() else layer.weights[j] > 0
            found.append(at_maximum)
    return np.array(found[: SEEDS - PATTERN], dtype=bool).reshape(-1, len(drawing.low))


def candidates(
    layer: Dense | None,
    wanted: Mapping[int, IntArray],
    drawing: Drawing,
    pool: IntArray,
    most: int,
    rng: np.random.Generator,
) -> list[Vector]:
    """At most ``most`` vectors next to thresholds of the first ``layer``; without it, any runs.

    ``wanted`` holds, by unit, the inputs for which changes are still to be noticed.
    """
    pairs = min(_MOST_PAIRS, max(_PAIRS, most // (2 * len(wanted) + 1)))
    found = []
    if layer is not None:
        found = [v for j, inputs in wanted.items() for v in _next_to_zero(layer, j, inputs, pool, pairs, rng)]
    if not found:
        found = list(_runs(drawing.length, len(pool), rng))
    return [found[m] for m in rng.permutation(len(found))[:most]]


def _runs(length: int, rows: int, rng: np.random.Generator) -> Iterator[Vector]:
    for seed, other in rng.integers(0, min(rows, PATTERN), (8 * _PAIRS, 2)).tolist():
        first, end = sorted(rng.integers(0, length + 1, 2).tolist())
        yield Vector(seed, other, first, end)


def _next_to_zero(
    layer: Dense, j: int, wanted: IntArray, pool: IntArray, pairs: int, rng: np.random.Generator
) -> Iterator[Vector]:
    """For each of some pairs of rows, the lengths of a run that take the sum of unit ``j`` nearest to 0 and to -1."""
    inputs = pool.shape[1]
    sums = pool @ layer.weights[j] + layer.bias[j]
    seeds, others = _pairs(sums, pairs, rng)
    first = _starts(wanted, inputs, len(seeds), rng)
    steps = np.cumsum((pool[others] - pool[seeds]) * layer.weights[j], axis=1)
    steps = np.concatenate([np.zeros((len(seeds), 1), dtype=np.int64), steps], axis=1)
    path = sums[seeds][:, None] + steps - np.take_along_axis(steps, first[:, None], axis=1)
    behind = np.arange(inputs + 1) > first[:, None]
    for side in (path >= 0, path < 0):
        distance = np.where(side & behind, np.abs(path), _FAR)
        nearest = distance.min(axis=1)
        for pair in np.flatnonzero(nearest < _FAR):
            ends = np.flatnonzero(distance[pair] == nearest[pair])
            yield Vector(int(seeds[pair]), int(others[pair]), int(first[pair]), int(rng.choice(ends)))


def _starts(wanted: IntArray, inputs: int, count: int, rng: np.random.Generator) -> IntArray:
    """Where runs begin: at the first input, anywhere, or at one of those that are ``wanted`` or shortly before."""
    anywhere = rng.integers(0, inputs, count)
    near = np.clip(rng.choice(wanted, count) - rng.integers(0, 3, count), 0, inputs - 1)
    return np.choose(rng.integers(0, 3, count), [np.zeros(count, dtype=np.int64), anywhere, near])


def _pairs(sums: IntArray, count: int, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows on either side of the threshold in turn; where all lie on one side, the nearest one beside others."""
    fired = sums >= 0
    if fired.all() or not fired.any():
        return np.full(count, np.abs(sums).argmin()), _drawn(np.arange(len(sums)), count, rng)
    one, two = (_drawn(np.flatnonzero(side), count, rng) for side in (fired, ~fired))
    turned = np.arange(count) % 2 == 0
    return np.where(turned, one, two), np.where(turned, two, one)


def _drawn(side: NDArray[np.int64], count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Some rows of a side, its corners among them."""
    drawn = rng.choice(side, count)
    corners = np.intersect1d(side, CORNERS)
    drawn[: 2 * len(corners)] = np.repeat(corners, 2)
    return drawn
