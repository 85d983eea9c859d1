"""A committee: hidden units that are linear units for random draws of rows and inputs, and outputs that count them.

Every unit answers "class 0 or not" (of more classes: one class each, in turn). It is fitted to as many rows as there
are, drawn with replacement: a squared hinge with a ridge, rounded to the weights that are allowed, with the threshold
of the fewest errors on its draw. How many of the inputs it reads and how strong its ridge is are drawn too, so nothing
is left to choose. Outputs have weights of 1 and no bias: the class with most units on its side wins.

Fewest training errors are a poor guide where rows are few: single units that fit them all disagree about the next row.
The majority of units that saw different rows and inputs is what a kernel machine comes close to, in ternary weights.

Source: bagging of Breiman (1996) on random subspaces of Ho (1998), with threshold units as members.
"""

from __future__ import annotations

import numpy as np

from mip2mcu.progress import Stop
from mip2mcu.ranges import IntArray
from mip2mcu.train.best_response import best_threshold, hinge_fit, roundings
from mip2mcu.train.reduction import Reduction
from mip2mcu.train.sign_network import SignNetwork

SHARES = (0.5, 1.0)
"""Of the inputs that a unit may read; binary weights read all of them."""
RIDGES = (100.0, 300.0)
"""Prices of a squared real weight, for inputs of variance 1."""


def committee(reduction: Reduction, width: int, seed: int, stop: Stop) -> SignNetwork:
    """One hidden layer of ``width`` units and its outputs; the same for the same ``seed`` unless it is stopped.

    Once ``stop`` turns true, units that are not fitted yet repeat earlier ones.
    """
    classes = reduction.counts.shape[1]
    outputs = 1 if classes == 2 else classes
    units: list[tuple[IntArray, int]] = []
    for j in range(width):
        if stop() and j >= outputs:
            units.append(units[j - outputs])
        else:
            units.append(_unit(reduction, j % outputs, np.random.default_rng([seed, j])))
    silent = -1 if reduction.domain.binary else 0
    heard = np.where(np.arange(outputs)[:, None] == np.arange(width) % outputs, 1, silent)
    weights, bias = np.stack([w for w, _ in units]), np.array([b for _, b in units], dtype=np.int64)
    return SignNetwork((weights, heard.astype(np.int64)), (bias, np.zeros(outputs, dtype=np.int64)))


def _unit(reduction: Reduction, asked: int, rng: np.random.Generator) -> tuple[IntArray, int]:
    """Weights and bias of a unit that fires for the class ``asked``."""
    counts, high, step = reduction.counts, reduction.weight_high, reduction.domain.step
    share, ridge = SHARES[int(rng.integers(len(SHARES)))], RIDGES[int(rng.integers(len(RIDGES)))]
    drawn = rng.multinomial(int(counts.sum()), (counts / counts.sum()).reshape(-1)).reshape(counts.shape)
    columns = len(high)
    read = np.sort(rng.permutation(columns)[: columns if step == 2 else max(1, round(share * columns))])
    if not columns:
        return np.zeros(0, dtype=np.int64), 0
    k, true = np.nonzero(drawn)
    importance, signs = drawn[k, true].astype(np.float64), np.where(true == asked, 1.0, -1.0)
    rows = reduction.rows[np.ix_(k, read)]
    centred = rows - np.average(rows, axis=0, weights=importance)
    scale = float(np.sqrt((centred**2).mean())) or 1.0
    fit = hinge_fit(centred / scale, importance, signs, ridge)[:-1]
    cost = drawn.sum(axis=1) - 2 * drawn[:, asked]  # of firing, less that of resting
    seen = np.flatnonzero(drawn.any(axis=1))
    found = []
    for rounded in roundings(fit, high[read], step):
        weights = np.zeros(columns, dtype=np.int64)
        weights[read] = rounded
        total, bias = best_threshold(reduction.rows[seen] @ weights, cost[seen])
        found.append((total, weights, bias))
    _, weights, bias = min(found, key=lambda one: one[0])
    return weights, bias
