"""What a selection method is asked and answers, and the simple methods.

A method is a function from `Problem` to `Selection`. Those that rate units one by one give scores; `best_of` keeps the
best of each layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from mip2mcu.errors import UsageError
from mip2mcu.mip.solver import Solve, Solver
from mip2mcu.progress import Listener, Stop, never, silent
from mip2mcu.prune.float_network import FloatArray, FloatNetwork
from mip2mcu.prune.removal import RIDGE, sampled
from mip2mcu.ranges import IntArray


@dataclass(frozen=True, eq=False)
class Problem:
    """A network to prune, and on what.

    inputs, labels  the rows to select and repair on: (rows, inputs) and classes (rows,)
    counts          units to keep, one number a prunable layer
    workers         processes side by side, where a method has independent parts
    """

    network: FloatNetwork
    inputs: FloatArray
    labels: IntArray
    counts: tuple[int, ...]
    solver: Solver = field(default_factory=lambda: Solver(time_limit=60.0))
    seed: int = 0
    workers: int = 1
    ridge: float = RIDGE
    listener: Listener = silent
    stop: Stop = never


@dataclass(frozen=True, eq=False)
class Selection:
    """Units to keep, ascending, one array a prunable layer; scores and solves where the method has them."""

    kept: tuple[IntArray, ...]
    scores: tuple[FloatArray, ...] = ()
    solves: tuple[Solve, ...] = ()


def best_of(scores: Sequence[FloatArray], counts: Sequence[int], solves: Sequence[Solve] = ()) -> Selection:
    """The units with the highest scores of each layer; of equal ones those with the lowest index."""
    kept = [np.sort(np.argsort(-own, kind="stable")[:count]) for own, count in zip(scores, counts, strict=True)]
    return Selection(tuple(kept), tuple(scores), tuple(solves))


def above(scores: Sequence[FloatArray], threshold: float, solves: Sequence[Solve] = ()) -> Selection:
    """The units with scores of at least ``threshold``; raises `UsageError` where a layer has none."""
    for layer, own in enumerate(scores):
        if own.max() < threshold:
            raise UsageError(
                f"no unit of layer {layer} has a score of at least {threshold:g}: the largest threshold possible is "
                f"{float(min(s.max() for s in scores)):.4g}"
            )
    return Selection(tuple(np.flatnonzero(own >= threshold) for own in scores), tuple(scores), tuple(solves))


# ---- simple methods ------------------------------------------------------------------------------------------------


def by_chance(problem: Problem) -> Selection:
    """Units at random."""
    rng = np.random.default_rng(problem.seed)
    return best_of([rng.random(width) for width in problem.network.widths], problem.counts)


def by_magnitude(problem: Problem) -> Selection:
    """Norm of a unit's incoming weights times norm of its outgoing ones."""
    network = problem.network
    scores = [
        np.linalg.norm(network.at(k).matrix, axis=1) * np.linalg.norm(network.outgoing(k), axis=(0, 2))
        for k in network.prunable
    ]
    return best_of(scores, problem.counts)


def by_spread(problem: Problem) -> Selection:
    """Standard deviation of a unit's activation times norm of its outgoing weights; for channels, summed over taps."""
    network, scores = problem.network, []
    for k in network.prunable:
        deviations = sampled(network, network.reader(k), problem.inputs)[0].std(axis=0)
        own = deviations.reshape(network.at(k).units, -1)
        scores.append(np.sqrt(((own * np.linalg.norm(network.outgoing(k), axis=0)) ** 2).sum(axis=1)))
    return best_of(scores, problem.counts)
