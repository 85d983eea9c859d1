"""OAMIP scores of whole networks: on one batch, class by class, or layer by layer with auxiliary heads.

    none      one program for one image of each class, those that are classified correctly with least certainty
    classes   one program a class on a few of its images; a unit's score is the mean
    layers    one program a layer, for the layer with a head of its own that was trained on its activations; the last
              layer has the rest of the network

The programs of the last two are independent: they run side by side.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from mip2mcu.errors import UsageError
from mip2mcu.mip.solver import Solve, Solver
from mip2mcu.parallel import Context, executor
from mip2mcu.prune.float_network import FloatArray, FloatDense, FloatLayer, FloatNetwork, FloatPool
from mip2mcu.prune.oamip import LOSS_WEIGHT, Batch, class_batch, score_batch, unsure_batch
from mip2mcu.prune.selection import Problem, Selection, above, best_of
from mip2mcu.prune.training import Training, random_network, trained

DECOUPLINGS = ("none", "classes", "layers")
HEAD_SIDE = 2
"""Rows and columns that channels are averaged to before an auxiliary head."""
HEAD_ROWS = 5000
"""Most rows that a head is trained on."""


@dataclass(frozen=True)
class Scoring:
    """How scores are computed.

    decouple     one of `DECOUPLINGS`
    images       a class, where decoupled by classes
    relaxed      activity may be a fraction: a linear program instead of a mixed-integer one
    loss_weight  weight of the loss against sparsity
    threshold    keep the units with at least this score, however many there are; None: the best, as many as asked for
    """

    decouple: str = "none"
    images: int = 1
    relaxed: bool = True
    loss_weight: float = LOSS_WEIGHT
    threshold: float | None = None

    def __post_init__(self) -> None:
        if self.decouple not in DECOUPLINGS:
            raise UsageError(f"decoupling by {self.decouple!r} is unknown, choose one of {', '.join(DECOUPLINGS)}")
        if self.images < 1 or not self.loss_weight > 0:
            raise UsageError("scores need at least one image a class and a positive weight of the loss")


@dataclass(frozen=True, eq=False)
class _Task:
    """One program: of a network, its layers that are scored, a batch."""

    network: FloatNetwork
    scored: tuple[int, ...]
    batch: Batch
    scoring: Scoring
    solver: Solver
    stage: str


def oamip(problem: Problem, scoring: Scoring = Scoring()) -> Selection:
    """The units with the highest scores."""
    scores, solves = oamip_scores(problem, scoring)
    if scoring.threshold is not None:
        return above(scores, scoring.threshold, solves)
    return best_of(scores, problem.counts, solves)


def oamip_scores(problem: Problem, scoring: Scoring) -> tuple[tuple[FloatArray, ...], tuple[Solve, ...]]:
    """Scores (units,) of each prunable layer, and the solves."""
    tasks = {"none": _whole, "classes": _by_class, "layers": _by_layer}[scoring.decouple](problem, scoring)
    with executor(min(problem.workers, len(tasks))) as run:
        results = run.map(
            _scored, tasks, seconds=problem.solver.time_limit, listener=problem.listener, stop=problem.stop
        )
    solves = tuple(record for _, record in results)
    if scoring.decouple == "layers":
        return tuple(scores[0] for scores, _ in results), solves
    means = [np.mean([scores[layer] for scores, _ in results], axis=0) for layer in range(len(results[0][0]))]
    return tuple(means), solves


def _scored(task: _Task, context: Context) -> tuple[tuple[FloatArray, ...], Solve]:
    return score_batch(
        task.network,
        task.batch,
        task.solver.within(context.seconds),
        loss_weight=task.scoring.loss_weight,
        relaxed=task.scoring.relaxed,
        scored=task.scored,
        stage=task.stage,
        listener=context.listener,
        stop=context.stop,
    )


def _whole(problem: Problem, scoring: Scoring) -> list[_Task]:
    batch = unsure_batch(problem.network, problem.inputs, problem.labels, problem.seed)
    return [_Task(problem.network, problem.network.prunable, batch, scoring, problem.solver, "scores")]


def _by_class(problem: Problem, scoring: Scoring) -> list[_Task]:
    network = problem.network
    return [
        _Task(
            network,
            network.prunable,
            class_batch(problem.inputs, problem.labels, int(c), scoring.images, problem.seed),
            scoring,
            problem.solver,
            f"scores, class {c}",
        )
        for c in np.unique(problem.labels)
    ]


def _by_layer(problem: Problem, scoring: Scoring) -> list[_Task]:
    network = problem.network
    batch = unsure_batch(network, problem.inputs, problem.labels, problem.seed)
    tasks = []
    for k in network.prunable:
        into = network.into(k, batch.inputs).reshape(len(batch.labels), -1)
        block = _rest(network, k) if k == network.prunable[-1] else _with_head(problem, k)
        tasks.append(_Task(block, (0,), Batch(into, batch.labels), scoring, problem.solver, f"scores of layer {k}"))
    return tasks


def _rest(network: FloatNetwork, k: int) -> FloatNetwork:
    return replace(network, layers=network.layers[k:], input_shape=network.shapes[k])


def _with_head(problem: Problem, k: int) -> FloatNetwork:
    """Layer ``k`` and a linear classifier that was trained on its activations, channels averaged to few points."""
    network = problem.network
    rows = np.unique(np.linspace(0, len(problem.inputs) - 1, HEAD_ROWS).round().astype(np.int64))
    layer = network.at(k)
    shape = network.shapes[k + 1]
    pools: tuple[FloatLayer, ...] = ()
    if len(shape) == 3 and min(shape[1:]) > HEAD_SIDE:
        window = (shape[1] // HEAD_SIDE, shape[2] // HEAD_SIDE)
        pools = (FloatPool(window, window, average=True),)
    values = network.into(k + 1, problem.inputs[rows])
    for pool in pools:
        values = pool.forward(values)
    features = values.reshape(len(values), -1)
    classes = network.at(network.weighted[-1]).units
    blank = FloatDense(np.zeros((classes, features.shape[1])), np.zeros(classes), relu=False)
    head = trained(
        random_network((blank,), (features.shape[1],), problem.seed),
        features,
        problem.labels[rows],
        Training(epochs=10, rate=0.01, seed=problem.seed),
        problem.stop,
    )
    return FloatNetwork((layer, *pools, head.layers[0]), network.shapes[k])
