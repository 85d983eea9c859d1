"""OAMIP scores of whole networks: on one batch, class by class, layer by layer, or from the output backward.

    none      one program for one image of each class, those that are classified correctly with least certainty
    classes   one program a class on a few of its images; a unit's score is the mean
    layers    one program a layer, for the layer with an auxiliary head (`mip2mcu.prune.heads`); the last layer has the
              rest of the network
    backward  the last three layers first, then two more at a time towards the input, each time with what stands behind
              them already pruned; on networks of up to three hidden layers the same as "none"

The programs of "classes" and "layers" are independent: they run side by side. All layers of a convolutional network and
all images in one program ("none") are a large one: LeNet-5's takes minutes, those of the other ways less than one each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mip2mcu.errors import NoSolutionError, UsageError
from mip2mcu.mip.solver import Solve, Solver
from mip2mcu.parallel import Context, executor
from mip2mcu.prune.float_network import FloatArray, FloatNetwork
from mip2mcu.prune.heads import rest, with_head
from mip2mcu.prune.linear import intervals
from mip2mcu.prune.oamip import LOSS_WEIGHT, Batch, class_batch, score_batch, unsure_batch
from mip2mcu.prune.removal import removed
from mip2mcu.prune.selection import Problem, Selection, above, best_of

DECOUPLINGS = ("none", "classes", "layers", "backward")


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
            raise UsageError(
                f"{self.images} images a class and a loss of weight {self.loss_weight:g} give no scores: take at least "
                "one image and a positive weight"
            )
        if self.threshold is not None and not 0 < self.threshold <= 1:
            raise UsageError(
                f"scores lie between 0 and 1, so {self.threshold:g} is no threshold: give one above 0 and of at most 1"
            )


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
    return _chosen(scores, problem.counts, scoring, solves)


def oamip_scores(problem: Problem, scoring: Scoring) -> tuple[tuple[FloatArray, ...], tuple[Solve, ...]]:
    """Scores (units,) of each prunable layer, and the solves."""
    if scoring.decouple == "backward":
        return _backward(problem, scoring)
    tasks = {"none": _whole, "classes": _by_class, "layers": _by_layer}[scoring.decouple](problem, scoring)
    try:
        with executor(min(problem.workers, len(tasks))) as run:
            results = run.map(
                _scored, tasks, seconds=problem.solver.time_limit, listener=problem.listener, stop=problem.stop
            )
    except NoSolutionError as error:
        if scoring.decouple == "none":
            raise NoSolutionError(f"{error}, or decouple the scores, best by layers") from None
        raise
    solves = tuple(record for _, record in results)
    if scoring.decouple == "layers":
        return tuple(scores[0] for scores, _ in results), solves
    means = [np.mean([scores[layer] for scores, _ in results], axis=0) for layer in range(len(results[0][0]))]
    return tuple(means), solves


def _chosen(
    scores: Sequence[FloatArray], counts: Sequence[int], scoring: Scoring, solves: Sequence[Solve] = ()
) -> Selection:
    if scoring.threshold is not None:
        return above(scores, scoring.threshold, solves)
    return best_of(scores, counts, solves)


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
        if k == network.prunable[-1]:
            block = rest(network, k)
        else:
            block = with_head(network, k, problem.inputs, problem.labels, problem.seed, problem.stop)
        into = _batch_into(network, k, batch)
        tasks.append(_Task(block, (0,), into, scoring, problem.solver, f"scores of layer {k}"))
    return tasks


def _batch_into(network: FloatNetwork, k: int, batch: Batch) -> Batch:
    """What layer ``k`` reads for ``batch``, within the intervals that the whole network gives."""
    into, low, high = (
        values.reshape(len(batch.labels), -1)
        for values in (network.into(k, batch.inputs), *intervals(network, *batch.box).into[k])
    )
    return Batch(into, batch.labels, low, high)


def _backward(problem: Problem, scoring: Scoring) -> tuple[tuple[FloatArray, ...], tuple[Solve, ...]]:
    """Scores found from the output backward, in networks whose later layers are pruned by the scores before."""
    network, hidden = problem.network, len(problem.network.prunable)
    scores: list[FloatArray] = [np.ones(width) for width in network.widths]
    solves = []
    starts = backward_starts(hidden)
    limit = problem.solver.time_limit
    solver = problem.solver.within(None if limit is None else limit / max(1, len(starts)))
    batch = unsure_batch(network, problem.inputs, problem.labels, problem.seed)
    for first, end in zip(starts, [hidden, *starts], strict=False):
        k = network.prunable[first]
        block = rest(network, k)
        found, record = score_batch(
            block,
            _batch_into(network, k, batch),
            solver,
            loss_weight=scoring.loss_weight,
            relaxed=scoring.relaxed,
            scored=block.prunable[: end - first],
            stage=f"scores from layer {k} on",
            listener=problem.listener,
            stop=problem.stop,
        )
        solves.append(record)
        scores[first:end] = found
        kept = [np.arange(width) for width in network.widths]
        kept[first:end] = _chosen(found, problem.counts[first:end], scoring).kept
        network = removed(network, kept)
    return tuple(scores), tuple(solves)


def backward_starts(hidden: int) -> list[int]:
    """Where the programs of "backward" begin among ``hidden`` layers: the third last, then every second one, the first.

    >>> backward_starts(6)
    [3, 1, 0]
    """
    starts = list(range(hidden - 3, -1, -2))
    return starts if 0 in starts else [*starts, 0] if hidden else []
