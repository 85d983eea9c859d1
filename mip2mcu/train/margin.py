"""The soft margin of one integer unit: its exact value, its linear relaxation, and local search in exact integers.

A unit ``s = weights @ x + bias`` should reach ``sign * s >= target`` on every row. What is missing is the shortfall:

    shortfall(weights, bias) = sum_k count_k * max(0, target_k - sign_k * s_k)

Minimising it over integer weights in [-high, high] is a mixed-integer program whose relaxation has few fractional
weights; rounding and a local search over single weights and pairs then come close to the optimum, often to it. All
values here are whole numbers; float64 carries them exactly below 2**53.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mip2mcu.mip.matrix import NO_LIMIT, FloatArray, Matrix, sparse_rows
from mip2mcu.mip.solver import Solver
from mip2mcu.progress import Stop, never
from mip2mcu.ranges import BoolArray, IntArray, exact_product

SWAP_CANDIDATES = 16
"""Single changes that are tried as the first half of a change of two weights."""
_CHUNK = 2_000_000
"""Matrix entries that are worked on at a time."""


@dataclass(frozen=True, eq=False)
class MarginTask:
    """Rows to separate: rows int64 (k, columns), signs (k,) of -1 and +1, counts (k,), targets (k,) of the margin,
    the largest weight of each column ``high`` (columns,), and the ``step`` between neighbouring weights.
    """

    rows: IntArray
    signs: IntArray
    counts: IntArray
    targets: IntArray
    high: IntArray
    step: int = 1

    def sums(self, weights: IntArray, bias: int) -> IntArray:
        """``weights @ x + bias`` of each row."""
        return exact_product(self.rows, weights[None, :])[:, 0] + bias

    def shortfall(self, weights: IntArray, bias: int) -> int:
        """The exact objective."""
        missing = np.maximum(0, self.targets - self.signs * self.sums(weights, bias))
        return int(self.counts @ missing)


@dataclass(frozen=True, eq=False)
class Unit:
    """Weights (columns,) and bias of one unit, and what they cost."""

    weights: IntArray
    bias: int
    shortfall: int


def quick(solver: Solver) -> Solver:
    """The solver of relaxations: HiGHS whatever searches later, without presolve, which takes longer than it saves."""
    return Solver(time_limit=solver.time_limit, seed=solver.seed, options=(("presolve", "off"),))


def relaxation(task: MarginTask, *, budget: float | None = None, price: FloatArray | None = None) -> Matrix:
    """The linear relaxation as arrays, columns (weights, bias, shortfalls) or (plus, minus, bias, shortfalls).

        minimise   sum_k count_k shortfall_k                                  without a ``budget``, or
        minimise   sum_i price_i |weight_i|,  sum_k count_k shortfall_k <= budget
        with       sign_k (sum_i x_ki weight_i + bias) + shortfall_k >= target_k,  |weight_i| <= high_i

    In the second form a weight is the difference of two non-negative parts.
    """
    count, width = task.rows.shape
    sides = [1.0] if budget is None else [1.0, -1.0]
    weights = len(sides) * width
    signed = np.concatenate([side * task.signs[:, None] * task.rows for side in sides], axis=1)
    start, column, value = sparse_rows(signed.astype(np.float64))
    per_row = np.diff(start)
    at_end = np.repeat(start[1:], 2)
    own = np.stack([np.full(count, weights), weights + 1 + np.arange(count)], axis=1).reshape(-1)
    own_value = np.stack([task.signs, np.ones(count)], axis=1).reshape(-1)
    column, value = np.insert(column, at_end, own), np.insert(value, at_end, own_value)
    start = np.concatenate([[0], np.cumsum(per_row + 2)])
    row_low, row_high = task.targets.astype(np.float64), np.full(count, NO_LIMIT)
    high = np.concatenate([np.tile(task.high, len(sides)), [NO_LIMIT], np.full(count, NO_LIMIT)])
    low = np.concatenate([-task.high if budget is None else np.zeros(weights), [-NO_LIMIT], np.zeros(count)])
    counts = np.concatenate([np.zeros(weights + 1), task.counts])
    cost = counts
    if budget is not None and price is not None:
        cost = np.concatenate([price, price, np.zeros(count + 1)])
        used = np.flatnonzero(counts)
        start, column, value = (
            np.append(start, start[-1] + len(used)),
            np.append(column, used),
            np.append(value, counts[used]),
        )
        row_low, row_high = np.append(row_low, -NO_LIMIT), np.append(row_high, budget)
    return Matrix(
        cost=cost.astype(np.float64),
        low=low.astype(np.float64),
        high=high.astype(np.float64),
        integer=np.zeros(len(cost), dtype=bool),
        start=start.astype(np.int32),
        column=column.astype(np.int32),
        value=value,
        row_low=row_low,
        row_high=row_high,
    )


def best_bias(task: MarginTask, sums: IntArray) -> int:
    """The integer bias with the least shortfall for sums (k,) without bias; the middle one where several are best.

    The shortfall is convex and piecewise linear in the bias, with a kink at ``sign * target - sum`` of every row, where
    its slope rises by the row's count; it starts at minus the positive rows' count.
    """
    kinks = task.signs * task.targets - sums
    order = np.argsort(kinks, kind="stable")
    slopes = np.cumsum(task.counts[order])
    positive = int(task.counts[task.signs > 0].sum())
    first = min(int(np.searchsorted(slopes, positive)), len(order) - 1)
    if slopes[first] == positive and first + 1 < len(order):
        return int(kinks[order[first]] + kinks[order[first + 1]]) // 2
    return int(kinks[order[first]])


def rounded(task: MarginTask, weights: FloatArray) -> Unit:
    """The nearest allowed weights, with their best bias."""
    high, step = task.high, task.step
    whole = np.clip(np.rint((weights + high) / step).astype(np.int64) * step - high, -high, high)
    return with_best_bias(task, whole)


def with_best_bias(task: MarginTask, weights: IntArray) -> Unit:
    """``weights`` with the best bias for them."""
    bias = best_bias(task, task.sums(weights, 0))
    return Unit(weights, bias, task.shortfall(weights, bias))


class _Search:
    """The state of a local search: a unit, its margins, and the columns that may change. ``stop`` ends it early."""

    def __init__(self, task: MarginTask, unit: Unit, stop: Stop) -> None:
        self.task = task
        self.stop = stop
        self.weights = unit.weights.copy()
        self.free = np.ones(len(self.weights), dtype=bool)
        self.zero_one = bool(((task.rows == 0) | (task.rows == 1)).all())
        self.columns = task.rows.astype(np.float64)
        self.signs = task.signs.astype(np.float64)
        self.counts = task.counts.astype(np.float64)
        self.targets = task.targets.astype(np.float64)
        self.refresh(unit.bias)

    def refresh(self, bias: int) -> None:
        """Recompute the margins after the weights or the bias were set."""
        self.bias = bias
        self.margins = self.signs * (self.columns @ self.weights.astype(np.float64) + bias)
        self.shortfall = int(self.counts @ self.missing(self.margins))

    def unit(self) -> Unit:
        """The current unit."""
        return Unit(self.weights.copy(), self.bias, self.shortfall)

    def missing(self, margins: FloatArray) -> FloatArray:
        """Shortfall of each margin."""
        return np.maximum(0.0, self.targets - margins)

    def move(self, column: int, change: int) -> None:
        """Change one weight, then choose the best bias."""
        self.weights[column] += change
        sums = self.signs * self.margins - self.bias + change * self.columns[:, column]
        self.bias = best_bias(self.task, sums.astype(np.int64))
        self.margins = self.signs * (sums + self.bias)
        self.shortfall = int(self.counts @ self.missing(self.margins))

    def effects(self, changes: IntArray) -> FloatArray:
        """Change of the shortfall when weight i changes by ``changes[i]``, for every column; inf where not allowed."""
        effect = np.full(len(changes), np.inf)
        fits = self._fits(changes) & (changes != 0)
        for change in np.unique(changes[fits]):
            chosen = np.flatnonzero(fits & (changes == change))
            effect[chosen] = self._effects_of(chosen, float(change))
        return effect

    def _fits(self, changes: IntArray | int) -> BoolArray:
        return (np.abs(self.weights + changes) <= self.task.high) & self.free

    def _effects_of(self, columns: IntArray, change: float) -> FloatArray:
        lead = self.targets - self.margins
        before = np.maximum(0.0, lead)
        if self.zero_one:
            after = np.maximum(0.0, lead - change * self.signs)
            return (self.counts * (after - before)) @ self._columns(columns)
        result, base = np.empty(len(columns)), float(self.counts @ before)
        size = max(1, _CHUNK // max(1, len(before)))
        for begin in range(0, len(columns), size):
            after = self._columns(columns[begin : begin + size]) * (-change * self.signs)[:, None]
            after += lead[:, None]
            np.maximum(0.0, after, out=after)
            result[begin : begin + size] = self.counts @ after - base
        return result

    def _columns(self, chosen: IntArray) -> FloatArray:
        return self.columns if len(chosen) == self.columns.shape[1] else self.columns[:, chosen]

    def steps(self) -> tuple[FloatArray, IntArray]:
        """Effects and changes of all single steps: column i up, then column i down."""
        width = len(self.weights)
        effects = np.full(2 * width, np.inf)
        for start, change in ((0, self.task.step), (width, -self.task.step)):
            chosen = np.flatnonzero(self._fits(change))
            effects[start + chosen] = self._effects_of(chosen, float(change))
        return effects, np.repeat([self.task.step, -self.task.step], width)

    def descend(self, enough: int = 0) -> None:
        """Take the best single step until none improves or the shortfall is at most ``enough``."""
        while self.shortfall > enough and not self.stop():
            effects, changes = self.steps()
            best = int(np.argmin(effects)) if len(effects) else 0
            if not len(effects) or not effects[best] < 0:
                return
            self.move(best % len(self.weights), int(changes[best]))

    def swap(self) -> bool:
        """Try changes of two weights at once; true where one improved."""
        effects, changes = self.steps()
        before = self.unit()
        for first in np.argsort(effects, kind="stable")[:SWAP_CANDIDATES]:
            if not np.isfinite(effects[first]) or self.stop():
                break
            self.move(int(first) % len(self.weights), int(changes[first]))
            second, again = self.steps()
            best = int(np.argmin(second))
            if self.shortfall + second[best] < before.shortfall:
                self.move(best % len(self.weights), int(again[best]))
                return True
            self.weights = before.weights.copy()
            self.refresh(before.bias)
        return False


def improve(task: MarginTask, unit: Unit, stop: Stop = never) -> Unit:
    """Local search over single weights and pairs; never worse than ``unit``."""
    search = _Search(task, unit, stop)
    search.descend()
    while search.shortfall > 0 and search.swap():
        search.descend()
    return search.unit()


def reach(task: MarginTask, unit: Unit, budget: int, stop: Stop = never) -> Unit | None:
    """Bring ``unit`` within the ``budget`` of shortfall: first by its own links, then by any; None where it fails."""
    search = _Search(task, unit, stop)
    search.free = search.weights != 0
    search.descend(budget)
    search.free[:] = True
    search.descend(budget)
    return search.unit() if search.shortfall <= budget else None


def drop_links(task: MarginTask, unit: Unit, budget: int, stop: Stop = never) -> Unit:
    """Set weights to zero one after another, the cheapest first, while the shortfall can be kept within ``budget``.

    After each the remaining links are adjusted where that is needed. Only for weights that may be zero.
    """
    search = _Search(task, unit, stop)
    while True:
        search.free = search.weights != 0
        effects = search.effects(-search.weights)
        kept = search.unit()
        for column in np.argsort(effects, kind="stable")[:SWAP_CANDIDATES]:
            if not np.isfinite(effects[column]) or stop():
                return kept
            search.move(int(column), -int(kept.weights[column]))
            search.free = search.weights != 0
            search.descend(budget)
            if search.shortfall <= budget:
                break
            search.weights = kept.weights.copy()
            search.refresh(kept.bias)
        else:
            return kept
