"""Sets of changes that a training row must withstand, in raw integers, and what they do to the first layer.

Each raw feature f moves by at most ``radius[f]``: a box (l-infinity). With a ``budget`` at most so many features move
at a time, or all features together by at most so many raw units (l1). Thermometer bits move together, categories stay:
features are the ladders of `mip2mcu.ladders`, whose levels within reach are the moves. A feature that is one input,
moved up by a or down by b, adds a * w or -b * w: two moves, and one a level where units are counted. Thermometer bits
add the running sums of their weights: a move a level.

A move costs 1, or its distance in raw units; the worst change of a row is a knapsack, exact for all codings:

    best[f, b] = max(best[f - 1, b],  best[f - 1, b - cost] + gain  for every move of feature f)

Rows with the same moves of a feature share them under one key, so a program needs few variables for many rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from mip2mcu.dataset import Dataset
from mip2mcu.ladders import Ladders, ladders_of
from mip2mcu.mip.matrix import FloatArray
from mip2mcu.ranges import BoolArray, IntArray, frozen
from mip2mcu.train.reduction import Reduction, WeightDomain, reduce

Key: TypeAlias = tuple[int, ...]
"""Feature, own level (0 where it does not matter), lowest and highest level relative to it, and what moves cost."""
Move: TypeAlias = tuple[tuple[int, int], ...]
"""Columns and by how much each changes."""
Gains: TypeAlias = Sequence[np.ndarray]
"""Of each kind, what each of its moves adds: (moves, units) each."""


@dataclass(frozen=True, eq=False)
class RobustSets:
    """The sets of all rows.

    moves   of each kind of feature, what it can do besides staying
    of_row  the kinds of each row's features that can move, as indices into ``moves``
    budget  most that a row's moves cost together; None: no limit
    costs   of each kind, what each move costs: 1, or its distance in raw units
    """

    moves: tuple[tuple[Move, ...], ...]
    of_row: tuple[tuple[int, ...], ...]
    budget: int | None
    costs: tuple[tuple[int, ...], ...]

    @property
    def counts_units(self) -> bool:
        """The budget is one of raw units; where every move costs 1, that is the same as one of features."""
        return any(cost != 1 for costs in self.costs for cost in costs)

    @property
    def entries(self) -> int:
        """Matrix entries of the tables of one unit, roughly; none where features are counted."""
        if self.budget is None or not self.counts_units:
            return 0
        of_kind = [2 + sum(2 + len(move) for move in moves) for moves in self.moves]
        return 2 * self.budget * sum(of_kind[n] for kinds in set(self.of_row) for n in kinds)

    def most(self, bound: int) -> int:
        """The most that any row's set can add to a unit with weights up to ``bound``."""
        return max((self.most_of(kinds, bound) for kinds in set(self.of_row)), default=0)

    def most_of(self, kinds: tuple[int, ...], bound: int) -> int:
        """The most that features of these ``kinds`` can add to a unit, or take from it."""
        reaches = {n: [bound * sum(abs(step) for _, step in move) for move in self.moves[n]] for n in kinds}
        if self.counts_units:
            return int(self.knapsack([np.array(reaches[n])[:, None] for n in kinds], kinds)[-1][-1, 0])
        return sum(sorted((max(reaches[n]) for n in kinds), reverse=True)[: self.budget])

    def gains(self, weights: IntArray | FloatArray) -> list[np.ndarray]:
        """What each move of each kind adds to units with ``weights`` (units, columns): (moves, units) each."""
        return [np.stack([sum(step * weights[:, i] for i, step in move) for move in moves]) for moves in self.moves]

    def drops_and_rises(self, weights: IntArray) -> tuple[IntArray, IntArray]:
        """(kinds, units) each: the most that a kind takes from a unit with ``weights`` (units, columns), and adds."""
        drops = np.zeros((len(self.moves), len(weights)), dtype=np.int64)
        rises = np.zeros_like(drops)
        for n, gain in enumerate(self.gains(weights)):
            drops[n], rises[n] = np.maximum(-gain.min(axis=0), 0), np.maximum(gain.max(axis=0), 0)
        return drops, rises

    def knapsack(self, gains: Gains, kinds: Sequence[int]) -> list[np.ndarray]:
        """Tables (budget + 1, units) before and after each of ``kinds``: the most that moves add within each budget.

        gains   of these kinds, in their order
        """
        assert self.budget is not None
        nothing = gains[0][:1] * 0 if gains else np.zeros((1, 1), dtype=np.int64)
        tables = [np.repeat(nothing, self.budget + 1, axis=0)]
        for n, gain in zip(kinds, gains, strict=True):
            before, best = tables[-1], tables[-1].copy()
            for cost, added in zip(self.costs[n], gain, strict=True):
                best[cost:] = np.maximum(best[cost:], before[: len(before) - cost] + added)
            tables.append(best)
        return tables

    def ranges(self, weights: IntArray, sums: IntArray) -> tuple[IntArray, IntArray]:
        """(k, units) each: the least and the largest of the first layer's ``sums`` (k, units) under every change."""
        gains, (drops, rises) = self.gains(weights), self.drops_and_rises(weights)
        low, high = sums.copy(), sums.copy()
        for k, kinds in enumerate(self.of_row):
            own = list(kinds)
            if self.counts_units:
                drop, rise = (self.knapsack([sign * gains[n] for n in own], own)[-1][-1] for sign in (-1, 1))
            else:
                drop, rise = (np.sort(part[own], axis=0)[::-1][: self.budget].sum(axis=0) for part in (drops, rises))
            low[k], high[k] = sums[k] - drop, sums[k] + rise
        return low, high

    def held(self, weights: IntArray, sums: IntArray, right: BoolArray) -> IntArray:
        """(k,): 1 where a row is ``right`` and every unit of the first layer keeps its sign under every change.

        weights (units, columns) and sums (k, units) are those of the first layer.
        """
        low, high = self.ranges(weights, sums)
        return (right & np.where(sums >= 0, low >= 0, high < 0).all(axis=1)).astype(np.int64)

    def moved(self, rows: IntArray, weights: IntArray | FloatArray, up: BoolArray) -> IntArray:
        """The ``rows`` (k, columns), each with the change in its set that moves the sum of ``weights`` most.

        ``up`` (k,): true for rows whose sum is to rise, false where it is to fall; weights (columns,).
        """
        moved, gains = rows.copy(), self.gains(weights[None])
        for sign, chosen in ((1, up), (-1, ~up)):
            own = [sign * gain for gain in gains]
            for k in np.flatnonzero(chosen).tolist():
                for n, m in self._best_moves(own, self.of_row[k]):
                    for i, step in self.moves[n][m]:
                        moved[k, i] += step
        return moved

    def _best_moves(self, gains: Gains, kinds: tuple[int, ...]) -> list[tuple[int, int]]:
        """The kinds that move, and by which of their moves, where one unit gains most; ``gains`` are those of all."""
        if not self.counts_units:
            best = [(float(gains[n].max()), n, int(gains[n].argmax())) for n in kinds]
            return [(n, m) for gain, n, m in sorted(best, key=lambda one: -one[0])[: self.budget] if gain > 0]
        tables = self.knapsack([gains[n] for n in kinds], kinds)
        found, left = [], len(tables[0]) - 1
        for f in range(len(kinds) - 1, -1, -1):
            n, before, value = kinds[f], tables[f][:, 0], tables[f + 1][left, 0]
            if value != before[left]:
                m = next(
                    m
                    for m, cost in enumerate(self.costs[n])
                    if cost <= left and value == before[left - cost] + gains[n][m, 0]
                )
                found.append((n, m))
                left -= self.costs[n][m]
        return found


def robust_reduction(dataset: Dataset, domain: WeightDomain) -> tuple[Reduction, Dataset]:
    """Reduced data in which no columns are merged and rows are alike only if their raw features are.

    Returns the data and the row of ``dataset`` behind each distinct one, as a data set of those rows.
    """
    reduction = reduce(dataset, domain, merge_columns=False, merge_rows=False)
    raw = dataset.inputs if dataset.raw is None else dataset.raw
    _, first, row_of = np.unique(raw, axis=0, return_index=True, return_inverse=True)
    counts = np.zeros((len(first), len(dataset.classes)), dtype=np.int64)
    np.add.at(counts, (row_of.reshape(-1), dataset.labels), 1)
    chosen = dataset.rows_at(first)
    return replace(reduction, rows=frozen(reduction.rows[first]), counts=frozen(counts)), chosen


def robust_sets(
    dataset: Dataset, reduction: Reduction, radius: IntArray, budget: int | None, *, counts_units: bool = False
) -> RobustSets:
    """The sets of ``dataset``'s rows, which are those of ``reduction`` in their order; ``radius`` (features,).

    ``budget`` is one of features that move, or with ``counts_units`` of raw units that all of them move together.
    """
    assert budget is not None or not counts_units
    ladders = ladders_of(dataset)
    raw = dataset.inputs if dataset.raw is None else dataset.raw
    column = {int(group[0]): c for c, group in enumerate(reduction.groups)}
    priced: dict[Key, tuple[tuple[int, Move], ...]] = {}
    of_row = []
    for values in raw:
        own, low, high = (ladders.levels(v) for v in (values, values - radius, values + radius))
        away = ladders.distances(values)
        keys = []
        for f in np.flatnonzero(low < high).tolist():
            ends = int(own[f]), int(low[f]), int(high[f])
            levels = _levels(ladders, f, *ends, every=counts_units)
            first = int(ladders.start[f])
            costs = [int(away[first + (k if k < ends[0] else k - 1)]) if counts_units else 1 for k in levels]
            key = (f, 0 if _single_input(ladders, f) else ends[0], ends[1] - ends[0], ends[2] - ends[0], *costs)
            if key not in priced:
                moves = (_move(ladders, column, f, ends[0], level) for level in levels)
                priced[key] = tuple((cost, move) for cost, move in zip(costs, moves, strict=True) if move)
            if priced[key]:
                keys.append(key)
        of_row.append(tuple(keys))
    number = {key: n for n, key in enumerate(sorted({key for keys in of_row for key in keys}))}
    if budget is not None and counts_units:  # tables need no entry beyond what all moves of a row cost
        farthest = {key: max(cost for cost, _ in priced[key]) for key in number}
        budget = min(budget, max(sum(farthest[key] for key in keys) for keys in of_row))
    return RobustSets(
        tuple(tuple(move for _, move in priced[key]) for key in number),
        tuple(tuple(number[key] for key in keys) for keys in of_row),
        budget,
        tuple(tuple(cost for cost, _ in priced[key]) for key in number),
    )


def _single_input(ladders: Ladders, feature: int) -> bool:
    """True where the feature is one input that goes up by one at each threshold."""
    own = ladders.of(feature)
    return bool((ladders.inputs[own] == ladders.inputs[own.start]).all() and (ladders.steps[own] == 1).all())


def _levels(ladders: Ladders, feature: int, own: int, low: int, high: int, *, every: bool) -> list[int]:
    """Levels within reach besides the own one; of a single input its ends say all, unless ``every`` one is wanted."""
    if _single_input(ladders, feature) and not every:
        return [level for level in (low, high) if level != own]
    return [*range(own - 1, low - 1, -1), *range(own + 1, high + 1)]


def _move(ladders: Ladders, column: dict[int, int], feature: int, own: int, level: int) -> Move:
    """What ``level`` changes; constant columns cannot be learned from."""
    start = int(ladders.start[feature])
    if _single_input(ladders, feature):
        place = column.get(int(ladders.inputs[start]))
        return () if place is None else ((place, level - own),)
    passed, sign = (range(level, own), -1) if level < own else (range(own, level), 1)
    inputs = [(int(ladders.inputs[start + t]), sign * int(ladders.steps[start + t])) for t in passed]
    return tuple((column[i], step) for i, step in inputs if i in column)
