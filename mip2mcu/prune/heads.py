"""Auxiliary heads: a layer in the middle of a network gets a small classifier of its own, and can be scored alone.

The heads of decoupled greedy learning (Belilovsky, Eickenberg, Oyallon), as OAMIP takes them; f channels of n x n:

    mean pool to ceil(n / 4), 1 x 1 convolution f -> f, ReLU, mean pool to 2, dense 4 f -> 4 f, ReLU, dense -> classes

with biases in place of batch normalisations. A dense layer of n units has the end of it: dense n -> n, ReLU, dense ->
classes. Only the head is trained, on what the trained network gives it.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod

import numpy as np

from mip2mcu.layers import Shape
from mip2mcu.progress import Stop, never
from mip2mcu.prune.float_network import FloatArray, FloatConv, FloatDense, FloatLayer, FloatNetwork, FloatPool
from mip2mcu.prune.quantise import spread_rows
from mip2mcu.prune.training import Training, random_network, trained
from mip2mcu.ranges import IntArray

ROWS = 5000
"""Most rows that a head is trained on."""
STEPS = 500
RATE = 0.005


def with_head(
    network: FloatNetwork, k: int, inputs: FloatArray, labels: IntArray, seed: int = 0, stop: Stop = never
) -> FloatNetwork:
    """Layer ``k``, the pools behind it and a head that was trained on ``inputs`` (rows, inputs) and ``labels`` (rows,).

    The result reads what layer ``k`` reads.
    """
    after = network.reader(k)
    rows = spread_rows(len(inputs), ROWS)
    blank = head_layers(network.shapes[after], network.at(network.weighted[-1]).units)
    features = network.into(after, inputs[rows]).reshape(len(rows), -1)
    start = random_network(blank, network.shapes[after], seed)
    training = Training(rate=RATE, seed=seed)
    epochs = -(-STEPS * training.batch // len(rows))
    head = trained(start, features, labels[rows], replace(training, epochs=epochs), stop)
    return FloatNetwork((*network.layers[k:after], *head.layers), network.shapes[k])


def head_layers(shape: Shape, classes: int) -> tuple[FloatLayer, ...]:
    """The layers of a head on values of ``shape``, all weights 0."""
    layers: list[FloatLayer] = []
    if len(shape) == 3:
        channels, first = shape[0], [-(-side // 4) for side in shape[1:]]
        layers = [
            mean_pool_to(shape[1:], first),
            FloatConv(np.zeros((channels, channels, 1, 1)), np.zeros(channels)),
            mean_pool_to(first, [min(2, side) for side in first]),
        ]
        shape = (channels, *(min(2, side) for side in first))
    width = prod(shape)
    last = FloatDense(np.zeros((classes, width)), np.zeros(classes), relu=False)
    return (*layers, FloatDense(np.zeros((width, width)), np.zeros(width)), last)


def mean_pool_to(sides: Shape | list[int], wanted: list[int]) -> FloatPool:
    """A mean pool from ``sides`` (rows, columns) to ``wanted``, by windows of one size that reach every value."""
    down, across = (side // want for side, want in zip(sides, wanted, strict=True))
    rows, columns = (
        side - (want - 1) * stride for side, want, stride in zip(sides, wanted, (down, across), strict=True)
    )
    return FloatPool((rows, columns), (down, across), average=True)


def rest(network: FloatNetwork, k: int) -> FloatNetwork:
    """The network from layer ``k`` on."""
    return replace(network, layers=network.layers[k:], input_shape=network.shapes[k])
