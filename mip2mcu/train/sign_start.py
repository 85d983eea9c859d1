"""A first network of sign units in little time: diverse linear units, then each unit's best response to all others.

1. Hidden units are linear units for different questions: random halves of the classes, random shares of the rows. The
   outputs begin at the classes' mean activations.
2. Rounds of best responses for the goal; see `mip2mcu.train.best_response`. Every other network has rounds for the
   hinge before: where errors are all alike, it still tells the way.
3. Without hidden layers there is one start: a real fit of squared hinges with a ridge, rounded.
4. For two classes the linear network itself is the first candidate, handed through the layers by one unit of each.

Everything is counted in exact integers; the best of all candidates is returned.
"""

from __future__ import annotations

import numpy as np

from mip2mcu.dataset import Dataset
from mip2mcu.layers import Dense
from mip2mcu.mip.matrix import FloatArray
from mip2mcu.mip.solver import Solver
from mip2mcu.progress import Stop
from mip2mcu.ranges import IntArray
from mip2mcu.train.best_response import Engine, best_threshold, guided, hinge_fit, roundings
from mip2mcu.train.linear import Linear
from mip2mcu.train.reduction import Reduction, WeightDomain
from mip2mcu.train.sign_network import SignNetwork

RESTARTS = 5
"""Networks that are begun from different questions; programs polish the best of them."""


def first_network(dataset: Dataset, engine: Engine, hidden: tuple[int, ...]) -> SignNetwork:
    """The best network found; deterministic for a seed unless the engine is stopped."""
    best: SignNetwork | None = None
    reduction, solver = engine.reduction, engine.solver
    least = (engine.goal.least(reduction, hidden),)
    if not hidden:
        return engine.improved(engine.tuned(outputs_alone(reduction, engine.goal.ridge)[0]))
    for attempt in range(RESTARTS):
        if attempt == 0 and len(dataset.classes) == 2:
            start = linear_chain(linear_layer(dataset, reduction, solver, engine.stop), hidden)
        else:
            start = _questions(reduction, hidden, np.random.default_rng([solver.seed, attempt]))
        if attempt % 2:
            start = engine.hinged(start)
        found = engine.improved(engine.tuned(start), programs=False)
        if best is None or engine.value(found) < engine.value(best):
            best = found
        if engine.enough(engine.value(best)) or engine.value(best) <= least:
            break
    assert best is not None
    return best if engine.enough(engine.value(best)) else engine.improved(best)


def spread(reduction: Reduction) -> int:
    """How much more a step of a weight moves the sums than for bits: four times the inputs' mean variance."""
    if not reduction.rows.size:
        return 1
    return max(1, round(4 * float(reduction.rows.var(axis=0).mean())))


def outputs_alone(reduction: Reduction, ridge: int) -> tuple[SignNetwork, int]:
    """A network without hidden layers by a real fit, and the margin target that uses the whole range of weights.

    One output for two classes, else one a class against the rest; leads of two outputs have twice the target.
    """
    rows, counts = reduction.rows, reduction.counts
    classes, domain = counts.shape[1], reduction.domain
    k, true = np.nonzero(counts)
    mean: FloatArray = np.average(rows, axis=0, weights=counts.sum(axis=1)).astype(np.float64)
    asked = [0] if classes == 2 else list(range(classes))
    centred: FloatArray = rows[k] - mean
    importance = counts[k, true].astype(np.float64)
    fits = np.stack([hinge_fit(centred, importance, np.where(true == c, 1.0, -1.0), max(ridge, 1)) for c in asked])
    top = float(np.abs(fits[:, :-1] / reduction.weight_high).max(initial=0.0)) or 1.0
    scaled = fits / top
    high = reduction.weight_high
    whole = np.rint(np.round((scaled[:, :-1] + high) / domain.step, 9)).astype(np.int64) * domain.step - high
    bias = np.rint(np.round(scaled[:, -1] - scaled[:, :-1] @ mean, 9)).astype(np.int64)
    target = max(1, round((1 if classes == 2 else 2) / top))
    return SignNetwork((np.clip(whole, -high, high),), (bias,)), target


def linear_layer(
    dataset: Dataset, reduction: Reduction, solver: Solver, stop: Stop, margin: float | None = None
) -> tuple[IntArray, IntArray]:
    """Weights and bias, on the reduced columns, of the linear formulation's quick start with this ``margin``."""
    network = _linear(reduction.domain, margin).start(dataset, solver, stop=stop).network
    layer = network.layers[0]
    assert isinstance(layer, Dense)
    return reduction.collapse(layer.weights, layer.bias)


def _linear(domain: WeightDomain, margin: float | None) -> Linear:
    """The linear formulation over the same weights, without its links stage losing any margin."""
    return Linear(domain.bound, "binary" if domain.binary else "integer", margin=margin, keep=1.0)


def linear_chain(linear: tuple[IntArray, IntArray], hidden: tuple[int, ...]) -> SignNetwork:
    """The linear two-class network with its one unit handed on through the hidden layers.

    The other units repeat it, so that binary weights, which cannot be zero, agree with it as well.
    """
    weights, bias = [np.repeat(linear[0], hidden[0], axis=0)], [np.repeat(linear[1], hidden[0])]
    for width, inputs in zip((*hidden[1:], 1), hidden, strict=True):
        weights.append(np.ones((width, inputs), dtype=np.int64))
        bias.append(np.zeros(width, dtype=np.int64))
    return SignNetwork(tuple(weights), tuple(bias))


def _questions(reduction: Reduction, hidden: tuple[int, ...], rng: np.random.Generator) -> SignNetwork:
    """Hidden units for random questions, and outputs along the classes' mean activations."""
    rows, weights, bias = reduction.rows, [], []
    high, domain = reduction.weight_high, reduction.domain
    for width in hidden:
        units = [_question(rows, reduction.counts, high, domain.step, rng) for _ in range(width)]
        weights.append(np.stack([w for w, _ in units]))
        bias.append(np.array([b for _, b in units], dtype=np.int64))
        rows = np.where(rows @ weights[-1].T + bias[-1] >= 0, 1, -1)
        high = np.full(width, domain.bound)
    means = (reduction.counts.T @ rows) / reduction.counts.sum(axis=0)[:, None]
    if len(means) == 2:
        means = means[:1] - means[1:]
    weights.append(np.stack([roundings(mean, high, domain.step)[0] for mean in means]))
    bias.append(np.zeros(len(means), dtype=np.int64))
    return SignNetwork(tuple(weights), tuple(bias))


def _question(
    rows: IntArray, counts: IntArray, high: IntArray, step: int, rng: np.random.Generator
) -> tuple[IntArray, int]:
    """A linear unit for a random half of the classes, on a random share of the rows."""
    classes = counts.shape[1]
    asked = np.isin(np.arange(classes), rng.permutation(classes)[: max(1, classes // 2)])
    cost = (counts @ np.where(asked, -1, 1)) * (rng.random(len(rows)) < 0.7)
    drawn = np.flatnonzero(cost)
    if not (cost > 0).any() or not (cost < 0).any() or rows.shape[1] == 0:
        return high * (2 * rng.integers(0, 2, len(high)) - 1), 0
    fits = roundings(guided(rows[drawn], cost[drawn]), high, step)
    weights = min(fits, key=lambda fit: best_threshold(rows @ fit, cost)[0])
    return weights, best_threshold(rows @ weights, cost)[1]
