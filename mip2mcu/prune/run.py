"""The whole way: select, remove, repair, quantise, and what each step costs in accuracy and bytes.

    float -> lossless (if asked for) -> pruned -> refitted -> fine-tuned (if asked for) -> quantised
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from mip2mcu.dataset import UNKNOWN_LABEL, Dataset
from mip2mcu.errors import DatasetError, UsageError
from mip2mcu.evaluation import evaluate
from mip2mcu.layers import Conv2d, Dense
from mip2mcu.mip.solver import Solve, Solver
from mip2mcu.network import Network
from mip2mcu.progress import Listener, Stop, never, silent
from mip2mcu.prune.decoupling import Scoring, oamip
from mip2mcu.prune.float_network import FloatArray, FloatNetwork
from mip2mcu.prune.lossless import compressed, stability, without_constants
from mip2mcu.prune.quantise import quantise, spread_rows
from mip2mcu.prune.reconstruct import reconstruction
from mip2mcu.prune.removal import REPAIRS, pruned, removed
from mip2mcu.prune.selection import Problem, Selection, by_chance, by_magnitude, by_spread, counts_for
from mip2mcu.prune.subset import best_subset
from mip2mcu.prune.training import Training, trained

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

FIT_TRIES = 8
MEASURED_ROWS = 10_000
"""Most rows of the data that accuracies are measured on, spread evenly; test rows are measured all."""
PROOF_SECONDS = 1.0
"""Limit of one program that settles a unit's sign."""


@dataclass(frozen=True)
class Pruning:
    """What is wanted.

    keep       share of each layer's units, 0..1
    method     one of `METHODS`
    repair     one of `REPAIRS`
    multiple   kept units come in multiples of this, as vector kernels like them
    lossless   first remove what changes no output for any input in range
    scoring    of method "oamip"
    fine_tune  epochs of training after removal
    """

    keep: float = 0.6
    method: str = "subset"
    repair: str = "refit"
    multiple: int = 1
    lossless: bool = False
    scoring: Scoring = field(default_factory=Scoring)
    fine_tune: int = 0

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise UsageError(f"the method {self.method!r} is unknown, choose one of {', '.join(METHODS)}")
        if self.repair not in REPAIRS:
            raise UsageError(f"the repair {self.repair!r} is unknown, choose one of {', '.join(REPAIRS)}")
        if self.fine_tune < 0:
            raise UsageError(f"{self.fine_tune} epochs of fine-tuning are not possible: give a number of at least 0")


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
    """The integer network, the float one that it was made from, and how it came to be."""

    network: Network
    floating: FloatNetwork
    selection: Selection
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
    began = time.monotonic()
    _check_labels(data, test)
    inputs = data.inputs.astype(float)
    steps = [_measured("float", network, data, test)]
    notes = list(network.notes)
    solver = Solver(time_limit=60.0) if solver is None else solver
    if pruning.lossless:
        network, note = _compressed(network, data, inputs, solver, listener, stop)
        notes.append(note)
        steps.append(_measured("lossless", network, data, test))
    selection, smaller = _selected(network, data, inputs, pruning, solver, seed, workers, listener, stop)
    steps.append(_measured("pruned", removed(network, selection.kept), data, test))
    if pruning.repair != "none":
        steps.append(_measured({"fold": "folded", "refit": "refitted"}[pruning.repair], smaller, data, test))
    if pruning.fine_tune:
        smaller = trained(smaller, inputs, data.labels, Training(pruning.fine_tune, seed=seed), stop)
        steps.append(_measured("fine-tuned", smaller, data, test))
    whole, constant = without_constants(quantise(smaller, data))
    if constant:
        notes.append(f"units that give one value for all inputs, folded into biases: {constant}")
    steps.append(_measured("quantised", whole, data, test))
    return Pruned(whole, smaller, selection, tuple(steps), tuple(notes), time.monotonic() - began)


def prune_to_fit(
    network: FloatNetwork,
    data: Dataset,
    pruning: Pruning,
    most: int,
    measure: Callable[[Network], int],
    **options: Any,
) -> Pruned:
    """The largest share of units for which ``measure``, bytes on the chip, is at most ``most``; ``keep`` is not read.

    ``options`` are those of `prune`. What a network takes beside its parameters is measured on the whole one.
    """
    if pruning.scoring.threshold is not None:
        raise UsageError("a threshold decides how many units stay: give it without a limit of flash")
    beside = measure(quantise(network, data)) - bytes_for(network, network.widths)
    for _ in range(FIT_TRIES):
        share = _largest_share(network, pruning.multiple, most - beside)
        result = prune(network, data, replace(pruning, keep=share), **options)
        size = measure(result.network)
        if size <= most:
            return result
        beside += size - most
    raise UsageError(f"{most} bytes of flash do not suffice: {size} bytes remain with {100 * share:.1f} % of the units")


def _largest_share(network: FloatNetwork, multiple: int, most: int) -> float:
    for percent in range(1000, 0, -5):
        try:
            counts = counts_for(network.widths, percent / 1000, multiple)
        except UsageError:
            break
        if bytes_for(network, counts) <= most:
            return percent / 1000
    smallest = bytes_for(network, [1] * len(network.widths))
    raise UsageError(
        f"the limit of flash leaves {most} bytes for parameters, even one unit a layer takes {smallest}: raise it"
    )


def bytes_for(network: FloatNetwork, counts: tuple[int, ...] | list[int]) -> int:
    """Bytes of the quantised parameters with ``counts`` units: 1 a weight, 4 a bias, 4 a requantisation."""
    units = dict(zip(network.prunable, counts, strict=True))
    total, before = 0, 1.0
    for k in network.weighted:
        layer = network.at(k)
        own = units.get(k, layer.units)
        total += round(own * layer.matrix.shape[1] * before) + own * (8 if k in units else 4)
        before = own / layer.units
    return total


def _selected(
    network: FloatNetwork,
    data: Dataset,
    inputs: FloatArray,
    pruning: Pruning,
    solver: Solver,
    seed: int,
    workers: int,
    listener: Listener,
    stop: Stop,
) -> tuple[Selection, FloatNetwork]:
    if not network.prunable:
        return Selection(()), network
    counts = counts_for(network.widths, pruning.keep, pruning.multiple)
    problem = Problem(
        network, inputs, data.labels, counts, solver, seed=seed, workers=workers, listener=listener, stop=stop
    )
    if pruning.method == "oamip":
        selection = oamip(problem, pruning.scoring)
    elif pruning.method == "reconstruct":
        selection = reconstruction(problem, pruning.multiple)
    else:
        selection = METHODS[pruning.method][0](problem)
    return selection, pruned(network, selection.kept, inputs, pruning.repair)


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


def transferred(initial: FloatNetwork, selection: Selection, data: Dataset, training: Training) -> FloatNetwork:
    """The units of ``selection``, found on other data, in ``initial``, untrained weights of that network, trained on
    ``data``: a mask that is transferred.
    """
    inputs = data.inputs.astype(float)
    return trained(removed(initial, selection.kept), inputs, data.labels, training)
