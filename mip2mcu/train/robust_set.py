"""Sets of changes that a training row must withstand, in raw integers, and what they do to the first layer.

Each raw feature f moves by at most ``radius[f]``: a box (l-infinity); with a ``budget`` at most so many features move
at a time. Thermometer bits move together, categories stay: features are the ladders of `mip2mcu.ladders`, whose
levels within reach are the moves. A feature that is one input, moved up by a or down by b, adds a * w or -b * w: two
moves. Thermometer bits add the running sums of their weights: a move a level.

Rows with the same moves of a feature share them under one key, so a program needs few variables for many rows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from mip2mcu.dataset import Dataset
from mip2mcu.ladders import Ladders, ladders_of
from mip2mcu.mip.matrix import FloatArray
from mip2mcu.ranges import BoolArray, IntArray, frozen
from mip2mcu.train.reduction import Reduction, WeightDomain, reduce

Key: TypeAlias = tuple[int, int, int, int]
"""Feature, own level (0 where it does not matter), and lowest and highest level relative to it."""
Move: TypeAlias = tuple[tuple[int, int], ...]
"""Columns and by how much each changes."""


@dataclass(frozen=True, eq=False)
class RobustSets:
    """The sets of all rows.

    moves   of each kind of feature, what it can do besides staying
    of_row  the kinds of each row's features that can move, as indices into ``moves``
    budget  most features that move at a time; None: all
    """

    moves: tuple[tuple[Move, ...], ...]
    of_row: tuple[tuple[int, ...], ...]
    budget: int | None

    def most(self, bound: int) -> int:
        """The most that any row's set can add to a unit with weights up to ``bound``."""
        return max((self.most_of(kinds, bound) for kinds in set(self.of_row)), default=0)

    def most_of(self, kinds: tuple[int, ...], bound: int) -> int:
        """The most that features of these ``kinds`` can add to a unit, or take from it."""
        reaches = [bound * max(sum(abs(step) for _, step in move) for move in self.moves[n]) for n in kinds]
        return sum(sorted(reaches, reverse=True)[: self.budget])

    def drops_and_rises(self, weights: IntArray) -> tuple[IntArray, IntArray]:
        """(kinds, units) each: the most that a kind takes from a unit with ``weights`` (units, columns), and adds."""
        drops = np.zeros((len(self.moves), len(weights)), dtype=np.int64)
        rises = np.zeros_like(drops)
        for n, moves in enumerate(self.moves):
            for move in moves:
                effect = sum((step * weights[:, i] for i, step in move), np.zeros(len(weights), dtype=np.int64))
                drops[n], rises[n] = np.maximum(drops[n], -effect), np.maximum(rises[n], effect)
        return drops, rises

    def ranges(self, weights: IntArray, sums: IntArray) -> tuple[IntArray, IntArray]:
        """(k, units) each: the least and the largest of the first layer's ``sums`` (k, units) under every change."""
        drops, rises = self.drops_and_rises(weights)
        low, high = sums.copy(), sums.copy()
        for k, kinds in enumerate(self.of_row):
            own = list(kinds)
            drop, rise = (np.sort(worst[own], axis=0)[::-1][: self.budget].sum(axis=0) for worst in (drops, rises))
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
        moved = rows.copy()
        for sign, chosen in ((1, up), (-1, ~up)):
            most, change = np.zeros(len(self.moves)), np.zeros((len(self.moves), rows.shape[1]), dtype=np.int64)
            for n, moves in enumerate(self.moves):
                effects = [sign * sum(step * weights[i] for i, step in move) for move in moves]
                best = int(np.argmax(effects))
                if effects[best] > 0:
                    most[n] = effects[best]
                    for i, step in moves[best]:
                        change[n, i] += step
            for k in np.flatnonzero(chosen).tolist():
                own = sorted(self.of_row[k], key=lambda n: -most[n])[: self.budget]
                moved[k] += change[own].sum(axis=0)
        return moved


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


def robust_sets(dataset: Dataset, reduction: Reduction, radius: IntArray, budget: int | None) -> RobustSets:
    """The sets of ``dataset``'s rows, which are those of ``reduction`` in their order; ``radius`` (features,)."""
    ladders = ladders_of(dataset)
    raw = dataset.inputs if dataset.raw is None else dataset.raw
    column = {int(group[0]): c for c, group in enumerate(reduction.groups)}
    moves: dict[Key, tuple[Move, ...]] = {}
    of_row = []
    for values in raw:
        own, low, high = (ladders.levels(v) for v in (values, values - radius, values + radius))
        keys = []
        for f in np.flatnonzero(low < high).tolist():
            key = _key(ladders, f, int(own[f]), int(low[f]), int(high[f]))
            if key not in moves:
                moves[key] = _moves(ladders, column, f, int(own[f]), int(low[f]), int(high[f]))
            if moves[key]:
                keys.append(key)
        of_row.append(tuple(keys))
    number = {key: n for n, key in enumerate(sorted({key for keys in of_row for key in keys}))}
    rows = tuple(tuple(number[key] for key in keys) for keys in of_row)
    return RobustSets(tuple(moves[key] for key in number), rows, budget)


def _single_input(ladders: Ladders, feature: int) -> bool:
    """True where the feature is one input that goes up by one at each threshold."""
    own = ladders.of(feature)
    return bool((ladders.inputs[own] == ladders.inputs[own.start]).all() and (ladders.steps[own] == 1).all())


def _key(ladders: Ladders, feature: int, own: int, low: int, high: int) -> Key:
    return feature, 0 if _single_input(ladders, feature) else own, low - own, high - own


def _moves(ladders: Ladders, column: dict[int, int], feature: int, own: int, low: int, high: int) -> tuple[Move, ...]:
    """What every level within reach changes, besides the own one; constant columns cannot be learned from."""
    start = int(ladders.start[feature])
    if _single_input(ladders, feature):
        place = column.get(int(ladders.inputs[start]))
        return () if place is None else tuple(((place, d),) for d in (low - own, high - own) if d)
    found = []
    for level in (*range(own - 1, low - 1, -1), *range(own + 1, high + 1)):
        passed, sign = (range(level, own), -1) if level < own else (range(own, level), 1)
        inputs = [(int(ladders.inputs[start + t]), sign * int(ladders.steps[start + t])) for t in passed]
        move = tuple((column[i], step) for i, step in inputs if i in column)
        if move:
            found.append(move)
    return tuple(found)
