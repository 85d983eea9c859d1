"""The whole way: select, remove, repair, quantise, and what each step costs in accuracy and bytes.

    float -> lossless (if asked for) -> pruned -> refitted -> fine-tuned (if asked for) -> quantised
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from numbers import Real
from typing import Any, TypeAlias

import numpy as np

from mip2mcu.dataset import UNKNOWN_LABEL, Dataset
from mip2mcu.errors import DatasetError, ModelError, UsageError
from mip2mcu.evaluation import evaluate
from mip2mcu.layers import Conv2d, Dense
from mip2mcu.mip.solver import Solve, Solver
from mip2mcu.network import Network
from mip2mcu.progress import Listener, Progress, Stop, never, silent
from mip2mcu.prune.budget import kept_units, largest, nothing_to_keep, too_narrow
from mip2mcu.prune.decoupling import Scoring, oamip
from mip2mcu.prune.float_network import FloatArray, FloatDense, FloatNetwork
from mip2mcu.prune.lossless import compressed, stability, without_constants
from mip2mcu.prune.quantise import quantise, spread_rows
from mip2mcu.prune.reconstruct import reconstruction
from mip2mcu.prune.removal import REPAIRS, pruned, removed
from mip2mcu.prune.selection import Problem, Selection, by_chance, by_magnitude, by_spread
from mip2mcu.prune.subset import best_subset
from mip2mcu.prune.training import Training, random_network, trained

Method: TypeAlias = Callable[[Problem], Selection]

METHODS: Mapping[str, tuple[Method, str]] = {
    "subset": (best_subset, "the set that least squares restores the network with best, by a program with tangents"),
    "oamip": (oamip, "scores by the program of ElAraby, Wolf and Carvalho"),
    "reconstruct": (reconstruction, "least change of the next layer's sums without any refit, proved for small layers"),
    "spread": (by_spread, "standard deviation of the activation times norm of the outgoing weights"),
    "magnitude": (by_magnitude, "norm of the incoming times norm of the outgoing weights"),
    "random": (by_chance, "at random"),
}
"""Selection methods by name, the best first, each with one line about it."""

TRANSFER_STEPS = 3000
TRANSFER_RATE = 3e-3
LARGEST_VALUE = 1e100
"""Values beyond are no network that was trained, and their squares could overflow."""
MEASURED_ROWS = 10_000
"""Most rows of the data that accuracies are measured on, spread evenly; test rows are measured all."""
PROOF_SECONDS = 1.0
"""Limit of one program that settles a unit's sign."""


@dataclass(frozen=True)
class Pruning:
    """What is wanted.

    keep       what stays: a share of each layer's units, 0..1, or a budget in words (`mip2mcu.prune.budget`)
    method     one of `METHODS`
    repair     one of `REPAIRS`
    multiple   kept units come in multiples of this, as vector kernels like them; narrower layers stay whole
    lossless   first remove what changes no output for any input in range
    scoring    of method "oamip"
    fine_tune  epochs of training after removal
    """

    keep: float | str = 0.6
    method: str = "subset"
    repair: str = "refit"
    multiple: int = 1
    lossless: bool = False
    scoring: Scoring = field(default_factory=Scoring)
    fine_tune: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.keep, str | Real) or isinstance(self.keep, bool):
            raise nothing_to_keep(self.keep)
        if self.method not in METHODS:
            raise UsageError(f"the method {self.method!r} is unknown, choose one of {', '.join(METHODS)}")
        if self.repair not in REPAIRS:
            raise UsageError(f"the repair {self.repair!r} is unknown, choose one of {', '.join(REPAIRS)}")
        if self.fine_tune < 0:
            raise UsageError(f"{self.fine_tune} epochs of fine-tuning are not possible: give a number of at least 0")
        if self.scoring.threshold is not None and self.multiple != 1:
            raise UsageError(
                f"a threshold decides how many units stay, in multiples of {self.multiple} or not: give one of them"
            )


@dataclass(frozen=True)
class Step:
    """The network after one step: its units a prunable layer, weights and biases, bytes, accuracies 0..1.

    ``accuracy`` is that on the data, on at most `MEASURED_ROWS` of their rows.
    """

    name: str
    widths: tuple[int, ...]
    parameters: int
    bytes: int
    accuracy: float
    test_accuracy: float | None


@dataclass(frozen=True, eq=False)
class Pruned:
    """The integer network, the float one that it was made from, and how it came to be.

    ``whole`` is the network that ``selection`` chooses units of.
    """

    network: Network
    floating: FloatNetwork
    selection: Selection
    whole: FloatNetwork
    steps: tuple[Step, ...]
    notes: tuple[str, ...]
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "steps": [vars(step) | {"widths": list(step.widths)} for step in self.steps],
            "solves": [_solve_dict(record) for record in self.selection.solves],
            "notes": list(self.notes),
            "seconds": self.seconds,
        }


def _solve_dict(record: Solve) -> dict[str, Any]:
    names = ("stage", "status", "objective", "bound", "gap", "seconds", "nodes", "solver", "version", "seed")
    return {name: getattr(record, name) for name in names}


def prune(
    network: FloatNetwork,
    data: Dataset,
    pruning: Pruning,
    *,
    test: Dataset | None = None,
    solver: Solver | None = None,
    seed: int = 0,
    workers: int = 1,
    listener: Listener = silent,
    stop: Stop = never,
) -> Pruned:
    """Prune and quantise ``network``, which reads the inputs of ``data`` (`fitted_to`).

    ``data`` is what is selected, refitted, fine-tuned and calibrated on; ``test`` is only measured on.
    """
    solver = Solver(time_limit=60.0) if solver is None else solver
    work = _Work(data, test, pruning, solver, seed, workers, listener, stop)
    return work.pruned(network, lambda whole: kept_units(whole, pruning.keep, pruning.multiple))


def prune_to_fit(
    network: FloatNetwork,
    data: Dataset,
    pruning: Pruning,
    most: int,
    measure: Callable[[Network], int],
    *,
    test: Dataset | None = None,
    solver: Solver | None = None,
    seed: int = 0,
    workers: int = 1,
    listener: Listener = silent,
    stop: Stop = never,
) -> Pruned:
    """`prune` with the largest share of units for which ``measure``, bytes on the chip, is at most ``most``.

    ``keep`` is not read. What units take is measured on networks of the same shape.
    """
    if pruning.scoring.threshold is not None:
        raise UsageError("a threshold decides how many units stay: give it without a limit of flash")
    solver = Solver(time_limit=60.0) if solver is None else solver
    work = _Work(data, test, pruning, solver, seed, workers, listener, stop)
    beyond = 0

    def counts_of(whole: FloatNetwork) -> tuple[int, ...]:
        def size(counts: Sequence[int]) -> int:
            listener(Progress(f"flash with {'-'.join(map(str, counts))} units"))
            return measure(quantise(removed(whole, [np.arange(count) for count in counts]), data)) + beyond

        return largest(whole, pruning.multiple, most, size, "bytes of flash")

    while True:
        result = work.pruned(network, counts_of)
        size = measure(result.network)
        if size <= most:
            return result
        if not network.prunable:
            raise UsageError(f"{most:,} bytes of flash are too few: a network without hidden layers takes {size:,}")
        beyond += size - most  # other weights, other code: rarely more than some bytes


@dataclass(frozen=True, eq=False)
class _Work:
    """What all steps of one call share."""

    data: Dataset
    test: Dataset | None
    pruning: Pruning
    solver: Solver
    seed: int
    workers: int
    listener: Listener
    stop: Stop

    def pruned(self, network: FloatNetwork, counts_of: Callable[[FloatNetwork], tuple[int, ...]]) -> Pruned:
        """All steps; ``counts_of`` says how many units of each layer stay of the network that is selected from."""
        began, pruning = time.monotonic(), self.pruning
        _check_labels(self.data, self.test)
        inputs = self.data.inputs.astype(float)
        _check_magnitudes(network, inputs)
        steps, notes = [self._measured("float", network)], [*network.notes, *_beyond(self.test)]
        if pruning.lossless:
            network, note = _compressed(network, self.data, inputs, self.solver, self.listener, self.stop)
            notes.append(note)
            steps.append(self._measured("lossless", network))
        notes += too_narrow(network.widths, pruning.multiple)
        selection = self._selected(network, inputs, counts_of)
        smaller = pruned(network, selection.kept, inputs, pruning.repair) if network.prunable else network
        steps.append(self._measured("pruned", removed(network, selection.kept)))
        if pruning.repair != "none":
            steps.append(self._measured({"fold": "folded", "refit": "refitted"}[pruning.repair], smaller))
        if pruning.fine_tune:
            training = Training(pruning.fine_tune, seed=self.seed)
            smaller = trained(smaller, inputs, self.data.labels, training, self.stop)
            steps.append(self._measured("fine-tuned", smaller))
        whole = _quantised(smaller, self.data, notes)
        steps.append(self._measured("quantised", whole))
        return Pruned(whole, smaller, selection, network, tuple(steps), tuple(notes), time.monotonic() - began)

    def _measured(self, name: str, network: FloatNetwork | Network) -> Step:
        return _measured(name, network, self.data, self.test)

    def _selected(
        self, network: FloatNetwork, inputs: FloatArray, counts_of: Callable[[FloatNetwork], tuple[int, ...]]
    ) -> Selection:
        if not network.prunable:
            return Selection(())
        asked = Problem(
            network,
            inputs,
            self.data.labels,
            counts_of(network),
            self.solver,
            seed=self.seed,
            workers=self.workers,
            listener=self.listener,
            stop=self.stop,
        )
        if self.pruning.method == "oamip":
            return oamip(asked, self.pruning.scoring)
        if self.pruning.method == "reconstruct":
            return reconstruction(asked, self.pruning.multiple)
        return METHODS[self.pruning.method][0](asked)


def transfer(
    result: Pruned,
    data: Dataset,
    epochs: int | None = None,
    *,
    initial: FloatNetwork | None = None,
    test: Dataset | None = None,
    seed: int = 0,
    listener: Listener = silent,
    stop: Stop = never,
) -> Pruned:
    """The units that ``result`` selected, trained anew on other ``data``: a mask that is transferred.

    epochs    of training; None: what makes `TRANSFER_STEPS` steps
    initial   the weights to begin with: those that the network of ``result`` was once trained from, as published, with
              the same units; None: random ones
    """
    if epochs is not None and epochs < 1:
        raise UsageError("a mask is transferred by training: give at least 1 epoch")
    _check_labels(data, test)
    began = time.monotonic()
    initial = _fresh(result.whole, data, seed) if initial is None else initial
    check_initial(initial, result.whole)
    listener(Progress(f"training on {data.rows} rows"))
    training = Training(rate=TRANSFER_RATE, seed=seed)
    epochs = max(1, round(TRANSFER_STEPS * training.batch / data.rows)) if epochs is None else epochs
    smaller = transferred(initial, result.selection, data, replace(training, epochs=epochs), stop)
    notes = [*initial.notes, *_beyond(test)]
    whole = _quantised(smaller, data, notes)
    steps = [_measured(name, made, data, test) for name, made in (("transferred", smaller), ("quantised", whole))]
    seconds = time.monotonic() - began
    return Pruned(whole, smaller, result.selection, initial, tuple(steps), tuple(notes), seconds)


def check_initial(initial: FloatNetwork, whole: FloatNetwork) -> None:
    """Raise `ModelError` where ``initial`` has other units than ``whole``, whose selection is transferred to it."""
    if initial.widths != whole.widths or initial.input_shape != whole.input_shape:
        raise ModelError(
            f"the initial network has {initial.widths} units on inputs {initial.input_shape}, the selection is of one "
            f"with {whole.widths} on {whole.input_shape}: give the one that it came from"
        )


def transferred(
    initial: FloatNetwork, selection: Selection, data: Dataset, training: Training, stop: Stop = never
) -> FloatNetwork:
    """The units of ``selection`` in ``initial``, weights to begin with, trained on ``data``."""
    return trained(removed(initial, selection.kept), data.inputs.astype(float), data.labels, training, stop)


def _fresh(network: FloatNetwork, data: Dataset, seed: int) -> FloatNetwork:
    """Random weights in the shape of ``network``, for the inputs and classes of ``data``."""
    count = data.inputs.shape[1]
    if count != prod(network.input_shape):
        raise ModelError(f"the network has {prod(network.input_shape)} inputs, the rows to transfer to have {count}")
    last, classes = network.at(network.weighted[-1]), len(data.classes)
    blank = FloatDense(np.zeros((classes, last.matrix.shape[1])), np.zeros(classes), relu=False)
    made = random_network((*network.layers[:-1], blank), network.input_shape, seed)
    return replace(made, classes=data.classes)


def _compressed(
    network: FloatNetwork, data: Dataset, inputs: FloatArray, solver: Solver, listener: Listener, stop: Stop
) -> tuple[FloatNetwork, str]:
    low, high = data.input_low.astype(float), data.input_high.astype(float)
    signs = stability(network, low, high, inputs, solver.within(PROOF_SECONDS), listener=listener, stop=stop)
    smaller = compressed(network, signs)
    inactive, active = (sum(int(layer.sum()) for layer in found) for found in (signs.inactive, signs.active))
    return smaller, (
        f"of {sum(network.widths)} units {inactive} are never active and {active} always are: "
        f"{sum(network.widths) - sum(smaller.widths)} went without any change of outputs"
    )


def _check_labels(data: Dataset, test: Dataset | None) -> None:
    for rows in (data, test):
        if rows is not None and (rows.rows == 0 or (rows.labels == UNKNOWN_LABEL).any()):
            raise DatasetError("pruning needs rows with labels: name the label column with --label")


def _check_magnitudes(network: FloatNetwork, inputs: FloatArray) -> None:
    """Raise `ModelError` where values are so large that squares of them overflow."""
    with np.errstate(all="ignore"):
        values = network.outputs(inputs[spread_rows(len(inputs), 64)])
    largest_value = max(float(np.abs(output).max()) for output in values)
    if not largest_value < LARGEST_VALUE:
        raise ModelError(
            f"the network computes values up to {largest_value:.3g} on these data, more than {LARGEST_VALUE:g}: "
            "check its weights, and --input-scale"
        )


def _beyond(test: Dataset | None) -> list[str]:
    """What is to be said about test rows beyond the range of the data."""
    if test is None or test.quantizer is None or test.raw is None:
        return []
    rows = int(test.quantizer.saturated(test.raw).any(axis=1).sum())
    return [f"{rows} of {test.rows} test rows have values beyond the range of the data, they saturate"] if rows else []


def _quantised(network: FloatNetwork, data: Dataset, notes: list[str]) -> Network:
    whole, constant = without_constants(quantise(network, data))
    if constant:
        notes.append(f"units that give one value for all inputs, folded into biases: {constant}")
    return whole


def _measured(name: str, network: FloatNetwork | Network, data: Dataset, test: Dataset | None) -> Step:
    data = data.rows_at(spread_rows(data.rows, MEASURED_ROWS))
    if isinstance(network, FloatNetwork):
        found = [None if rows is None else network.accuracy(rows.inputs, rows.labels) for rows in (data, test)]
        widths, parameters, size = network.widths, network.parameters, network.bytes
    else:
        found = [None if rows is None else evaluate(network, rows).accuracy for rows in (data, test)]
        layers = [layer for layer in network.layers if isinstance(layer, Dense | Conv2d)]
        widths = tuple(layer.units for layer in layers[:-1])
        parameters = sum(layer.weights.size + layer.units for layer in layers)
        size = sum(layer.weights.size + layer.units * (4 if layer is layers[-1] else 8) for layer in layers)
    assert found[0] is not None
    return Step(name, widths, parameters, size, found[0], found[1])
