"""Importance scores by mixed-integer programming (ElAraby, Wolf, Carvalho: "Optimizing ANN Architectures using MIP").

One score s in [0, 1] a unit or channel scales what the unit gives, the same on all images of a batch. Scores are
minimised while the batch keeps its classes. For an image, a unit with sum p in [L, U] and activation h, U > 0:

    h <= U v                                  rests             v in {0, 1}: the unit is active
    h >= p - (1 - s) U                        follows_its_sum
    h <= p - (1 - v) L - (1 - s) U            gated

and for U <= 0, h = 0 and L <= p <= 0. L and U are propagated from the image alone, widened by `SLACK`, so few signs
are open. The first layer's sums are known, so that what it gives is linear in its scores: it needs no variables. Mean
pools are rows, maximum pools choose one of their inputs. With scores z of the classes,

    minimise   loss_weight * mean_images (log sum exp z - z_true) + the H - 1 largest of {sum_j (s_lj - 2) / n_l}

over the H prunable layers l, all of them where H = 1; n_l is the number of units, times the size of the kernel where
the layer is a convolution. The loss is convex: tangents take the place of exponential cones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mip2mcu.errors import SolverError
from mip2mcu.mip.cuts import Cut, solve_with_cuts
from mip2mcu.mip.matrix import FloatArray, Matrix
from mip2mcu.mip.solver import Solve, Solver
from mip2mcu.progress import Listener, Stop, never, silent
from mip2mcu.prune.float_network import FloatConv, FloatNetwork, FloatPool
from mip2mcu.prune.linear import Builder, Intervals, intervals, pool_columns, rows_of
from mip2mcu.ranges import IntArray

LOSS_WEIGHT = 5.0
SLACK = 1e-5
"""By how much inputs may move, as a share of their largest magnitude."""
TANGENT_DISTANCE = 1e-4
"""How far the loss of an image may lie above its tangents."""
ROUNDS = 60
_SMALLEST = 1e-9
"""Factors below are no part of a row: HiGHS drops them."""


@dataclass(frozen=True, eq=False)
class Batch:
    """Images (rows, inputs) and their classes (rows,).

    The program's bounds hold for inputs between ``low`` and ``high`` (rows, inputs); default: `SLACK` around them.
    """

    inputs: FloatArray
    labels: IntArray
    low: FloatArray | None = None
    high: FloatArray | None = None

    @property
    def box(self) -> tuple[FloatArray, FloatArray]:
        """The ends of the inputs."""
        slack = slack_of(self.inputs)
        return (
            self.inputs - slack if self.low is None else self.low,
            self.inputs + slack if self.high is None else self.high,
        )


def slack_of(inputs: FloatArray) -> float:
    """By how much ``inputs`` may move."""
    return SLACK * max(float(np.abs(inputs).max(initial=0.0)), 1e-30)


@dataclass(frozen=True, eq=False)
class ScoreModel:
    """The program of a batch: the variables of the scores, one array a scored layer, and of the classes, (rows, c)."""

    matrix: Matrix
    scores: tuple[NDArray[np.int64], ...]
    classes: NDArray[np.int64]
    losses: NDArray[np.int64]


def score_batch(
    network: FloatNetwork,
    batch: Batch,
    solver: Solver,
    *,
    loss_weight: float = LOSS_WEIGHT,
    relaxed: bool = True,
    scored: Sequence[int] | None = None,
    stage: str = "scores",
    listener: Listener = silent,
    stop: Stop = never,
) -> tuple[tuple[FloatArray, ...], Solve]:
    """Scores of the units of each layer in ``scored`` (default: all prunable ones) on one batch.

    relaxed   the activity v may be a fraction, which leaves a linear program
    """
    model = score_model(network, batch, loss_weight=loss_weight, relaxed=relaxed, scored=scored)

    def tangents(values: FloatArray) -> list[Cut]:
        return _tangents(values[model.classes], values[model.losses], model)

    if solver.name != "highs":
        raise SolverError(f"scores are computed with HiGHS, whose rows can grow, not with {solver.name}: take highs")
    values, record = solve_with_cuts(
        model.matrix, tangents, solver, rounds=ROUNDS, stage=stage, listener=listener, stop=stop
    )
    return tuple(np.clip(values[columns], 0.0, 1.0) for columns in model.scores), record


def score_model(
    network: FloatNetwork,
    batch: Batch,
    *,
    loss_weight: float = LOSS_WEIGHT,
    relaxed: bool = True,
    scored: Sequence[int] | None = None,
) -> ScoreModel:
    """The program of `score_batch` with the first tangents of the loss, which touch it at the network's own scores."""
    scored = network.prunable if scored is None else tuple(scored)
    bounds = intervals(network, *batch.box)
    build = Builder()
    scores = {k: build.variables(network.at(k).units, 0.0, 1.0) for k in scored}
    _add_penalty(build, network, scores)
    count = len(batch.labels)
    losses = build.variables(count, cost=loss_weight / count)
    first = network.weighted[0]
    known = network.at(first).sums(network.into(first, batch.inputs)).reshape(count, -1)
    classes = np.stack([_add_image(build, network, bounds, scores, known[i], i, relaxed) for i in range(count)])
    true = classes[np.arange(count), batch.labels]
    against = build.variables(count, cost=-loss_weight / count)
    build.rows([(against, np.ones(count)), (true, -np.ones(count))], 0.0, 0.0)
    model = ScoreModel(build.matrix(), tuple(scores.values()), classes, losses)
    for cut in _tangents(network.scores(batch.inputs), np.full(count, -np.inf), model):
        build.rows([(cut.columns[None, :].astype(np.int64), cut.values[None, :])], cut.low)
    return ScoreModel(build.matrix(), model.scores, classes, losses)


def _tangents(z: FloatArray, loss: FloatArray, model: ScoreModel) -> list[Cut]:
    """Tangents to log sum exp at ``z`` (rows, classes) where ``loss`` (rows,) lies below it."""
    top = z.max(axis=1, keepdims=True)
    powers = np.exp(z - top)
    exact = np.log(powers.sum(axis=1)) + top[:, 0]
    slopes = powers / powers.sum(axis=1, keepdims=True)
    slopes[slopes < _SMALLEST] = 0.0
    return [
        Cut(
            float(exact[i] - slopes[i] @ z[i]),
            np.append(model.losses[i], model.classes[i][slopes[i] > 0]).astype(np.int32),
            np.append(1.0, -slopes[i][slopes[i] > 0]),
        )
        for i in np.flatnonzero(exact - loss > TANGENT_DISTANCE)
    ]


def _add_penalty(build: Builder, network: FloatNetwork, scores: dict[int, NDArray[np.int64]]) -> None:
    """The H - 1 largest layer terms as a linear program: count * level + what terms exceed the level by."""
    counted = {k: v for k, v in scores.items() if len(v)}
    if len(counted) == 1:
        ((k, own),) = counted.items()
        size = _size(network, k)
        paid = build.variables(1, cost=1.0)
        build.rows([(paid, np.ones(1)), (own[None, :], np.full((1, len(own)), -1.0 / size))], -2.0 * len(own) / size)
        return
    level = build.variables(1, cost=float(len(counted) - 1))
    for k, own in counted.items():
        above, size = build.variables(1, low=0.0, cost=1.0), _size(network, k)
        terms = [(above, np.ones(1)), (level, np.ones(1)), (own[None, :], np.full((1, len(own)), -1.0 / size))]
        build.rows(terms, -2.0 * len(own) / size)


def _size(network: FloatNetwork, k: int) -> int:
    layer = network.at(k)
    kernel = layer.weights.shape[2:] if isinstance(layer, FloatConv) else ()
    return int(layer.units * np.prod(kernel, dtype=np.int64))


@dataclass(frozen=True, eq=False)
class _Values:
    """What a layer gives for one image, (n,) each: ``x[column] + factor * x[score] + constant``; -1 is no term.

    What the first layer gives is linear in its scores, so that the next one needs no variables for it.
    """

    column: NDArray[np.int64]
    score: NDArray[np.int64]
    factor: FloatArray
    constant: FloatArray

    @classmethod
    def of(cls, column: NDArray[np.int64]) -> _Values:
        """The variables ``column``."""
        return cls(column, np.full(len(column), -1), np.zeros(len(column)), np.zeros(len(column)))

    @property
    def plain(self) -> bool:
        """There are variables alone."""
        return not (self.score >= 0).any() and not self.constant.any()


def _add_image(
    build: Builder,
    network: FloatNetwork,
    bounds: Intervals,
    scores: dict[int, NDArray[np.int64]],
    known: FloatArray,
    i: int,
    relaxed: bool,
) -> NDArray[np.int64]:
    """All layers for image ``i`` from the first with weights on, whose sums are ``known``: nothing before is scored.

    Returns the variables of its class scores.
    """
    first = network.weighted[0]
    if first == network.weighted[-1]:
        return build.variables(len(known), known, known)
    low, high = (end[i].reshape(-1) for end in bounds.sums[first])
    values = _gated(build, known, low, high, _scores_of(scores, network, first, len(low)), relaxed)
    for k, layer in enumerate(network.layers[first + 1 :], first + 1):
        low, high = (end[i].reshape(-1) for end in bounds.sums[k])
        if isinstance(layer, FloatPool):
            values = _add_pool(build, layer, network, k, values, bounds, i, relaxed)
            continue
        sums = _add_sums(build, network, k, values, low, high, gated=k in scores)
        if not layer.relu:
            return sums
        own = _scores_of(scores, network, k, len(low))
        values = _Values.of(_add_relu(build, sums, low, high, own, relaxed))
    raise AssertionError("the last layer of a network has no ReLU")


def _scores_of(
    scores: dict[int, NDArray[np.int64]], network: FloatNetwork, k: int, count: int
) -> NDArray[np.int64]:
    """The score of each of the ``count`` sums of layer ``k``, -1 where it has none."""
    return np.repeat(scores[k], count // network.at(k).units) if k in scores else np.full(count, -1)


def _gated(
    build: Builder, known: FloatArray, low: FloatArray, high: FloatArray, own: NDArray[np.int64], relaxed: bool
) -> _Values:
    """`_add_relu` for sums that are known: h = p - (1 - s) U where the unit is active, variables where that is open."""
    scored, unclear = own >= 0, (low < 0) & (high > 0)
    top = np.where((high > 0) & ~unclear, high, 0.0)
    factor = np.where(scored, top, 0.0)
    column = np.full(len(known), -1)
    if unclear.any():
        sums = build.variables(int(unclear.sum()), known[unclear], known[unclear])
        column[unclear] = _add_relu(build, sums, low[unclear], high[unclear], own[unclear], relaxed)
    units, at = np.unique(own, return_inverse=True)
    least = np.zeros(len(units))  # h >= 0 needs s >= 1 - p / U
    np.maximum.at(least, at[factor > 0], 1.0 - known[factor > 0] / factor[factor > 0])
    build.rows([(units[least > 0], np.ones(int((least > 0).sum())))], least[least > 0])
    return _Values(column, own, factor, np.where(top > 0, known - factor, 0.0))


def _add_sums(
    build: Builder,
    network: FloatNetwork,
    k: int,
    values: _Values,
    low: FloatArray,
    high: FloatArray,
    *,
    gated: bool,
) -> NDArray[np.int64]:
    """Variables of the sums of layer ``k``; a unit with a score that is never active keeps its sum in [L, 0]."""
    rows = rows_of(network.layers[k], network.shapes[k])
    resting = (high <= 0) & gated
    sums = build.variables(len(low), np.where(resting, low, -np.inf), np.where(resting, 0.0, np.inf))
    weights = np.where(rows.column < 0, 0.0, rows.value)
    constant = rows.constant + (weights * values.constant[rows.column]).sum(axis=1)
    terms: list[tuple[NDArray[np.int64], FloatArray]] = [(sums, -np.ones(len(sums)))]
    if (values.column >= 0).any():
        terms.append((np.where(rows.column < 0, -1, values.column[rows.column]), weights))
    if (values.score >= 0).any():
        units, place = np.unique(values.score, return_inverse=True)
        at = np.arange(len(sums))[:, None] * len(units) + place[rows.column]
        factors: FloatArray = np.bincount(
            at.ravel(), (weights * values.factor[rows.column]).ravel(), len(sums) * len(units)
        ).astype(np.float64)
        terms.append((np.broadcast_to(units, (len(sums), len(units))), factors.reshape(len(sums), len(units))))
    build.rows(terms, -constant, -constant)
    return sums


def _add_relu(
    build: Builder, sums: NDArray[np.int64], low: FloatArray, high: FloatArray, own: NDArray[np.int64], relaxed: bool
) -> NDArray[np.int64]:
    """The three rows of the module's text; ``own`` are the units' scores, -1 for a unit that has none (s = 1)."""
    top, ones = np.maximum(high, 0.0), np.ones(len(sums))
    active = build.variables(len(sums), 0.0, top)
    live, unscored = high > 0, np.where(own < 0, top, 0.0)
    a, p, s, u = active[live], sums[live], own[live], top[live]
    shift = u - unscored[live]  # (1 - s) U is U - U s, and 0 without a score
    build.rows([(a, ones[live]), (p, -ones[live]), (s, -u)], -shift)
    fixed = live & (low >= 0)  # v = 1 is best: both rows hold with equality
    open_sign = live & (low < 0)
    build.rows([(active[fixed], ones[fixed]), (sums[fixed], -ones[fixed]), (own[fixed], -top[fixed])],
               high=(unscored - top)[fixed])  # fmt: skip
    count = int(open_sign.sum())
    if count:
        on = build.variables(count, 0.0, 1.0, whole=not relaxed)
        one, u, least = np.ones(count), top[open_sign], low[open_sign]
        a, p, s = active[open_sign], sums[open_sign], own[open_sign]
        build.rows([(a, one), (on, -u)], high=0.0)
        build.rows([(a, one), (p, -one), (on, -least), (s, -u)], high=unscored[open_sign] - least - u)
    return active


def _add_pool(
    build: Builder,
    layer: FloatPool,
    network: FloatNetwork,
    k: int,
    values: _Values,
    bounds: Intervals,
    i: int,
    relaxed: bool,
) -> _Values:
    """A mean is a row, or linear as what it reads; a maximum is at least all its inputs, at most the one chosen."""
    below = pool_columns(layer, network.shapes[k])
    if layer.average:
        return _mean(build, values, below)
    column = _as_variables(build, values)
    outputs, size = below.shape
    low, high = (end[i].reshape(-1)[below] for end in bounds.into[k])
    pooled = build.variables(outputs)
    chosen = build.variables(outputs * size, 0.0, 1.0, whole=not relaxed).reshape(outputs, size)
    build.rows([(chosen, np.ones(below.shape))], 1.0, 1.0)
    for j in range(size):
        others = np.delete(high, j, axis=1).max(axis=1) if size > 1 else high[:, 0]
        room = np.maximum(others - np.maximum(low[:, j], 0.0), 0.0)
        build.rows([(pooled, np.ones(outputs)), (column[below[:, j]], -np.ones(outputs))], 0.0)
        terms = [(pooled, np.ones(outputs)), (column[below[:, j]], -np.ones(outputs)), (chosen[:, j], room)]
        build.rows(terms, high=room)
    return _Values.of(pooled)


def _mean(build: Builder, values: _Values, below: NDArray[np.int64]) -> _Values:
    """Means of windows ``below`` (outputs, size), each of one channel and so of one score."""
    score, column = values.score[below[:, 0]], np.full(len(below), -1)
    used = (values.column[below] >= 0).any(axis=1)
    if used.any():
        count, inside = int(used.sum()), values.column[below[used]]
        column[used] = build.variables(count)
        share = np.full(inside.shape, 1.0 / below.shape[1])
        build.rows([(inside, share), (column[used], -np.ones(count))], 0.0, 0.0)
    return _Values(column, score, values.factor[below].mean(axis=1), values.constant[below].mean(axis=1))


def _as_variables(build: Builder, values: _Values) -> NDArray[np.int64]:
    """Variables (n,) that equal ``values``."""
    if values.plain:
        return values.column
    count = len(values.column)
    made, ones = build.variables(count), np.ones(count)
    terms = [(made, ones), (values.column, -ones), (values.score, -values.factor)]
    build.rows(terms, values.constant, values.constant)
    return made


# ---- which images --------------------------------------------------------------------------------------------------


def unsure_batch(network: FloatNetwork, inputs: FloatArray, labels: IntArray, seed: int, tries: int = 50) -> Batch:
    """One image of each class: of ``tries`` random batches that whose correct images are least sure.

    A batch is rated by the mean of 1 - probability over the images that the network classifies correctly.
    """
    rng = np.random.default_rng(seed)
    groups = [rng.permutation(np.flatnonzero(labels == c)) for c in np.unique(labels)]
    picks = [np.array([group[t % len(group)] for group in groups]) for t in range(tries)]
    flat = np.unique(np.concatenate(picks))
    z = network.scores(inputs[flat])
    powers = np.exp(z - z.max(axis=1, keepdims=True))
    unsure = 1.0 - powers.max(axis=1) / powers.sum(axis=1)
    rating = np.where(z.argmax(axis=1) == labels[flat], unsure, np.nan)
    at = {int(row): r for row, r in zip(flat, rating, strict=True)}
    ratings = [_mean_known([at[int(row)] for row in pick]) for pick in picks]
    best = picks[int(np.argmax(ratings))]
    return Batch(inputs[best], labels[best])


def _mean_known(values: list[float]) -> float:
    known = [v for v in values if not np.isnan(v)]
    return float(np.mean(known)) if known else -1.0


def class_batch(inputs: FloatArray, labels: IntArray, c: int, images: int, seed: int) -> Batch:
    """``images`` random images of class ``c``."""
    rows = np.flatnonzero(labels == c)
    rows = np.random.default_rng([seed, c]).permutation(rows)[:images]
    return Batch(inputs[rows], labels[rows])
