"""BeMi without branch and bound: a linear unit of widest margin, handed through the layers; then links taken away.

The widest margin of a linear unit is a linear program with few fractional weights:

    maximise  m - price * sum_k count_k slack_k,    sign_k (w x_k + b) + slack_k >= m,    |w_i| <= high_i

Units that copy one another give outputs that are confident wherever the unit is right.
"""

from __future__ import annotations

import numpy as np

from mip2mcu.errors import NoSolutionError
from mip2mcu.mip.matrix import NO_LIMIT, FloatArray, Matrix, sparse_rows
from mip2mcu.mip.solver import Solver, solve_matrix
from mip2mcu.progress import Stop
from mip2mcu.ranges import IntArray
from mip2mcu.train.bemi_goal import Goal
from mip2mcu.train.bemi_model import After
from mip2mcu.train.margin import MarginTask, best_bias, quick
from mip2mcu.train.sign_network import SignNetwork

SLACK_SHARE = 0.2
"""Share of the samples, at most, that a unit may leave behind its margin where not all can be separated."""


def first_network(goal: Goal, solver: Solver, stop: Stop) -> SignNetwork:
    """All units of the first layer from linear programs, one a class (two classes: one); all others pass them on."""
    classes = goal.reduction.counts.shape[1]
    asked = range(1 if classes == 2 else classes)
    units = [_linear_unit(goal, c, solver, stop) for c in asked]
    width = goal.widths[0]
    chosen = [units[j % len(units)] for j in range(width)]
    weights = [np.stack([w for w, _ in chosen])]
    bias = [np.array([b for _, b in chosen], dtype=np.int64)]
    bound = goal.reduction.domain.bound
    for inputs, units_here in zip(goal.widths[:-1], goal.widths[1:], strict=True):
        alike = np.arange(units_here)[:, None] % len(units) == np.arange(inputs)[None, :] % len(units)
        others = -bound if goal.reduction.domain.binary else 0
        weights.append(np.where(alike, bound, others).astype(np.int64))
        bias.append(np.zeros(units_here, dtype=np.int64))
    return SignNetwork(tuple(weights), tuple(bias))


def _linear_unit(goal: Goal, c: int, solver: Solver, stop: Stop) -> tuple[IntArray, int]:
    """A unit that fires for class ``c`` and rests for all others."""
    counts = goal.reduction.counts
    signs = np.array([1 if own == c else -1 for _, own in goal.samples])
    rows = goal.reduction.rows[[k for k, _ in goal.samples]]
    weights = np.array([int(counts[k, own]) for k, own in goal.samples])
    high, step = goal.weight_high(1), goal.reduction.domain.step
    values = widest(rows, signs, weights, high, solver, stop, bias=not goal.published)
    whole = np.clip(np.rint((values + high) / step).astype(np.int64) * step - high, -high, high)
    if goal.published:
        return whole, 0
    sums = rows @ whole
    top, below = sums[signs < 0].max(initial=-(2**40)), sums[signs > 0].min(initial=2**40)
    if below > top:
        return whole, -(int(top + below) + 1) // 2
    task = MarginTask(rows, signs, weights, np.ones_like(signs), high, step)
    return whole, best_bias(task, sums)


def widest(
    rows: IntArray, signs: IntArray, counts: IntArray, high: IntArray, solver: Solver, stop: Stop, *, bias: bool
) -> FloatArray:
    """Weights (columns,) of the linear program; slack is free of use only where no unit separates the rows."""
    scale = 1.0 / max(1.0, SLACK_SHARE * float(counts.sum()))
    for price in (None, scale):
        matrix = _widest_matrix(rows, signs, counts, high, bias, price)
        try:
            values, record = solve_matrix(matrix, quick(solver), stop=stop)
        except NoSolutionError:
            break
        if record.objective > 0 or price is not None:
            return values[: rows.shape[1]]
    difference = rows[signs > 0].mean(axis=0) - rows[signs < 0].mean(axis=0)
    return difference / (float(np.abs(difference).max(initial=0.0)) or 1.0) * high


def _widest_matrix(
    rows: IntArray, signs: IntArray, counts: IntArray, high: IntArray, bias: bool, price: float | None
) -> Matrix:
    """Columns: weights, bias (if any), margin, slacks (with a ``price``)."""
    count, width = rows.shape
    parts = [signs[:, None] * rows, *([signs[:, None]] if bias else []), -np.ones((count, 1))]
    if price is not None:
        parts.append(np.eye(count))
    start, column, value = sparse_rows(np.concatenate(parts, axis=1).astype(np.float64))
    extra = 0 if price is None else count
    free = int(bias) + 1
    cost = np.zeros(width + free + extra)
    cost[width + free - 1] = 1.0
    if price is not None:
        cost[width + free :] = -price * counts
    return Matrix(
        cost=cost,
        low=np.concatenate([-high, np.full(free, -NO_LIMIT), np.zeros(extra)]).astype(np.float64),
        high=np.concatenate([high, np.full(free, NO_LIMIT), np.full(extra, NO_LIMIT)]).astype(np.float64),
        integer=np.zeros(len(cost), dtype=bool),
        start=start,
        column=column,
        value=value,
        row_low=np.zeros(count),
        row_high=np.full(count, NO_LIMIT),
        maximise=True,
    )


# ---- fewer links ---------------------------------------------------------------------------------------------------


def thinned(goal: Goal, network: SignNetwork, after: After, stop: Stop) -> SignNetwork:
    """``network`` without the weights that it can do without while every sum keeps its sign and its floor."""
    values, rows = goal.reduction.rows, goal.kept_rows(after.kept)
    floors = after.floors
    assert floors is not None
    weights = [layer.copy() for layer in network.weights]
    for layer in range(network.depth):
        sums = network.sums(values, layer)
        last = layer == network.depth - 1
        for j in range(len(weights[layer])):
            if last:
                low, high = _output_limits(goal, network, after, j, sums[:, j])
            else:
                margin = np.zeros(len(values), dtype=np.int64)
                margin[rows] = floors[layer][j]
                fires = sums[:, j] >= 0
                low = np.where(fires, margin, -(2**60))
                high = np.where(fires, 2**60, -1 - margin)
            weights[layer][j] = _thinned_unit(values, weights[layer][j], sums[:, j], low, high, stop)
        values = np.where(sums >= 0, 1, -1)
    return SignNetwork(tuple(weights), network.bias)


def _output_limits(
    goal: Goal, network: SignNetwork, after: After, output: int, sums: IntArray
) -> tuple[IntArray, IntArray]:
    """Limits (rows,) of an output's sums: kept samples keep their floors, all others what they have."""
    assert after.floors is not None
    low, high = np.full(len(sums), -(2**60)), np.full(len(sums), 2**60)
    for (k, c), kept in zip(goal.samples, after.kept, strict=True):
        needed = int(after.floors[-1][output]) + (goal.sign(c, output) < 0)
        if not goal.published:
            needed = max(needed, goal.threshold) if kept else goal.threshold
        elif not kept:
            continue
        have = int(sums[k]) if goal.sign(c, output) == 1 else -int(sums[k])
        if goal.sign(c, output) == 1:
            low[k] = max(low[k], min(needed, have))
        else:
            high[k] = min(high[k], -min(needed, have))
    return low, high


def _thinned_unit(
    values: IntArray, weights: IntArray, sums: IntArray, low: IntArray, high: IntArray, stop: Stop
) -> IntArray:
    """Weights of one unit, set to zero one after another, those that move the sums least first."""
    weights, sums = weights.copy(), sums.copy()
    links = np.flatnonzero(weights)
    order = links[np.argsort(np.abs(values[:, links] * weights[links]).sum(axis=0), kind="stable")]
    for i in order:
        if stop():
            break
        without = sums - values[:, i] * weights[i]
        if (without >= low).all() and (without <= high).all():
            sums, weights[i] = without, 0
    return weights
