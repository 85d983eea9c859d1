"""Intervals of a network's sums while its raw features move within a box: quick proofs and quick attacks.

The sums of the first layer add a term a feature, and a term depends on the feature's level alone. Its least and
largest value over the levels within reach are exact, so intervals of the first layer are exact; those of later layers
take the sign of each unit as free where it is not certain. Filters before the first dense layer (smoothing, edges,
pools) hand intervals on value by value: sound, but no longer exact; what they leave open is for the MIP.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np

from mip2mcu.decisions import Argmax, Sign, Vote
from mip2mcu.errors import UsageError
from mip2mcu.filters import Edges, Smooth
from mip2mcu.ladders import Ladders, ladders_of
from mip2mcu.layers import Activation, AveragePool, Dense, Layer, MaxPool, SumPool
from mip2mcu.network import Network
from mip2mcu.ranges import BoolArray, IntArray, exact_product, sum_range

_FILTERS = (Smooth, Edges, SumPool, AveragePool, MaxPool)
"""Layers that may stand before the first dense one: all but edges rise with each of their inputs."""


ATTACKED_CELLS = 2_000_000
"""Most values behind filters that an attack holds at a time."""


@dataclass(frozen=True, eq=False)
class Interval:
    """Lower and upper ends, int64 (n,) each."""

    low: IntArray
    high: IntArray

    def weighted(self, weights: IntArray, constant: IntArray) -> Interval:
        """Interval of ``weights @ values + constant``, for weights (m, n)."""
        return Interval(*sum_range(weights, constant, self.low, self.high))


@dataclass(frozen=True, eq=False)
class Reach:
    """Lowest and highest level of each feature within reach, int64 (features,) each."""

    lowest: IntArray
    highest: IntArray


@dataclass(frozen=True, eq=False)
class Problem:
    """A network prepared for certification: dense layers, sign units, its ladders."""

    network: Network

    @cached_property
    def layers(self) -> tuple[Dense, ...]:
        """The layers, the last of which gives the sums."""
        dense = [layer for layer in self.network.layers if isinstance(layer, Dense)]
        hidden_ok = all(layer.activation is Activation.SIGN for layer in dense[:-1])
        filters_ok = all(isinstance(layer, _FILTERS) for layer in self.filters)
        if len(dense) + len(self.filters) != len(self.network.layers) or not (hidden_ok and filters_ok):
            raise UsageError(
                "only networks of dense layers with sign units, behind filters, can be certified, this one has other "
                "layers: certify one that `mip2mcu train` made"
            )
        return tuple(dense)

    @cached_property
    def filters(self) -> tuple[Layer, ...]:
        """The layers before the first dense one."""
        count = next(k for k, layer in enumerate(self.network.layers) if isinstance(layer, Dense))
        return self.network.layers[:count]

    @cached_property
    def ladders(self) -> Ladders:
        """Of the raw features."""
        return ladders_of(self.network)

    @cached_property
    def terms(self) -> IntArray:
        """(rows, levels): what each level of each feature adds to each sum of `compared`, levels one after another."""
        return level_terms(self.compared[0], self.ladders)

    @cached_property
    def compared(self) -> tuple[IntArray, IntArray]:
        """Weights and bias of the first layer's units, then of all differences of two classes where it is the last.

        A difference of sums of one layer is a sum of the inputs itself, so its interval is exact too.
        """
        first = self.layers[0]
        if len(self.layers) > 1 or not isinstance(self.network.decision, Argmax):
            return first.weights, first.bias
        a, b = self.pairs
        weights = np.concatenate([first.weights, first.weights[a] - first.weights[b]])
        return weights, np.concatenate([first.bias, first.bias[a] - first.bias[b]])

    @cached_property
    def pairs(self) -> tuple[IntArray, IntArray]:
        """All ordered pairs of different classes."""
        count = len(self.network.classes)
        a, b = np.divmod(np.arange(count * count), count)
        return a[a != b], b[a != b]

    # ---- one row ----

    def reach(self, raw: IntArray, radius: int) -> Reach:
        """The levels that ``raw`` (features,) can take when each feature moves by at most ``radius``."""
        return Reach(self.ladders.levels(raw - radius), self.ladders.levels(raw + radius))

    def everything(self) -> Reach:
        """All levels of all features; of categories, which stay, their only one."""
        counts = np.diff(self.ladders.start)
        return Reach(np.zeros_like(counts), counts)

    def first(self, inputs: IntArray, raw: IntArray, reach: Reach) -> Interval:
        """Intervals of `compared` for a row with these ``inputs`` and raw features; exact without filters."""
        weights, bias = self.compared
        if self.filters:
            return self._filtered(raw, reach).weighted(weights, bias)
        own = self.ladders.levels(raw)
        place = self.ladders.first_level
        base = weights @ inputs + bias - self.terms[:, place + own].sum(axis=1)
        ends = np.stack([place + reach.lowest, place + reach.highest + 1], axis=1).reshape(-1)
        padded = np.pad(self.terms, ((0, 0), (0, 1)))
        low = np.minimum.reduceat(padded, ends, axis=1)[:, ::2].sum(axis=1)
        high = np.maximum.reduceat(padded, ends, axis=1)[:, ::2].sum(axis=1)
        return Interval(base + low, base + high)

    def _filtered(self, raw: IntArray, reach: Reach) -> Interval:
        """Interval of what the first dense layer reads. Inputs rise with the levels, so their ends are at its ends."""
        ends = np.stack([self.ladders.raw_at(raw, levels) for levels in (reach.lowest, reach.highest)])
        low, high = self.network.quantize(ends).reshape(2, *self.network.input_shape)
        for layer in self.filters:
            low, high = layer.interval(low, high) if isinstance(layer, Edges) else layer.output_range(low, high)
        return Interval(low.reshape(-1), high.reshape(-1))

    def sums(self, first: Interval) -> list[Interval]:
        """Intervals of the sums of every layer, from those of the first."""
        units = self.layers[0].units
        found = [Interval(first.low[:units], first.high[:units])]
        for layer in self.layers[1:]:
            found.append(signs(found[-1]).weighted(layer.weights, layer.bias))
        return found

    def differences(self, first: Interval) -> tuple[IntArray, IntArray]:
        """(classes, classes): least and largest value of sum a minus sum b; of `Argmax` only."""
        count = len(self.network.classes)
        a, b = self.pairs
        low, high = np.zeros((count, count), dtype=np.int64), np.zeros((count, count), dtype=np.int64)
        if len(self.layers) == 1:
            low[a, b], high[a, b] = first.low[self.layers[0].units :], first.high[self.layers[0].units :]
            return low, high
        last = self.layers[-1]
        outputs = signs(self.sums(first)[-2])
        between = outputs.weighted(last.weights[a] - last.weights[b], last.bias[a] - last.bias[b])
        low[a, b], high[a, b] = between.low, between.high
        return low, high

    def certain(self, first: Interval, predicted: int) -> bool:
        """True where the intervals prove that the class stays ``predicted``."""
        rule = self.network.decision
        if isinstance(rule, Argmax):
            low, _ = self.differences(first)
            return all(
                low[predicted, c] >= (1 if c < predicted else 0) for c in range(rule.classes) if c != predicted
            )
        sums = self.sums(first)[-1]
        if isinstance(rule, Sign):
            return bool(sums.low[0] >= 0 if predicted == 0 else sums.high[0] < 0)
        votes = votes_of(rule, sums)
        return all(votes.low[predicted] > votes.high[c] for c in range(rule.classes) if c != predicted)

    # ---- attacks ----

    def attacks(self, raw: IntArray, reach: Reach, predicted: int) -> Iterator[IntArray]:
        """Raw rows within ``reach`` that push the sums away from ``predicted``, each by another direction."""
        if self.filters:
            yield from self._filter_attacks(raw, reach, predicted)
            return
        place = self.ladders.first_level
        for direction in self._directions(predicted):
            terms = direction @ self.terms[: self.layers[0].units]
            levels = [
                low + int(np.argmin(terms[p + low : p + high + 1]))
                for p, low, high in zip(place, reach.lowest, reach.highest, strict=True)
            ]
            own = self.ladders.levels(raw)
            flat = np.array([terms[p + k] for p, k in zip(place, own, strict=True)])
            least = np.array([terms[p + k] for p, k in zip(place, levels, strict=True)])
            yield self.ladders.raw_at(raw, np.where(least < flat, levels, own))

    def _filter_attacks(self, raw: IntArray, reach: Reach, predicted: int) -> Iterator[IntArray]:
        """As `attacks`, by the effect that each feature alone has at the ends of its reach."""
        ends = [self.ladders.raw_at(raw, levels) for levels in (reach.lowest, reach.highest)]
        downs, ups = (self._sums_alone(raw, moved) for moved in ends)
        own = self._first_sums(raw[None])
        for direction in self._directions(predicted):
            down, up, flat = downs @ direction, ups @ direction, own @ direction
            best = np.where(down < up, ends[0], ends[1])
            yield np.where(np.minimum(down, up) < flat, best, raw)

    def _sums_alone(self, raw: IntArray, moved: IntArray) -> IntArray:
        """(features, units): sums of the first dense layer where one feature of ``raw`` is as in ``moved``."""
        count, shapes = len(raw), self.network.shapes[: len(self.filters) + 1]
        step = max(1, ATTACKED_CELLS // max(prod(shape) for shape in shapes))
        found = []
        for first in range(0, count, step):
            features = np.arange(first, min(first + step, count))
            alone = np.tile(raw, (len(features), 1))
            alone[np.arange(len(features)), features] = moved[features]
            found.append(self._first_sums(alone))
        return np.concatenate(found)

    def _first_sums(self, raw: IntArray) -> IntArray:
        """(rows, units): sums of the first dense layer at raw rows (rows, features)."""
        values = self.network.quantize(raw).reshape(len(raw), *self.network.input_shape)
        for layer in self.filters:
            values = layer.forward(values)
        first = self.layers[0]
        return exact_product(values.reshape(len(raw), -1), first.weights) + first.bias

    def _directions(self, predicted: int) -> list[IntArray]:
        """Weights (first layer's units,) whose weighted sum speaks for ``predicted`` against one other class each."""
        classes = [c for c in range(len(self.network.classes)) if c != predicted]
        outputs = self._against(predicted, classes)
        for layer in reversed(self.layers[1:]):
            outputs = [direction @ layer.weights for direction in outputs]
        return outputs

    def _against(self, predicted: int, classes: list[int]) -> list[IntArray]:
        """Weights (sums,) for ``predicted`` against each of ``classes``."""
        rule = self.network.decision
        if isinstance(rule, Sign):
            return [np.array([1 if predicted == 0 else -1])]
        if isinstance(rule, Argmax):
            unit = np.eye(rule.classes, dtype=np.int64)
            return [unit[predicted] - unit[c] for c in classes]
        own = speaks_for(rule, predicted)
        return [*(own - speaks_for(rule, c) for c in classes), *self._in_one_member(rule, predicted)]

    def _in_one_member(self, rule: Vote, predicted: int) -> Iterator[IntArray]:
        """Weights (sums,) for ``predicted`` in one member each."""
        each = rule.sums_per_member
        unit = np.eye(rule.sums_expected(), dtype=np.int64)
        for m, member in enumerate(rule.members):
            if predicted not in member:
                continue
            if each == 1:
                yield unit[m] if member[0] == predicted else -unit[m]
            else:
                own = member.index(predicted)
                yield from (unit[m * each + own] - unit[m * each + other] for other in range(each) if other != own)


def level_terms(weights: IntArray, ladders: Ladders) -> IntArray:
    """(rows, levels): for weights (rows, inputs), the running sum over each feature's thresholds, 0 at its level 0."""
    rises = weights[:, ladders.inputs] * ladders.steps
    terms = np.zeros((len(weights), len(ladders.thresholds) + ladders.features), dtype=np.int64)
    for f in range(ladders.features):
        own = ladders.of(f)
        terms[:, own.start + f + 1 : own.stop + f + 1] = np.cumsum(rises[:, own], axis=1)
    return terms


def signs(sums: Interval) -> Interval:
    """Interval of each unit's output, -1 or +1."""
    return Interval(np.where(sums.low >= 0, 1, -1), np.where(sums.high >= 0, 1, -1))


def speaks_for(rule: Vote, c: int) -> IntArray:
    """Weights (sums,): +1 for the sums of members that speak for class ``c``, -1 for those of pairs against it."""
    if rule.subset_size > 2:
        return np.array([int(k == c) for member in rule.members for k in member], dtype=np.int64)
    return np.array([(c == a) - (c == b) for a, b in rule.members], dtype=np.int64)


def votes_of(rule: Vote, sums: Interval) -> Interval:
    """Interval of each class's votes: of members that cannot vote for another class, and of those that can for it."""
    if rule.sums_per_member == 1:  # a pair's sum s counts as (s, -1 - s): its sign decides, and 0 is the first's
        least, most = np.stack([sums.low, -1 - sums.high], axis=1), np.stack([sums.high, -1 - sums.low], axis=1)
    else:
        least, most = sums.low.reshape(-1, rule.subset_size), sums.high.reshape(-1, rule.subset_size)
    members = np.array(rule.members)
    low, high = np.zeros(rule.classes, dtype=np.int64), np.zeros(rule.classes, dtype=np.int64)
    np.add.at(low, members, _exceed(least, most))
    np.add.at(high, members, _exceed(most, least))
    return Interval(low, high)


def _exceed(own: IntArray, others: IntArray) -> BoolArray:
    """(members, p): where a class's ``own`` value beats all ``others`` of its member; ties go to the first."""
    places = np.arange(own.shape[1])
    needed = others[:, None, :] + (places[None, :] < places[:, None])
    wins: BoolArray = (own[:, :, None] >= needed) | np.eye(len(places), dtype=bool)
    return np.asarray(wins.all(axis=2))
