"""Auxiliary heads: a layer in the middle of a network gets a small classifier of its own, and can be scored alone.

The heads of decoupled greedy learning (Belilovsky, Eickenberg, Oyallon), as OAMIP takes them; f channels of n x n:

    mean pool to ceil(n / 4), 1 x 1 convolution f -> f, ReLU, mean pool to 2, dense 4 f -> 4 f, ReLU, dense -> classes

with biases in place of batch normalisations. Dense layers, which the published system leaves together, have only the
last of these: dense -> classes. The head alone is trained, on what the trained network gives it.
"""

from __future__ import annotations

from collections.abc import Sequence
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
STEPS = 800
RATE = 0.05
"""Of rates from 0.002 to 0.05 the one whose heads on three layers of LeNet-5 were most accurate on 2,000 training
images of MNIST that were held out."""


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
    if len(shape) != 3:
        return (_blank(prod(shape), classes, relu=False),)
    channels, sides = shape[0], shape[1:]
    first = [-(-side // 4) for side in sides]
    second = [min(2, side) for side in first]
    width = channels * prod(second)
    return (
        mean_pool_to(sides, first),
        FloatConv(np.zeros((channels, channels, 1, 1)), np.zeros(channels)),
        mean_pool_to(first, second),
        _blank(width, width, relu=True),
        _blank(width, classes, relu=False),
    )


def _blank(inputs: int, units: int, *, relu: bool) -> FloatDense:
    return FloatDense(np.zeros((units, inputs)), np.zeros(units), relu)


def mean_pool_to(sides: Sequence[int], wanted: Sequence[int]) -> FloatPool:
    """A mean pool from ``sides`` (rows, columns) to ``wanted``, by windows of one size that reach every value."""
    down, across = (side // want for side, want in zip(sides, wanted, strict=True))
    rows, columns = (
        side - (want - 1) * stride for side, want, stride in zip(sides, wanted, (down, across), strict=True)
    )
    return FloatPool((rows, columns), (down, across), average=True)


def rest(network: FloatNetwork, k: int) -> FloatNetwork:
    """The network from layer ``k`` on."""
    return replace(network, layers=network.layers[k:], input_shape=network.shapes[k])
