"""A first network of sign units in little time: diverse linear units, then each unit's response to all others.

1. Hidden units are linear units for different questions: the classes themselves, random halves of the classes, random
   shares of the rows. The output layer is a linear soft margin on their activations.
2. Sweeps: for each unit the errors with it on and off say on which rows it should fire. A linear unit is fitted to that
   by soft margin, its weights are searched one by one with the best threshold for each, and it is taken where the
   errors truly fall. The output layer is fitted again after each sweep.
3. For two classes the linear network itself is a candidate, handed through the layers by one unit of each.

Everything is counted in exact integers; the best of all candidates is returned.
"""

from __future__ import annotations

import time

import numpy as np

from mip2mcu.dataset import Dataset
from mip2mcu.errors import NoSolutionError
from mip2mcu.layers import Dense
from mip2mcu.mip.solver import Solver, solve_matrix
from mip2mcu.progress import Listener, Progress, Stop
from mip2mcu.ranges import IntArray
from mip2mcu.train.linear import Linear
from mip2mcu.train.margin import MarginTask, quick, relaxation, rounded
from mip2mcu.train.reduction import Reduction, WeightDomain
from mip2mcu.train.sign_network import SignNetwork, cost_of_firing, errors, least_errors

RESTARTS = 3
"""Networks that are begun from different questions."""
SWEEPS = 8
"""Most rounds over all units of one network."""
UNIT_MOVES = 25
"""Most single weights that are changed in one response."""
CLIMBED_INPUTS = 64
"""Most inputs whose weights are tried in one response."""
FITTED_ENTRIES = 400_000
"""Most matrix entries of a unit's soft margin; of more rows a sample is taken."""


def first_network(
    dataset: Dataset, reduction: Reduction, hidden: tuple[int, ...], solver: Solver, listener: Listener, stop: Stop
) -> SignNetwork:
    """The best network found; deterministic for a seed unless ``stop`` comes."""
    best: SignNetwork | None = None
    least = least_errors(reduction)
    for attempt in range(RESTARTS):
        if attempt == 0 and len(dataset.classes) == 2:
            start = _linear_chain(_linear_layer(dataset, reduction, solver, stop), hidden)
        else:
            rng = np.random.default_rng([solver.seed, attempt])
            start = _questions(reduction, hidden, rng, solver, stop)
        found = _sweep(start, reduction, solver, listener, stop)
        if best is None or errors(found, reduction) < errors(best, reduction):
            best = found
        if stop() or errors(best, reduction) <= least:
            break
    assert best is not None
    return best


def _linear_layer(
    dataset: Dataset, reduction: Reduction, solver: Solver, stop: Stop
) -> tuple[IntArray, IntArray]:
    """Weights and bias, on the reduced columns, of the linear formulation's quick start."""
    network = _linear(reduction.domain).start(dataset, solver, stop=stop).network
    layer = network.layers[0]
    assert isinstance(layer, Dense)
    return reduction.collapse(layer.weights, layer.bias)


def _linear(domain: WeightDomain) -> Linear:
    """The linear formulation over the same weights, without its links stage losing any margin."""
    return Linear(domain.bound, "binary" if domain.binary else "integer", keep=1.0)


def _linear_chain(linear: tuple[IntArray, IntArray], hidden: tuple[int, ...]) -> SignNetwork:
    """The linear two-class network with its one unit handed on through the hidden layers.

    The other units repeat it, so that binary weights, which cannot be zero, agree with it as well.
    """
    weights, bias = [np.repeat(linear[0], hidden[0], axis=0)], [np.repeat(linear[1], hidden[0])]
    for width, inputs in zip((*hidden[1:], 1), hidden, strict=True):
        weights.append(np.ones((width, inputs), dtype=np.int64))
        bias.append(np.zeros(width, dtype=np.int64))
    return SignNetwork(tuple(weights), tuple(bias))


def _questions(
    reduction: Reduction, hidden: tuple[int, ...], rng: np.random.Generator, solver: Solver, stop: Stop
) -> SignNetwork:
    """Hidden units for random questions, and an output layer that makes the most of them."""
    rows, weights, bias = reduction.rows, [], []
    high = reduction.weight_high
    for width in hidden:
        units = [
            _question(rows, reduction.counts, high, j, rng, reduction.domain, solver, stop)
            for j in range(width)
        ]
        weights.append(np.stack([w for w, _ in units]))
        bias.append(np.array([b for _, b in units], dtype=np.int64))
        rows = np.where(rows @ weights[-1].T + bias[-1] >= 0, 1, -1)
        high = np.full(width, reduction.domain.bound)
    classes = reduction.counts.shape[1]
    outputs = 1 if classes == 2 else classes
    weights.append(np.ones((outputs, hidden[-1]), dtype=np.int64))
    bias.append(np.zeros(outputs, dtype=np.int64))
    return _with_output(SignNetwork(tuple(weights), tuple(bias)), reduction, solver, stop)


def _question(
    rows: IntArray,
    counts: IntArray,
    high: IntArray,
    unit: int,
    rng: np.random.Generator,
    domain: WeightDomain,
    solver: Solver,
    stop: Stop,
) -> tuple[IntArray, int]:
    """A linear unit for one class against the rest, or for a random half of the classes, on a random share of rows."""
    classes = counts.shape[1]
    if classes > 2 and unit < classes:
        asked = np.arange(classes) == unit
    else:
        asked = np.isin(np.arange(classes), rng.permutation(classes)[: max(1, classes // 2)])
    drawn = rng.random(len(rows)) < 0.7
    wanted = (counts @ np.where(asked, 1, -1)) * drawn
    found = _fit_unit(rows, -wanted, high, domain, solver, stop)
    return found if found is not None else (high * (2 * rng.integers(0, 2, len(high)) - 1), 0)


def _fit_unit(
    rows: IntArray, cost: IntArray, high: IntArray, domain: WeightDomain, solver: Solver, stop: Stop
) -> tuple[IntArray, int] | None:
    """A unit that fires where ``cost`` (k,) is negative, by soft margin, rounding and the best threshold."""
    chosen = np.flatnonzero(cost)
    most = max(50, FITTED_ENTRIES // max(1, rows.shape[1]))
    if len(chosen) > most:
        chosen = np.sort(np.random.default_rng(solver.seed).permutation(chosen)[:most])
    if not (cost[chosen] > 0).any() or not (cost[chosen] < 0).any() or rows.shape[1] == 0:
        return None
    signs = np.where(cost[chosen] < 0, 1, -1)
    part = rows[chosen]
    distance = np.abs(part[signs > 0].mean(axis=0) - part[signs < 0].mean(axis=0)) @ high / 2
    target = np.full(len(chosen), max(1, round(0.25 * float(distance))))
    task = MarginTask(part, signs, np.abs(cost[chosen]), target, high, domain.step)
    try:
        values, _ = solve_matrix(relaxation(task), quick(solver), stop=stop)
    except NoSolutionError:
        return None
    weights = rounded(task, values[: rows.shape[1]]).weights
    return weights, best_threshold(rows @ weights, cost)[1]


def _climb(
    rows: IntArray, cost: IntArray, weights: IntArray, high: IntArray, step: int, stop: Stop
) -> tuple[IntArray, int]:
    """Change single weights, each time with the best threshold, while the cost of firing falls.

    Only rows with a cost count, and of many inputs only those that tell the rows that should fire from the others.
    """
    asked = np.flatnonzero(cost)
    rows, cost, weights = rows[asked], cost[asked], weights.copy()
    telling = np.argsort(-np.abs(cost @ rows), kind="stable")[:CLIMBED_INPUTS]
    sums = rows @ weights
    value, bias = best_threshold(sums, cost)
    for _ in range(UNIT_MOVES):
        best: tuple[int, int, int, int] | None = None
        for i in telling.tolist():
            for change in (step, -step):
                if abs(weights[i] + change) <= high[i]:
                    reached, shift = best_threshold(sums + change * rows[:, i], cost)
                    if reached < (best[0] if best else value):
                        best = (reached, shift, i, change)
        if best is None or stop():
            break
        value, bias, i, change = best
        weights[i] += change
        sums = sums + change * rows[:, i]
    return weights, bias


def best_threshold(sums: IntArray, cost: IntArray) -> tuple[int, int]:
    """Least total cost of the rows that fire, and an integer bias that attains it: ``sum + bias >= 0`` fires.

    The bias is the middle one between the sums that it separates.
    """
    if not len(sums):
        return 0, 0
    order = np.argsort(-sums, kind="stable")
    ranked = sums[order]
    ends = np.flatnonzero(np.append(ranked[:-1] != ranked[1:], True))
    totals = np.concatenate([[0], np.cumsum(cost[order])[ends]])
    best = int(np.argmin(totals))
    if best == 0:
        return int(totals[0]), -int(ranked[0]) - 1
    lowest = int(ranked[ends[best - 1]])
    if best == len(ends):
        return int(totals[best]), -lowest
    return int(totals[best]), -((lowest + int(ranked[ends[best]]) + 1) // 2)


def _sweep(
    network: SignNetwork, reduction: Reduction, solver: Solver, listener: Listener, stop: Stop
) -> SignNetwork:
    """Rounds of responses until none lowers the errors."""
    began = time.monotonic()
    least = least_errors(reduction)
    current = errors(network, reduction)
    for _ in range(SWEEPS):
        listener(Progress("start", float(current), float(least), time.monotonic() - began))
        before = current
        for layer in range(network.depth - (len(network.bias[-1]) > 1)):
            for unit in range(len(network.bias[layer])):
                if stop() or current <= least:
                    return network
                candidate = _respond(network, reduction, layer, unit, solver, stop)
                reached = errors(candidate, reduction)
                if reached < current:
                    network, current = candidate, reached
        candidate = _with_output(network, reduction, solver, stop)
        if errors(candidate, reduction) < current:
            network, current = candidate, errors(candidate, reduction)
        if current == before:
            break
    return network


def _respond(
    network: SignNetwork, reduction: Reduction, layer: int, unit: int, solver: Solver, stop: Stop
) -> SignNetwork:
    """The network with one unit refitted to what the others need of it."""
    domain = reduction.domain
    high = reduction.weight_high if layer == 0 else np.full(network.weights[layer].shape[1], domain.bound)
    cost = cost_of_firing(network, reduction, layer, unit)
    inputs = network.inputs_of(reduction.rows, layer)
    own = _climb(inputs, cost, network.weights[layer][unit], high, domain.step, stop)
    candidates = [own]
    fitted = _fit_unit(inputs, cost, high, domain, solver, stop)
    if fitted is not None:
        candidates += [fitted, _climb(inputs, cost, fitted[0], high, domain.step, stop)]
    reached = [network.with_unit(layer, unit, *candidate) for candidate in candidates]
    return min(reached, key=lambda candidate: errors(candidate, reduction))


def _with_output(network: SignNetwork, reduction: Reduction, solver: Solver, stop: Stop) -> SignNetwork:
    """The network with its output layer fitted to the last hidden activations by a linear soft margin."""
    last = network.depth - 1
    inputs = network.inputs_of(reduction.rows, last)
    if (inputs == inputs[0]).all():
        return network
    repeat = [
        np.repeat(np.arange(len(inputs)), reduction.counts[:, c]) for c in range(reduction.counts.shape[1])
    ]
    labels = np.concatenate([np.full(len(rows), c) for c, rows in enumerate(repeat)])
    data = Dataset(
        inputs=inputs[np.concatenate(repeat)],
        labels=labels,
        classes=tuple(str(c) for c in range(reduction.counts.shape[1])),
        input_low=np.full(inputs.shape[1], -1),
        input_high=np.full(inputs.shape[1], 1),
    )
    fitted = _linear(reduction.domain).start(data, solver, stop=stop).network.layers[0]
    assert isinstance(fitted, Dense)
    return network.with_layer(last, fitted.weights, fitted.bias)
