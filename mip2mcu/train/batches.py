"""Batch training: networks of small batches, averaged by their votes on validation rows, in boxes that shrink.

    split the rows once, class by class, into training and validation rows
    centre = a network of the first batch;  box = all that the domain allows
    in every epoch:
        deal the training rows out to batches, class by class
        network_q = the best for batch q that is found in the box, from the centre            side by side
        vote_q    = right validation rows of network_q, less those of the worst network
        centre    = sum_q vote_q network_q / sum_q vote_q, weight by weight, rounded half to even
        box       = what lies within the epoch's radius of the centre, see `mip2mcu.train.box`
    the centre that gets most validation rows right is the result

Source: Thorbjarnarson and Yorke-Smith (2020), batch training. Other than in its code the split is the same in every
epoch, so no row that was trained on has a vote and all votes are counted on the same rows; big-M values follow the
box; every search begins at the centre, the first ones at one network for all, since the units of a layer are
interchangeable and means of different units mean nothing. An input that is 0 throughout a batch keeps its weight there.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from mip2mcu.dataset import Dataset
from mip2mcu.errors import UsageError
from mip2mcu.mip.solver import Solve, Solver, no_solve
from mip2mcu.parallel import Context
from mip2mcu.progress import silent
from mip2mcu.ranges import IntArray
from mip2mcu.train.best_response import Engine
from mip2mcu.train.box import Box, radii
from mip2mcu.train.clock import Course, until
from mip2mcu.train.goal import Goal
from mip2mcu.train.inn import Inn
from mip2mcu.train.inn_model import whole_box
from mip2mcu.train.inn_search import Found, Search
from mip2mcu.train.reduction import Reduction, WeightDomain
from mip2mcu.train.sign_network import SignNetwork, as_network
from mip2mcu.train.sign_start import first_network
from mip2mcu.train.trained import Trained, settled

VALIDATION_SHARE = 5
"""One of so many rows of each class votes and is not trained on."""
START_SHARE = 0.1
"""Share of the time for the first batch's network."""


def train_by_averaging(formulation: Inn, dataset: Dataset, solver: Solver, course: Course) -> Trained:
    """The network of batch training; every batch is a task of ``course``.

    Raises `UsageError` where no class has enough rows for validation.
    """
    began = time.monotonic()
    training, validation = validation_split(dataset, solver.seed)
    whole = formulation.reduced(dataset)
    rows = whole.on(dataset.rows_at(training))
    goal = formulation.goal_on(rows)
    batches = deal(dataset.labels, training, formulation.batch_rows, solver.seed, 0)
    first = _First(formulation.hidden, goal, dataset.rows_at(batches[0]), whole.on(dataset.rows_at(batches[0])), solver)
    centre = course.step(_begin, first, START_SHARE).network.narrowed()
    goal = replace(goal, compress="none")  # the architecture is that of the first network from here on
    everything = box = whole_box(rows, centre.hidden, goal.room(rows, centre.hidden))
    best, most, records, curve = centre, -1, [], []
    steps = radii(formulation.domain.bound, formulation.epochs)
    for epoch, radius in enumerate((0, *steps)):
        box = everything.around(centre, radius, formulation.domain) if epoch else everything
        batches = deal(dataset.labels, training, formulation.batch_rows, solver.seed, epoch)
        parts = [whole.on(dataset.rows_at(batch)) for batch in batches]
        tasks = [_batch(formulation, goal, part, len(training), box.clipped(centre), box, solver) for part in parts]
        found = course.map(_solve, tasks, 1 / (len(steps) + 1 - epoch))
        records += [replace(s, stage=f"epoch {epoch + 1}: batch {s.stage}") for one in found for s in one.solves]
        votes = [right_rows(one.network, whole, dataset, validation) for one in found]
        centre = mean_network([one.network for one in found], votes, formulation.domain)
        curve.append(right_rows(centre, whole, dataset, validation))
        if curve[-1] > most:
            best, most = centre, curve[-1]
        if not course.goes_on():
            break
    note = _note(len(batches), formulation.batch_rows, curve, len(validation))
    trained = formulation.finish(dataset, whole, best, formulation.counted(best, whole, solver), began)
    report = replace(trained.report, solves=(*records, *trained.report.solves), notes=(note,))
    return replace(trained, report=report)


def _note(batches: int, batch_rows: int, curve: Sequence[int], validation: int) -> str:
    shares = ", ".join(f"{100 * right / validation:.1f}" for right in curve)
    taken = 1 + int(np.argmax(curve))
    return (
        f"{batches} batches of up to {batch_rows} rows; right on {validation} rows for validation after each epoch: "
        f"{shares} %; the network of epoch {taken} was taken"
    )


# ---- rows ----------------------------------------------------------------------------------------------------------


def validation_split(dataset: Dataset, seed: int) -> tuple[IntArray, IntArray]:
    """Indices of the rows to train on and of those that vote: one in `VALIDATION_SHARE` of each class, at random."""
    order = np.random.default_rng(seed).permutation(dataset.rows)
    votes = np.zeros(dataset.rows, dtype=bool)
    for c in range(len(dataset.classes)):
        members = order[dataset.labels[order] == c]
        votes[members[: len(members) // VALIDATION_SHARE]] = True
    if not votes.any():
        raise UsageError(
            f"batches are averaged by their votes on one of {VALIDATION_SHARE} rows of each class, and no class has so "
            "many: train on more rows, or without batches"
        )
    return np.flatnonzero(~votes), np.flatnonzero(votes)


def deal(labels: IntArray, rows: IntArray, size: int, seed: int, epoch: int) -> list[IntArray]:
    """``rows`` dealt out class by class, at random, to as few batches of at most ``size`` as they need."""
    count = -(-len(rows) // size)
    shuffled = np.random.default_rng([seed, epoch]).permutation(rows)
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    return [np.sort(by_class[q::count]) for q in range(count)]


def right_rows(network: SignNetwork, reduction: Reduction, dataset: Dataset, rows: IntArray) -> int:
    """How many of ``rows`` the finished network classifies correctly."""
    predicted = as_network(network, reduction, dataset).predict(dataset.inputs[rows])
    return int((predicted == dataset.labels[rows]).sum())


# ---- averages ------------------------------------------------------------------------------------------------------


def mean_network(networks: Sequence[SignNetwork], right: Sequence[int], domain: WeightDomain) -> SignNetwork:
    """Every weight's and bias's mean, weighted by ``right`` less its least, rounded half to even, in the domain.

    Where all networks are equally right each has one vote.
    """
    votes = np.array(right, dtype=np.int64) - min(right)
    votes = votes if votes.any() else np.ones_like(votes)

    def mean(parts: Sequence[IntArray], step: int) -> IntArray:
        total = np.tensordot(votes, np.stack(parts), axes=1)
        shift = parts[0] % step  # all weights of a place have the same parity under binary weights
        return shift + step * half_to_even(total - shift * votes.sum(), step * int(votes.sum()))

    depth = networks[0].depth
    weights = tuple(mean([network.weights[layer] for network in networks], domain.step) for layer in range(depth))
    return SignNetwork(weights, tuple(mean([network.bias[layer] for network in networks], 1) for layer in range(depth)))


def half_to_even(numerator: IntArray, denominator: int) -> IntArray:
    """``numerator / denominator`` in whole numbers, halves to the even neighbour."""
    whole, rest = np.divmod(numerator, denominator)
    up = (2 * rest > denominator) | ((2 * rest == denominator) & (whole % 2 == 1))
    return np.asarray(whole + up, dtype=np.int64)


# ---- tasks ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _First:
    hidden: tuple[int, ...]
    goal: Goal
    dataset: Dataset
    rows: Reduction
    solver: Solver


@dataclass(frozen=True, eq=False)
class _Batch:
    goal: Goal
    rows: Reduction
    centre: SignNetwork
    box: Box
    tight: bool
    target: int | None
    solver: Solver


def _batch(
    formulation: Inn, goal: Goal, rows: Reduction, training: int, centre: SignNetwork, box: Box, solver: Solver
) -> _Batch:
    """The task of one batch: its share of the objective's target and of the ridge, and only inputs that it has."""
    count = int(rows.counts.sum())
    target = formulation.objective_target
    if goal.ridge:
        goal = replace(goal, ridge=max(1, goal.ridge * count // training))
    own = box.fixed_inputs(np.flatnonzero(~rows.rows.any(axis=0)), centre)
    return _Batch(goal, rows, centre, own, formulation.tight, target and target * count // training, solver)


def _begin(task: _First, context: Context) -> Found:
    """A network of the first batch, by best responses."""
    engine = Engine(task.rows, task.goal, task.solver.within(context.seconds), context.listener, until(context))
    return Found(first_network(task.dataset, engine, task.hidden), ())


def _solve(task: _Batch, context: Context) -> Found:
    """The best of a batch in its box: best responses first, then branch and bound."""
    began = time.monotonic()
    solver = task.solver.within(context.seconds)
    target = None if task.target is None else (task.target,)
    engine = Engine(task.rows, task.goal, solver, silent, until(context, 0.5), target, task.box)
    network = engine.improved(task.centre, programs=False)
    least = float(task.goal.least(task.rows, network.hidden))
    record: Solve = replace(no_solve(task.goal.stages[0], solver), bound=least)
    known = settled(record, task.goal.value(network, task.rows)[0])
    search = Search(
        task.goal, task.rows, network.hidden, context.listener, context.stop, ordered=False, tight=task.tight,
        box=task.box,
    )  # fmt: skip
    seconds = None if context.seconds is None else context.seconds - (time.monotonic() - began)
    network, records = search.stages(network, [known], solver.within(seconds), task.target)
    return Found(network, tuple(records))
