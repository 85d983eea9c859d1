"""Networks of sign units on reduced data: forward passes and errors in exact integers.

Hidden units are +1 where their sum is >= 0, else -1. Two classes have one output sum (>= 0 is class 0), more classes
one a class (the largest wins, the lowest index on ties), as in `Sign` and `Argmax`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mip2mcu.dataset import Dataset
from mip2mcu.layers import Activation, Dense
from mip2mcu.network import Network
from mip2mcu.ranges import IntArray, exact_product
from mip2mcu.train.reduction import Reduction
from mip2mcu.train.trained import network_on


@dataclass(frozen=True, eq=False)
class SignNetwork:
    """Weights int64 (units, inputs) and bias (units,) of every layer, the output layer last."""

    weights: tuple[IntArray, ...]
    bias: tuple[IntArray, ...]

    @property
    def depth(self) -> int:
        """Number of layers, the output layer included."""
        return len(self.weights)

    def with_unit(self, layer: int, unit: int, weights: IntArray, bias: int) -> SignNetwork:
        """The same network with one unit exchanged."""
        all_weights, all_bias = list(self.weights), list(self.bias)
        all_weights[layer], all_bias[layer] = all_weights[layer].copy(), all_bias[layer].copy()
        all_weights[layer][unit], all_bias[layer][unit] = weights, bias
        return SignNetwork(tuple(all_weights), tuple(all_bias))

    def with_layer(self, layer: int, weights: IntArray, bias: IntArray) -> SignNetwork:
        """The same network with one layer exchanged."""
        all_weights, all_bias = list(self.weights), list(self.bias)
        all_weights[layer], all_bias[layer] = weights, bias
        return SignNetwork(tuple(all_weights), tuple(all_bias))

    def ordered(self) -> SignNetwork:
        """The same function with the hidden units of each layer in descending order of their bias."""
        weights, bias = list(self.weights), list(self.bias)
        for layer in range(self.depth - 1):
            order = np.argsort(-bias[layer], kind="stable")
            weights[layer], bias[layer] = weights[layer][order], bias[layer][order]
            weights[layer + 1] = weights[layer + 1][:, order]
        return SignNetwork(tuple(weights), tuple(bias))

    def sums(self, inputs: IntArray, layer: int) -> IntArray:
        """Sums of ``layer`` for its own inputs (rows, inputs)."""
        return exact_product(inputs, self.weights[layer]) + self.bias[layer]

    def inputs_of(self, rows: IntArray, layer: int) -> IntArray:
        """What ``layer`` reads, for the network's inputs ``rows``."""
        for earlier in range(layer):
            rows = np.where(self.sums(rows, earlier) >= 0, 1, -1)
        return rows

    def output_sums(self, values: IntArray, layer: int = 0) -> IntArray:
        """Sums (rows, outputs) of the last layer, from the inputs ``values`` of ``layer`` on."""
        for inner in range(layer, self.depth - 1):
            values = np.where(self.sums(values, inner) >= 0, 1, -1)
        return self.sums(values, self.depth - 1)

    def predict(self, values: IntArray, layer: int = 0) -> IntArray:
        """Classes (rows,), from the inputs ``values`` of ``layer`` on."""
        return decide(self.output_sums(values, layer))

    @property
    def hidden(self) -> tuple[int, ...]:
        """Units of each hidden layer."""
        return tuple(len(bias) for bias in self.bias[:-1])

    def used(self) -> tuple[IntArray, ...]:
        """Indices of the units of each hidden layer that have a weight, in or out, or a bias."""
        return tuple(
            np.flatnonzero(self.weights[at].any(axis=1) | (self.bias[at] != 0) | self.weights[at + 1].any(axis=0))
            for at in range(self.depth - 1)
        )

    def without(self, layer: int, unit: int) -> SignNetwork:
        """The network with a hidden unit that has no weight and no bias: it is not heard any more."""
        heard = self.weights[layer + 1].copy()
        heard[:, unit] = 0
        silent = self.with_unit(layer, unit, np.zeros_like(self.weights[layer][unit]), 0)
        return silent.with_layer(layer + 1, heard, self.bias[layer + 1])

    def narrowed(self) -> SignNetwork:
        """The same function without the hidden units that have no weight and no bias; every layer keeps one."""
        weights, bias = list(self.weights), list(self.bias)
        for layer, used in enumerate(self.used()):
            kept = used if len(used) else np.zeros(1, dtype=np.int64)
            weights[layer], bias[layer] = weights[layer][kept], bias[layer][kept]
            weights[layer + 1] = weights[layer + 1][:, kept]
        return SignNetwork(tuple(weights), tuple(bias))

    def padded(self, hidden: tuple[int, ...]) -> SignNetwork:
        """The same function with units without any weight added, up to the widths ``hidden``."""
        weights, bias = list(self.weights), list(self.bias)
        for layer, width in enumerate(hidden):
            more = width - len(bias[layer])
            weights[layer] = np.pad(weights[layer], ((0, more), (0, 0)))
            bias[layer] = np.pad(bias[layer], (0, more))
            weights[layer + 1] = np.pad(weights[layer + 1], ((0, 0), (0, more)))
        return SignNetwork(tuple(weights), tuple(bias))


def decide(sums: IntArray) -> IntArray:
    """Classes of output sums, by the rules of `Sign` and `Argmax`."""
    if sums.shape[1] == 1:
        return np.where(sums[:, 0] >= 0, 0, 1)
    return np.argmax(sums, axis=1)


def leads(sums: IntArray, true: IntArray) -> IntArray:
    """Leads (n, others) of the classes ``true`` (n,) over the others, from the next index on, cyclically.

    With two classes there is one output: its sum for class 0, the opposite for class 1.
    """
    if sums.shape[1] == 1:
        return np.where(true == 0, sums[:, 0], -sums[:, 0])[:, None]
    classes = sums.shape[1]
    others = (true[:, None] + 1 + np.arange(classes - 1)) % classes
    return np.take_along_axis(sums, true[:, None], axis=1) - np.take_along_axis(sums, others, axis=1)


def row_errors(counts: IntArray, predicted: IntArray) -> IntArray:
    """Samples behind each row (k,) that are not of its predicted class; counts (k, classes)."""
    return counts.sum(axis=1) - counts[np.arange(len(counts)), predicted]


def errors(network: SignNetwork, reduction: Reduction) -> int:
    """Training samples that ``network`` gets wrong."""
    return int(row_errors(reduction.counts, network.predict(reduction.rows)).sum())


def least_errors(reduction: Reduction) -> int:
    """Errors that no classifier avoids: equal rows with several labels."""
    return int((reduction.counts.sum(axis=1) - reduction.counts.max(axis=1)).sum())


def as_network(network: SignNetwork, reduction: Reduction, dataset: Dataset) -> Network:
    """The network on all inputs of ``dataset``."""
    first = reduction.expand(network.weights[0], network.bias[0])
    layers = [first, *zip(network.weights[1:], network.bias[1:], strict=True)]
    activations = [Activation.SIGN] * (len(layers) - 1) + [Activation.NONE]
    return network_on(dataset, [Dense(w, b, a) for (w, b), a in zip(layers, activations, strict=True)])


def from_network(network: Network, reduction: Reduction) -> SignNetwork:
    """The inverse of `as_network`."""
    dense = [layer for layer in network.layers if isinstance(layer, Dense)]
    weights, bias = reduction.collapse(dense[0].weights, dense[0].bias)
    return SignNetwork((weights, *(d.weights for d in dense[1:])), (bias, *(d.bias for d in dense[1:])))
