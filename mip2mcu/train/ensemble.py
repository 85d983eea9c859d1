"""Ensembles: several two-class networks of any formulation, trained independently, as one `Network`.

    pairs   one member a pair of classes (a, b), a < b, on their rows alone; the rule is VOTE(2), ties by margin
    rest    one member a class c against all others; the rule is ARGMAX over the members' sums
    none    one network for all classes

Members keep their order whoever trains them, so the result does not depend on the number of workers. Training goes in
two rounds: every member's quick start first, so that there is a complete network early, then every member's search.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import TypeAlias

import numpy as np

from mip2mcu.dataset import Dataset
from mip2mcu.decisions import Argmax, Decision, Vote
from mip2mcu.errors import UsageError
from mip2mcu.layers import Dense
from mip2mcu.mip.solver import Solve, Solver
from mip2mcu.network import Network
from mip2mcu.parallel import Context, Executor
from mip2mcu.progress import Listener, Progress, Stop
from mip2mcu.ranges import IntArray
from mip2mcu.train.formulation import Formulation
from mip2mcu.train.reduction import check_classes
from mip2mcu.train.trained import Trained

ENSEMBLES = ("auto", "pairs", "rest", "none")
"""Choices of the user; "auto" is what the registry names for the formulation."""


def automatic(usual: str, classes: int) -> str:
    """What "auto" means for a formulation whose ensemble is ``usual``: too many pairs become one member a class."""
    return "rest" if usual == "pairs" and classes > PAIRED_CLASSES else usual


@dataclass(frozen=True, eq=False)
class Member:
    """A part of a training: its name for people, and its own data set."""

    name: str
    dataset: Dataset


@dataclass(frozen=True, eq=False)
class _Task:
    formulation: Formulation
    member: Member
    solver: Solver
    start_seconds: float
    start: Trained | None = None


Members: TypeAlias = tuple[Member, ...]

PAIRED_CLASSES = 30
"""Most classes that "auto" trains by pairs, 435 of them; of more classes there is one member a class."""
START_SECONDS = 1.0
"""All quick starts together may take so long even where the time limit is less."""


def members(dataset: Dataset, ensemble: str) -> Members:
    """The parts of ``ensemble``; a single part where there are two classes only."""
    check_classes(dataset)
    if ensemble not in ENSEMBLES[1:]:
        raise UsageError(f"ensemble {ensemble!r} is unknown, choose one of {', '.join(ENSEMBLES)}")
    if ensemble == "none" or len(dataset.classes) == 2:
        return (Member("", dataset),)
    if ensemble == "rest":
        return tuple(_against_rest(dataset, c) for c in range(len(dataset.classes)))
    return tuple(_pair(dataset, a, b) for a, b in combinations(range(len(dataset.classes)), 2))


def _two_classes(dataset: Dataset, rows: IntArray, labels: IntArray, names: tuple[str, str]) -> Dataset:
    """Rows of two classes as plain integers; the quantizer stays with the whole."""
    return Dataset(
        inputs=dataset.inputs[rows],
        labels=labels,
        classes=names,
        input_low=dataset.input_low,
        input_high=dataset.input_high,
    )


def _pair(dataset: Dataset, a: int, b: int) -> Member:
    rows = np.flatnonzero((dataset.labels == a) | (dataset.labels == b))
    first, second = dataset.classes[a], dataset.classes[b]
    labels = (dataset.labels[rows] == b).astype(np.int64)
    return Member(f"{first} or {second}", _two_classes(dataset, rows, labels, (first, second)))


def _against_rest(dataset: Dataset, c: int) -> Member:
    name = dataset.classes[c]
    labels = (dataset.labels != c).astype(np.int64)
    return Member(
        f"{name} or not", _two_classes(dataset, np.arange(dataset.rows), labels, (name, f"not {name}"))
    )


def train_members(
    formulation: Formulation,
    parts: Members,
    solver: Solver,
    run: Executor,
    *,
    began: float,
    listener: Listener,
    stop: Stop,
) -> list[Trained]:
    """Start all parts, then search in all parts. The time limit counts from ``began`` and covers everything."""

    def left() -> float | None:
        return None if solver.time_limit is None else max(0.0, began + solver.time_limit - time.monotonic())

    tasks = [_Task(formulation, part, solver, start_seconds=START_SECONDS / len(parts)) for part in parts]
    started = run.map(_start, tasks, seconds=left(), listener=listener, stop=stop)
    tasks = [replace(task, start=start) for task, start in zip(tasks, started, strict=True)]
    return run.map(_search, tasks, seconds=left(), listener=listener, stop=stop)


def _named(context: Context, member: Member) -> Listener:
    """Events of a member bear its name."""
    if not member.name:
        return context.listener
    return lambda event: context.listener(replace(event, stage=f"{member.name}: {event.stage}"))


def _start(task: _Task, context: Context) -> Trained:
    listener = _named(context, task.member)
    listener(Progress("start"))
    solver = task.solver.within(context.seconds)
    if solver.time_limit is not None:
        solver = replace(solver, time_limit=max(solver.time_limit, task.start_seconds))
    return task.formulation.start(task.member.dataset, solver, listener=listener, stop=context.stop)


def _search(task: _Task, context: Context) -> Trained:
    listener = _named(context, task.member)
    solver = task.solver.within(context.seconds)
    return task.formulation.fit(
        task.member.dataset, solver, start=task.start, listener=listener, stop=context.stop
    )


def combined(dataset: Dataset, ensemble: str, networks: Sequence[Network]) -> Network:
    """One network of all members: their units side by side, block-diagonal from the second layer on."""
    if len(networks) == 1:
        layers, decision = networks[0].layers, networks[0].decision
    else:
        layers = tuple(
            _side_by_side([n.layers[depth] for n in networks], depth) for depth in _depths(networks)
        )
        decision = _decision(len(dataset.classes), ensemble)
    return Network(
        input_low=dataset.input_low,
        input_high=dataset.input_high,
        layers=layers,
        decision=decision,
        classes=dataset.classes,
        input_shape=dataset.input_shape,
        quantizer=dataset.quantizer,
    )


def _decision(classes: int, ensemble: str) -> Decision:
    return Argmax(classes) if ensemble == "rest" else Vote(classes, 2, by_margin=True)


def _depths(networks: Sequence[Network]) -> range:
    return range(len(networks[0].layers))


def _side_by_side(layers: Sequence[object], depth: int) -> Dense:
    """Members' layers of one depth as one layer; all read the inputs in the first, each its own units later."""
    dense = [layer for layer in layers if isinstance(layer, Dense)]
    assert len(dense) == len(layers)
    bias = np.concatenate([layer.bias for layer in dense])
    if depth == 0:
        return Dense(np.concatenate([layer.weights for layer in dense]), bias, dense[0].activation)
    width = sum(layer.weights.shape[1] for layer in dense)
    weights = np.zeros((len(bias), width), dtype=np.int64)
    row = column = 0
    for layer in dense:
        units, inputs = layer.weights.shape
        weights[row : row + units, column : column + inputs] = layer.weights
        row, column = row + units, column + inputs
    return Dense(weights, bias, dense[0].activation)


def named_solves(parts: Members, trained: Sequence[Trained]) -> tuple[Solve, ...]:
    """All members' records, stages bearing the members' names."""
    return tuple(
        replace(record, stage=f"{part.name}: {record.stage}" if part.name else record.stage)
        for part, one in zip(parts, trained, strict=True)
        for record in one.report.solves
    )
