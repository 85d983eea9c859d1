"""A committee: hidden units that are linear units for random draws of rows and inputs, and outputs that count them.

Every unit answers "class 0 or not" (of more classes: one class each, in turn). It is fitted to as many rows as there
are, drawn with replacement: a squared hinge with a ridge, rounded to the weights that are allowed, with the threshold
of the fewest errors on its draw. How many of the inputs it reads and how strong its ridge is are drawn too, so nothing
is left to choose. Outputs have weights of 1 and no bias: the class with most units on its side wins.

Where rows must withstand changes, those that are the worst for the fit join the rows, and it is made anew, in turn; the
threshold counts what is wrong after the worst change for the rounded weights. This is what two-stage robust programs
do, scenarios joining as they are found, with a fit in place of the program.

Fewest training errors are a poor guide where rows are few: single units that fit them all disagree about the next row.
The majority of units that saw different rows and inputs is what a kernel machine comes close to, in ternary weights.

Source: bagging of Breiman (1996) on random subspaces of Ho (1998), with threshold units as members.
"""

from __future__ import annotations

import numpy as np

from mip2mcu.mip.matrix import FloatArray
from mip2mcu.progress import Stop
from mip2mcu.ranges import BoolArray, IntArray, sum_range
from mip2mcu.train.best_response import best_threshold, hinge_fit, roundings
from mip2mcu.train.reduction import Reduction
from mip2mcu.train.robust_set import RobustSets
from mip2mcu.train.sign_network import SignNetwork

SHARES = (0.5, 1.0)
"""Of the inputs that a unit may read; binary weights read all of them."""
RIDGES = (100.0, 300.0)
"""Prices of a squared real weight, for inputs of variance 1."""
ROUNDS = 4
"""How often rows moved against the fit of a robust unit join those that it is fitted to."""


def committee(
    reduction: Reduction, width: int, seed: int, stop: Stop, sets: RobustSets | None = None
) -> SignNetwork:
    """One hidden layer of ``width`` units and its outputs; the same for the same ``seed`` unless it is stopped.

    ``sets``: changes that the rows must withstand.

    Once ``stop`` turns true, units that are not fitted yet repeat earlier ones.
    """
    classes = reduction.counts.shape[1]
    outputs = 1 if classes == 2 else classes
    units: list[tuple[IntArray, int]] = []
    for j in range(width):
        if stop() and j >= outputs:
            units.append(units[j - outputs])
        else:
            units.append(_unit(reduction, sets, j % outputs, np.random.default_rng([seed, j])))
    silent = -1 if reduction.domain.binary else 0
    heard = np.where(np.arange(outputs)[:, None] == np.arange(width) % outputs, 1, silent)
    weights, bias = np.stack([w for w, _ in units]), np.array([b for _, b in units], dtype=np.int64)
    return SignNetwork((weights, heard.astype(np.int64)), (bias, np.zeros(outputs, dtype=np.int64)))


def certain_rows(network: SignNetwork, reduction: Reduction, sets: RobustSets) -> BoolArray:
    """(k,): the row's most frequent class is proved to win under every change, members changing as they may.

    Changes that move some members at the cost of others count as if they moved all, so more rows may be certain.
    """
    low, high = sets.ranges(network.weights[0], network.sums(reduction.rows, 0))
    weights, bias = network.weights[1], network.bias[1]
    certain = np.zeros(len(low), dtype=bool)
    for k, best in enumerate(reduction.counts.argmax(axis=1).tolist()):
        votes = (np.where(low[k] >= 0, 1, -1), np.where(high[k] >= 0, 1, -1))
        if len(weights) == 1:
            least, most = sum_range(weights, bias, *votes)
            certain[k] = least[0] >= 0 if best == 0 else most[0] < 0
        else:
            ahead, _ = sum_range(weights[best] - weights, bias[best] - bias, *votes)
            needed = np.arange(len(weights)) < best
            certain[k] = bool((ahead >= needed).all())
    return certain


def _unit(
    reduction: Reduction, sets: RobustSets | None, asked: int, rng: np.random.Generator
) -> tuple[IntArray, int]:
    """Weights and bias of a unit that fires for the class ``asked``."""
    counts, high, step = reduction.counts, reduction.weight_high, reduction.domain.step
    share, ridge = SHARES[int(rng.integers(len(SHARES)))], RIDGES[int(rng.integers(len(RIDGES)))]
    drawn = rng.multinomial(int(counts.sum()), (counts / counts.sum()).reshape(-1)).reshape(counts.shape)
    columns = len(high)
    read = np.sort(rng.permutation(columns)[: columns if step == 2 else max(1, round(share * columns))])
    if not columns:
        return np.zeros(0, dtype=np.int64), 0
    cost = drawn.sum(axis=1) - 2 * drawn[:, asked]  # of firing, less that of resting
    rows = reduction.rows
    fit = _fit(rows, drawn, asked, ridge, read)
    for times in range(2, ROUNDS + 2 if sets is not None else 0):
        rows = np.concatenate([rows, _worst(reduction, sets, fit, cost)])
        fit = _fit(rows, np.tile(drawn, (times, 1)), asked, ridge * times, read)
    seen = np.flatnonzero(drawn.any(axis=1))
    found = []
    for rounded in roundings(fit[read], high[read], step):
        weights = np.zeros(columns, dtype=np.int64)
        weights[read] = rounded
        total, bias = best_threshold((_worst(reduction, sets, weights, cost) @ weights)[seen], cost[seen])
        found.append((total, weights, bias))
    _, weights, bias = min(found, key=lambda one: one[0])
    return weights, bias


def _worst(
    reduction: Reduction, sets: RobustSets | None, weights: IntArray | FloatArray, cost: IntArray
) -> IntArray:
    """The rows after the worst change in their sets, which moves the sum where firing has this ``cost``."""
    return reduction.rows if sets is None else sets.moved(reduction.rows, weights, cost > 0)


def _fit(rows: IntArray, drawn: IntArray, asked: int, ridge: float, read: IntArray) -> FloatArray:
    """Real weights (columns,), 0 but for those that are ``read``."""
    k, true = np.nonzero(drawn)
    importance, signs = drawn[k, true].astype(np.float64), np.where(true == asked, 1.0, -1.0)
    chosen = rows[np.ix_(k, read)]
    centred = chosen - np.average(chosen, axis=0, weights=importance)
    scale = float(np.sqrt((centred**2).mean())) or 1.0
    fit: FloatArray = np.zeros(rows.shape[1])
    fit[read] = hinge_fit(centred / scale, importance, signs, ridge)[:-1]
    return fit
