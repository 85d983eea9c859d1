"""Ensembles: several two-class networks of any formulation, trained independently, as one `Network`.

    pairs   one member a pair of classes (a, b), a < b, on their rows alone; the rule is VOTE(2). Or one member a subset
            of p classes: VOTE(p). Ties are decided by margin, or, as published (BeMi), may stay unclassified
    rest    one member a class c against all others; the rule is ARGMAX over the members' sums
    none    one network for all classes

Members keep their order whoever trains them, so the result does not depend on the number of workers. Training goes in
two rounds: every member's quick start first, so that there is a complete network early, then every member's search.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from math import comb
from typing import TypeAlias

import numpy as np

from mip2mcu.dataset import Dataset
from mip2mcu.decisions import Argmax, Decision, Vote
from mip2mcu.errors import UsageError
from mip2mcu.layers import UNIT_LIMIT, Dense
from mip2mcu.mip.solver import Solve, Solver
from mip2mcu.network import Network
from mip2mcu.parallel import Context
from mip2mcu.progress import Listener, Progress
from mip2mcu.ranges import IntArray
from mip2mcu.train.clock import Course
from mip2mcu.train.formulation import Formulation
from mip2mcu.train.reduction import check_classes
from mip2mcu.train.trained import Trained, network_on

ENSEMBLES = ("auto", "pairs", "rest", "none")
"""Choices of the user; "auto" is what the registry names for the formulation."""
VOTES = ("margin", "strict")
"""What becomes of ties in a vote."""
MANY = 4950
"""Most members without asking: the pairs of 100 classes."""


@dataclass(frozen=True)
class Ensemble:
    """How several classes are divided among members.

    kind         one of `ENSEMBLES` but "auto"
    subset_size  classes of a member of "pairs"
    vote         "margin": ties go to the class with the largest strength; "strict": they stay unclassified
    """

    kind: str = "pairs"
    subset_size: int = 2
    vote: str = "margin"

    def __post_init__(self) -> None:
        if self.kind not in ENSEMBLES[1:]:
            raise UsageError(f"ensemble {self.kind!r} is unknown, choose one of {', '.join(ENSEMBLES)}")
        if self.vote not in VOTES:
            raise UsageError(f"vote {self.vote!r} is unknown, choose one of {', '.join(VOTES)}")
        if self.subset_size < 2:
            raise UsageError(f"a subset size of {self.subset_size} leaves nothing to decide: give one of at least 2")
        if self.kind != "pairs" and (self.subset_size, self.vote) != (2, "margin"):
            raise UsageError(f"the ensemble {self.kind!r} does not vote: a subset size or a vote goes with pairs only")

    def size(self, classes: int) -> int:
        """Number of members."""
        if self.kind == "none" or classes == 2:
            return 1
        return classes if self.kind == "rest" else comb(classes, self.subset_size)

    def members_of_a_class(self, classes: int) -> int:
        """Number of members that learn from a row."""
        count = self.size(classes)
        return count * self.subset_size // classes if self.kind == "pairs" and count > 1 else count

    def decision(self, classes: int) -> Decision:
        """The rule over all members' sums."""
        return Argmax(classes) if self.kind == "rest" else Vote(classes, self.subset_size, self.vote == "margin")


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


def members(dataset: Dataset, ensemble: Ensemble, *, many: bool = False) -> Members:
    """The parts of ``ensemble``; a single part where there are two classes only.

    Raises `UsageError` for more than `MANY` members unless ``many`` says that they are meant.
    """
    check_classes(dataset)
    classes = len(dataset.classes)
    if ensemble.kind == "pairs" and ensemble.subset_size > classes:
        raise UsageError(
            f"subsets of {ensemble.subset_size} classes cannot be made of {classes}: give a subset size of at most "
            f"{classes}"
        )
    count = ensemble.size(classes)
    if count > MANY and not many:
        raise UsageError(
            f"{classes} classes make {count:,} networks, which takes long and gives a large model: confirm it with "
            "--yes (many=True), or take --ensemble rest"
        )
    if count == 1:
        return (Member("", dataset),)
    if ensemble.kind == "rest":
        return tuple(_against_rest(dataset, c) for c in range(classes))
    return tuple(_subset(dataset, subset) for subset in combinations(range(classes), ensemble.subset_size))


def check_units(ensemble: Ensemble, classes: int, hidden: tuple[int, ...]) -> None:
    """Raise `UsageError` where all members together, of these ``hidden`` layers, have too many units in a layer."""
    count = ensemble.size(classes)
    each = ensemble.subset_size if ensemble.kind == "pairs" and ensemble.subset_size > 2 else 1
    units = count * max((each, *hidden))
    if count > 1 and units > UNIT_LIMIT:
        shown = [f"{number:,}" if number < 10**9 else f"{number:.0e}" for number in (count, units)]
        raise UsageError(
            f"{classes} classes make {shown[0]} networks with {shown[1]} units in a layer, at most {UNIT_LIMIT:,} are "
            "possible: take fewer hidden units, a smaller subset size, or --ensemble rest"
        )


def _part(dataset: Dataset, rows: IntArray, labels: IntArray, names: tuple[str, ...]) -> Dataset:
    """Rows of some classes; raw features go with them, for formulations that ask how far a sensor may be off."""
    return Dataset(
        inputs=dataset.inputs[rows],
        labels=labels,
        classes=names,
        input_low=dataset.input_low,
        input_high=dataset.input_high,
        quantizer=dataset.quantizer,
        raw=None if dataset.raw is None else dataset.raw[rows],
    )


def _subset(dataset: Dataset, subset: tuple[int, ...]) -> Member:
    rows = np.flatnonzero(np.isin(dataset.labels, subset))
    names = tuple(dataset.classes[c] for c in subset)
    labels = np.searchsorted(np.array(subset), dataset.labels[rows]).astype(np.int64)
    return Member(" or ".join(names), _part(dataset, rows, labels, names))


def _against_rest(dataset: Dataset, c: int) -> Member:
    name = dataset.classes[c]
    labels = (dataset.labels != c).astype(np.int64)
    return Member(
        f"{name} or not", _part(dataset, np.arange(dataset.rows), labels, (name, f"not {name}"))
    )


def train_members(formulation: Formulation, parts: Members, solver: Solver, course: Course) -> list[Trained]:
    """Start all parts, then search in all parts."""
    tasks = [_Task(formulation, part, solver, start_seconds=START_SECONDS / len(parts)) for part in parts]
    started = course.map(_start, tasks)
    return course.map(_search, [replace(task, start=start) for task, start in zip(tasks, started, strict=True)])


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


def combined(dataset: Dataset, ensemble: Ensemble, networks: Sequence[Network]) -> Network:
    """One network of all members: their units side by side, block-diagonal from the second layer on.

    Hidden units of the first layer that several members share are there once.
    """
    if len(networks) == 1:
        return network_on(dataset, networks[0].layers, networks[0].decision)
    layers = _shared(_side_by_side(networks), networks)
    return network_on(dataset, layers, ensemble.decision(len(dataset.classes)))


def _side_by_side(networks: Sequence[Network]) -> tuple[Dense, ...]:
    """All members' layers depth by depth; all read the inputs in the first, each its own units later."""
    depths = {len(network.layers) for network in networks}
    assert len(depths) == 1
    return tuple(_joined([_dense(network, depth) for network in networks], depth) for depth in range(depths.pop()))


def _dense(network: Network, depth: int) -> Dense:
    layer = network.layers[depth]
    assert isinstance(layer, Dense)
    return layer


def _joined(layers: Sequence[Dense], depth: int) -> Dense:
    bias = np.concatenate([layer.bias for layer in layers])
    if depth == 0:
        return Dense(np.concatenate([layer.weights for layer in layers]), bias, layers[0].activation)
    width = sum(layer.weights.shape[1] for layer in layers)
    weights = np.zeros((len(bias), width), dtype=np.int64)
    row = column = 0
    for layer in layers:
        units, inputs = layer.weights.shape
        weights[row : row + units, column : column + inputs] = layer.weights
        row, column = row + units, column + inputs
    return Dense(weights, bias, layers[0].activation)


def _shared(layers: tuple[Dense, ...], networks: Sequence[Network]) -> tuple[Dense, ...]:
    """``layers`` with equal units of the first one merged, where they belong to different members.

    The members keep their own weights for it: in the second layer they stand in different rows of one column.
    """
    if len(layers) == 1:
        return layers
    first, second = layers[:2]
    owners = np.repeat(np.arange(len(networks)), [_dense(network, 0).units for network in networks])
    kept: list[int] = []
    users: dict[tuple[bytes, int], list[tuple[int, set[int]]]] = {}
    weights = np.zeros_like(second.weights)
    for unit, owner in enumerate(owners.tolist()):
        twins = users.setdefault((first.weights[unit].tobytes(), int(first.bias[unit])), [])
        place = next((position for position, known in twins if owner not in known), None)
        if place is None:
            place = len(kept)
            kept.append(unit)
            twins.append((place, {owner}))
        else:
            next(known for position, known in twins if position == place).add(owner)
        weights[:, place] += second.weights[:, unit]
    if len(kept) == len(owners):
        return layers
    return (
        Dense(first.weights[kept], first.bias[kept], first.activation),
        Dense(weights[:, : len(kept)], second.bias, second.activation),
        *layers[2:],
    )


def member_notes(parts: Members, trained: Sequence[Trained]) -> tuple[str, ...]:
    """The notes of all members, each once, with the names of those that it is about."""
    owners: dict[str, dict[str, None]] = {}
    for part, one in zip(parts, trained, strict=True):
        for note in one.report.notes:
            owners.setdefault(note, {})[part.name] = None
    if len(parts) == 1:
        return tuple(owners)
    return tuple(
        f"{'every member' if len(names) == len(parts) else _few(list(names))}: {note}"
        for note, names in owners.items()
    )


def _few(names: Sequence[str]) -> str:
    """The first five of ``names``."""
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


def not_separated(parts: Members, trained: Sequence[Trained]) -> tuple[str, ...]:
    """A sentence about the members that do not fit their own rows, with the best errors of the worst of them."""
    wrong = [(one.report.rows - one.report.correct, part.name) for part, one in zip(parts, trained, strict=True)]
    worst = sorted((entry for entry in wrong if entry[0]), key=lambda entry: -entry[0])
    if len(parts) == 1 or not worst:
        return ()
    named = _few([f"{name} ({errors})" for errors, name in worst])
    return (f"{len(worst)} of {len(parts)} members do not fit all of their rows (rows wrong): {named}",)


def named_solves(parts: Members, trained: Sequence[Trained]) -> tuple[Solve, ...]:
    """All members' records, stages bearing the members' names."""
    return tuple(
        replace(record, stage=f"{part.name}: {record.stage}" if part.name else record.stage)
        for part, one in zip(parts, trained, strict=True)
        for record in one.report.solves
    )
