"""Candidates for vectors of NAME_selftest on which a sum of a layer lies next to a threshold.

Such a vector is a row in which a run of inputs is taken from another row. As the run grows, a unit's sum goes from its
value in the one row to that in the other by steps of single inputs; where it passes a threshold on its way, two lengths
give the values next to it on either side: there a change of any weight, up or down, whose input is not 0 changes the
unit's output. A sign has its threshold at 0, a requantised sum has one for each of its 255 steps.
A unit whose sign is the same in all rows gets a pattern: the row of minima and maxima that takes its sum to the other
end of its range, at least next to 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from mip2mcu.export.drawing import CORNERS, PATTERN, SEEDS, Drawing, Vector
from mip2mcu.layers import Activation, Dense, Requantisation
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
    layer: Dense, wanted: Mapping[int, IntArray], pool: IntArray, most: int, runs: bool, rng: np.random.Generator
) -> list[Vector]:
    """At most ``most`` vectors next to thresholds of ``layer``; none where it has no thresholds.

    wanted   by unit, the inputs for which changes are still to be noticed
    runs     inputs are taken from anywhere, not from the first one on
    """
    if layer.activation is Activation.NONE:
        return []
    pairs = min(_MOST_PAIRS, max(_PAIRS, most // (2 * len(wanted) + 1)))
    found: list[Vector] = []
    for j, inputs in wanted.items():
        first = _starts(inputs, pool.shape[1], pairs, rng) if runs else np.zeros(pairs, dtype=np.int64)
        found += _next_to_threshold(layer, j, first, pool, rng)
    return [found[m] for m in rng.permutation(len(found))[:most]]


def _starts(wanted: IntArray, inputs: int, count: int, rng: np.random.Generator) -> IntArray:
    """Where runs begin: anywhere, or at one of the inputs that are ``wanted`` or shortly before."""
    near = np.clip(rng.choice(wanted, count) - rng.integers(0, 3, count), 0, inputs - 1)
    return np.where(rng.integers(0, 2, count) == 0, rng.integers(0, inputs, count), near)


def _next_to_threshold(
    layer: Dense, j: int, first: IntArray, pool: IntArray, rng: np.random.Generator
) -> Iterator[Vector]:
    """For a pair of rows for each of ``first``, the runs from there that take unit ``j`` nearest to a threshold."""
    sums = pool @ layer.weights[j] + layer.bias[j]
    seeds, others = _pairs(sums, len(first), rng)
    taken = np.arange(pool.shape[1]) >= first[:, None]
    path = sums[seeds][:, None] + np.cumsum((pool[others] - pool[seeds]) * layer.weights[j] * taken, axis=1)
    for distances in _distances(layer, j, path):
        distance = np.where(taken, distances, _FAR)
        nearest = distance.min(axis=1)
        for pair in np.flatnonzero(nearest < _FAR):
            ends = np.flatnonzero(distance[pair] == nearest[pair]) + 1
            yield Vector(int(seeds[pair]), int(others[pair]), int(rng.choice(ends)), int(first[pair]))


def _distances(layer: Dense, j: int, sums: IntArray) -> Iterator[IntArray]:
    """How far sums of unit ``j`` lie from a threshold above, and from one below; `_FAR` where that is not close."""
    if layer.activation is Activation.SIGN:
        for side in (sums < 0, sums >= 0):
            yield np.where(side, np.abs(sums), _FAR)
        return
    scale = layer.requantisation
    assert scale is not None
    own = Requantisation(scale.pre[[j]], scale.mult[[j]], scale.shift[[j]])
    outputs, above = (own.apply(sums.reshape(-1, 1) + step).reshape(sums.shape) for step in (0, 1))
    below = own.apply(sums.reshape(-1, 1) - 1).reshape(sums.shape)
    for other in (above, below):
        yield np.where(other != outputs, 0, _FAR)


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
