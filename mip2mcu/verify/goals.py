"""What vectors are searched for: conditions on one row, each with a distance that is 0 where the row fulfils it.

    SumGoal   a unit's sum has a certain value (a convolution's at any one of its positions)
    TieGoal   exactly so many classes share the highest score

`goals_of` lists what a network's C could get wrong: sums at the ends of their ranges, on both sides of the values at
which the activation changes, and scores that tie.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import gcd
from typing import TypeAlias

import numpy as np

from mip2mcu.decisions import Sign, Vote
from mip2mcu.layers import Activation, Conv2d, Dense, Requantisation
from mip2mcu.network import Network
from mip2mcu.ranges import IntArray

Ranges: TypeAlias = dict[int, tuple[IntArray, IntArray]]

EXTREMES, THRESHOLDS = "extremes", "thresholds"
TIES = {2: "two_way_ties", 3: "three_way_ties"}
"""Kinds of ties by the number of classes that share the highest score."""


@dataclass(frozen=True, eq=False)
class Trace:
    """What a network computes on some rows.

    sums      by layer with weights: its sums before the activation (rows, units, positions)
    scores    (rows, scores)
    """

    sums: dict[int, IntArray]
    scores: IntArray

    def part(self, start: int, stop: int) -> Trace:
        """The trace of the rows ``start`` to ``stop - 1``."""
        return Trace({k: sums[start:stop] for k, sums in self.sums.items()}, self.scores[start:stop])


def trace(network: Network, inputs: IntArray) -> Trace:
    """Every sum and score of ``inputs`` (rows, inputs), which must lie in the network's ranges."""
    values = inputs.reshape(-1, *network.input_shape)
    found = {}
    for k, layer in enumerate(network.layers):
        if isinstance(layer, Dense | Conv2d):
            found[k] = layer.sums(values).reshape(len(inputs), layer.units, -1)
        values = layer.forward(values)
    return Trace(found, network.decision.scores(values))


@dataclass(frozen=True)
class SumGoal:
    """The sum of unit ``unit`` of layer ``layer`` is ``value``, at any position."""

    kind: str
    layer: int
    unit: int
    value: int

    def distance(self, of: Trace) -> IntArray:
        """How far each row is away from the goal, (rows,)."""
        return np.abs(of.sums[self.layer][:, self.unit] - self.value).min(axis=1)

    def is_impossible(self, network: Network, ranges: Ranges) -> bool:
        """Whether the unit's range or a common divisor of its weights already excludes the value."""
        low, high = ranges[self.layer]
        if self.value < low[self.unit] or self.value > high[self.unit]:
            return True
        layer = network.layers[self.layer]
        if not isinstance(layer, Dense):
            return False
        first, last = (end.reshape(-1) for end in network.layer_ranges[self.layer])
        after_signs = self.layer > 0 and getattr(network.layers[self.layer - 1], "activation", None) is Activation.SIGN
        steps = np.where(first < last, 2 if after_signs else 1, 0) * layer.weights[self.unit]
        divisor = gcd(*map(int, steps))
        rest = self.value - int(layer.bias[self.unit] + layer.weights[self.unit] @ first)
        return rest % divisor != 0 if divisor else rest != 0


@dataclass(frozen=True)
class TieGoal:
    """Exactly ``count`` classes share the highest score (of a vote: the most votes)."""

    kind: str
    count: int

    def distance(self, of: Trace) -> IntArray:
        """What the highest score exceeds the last of the tied ones by; 1 more where too many tie. (rows,)."""
        ranked = -np.sort(-of.scores, axis=1)
        gap: IntArray = ranked[:, 0] - ranked[:, self.count - 1]
        if ranked.shape[1] > self.count:
            gap = gap + ((gap == 0) & (ranked[:, self.count] == ranked[:, 0]))
        return gap

    def is_impossible(self, network: Network, ranges: Ranges) -> bool:
        """Never known beforehand."""
        return False


Goal: TypeAlias = SumGoal | TieGoal


def sum_ranges(network: Network) -> Ranges:
    """Least and most (units,) of the sums of each layer with weights, over all positions."""
    return {k: _ranges(network, k) for k, layer in enumerate(network.layers) if isinstance(layer, Dense | Conv2d)}


def goals_of(network: Network, limit: int, ranges: Ranges | None = None) -> list[Goal]:
    """Goals of ``network``, of each layer at most about ``limit``; of more units, some are taken.

    ``ranges`` are those of `sum_ranges`, where they are known already.
    """
    ranges = sum_ranges(network) if ranges is None else ranges
    goals: list[Goal] = []
    for k, layer in enumerate(network.layers):
        if not isinstance(layer, Dense | Conv2d):
            continue
        low, high = ranges[k]
        is_last = k == len(network.layers) - 1
        for unit in _spread(layer.units, limit):
            goals += [SumGoal(EXTREMES, k, unit, int(end[unit])) for end in (low, high)]
            goals += [SumGoal(THRESHOLDS, k, unit, value) for value in _edges(network, layer, unit, is_last, high)]
    if not isinstance(network.decision, Sign):
        goals += [TieGoal(kind, count) for count, kind in TIES.items() if count <= len(network.classes)]
    return goals


def _edges(network: Network, layer: Dense | Conv2d, unit: int, is_last: bool, high: IntArray) -> list[int]:
    """Values of a sum at which something changes, and those one below."""
    if layer.requantisation is not None:
        return sorted(_requantisation_edges(layer.requantisation, unit, int(high[unit])))
    decides = isinstance(network.decision, Sign) or (
        isinstance(network.decision, Vote) and network.decision.sums_per_member == 1
    )
    return [0, -1] if layer.activation is Activation.SIGN or (is_last and decides) else []


def _requantisation_edges(by: Requantisation, unit: int, highest: int) -> set[int]:
    """0 and -1; the first sum that gives 1, the first that gives 255, and those one below."""
    own = Requantisation(by.pre[unit : unit + 1], by.mult[unit : unit + 1], by.shift[unit : unit + 1])
    edges = {0, -1}
    for output in (1, 255):
        below, above = 0, max(highest, 1)
        if int(own.apply(np.array([[above]]))[0, 0]) < output:
            continue
        while above - below > 1:
            middle = (below + above) // 2
            below, above = (below, middle) if own.apply(np.array([[middle]]))[0, 0] >= output else (middle, above)
        edges |= {above, above - 1}
    return edges


def _ranges(network: Network, k: int) -> tuple[IntArray, IntArray]:
    """Least and most (units,) of the sums of layer ``k``, over all positions."""
    layer = network.layers[k]
    assert isinstance(layer, Dense | Conv2d)
    low, high = layer.sum_range(*network.layer_ranges[k])
    return low.reshape(layer.units, -1).min(axis=1), high.reshape(layer.units, -1).max(axis=1)


def _spread(units: int, limit: int) -> Iterator[int]:
    """At most ``limit`` of ``units`` unit numbers, evenly spaced."""
    yield from (range(units) if units <= limit else np.linspace(0, units - 1, limit).astype(int).tolist())
