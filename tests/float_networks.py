"""Trained and random float networks for tests of pruning."""

from __future__ import annotations

import itertools

import numpy as np

from mip2mcu.dataset import Dataset
from mip2mcu.prune.float_network import FloatConv, FloatDense, FloatNetwork, FloatPool


def dense_network(widths=(6, 5, 4, 3), seed=0):
    """Random dense layers of ``widths``, the first of which are the inputs."""
    rng = np.random.default_rng(seed)
    layers = [
        FloatDense(rng.normal(size=(n, m)), rng.normal(size=n), relu=k < len(widths) - 2)
        for k, (m, n) in enumerate(itertools.pairwise(widths))
    ]
    return balanced(FloatNetwork(tuple(layers), (widths[0],)))


def conv_network(average=False, seed=0):
    """Two convolutions with a pool between them, then a hidden dense layer, on 1 x 8 x 8 inputs."""
    rng = np.random.default_rng(seed)
    layers = (
        FloatConv(rng.normal(size=(4, 1, 3, 3)), rng.normal(size=4), padding=(1, 1, 1, 1)),
        FloatPool((2, 2), (2, 2), average),
        FloatConv(rng.normal(size=(5, 4, 2, 2)), rng.normal(size=5)),
        FloatDense(rng.normal(size=(6, 45)), rng.normal(size=6)),
        FloatDense(rng.normal(size=(3, 6)), rng.normal(size=3), relu=False),
    )
    return balanced(FloatNetwork(layers, (1, 8, 8)))


def balanced(network):
    """The network with biases of the last layer for which no class wins everywhere on inputs in 0..15."""
    rows = np.random.default_rng(2).integers(0, 16, (200, int(np.prod(network.input_shape))))
    scores, last = network.scores(rows), network.layers[-1]
    bias = last.bias - scores.mean(axis=0)
    return network.with_layer(len(network.layers) - 1, last.with_matrix(last.matrix, bias))


def labelled_by(network, rows=200, high=15, seed=1):
    """Random integer rows in 0..high with the classes that ``network`` gives them."""
    inputs = np.random.default_rng(seed).integers(0, high + 1, (rows, int(np.prod(network.input_shape))))
    labels = network.scores(inputs).argmax(axis=1)
    classes = tuple(str(c) for c in range(network.layers[-1].units))
    return Dataset.from_arrays(inputs, labels, input_range=(0, high), classes=classes)
