"""The best units for the refit, exactly: least squares with a limited number of units as a mixed-integer program.

A layer that keeps the units z (binary) and is then refitted by ridge regression misses its old sums by

    c(z) = min over W of  mean |W x + b - t|^2 + r * sum_j |W_j|^2 / z_j

with W_j = 0 where z_j = 0. c is convex in z in [0, 1]^n with slopes -r |W_j|^2 / z_j^2, for z_j = 0 their limit
-|g_j|^2 / r, where g_j is the slope of the error in W_j. Tangents give the program

    minimise e    subject to  e >= c(z') + c'(z') (z - z')  for every z' so far,  sum z <= count

(Bertsimas, Pauphilet, Van Parys: "Sparse Regression: Scalable Algorithms and Empirical Performance"). An exchange of
units, one for one, finds what the program starts from and improves what it finds. The bound says how far that can be
from the best; with the small ridge of the refit it is weak, and a proof is rare.

Layers are taken from the last to the first: those before need to restore the sums of the units that stay, no others.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from mip2mcu.errors import NoSolutionError
from mip2mcu.mip.cuts import Cut, solve_with_cuts
from mip2mcu.mip.matrix import FloatArray, Matrix
from mip2mcu.mip.solver import Solve, Solver, no_solve
from mip2mcu.prune.linear import Builder
from mip2mcu.prune.removal import LeastSquares, sampled
from mip2mcu.prune.selection import Problem, Selection
from mip2mcu.ranges import BoolArray, IntArray

ROUNDS = 200
CLOSE = 1e-4
"""Tangents are added until they meet c within this share of the largest error, that of no units at all."""
PROOF_SECONDS = 2.0
"""Under a time limit, the program gets as long as the search took and this much more."""
STARTS = 4
"""Random sets that the exchange starts from, beside the one of backward elimination."""


def best_subset(problem: Problem) -> Selection:
    """The units that a least-squares refit needs most, layer by layer from the last to the first."""
    network, kept, solves = problem.network, {}, []
    after_kept: IntArray | None = None
    share = None if problem.solver.time_limit is None else problem.solver.time_limit / max(1, len(network.prunable))
    for k, count in reversed(list(zip(network.prunable, problem.counts, strict=True))):
        columns, target = sampled(network, network.reader(k), problem.inputs)
        squares = LeastSquares.of(columns, target if after_kept is None else target[:, after_kept])
        choice = Choice.of(squares, network.at(k).units, problem.ridge)
        chosen, record = _chosen(choice, count, problem, problem.solver.within(share), f"units of layer {k}")
        kept[k] = after_kept = np.flatnonzero(chosen)
        solves.append(record)
    return Selection(tuple(kept[k] for k in network.prunable), solves=tuple(reversed(solves)))


@dataclass(frozen=True, eq=False)
class Choice:
    """Least squares over columns that come in ``groups`` of ``taps``, one a unit; r is the ridge."""

    gram: FloatArray
    cross: FloatArray
    total: float
    units: int
    taps: int
    r: float

    @classmethod
    def of(cls, squares: LeastSquares, units: int, ridge: float) -> Choice:
        """The choice among ``units`` that own the columns of ``squares`` in equal parts."""
        taps = len(squares.gram) // units
        return cls(squares.gram, squares.cross, squares.total, units, taps, squares.ridge(ridge))

    def columns(self, units: BoolArray) -> IntArray:
        """Columns of the ``units`` (units,)."""
        return np.flatnonzero(np.repeat(units, self.taps))

    def error(self, units: BoolArray) -> float:
        """c at the binary point ``units``."""
        used = self.columns(units)
        cross = self.cross[used]
        return self.total - float((cross * np.linalg.solve(self._ridged(used), cross)).sum())

    def _ridged(self, used: IntArray) -> FloatArray:
        gram: FloatArray = self.gram[np.ix_(used, used)] + self.r * np.eye(len(used))
        return gram

    def tangent(self, z: FloatArray) -> tuple[float, FloatArray]:
        """c and its slopes (units,) at ``z`` (units,) in [0, 1]."""
        z = np.where(z < 1e-9, 0.0, np.minimum(z, 1.0))
        used = self.columns(z > 0)
        gram = self.gram[np.ix_(used, used)] + np.diag(self.r / np.repeat(z, self.taps)[used])
        weights = np.linalg.solve(gram, self.cross[used])
        slope = self.cross - self.gram[:, used] @ weights  # r W_j / z_j where z_j > 0
        slopes = -(slope.reshape(self.units, -1) ** 2).sum(axis=1) / self.r
        return self.total - float((self.cross[used] * weights).sum()), slopes


def _chosen(
    choice: Choice, count: int, problem: Problem, solver: Solver, stage: str
) -> tuple[BoolArray, Solve]:
    """The best set of ``count`` units that search and program find."""
    began = time.monotonic()
    end = np.inf if solver.time_limit is None else began + solver.time_limit
    best = _search(choice, count, np.random.default_rng(problem.seed), end, problem.stop)
    searched = time.monotonic() - began
    seconds = None if solver.time_limit is None else max(0.5, min(end - time.monotonic(), PROOF_SECONDS + searched))
    best, record = _proved(choice, count, best, solver.within(seconds), problem, stage)
    return best, replace(record, seconds=time.monotonic() - began)


# ---- search --------------------------------------------------------------------------------------------------------


def _search(
    choice: Choice, count: int, rng: np.random.Generator, end: float, stop: Callable[[], bool]
) -> BoolArray:
    """The best of several exchanges; the first always ends, the others while time is left."""
    best = _exchanged(choice, _eliminated(choice, count), end, stop)
    for _ in range(STARTS if count < choice.units else 0):
        if time.monotonic() > end or stop():
            break
        start = np.zeros(choice.units, dtype=bool)
        start[rng.permutation(choice.units)[:count]] = True
        other = _exchanged(choice, start, end, stop)
        if choice.error(other) < choice.error(best):
            best = other
    return best


def _eliminated(choice: Choice, count: int) -> BoolArray:
    """Backward elimination: of all units, the one that is missed least goes, until ``count`` are left."""
    units = np.ones(choice.units, dtype=bool)
    while units.sum() > count:
        units[int(_dropped(choice, units)[0])] = False
    return units


def _dropped(choice: Choice, units: BoolArray) -> tuple[int, FloatArray]:
    """The unit whose removal raises the error least, and the rise (units,), infinite where it is not in ``units``.

    Without unit j the error rises by tr W_j' (P_jj)^-1 W_j with P the inverse of the Gram matrix.
    """
    used = choice.columns(units)
    inverse = np.linalg.inv(choice._ridged(used))
    weights = inverse @ choice.cross[used]
    n = int(units.sum())
    own = inverse.reshape(n, choice.taps, n, choice.taps)[np.arange(n), :, np.arange(n), :]
    blocks = weights.reshape(n, choice.taps, -1)
    rise = np.full(choice.units, np.inf)
    rise[units] = (blocks * np.linalg.solve(own, blocks)).sum(axis=(1, 2))
    return int(rise.argmin()), rise


def _added(choice: Choice, units: BoolArray) -> tuple[int, float]:
    """The unit outside ``units`` that lowers the error most, and by how much."""
    used, others = choice.columns(units), np.flatnonzero(~units)
    outside = choice.columns(~units)
    inverse = np.linalg.inv(choice._ridged(used))
    across = choice.gram[np.ix_(used, outside)]
    slope = choice.cross[outside] - across.T @ (inverse @ choice.cross[used])
    left = choice._ridged(outside) - across.T @ inverse @ across
    n = len(others)
    own = left.reshape(n, choice.taps, n, choice.taps)[np.arange(n), :, np.arange(n), :]
    blocks = slope.reshape(n, choice.taps, -1)
    gain = (blocks * np.linalg.solve(own, blocks)).sum(axis=(1, 2))
    return int(others[gain.argmax()]), float(gain.max())


def _exchanged(choice: Choice, units: BoolArray, end: float, stop: Callable[[], bool]) -> BoolArray:
    """Exchange one unit for another while that lowers the error, those first that are missed least."""
    if units.all():
        return units
    improved = True
    while improved and time.monotonic() < end and not stop():
        improved = False
        rise = _dropped(choice, units)[1]
        for j in np.argsort(rise)[: int(units.sum())]:
            without = units.copy()
            without[j] = False
            if not without.any():
                break
            other, gain = _added(choice, without)
            if gain > rise[j] + 1e-9 * choice.total:
                without[other] = True
                units, improved = without, True
                break
            if time.monotonic() > end or stop():
                break
    return units


# ---- program -------------------------------------------------------------------------------------------------------


def subset_program(choice: Choice, count: int, *, whole: bool = True) -> Matrix:
    """Columns z (units,) and e; tangents are added by `best_subset`."""
    build = Builder()
    chosen = build.variables(choice.units, 0.0, 1.0, whole=whole)
    build.variables(1, low=0.0, cost=1.0)
    build.rows([(chosen[None, :], np.ones((1, choice.units)))], high=float(count))
    return build.matrix()


def _proved(
    choice: Choice, count: int, best: BoolArray, solver: Solver, problem: Problem, stage: str
) -> tuple[BoolArray, Solve]:
    """Solve the program from ``best`` on: first its relaxation, then with whole z; sets on the way are exchanged."""
    known: list[Cut] = []
    found = [best]
    scale = max(choice.total, 1e-30)

    def separate(values: FloatArray) -> list[Cut]:
        error, slopes = choice.tangent(values[:-1])
        if error / scale - values[-1] <= CLOSE:
            return []
        known.append(_cut(error, slopes, values[:-1], scale))
        return [known[-1]]

    def separate_whole(values: FloatArray) -> list[Cut]:
        units = values[:-1] > 0.5
        if units.sum() == count and choice.error(units) < choice.error(found[0]):
            found[0] = _exchanged(choice, units, time.monotonic() + 1.0, problem.stop)
        return separate(np.append(units.astype(np.float64), values[-1]))

    point = best.astype(np.float64)
    known.append(_cut(*choice.tangent(point), point, scale))
    limit = solver.time_limit
    third = solver.within(None if limit is None else limit / 3)
    relaxed = _run(choice, count, False, list(known), separate, third, problem, stage)
    left = solver.within(None if limit is None else limit - relaxed.seconds)
    record = _run(choice, count, True, list(known), separate_whole, left, problem, stage)
    exact = choice.error(found[0]) / scale
    bound = min(exact, max(relaxed.bound or 0.0, record.bound or 0.0))
    status = "optimal" if exact - bound <= 2 * CLOSE else record.status.replace("optimal", "round limit")
    return found[0], replace(record, objective=exact, bound=bound, status=status)


def _cut(error: float, slopes: FloatArray, z: FloatArray, scale: float) -> Cut:
    """``e >= error + slopes (z - z')``, in shares of the largest error."""
    columns = np.arange(len(z) + 1, dtype=np.int32)
    return Cut(float((error - slopes @ z) / scale), columns, np.append(-slopes / scale, 1.0))


def _run(
    choice: Choice,
    count: int,
    whole: bool,
    cuts: list[Cut],
    separate: Callable[[FloatArray], list[Cut]],
    solver: Solver,
    problem: Problem,
    stage: str,
) -> Solve:
    matrix = with_cuts(subset_program(choice, count, whole=whole), cuts)
    try:
        return solve_with_cuts(
            matrix, separate, solver, rounds=ROUNDS, stage=stage, listener=problem.listener, stop=problem.stop
        )[1]
    except NoSolutionError:  # no time for the first round: as far as is known, all of the error may be left, or none
        status = "interrupted" if problem.stop() else "time limit"
        return replace(no_solve(stage, solver), status=status, objective=1.0)


def with_cuts(matrix: Matrix, cuts: list[Cut]) -> Matrix:
    """``matrix`` with ``cuts`` as further rows."""
    return replace(
        matrix,
        start=np.concatenate([matrix.start, matrix.start[-1] + np.cumsum([len(c.columns) for c in cuts])]).astype(
            np.int32
        ),
        column=np.concatenate([matrix.column, *(c.columns for c in cuts)]).astype(np.int32),
        value=np.concatenate([matrix.value, *(c.values for c in cuts)]),
        row_low=np.append(matrix.row_low, [c.low for c in cuts]),
        row_high=np.append(matrix.row_high, np.full(len(cuts), np.inf)),
    )
