"""Physical removal of units, and the repair of what the rest computes without them.

    none     the units go with their outgoing weights
    fold     what each removed unit gives on average goes into the biases that read it
    refit    least squares: each layer's weights are fitted anew to the sums that the whole network had
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from mip2mcu.errors import UsageError
from mip2mcu.prune.float_network import FloatArray, FloatNetwork
from mip2mcu.ranges import IntArray

REPAIRS = ("none", "fold", "refit")
RIDGE = 1e-3
"""Pull of a refitted weight towards its old value, as a share of the mean square of what the weights meet."""
EQUATIONS = 20_000
"""Most rows of a least-squares problem; convolutions give one a position."""


def removed(network: FloatNetwork, kept: Sequence[IntArray]) -> FloatNetwork:
    """The network with the units ``kept`` (ascending indices, one array a prunable layer) and no others."""
    for k, own in zip(network.prunable, kept, strict=True):
        if len(own) == 0:
            raise UsageError(f"layer {k} would lose all of its {network.at(k).units} units: keep at least one")
        layer, after = network.at(k), network.reader(k)
        reader = network.at(after)
        outgoing = network.outgoing(k)[:, own].reshape(reader.units, -1)
        layers = list(network.layers)
        layers[k] = layer.with_matrix(layer.matrix[own], layer.bias[own])
        layers[after] = reader.with_matrix(outgoing, reader.bias)
        network = replace(network, layers=tuple(layers))
    return network


def pruned(
    network: FloatNetwork, kept: Sequence[IntArray], inputs: FloatArray, repair: str = "refit", ridge: float = RIDGE
) -> FloatNetwork:
    """`removed`, repaired on ``inputs`` (rows, inputs)."""
    if repair not in REPAIRS:
        raise UsageError(f"the repair {repair!r} is unknown, choose one of {', '.join(REPAIRS)}")
    smaller = removed(network, kept)
    if repair == "fold":
        return _folded(network, smaller, kept, inputs)
    return _refitted(network, smaller, kept, inputs, ridge) if repair == "refit" else smaller


def _folded(
    network: FloatNetwork, smaller: FloatNetwork, kept: Sequence[IntArray], inputs: FloatArray
) -> FloatNetwork:
    """Every reader's bias takes the mean of what it no longer reads."""
    for k, own, own_after in zip(network.prunable, kept, [*kept[1:], None], strict=True):
        after = network.reader(k)
        means = sampled(network, after, inputs)[0].mean(axis=0).reshape(network.at(k).units, -1)
        gone = np.setdiff1d(np.arange(network.at(k).units), own)
        lost = np.einsum("ojt,jt->o", network.outgoing(k)[:, gone], means[gone])
        layer = smaller.at(after)
        lost = lost if own_after is None else lost[own_after]
        smaller = smaller.with_layer(after, layer.with_matrix(layer.matrix, layer.bias + lost))
    return smaller


def _refitted(
    network: FloatNetwork, smaller: FloatNetwork, kept: Sequence[IntArray], inputs: FloatArray, ridge: float
) -> FloatNetwork:
    """From the first reader on, so that each layer is fitted to what those before it now give."""
    for k, own_after in zip(network.prunable, [*kept[1:], None], strict=True):
        after = network.reader(k)
        columns, target = sampled(smaller, after, inputs)[0], sampled(network, after, inputs)[1]
        target = target if own_after is None else target[:, own_after]
        problem = LeastSquares.of(columns, target)
        layer = smaller.at(after)
        matrix, bias = problem.solution(np.arange(columns.shape[1]), layer.matrix, ridge)
        smaller = smaller.with_layer(after, layer.with_matrix(matrix, bias))
    return smaller


@dataclass(frozen=True, eq=False)
class LeastSquares:
    """``minimise mean |W x + b - t|^2`` by its moments.

    gram (columns, columns) and cross (columns, targets) of the centred x and t; total is the mean square of the centred
    t, column_mean and target_mean what was centred.
    """

    gram: FloatArray
    cross: FloatArray
    total: float
    column_mean: FloatArray
    target_mean: FloatArray

    @classmethod
    def of(cls, columns: FloatArray, target: FloatArray) -> LeastSquares:
        """The moments of ``columns`` (rows, columns) and ``target`` (rows, targets)."""
        column_mean, target_mean = columns.mean(axis=0), target.mean(axis=0)
        x, t = columns - column_mean, target - target_mean
        return cls(x.T @ x / len(x), x.T @ t / len(x), float((t * t).sum() / len(x)), column_mean, target_mean)

    def ridge(self, share: float) -> float:
        """``share`` of the mean square of a column."""
        return share * max(float(np.trace(self.gram)) / len(self.gram), 1e-30)

    def solution(self, used: IntArray, towards: FloatArray, share: float) -> tuple[FloatArray, FloatArray]:
        """Weights (targets, used columns), pulled towards ``towards`` of that shape, and biases (targets,)."""
        pull = self.ridge(share)
        gram: FloatArray = self.gram[np.ix_(used, used)] + pull * np.eye(len(used))
        weights = np.asarray(np.linalg.solve(gram, self.cross[used] + pull * towards.T).T, dtype=np.float64)
        return weights, self.target_mean - weights @ self.column_mean[used]


def sampled(network: FloatNetwork, k: int, inputs: FloatArray) -> tuple[FloatArray, FloatArray]:
    """What the weights of layer ``k`` meet (equations, columns) and its sums (equations, units), on at most
    `EQUATIONS` positions spread evenly: the same ones for every network of the same shape in space.

    The sums of the last layer are centred over the classes: what is common to them decides nothing.
    """
    layer = network.at(k)
    positions = int(np.prod(network.shapes[k + 1][1:], dtype=np.int64))
    most = max(EQUATIONS // positions, min(len(inputs), 64))
    rows = np.unique(np.linspace(0, len(inputs) - 1, min(len(inputs), most)).round().astype(np.int64))
    columns = layer.columns_of(network.into(k, inputs[rows]))
    if len(columns) > 2 * EQUATIONS:
        columns = columns[:: len(columns) // EQUATIONS]
    sums = columns @ layer.matrix.T + layer.bias
    if k == network.weighted[-1]:
        sums = sums - sums.mean(axis=1, keepdims=True)
    return columns, sums
