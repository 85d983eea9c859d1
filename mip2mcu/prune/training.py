"""A small trainer in numpy: fine-tuning after removal, auxiliary heads, and examples without a deep-learning framework.

Adam on the mean softmax loss; all layers of `FloatNetwork` are differentiated.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mip2mcu.progress import Stop, never
from mip2mcu.prune.float_network import (
    FloatArray,
    FloatConv,
    FloatDense,
    FloatLayer,
    FloatNetwork,
    FloatPool,
    windows_of,
)
from mip2mcu.prune.rescaling import rescaled
from mip2mcu.ranges import IntArray


@dataclass(frozen=True)
class Training:
    """How to train.

    epochs  passes over the rows
    rate    Adam's step, falling linearly to 0
    batch   rows a step
    """

    epochs: int = 5
    rate: float = 1e-3
    batch: int = 64
    seed: int = 0


def trained(
    network: FloatNetwork, inputs: FloatArray, labels: IntArray, training: Training, stop: Stop = never
) -> FloatNetwork:
    """``network`` with its weights trained further on ``inputs`` (rows, inputs) and classes (rows,)."""
    largest = max(float(np.abs(inputs).max(initial=0.0)), 1e-30)
    unit = rescaled(network, largest, 0.0)  # inputs of at most 1 make one rate fit all layers
    inputs = inputs / largest
    rng = np.random.default_rng(training.seed)
    parameters = [p for k in unit.weighted for p in (unit.at(k).matrix.copy(), unit.at(k).bias.copy())]
    adam = _Adam(parameters)
    steps = training.epochs * -(-len(inputs) // training.batch)
    for _ in range(training.epochs):
        order = rng.permutation(len(inputs))
        for start in range(0, len(inputs), training.batch):
            rows = order[start : start + training.batch]
            slopes = _slopes(unit, inputs[rows], labels[rows])
            adam.step(slopes, training.rate * (1 - adam.steps / (steps + 1)))
            unit = _with_parameters(unit, parameters)
            if stop():
                return rescaled(unit, 1 / largest, 0.0)
    return rescaled(unit, 1 / largest, 0.0)


def random_network(layers: tuple[FloatLayer, ...], input_shape: tuple[int, ...], seed: int = 0) -> FloatNetwork:
    """A network of the shape of ``layers`` with random weights (He) and no biases, to begin a training with."""
    rng = np.random.default_rng(seed)
    fresh: list[FloatLayer] = []
    for layer in layers:
        if isinstance(layer, FloatPool):
            fresh.append(layer)
            continue
        spread = np.sqrt(2.0 / layer.matrix.shape[1])
        fresh.append(layer.with_matrix(rng.normal(0.0, spread, layer.matrix.shape), np.zeros(layer.units)))
    return FloatNetwork(tuple(fresh), input_shape)


class _Adam:
    """Adam's state for arrays that it changes in place."""

    def __init__(self, parameters: list[FloatArray]) -> None:
        self._parameters = parameters
        self._first = [np.zeros_like(p) for p in parameters]
        self._second = [np.zeros_like(p) for p in parameters]
        self.steps = 0

    def step(self, slopes: list[FloatArray], rate: float) -> None:
        """One step against ``slopes``."""
        self.steps += 1
        size = rate * np.sqrt(1 - 0.999**self.steps) / (1 - 0.9**self.steps)
        for i, slope in enumerate(slopes):
            self._first[i] += 0.1 * (slope - self._first[i])
            self._second[i] += 0.001 * (slope * slope - self._second[i])
            self._parameters[i] -= size * self._first[i] / (np.sqrt(self._second[i]) + 1e-8)


def _with_parameters(network: FloatNetwork, parameters: list[FloatArray]) -> FloatNetwork:
    pairs = zip(parameters[::2], parameters[1::2], strict=True)
    layers = list(network.layers)
    for k, (matrix, bias) in zip(network.weighted, pairs, strict=True):
        layers[k] = network.at(k).with_matrix(matrix, bias)
    return FloatNetwork(tuple(layers), network.input_shape, network.classes, network.notes)


def _slopes(network: FloatNetwork, inputs: FloatArray, labels: IntArray) -> list[FloatArray]:
    """Slopes of the mean softmax loss in the matrices and biases, layer by layer."""
    values = [inputs.reshape(-1, *network.input_shape)]
    for layer in network.layers:
        values.append(layer.forward(values[-1]))
    scores = values[-1]
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    slope = powers / powers.sum(axis=1, keepdims=True)
    slope[np.arange(len(labels)), labels] -= 1.0
    slope /= len(labels)
    found: list[FloatArray] = []
    for k in reversed(range(len(network.layers))):
        layer = network.layers[k]
        slope = slope.reshape(values[k + 1].shape)
        if isinstance(layer, FloatPool):
            slope = _through_pool(layer, values[k], values[k + 1], slope)
            continue
        if layer.relu:
            slope = slope * (values[k + 1] > 0)
        flat = slope if isinstance(layer, FloatDense) else slope.transpose(0, 2, 3, 1).reshape(-1, layer.units)
        found += [flat.sum(axis=0), flat.T @ layer.columns_of(values[k])]
        if k > 0:
            slope = _through_weights(layer, flat @ layer.matrix, values[k].shape)
    return found[::-1]


def _through_weights(layer: FloatDense | FloatConv, columns: FloatArray, shape: tuple[int, ...]) -> FloatArray:
    """Slopes of a layer's inputs from those of what its weights meet: patches overlap, their slopes add up."""
    if isinstance(layer, FloatDense):
        return columns.reshape(shape)
    top, left, bottom, right = layer.padding
    _, down, across = layer.output_shape(shape[1:])
    height, width = layer.weights.shape[2:]
    patches = columns.reshape(shape[0], down, across, shape[1], height, width)
    padded = np.zeros((shape[0], shape[1], shape[2] + top + bottom, shape[3] + left + right))
    for r in range(height):
        for c in range(width):
            rows, cols = _every(r, down, layer.stride[0]), _every(c, across, layer.stride[1])
            padded[:, :, rows, cols] += patches[..., r, c].transpose(0, 3, 1, 2)
    return padded[:, :, top : top + shape[2], left : left + shape[3]]


def _every(first: int, count: int, stride: int) -> slice:
    return slice(first, first + stride * (count - 1) + 1, stride)


def _through_pool(layer: FloatPool, into: FloatArray, given: FloatArray, slope: FloatArray) -> FloatArray:
    """Slopes of a pool's inputs; a maximum that several inputs share is shared among them."""
    windows = windows_of(into, layer.window, layer.stride)
    if layer.average:
        shares = np.full(windows.shape, 1.0 / (layer.window[0] * layer.window[1]))
    else:
        top = (windows == given[..., None, None]).astype(np.float64)
        shares = top / top.sum(axis=(4, 5), keepdims=True)
    spread = shares * slope[..., None, None]
    found = np.zeros_like(into)
    for r in range(layer.window[0]):
        for c in range(layer.window[1]):
            rows = _every(r, slope.shape[2], layer.stride[0])
            found[:, :, rows, _every(c, slope.shape[3], layer.stride[1])] += spread[..., r, c]
    return found
