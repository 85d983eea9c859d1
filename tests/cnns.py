"""Convolutional networks for tests: random ones of every shape, and two that are always the same."""

from __future__ import annotations

from math import prod

import numpy as np

from mip2mcu.decisions import Argmax
from mip2mcu.layers import Activation, AveragePool, Conv2d, Dense, MaxPool, Requantisation
from mip2mcu.network import INPUT_LIMIT, Network
from tests.networks import requantisation


def activated(rng, make, low, high):
    """``make(activation, requantisation)`` with any activation that keeps the outputs within the limits."""
    plain = make(Activation.NONE, None)
    least, most = plain.sum_range(low, high)
    choice = rng.integers(0, 4)
    if choice == 0 and least.min() >= -INPUT_LIMIT and most.max() <= INPUT_LIMIT:
        return plain
    if choice <= 2:
        return make(Activation.RELU, requantisation(rng, plain, low, high))
    return make(Activation.SIGN, None)


def random_weights(rng, shape):
    limit = int(rng.choice([1, 3, 127, 127, 300]))
    return rng.integers(-limit, limit + 1, shape)


def random_convolution(rng, low, high):
    kind = rng.integers(0, 6)
    if kind == 0:
        kernel = low.shape[1:]
    elif kind == 1:
        kernel = (1, 1)
    else:
        kernel = tuple(int(rng.integers(1, min(side, 5 if kind < 5 else 11) + 1)) for side in low.shape[1:])
    units = int(rng.integers(1, 10))
    padded = rng.integers(0, 2) == 0
    padding = tuple(int(rng.integers(0, side)) if padded else 0 for side in kernel * 2)
    value = int(rng.choice([0, 0, 128, -7, 300]))
    stride = tuple(int(s) for s in rng.integers(1, 4, 2)) if rng.integers(0, 3) == 0 else (1, 1)
    weights, bias = random_weights(rng, (units, low.shape[0], *kernel)), rng.integers(-300, 301, units)
    return activated(rng, lambda a, r: Conv2d(weights, bias, stride, padding, value, a, r), low, high)


def random_pool(rng, low):
    window = tuple(int(rng.integers(1, min(side, 7) + 1)) for side in low.shape[1:])
    touching = rng.integers(0, 3) > 0
    stride = window if touching else tuple(int(s) for s in rng.integers(1, 4, 2))
    return AveragePool(window, stride) if low.min() >= 0 and rng.integers(0, 3) else MaxPool(window, stride)


def random_cnn(seed: int) -> Network:
    """One to four tensor layers and a dense one, determined by ``seed``."""
    rng = np.random.default_rng(seed)
    shape = (int(rng.integers(1, 4)), *(int(side) for side in rng.integers(1, 21, 2)))
    low = rng.integers(-128, 1, prod(shape)) * (rng.integers(0, 3) == 0)
    high = low + rng.integers(0, 256, prod(shape)) if rng.integers(0, 2) else low + 127
    layers, ends = [], (low.reshape(shape), high.reshape(shape))
    for _ in range(int(rng.integers(1, 5))):
        pool = bool(layers) and rng.integers(0, 3) > 0
        layers.append(random_pool(rng, ends[0]) if pool else random_convolution(rng, *ends))
        ends = layers[-1].output_range(*ends)
    layers.append(Dense(rng.integers(-3, 4, (3, ends[0].size)), rng.integers(-40, 41, 3)))
    return Network(low, high, tuple(layers), Argmax(3), ("a", "b", "c"), shape)


def pen() -> Network:
    """Three strokes on 6 x 8 points: a padded convolution with a maximum pool, a bare one with a mean pool of 3."""
    first = Conv2d(
        [[[[-1, 2, -1], [-2, 4, -2], [-1, 2, -1]]], [[[-1, -2, -1], [2, 4, 2], [-1, -2, -1]]]],
        [-40, -60],
        padding=(1, 1, 1, 1),
        padding_value=9,
        activation=Activation.RELU,
        requantisation=Requantisation([0, 0], [1700, 1650], [14, 14]),
    )
    second = Conv2d(
        [[[[3], [-2]], [[1], [5]]], [[[-4], [1]], [[0], [7]]]],
        [10, 0],
        stride=(1, 1),
        activation=Activation.RELU,
        requantisation=Requantisation([0, 0], [1200, 1000], [13, 13]),
    )
    last = Dense([[2, -3], [-1, 4], [1, 1]], [0, -20, -90])
    layers = (first, MaxPool((2, 2), (2, 2)), second, AveragePool((2, 4), (2, 4)), last)
    return Network(np.zeros(48), np.full(48, 255), layers, Argmax(3), ("down", "across", "dot"), (1, 6, 8))


def lenet(pool=MaxPool, seed: int = 0) -> Network:
    """LeNet-5 for 28 x 28 points with random weights."""
    rng = np.random.default_rng(seed)
    layers, ends = [], (np.zeros((1, 28, 28), dtype=np.int64), np.full((1, 28, 28), 255))

    def add(make, shape):
        weights = np.clip(np.round(rng.normal(0, 40, shape)), -127, 127).astype(np.int64)
        bias = rng.integers(-500, 501, shape[0])
        plain = make(weights, bias, Activation.NONE, None)
        layers.append(make(weights, bias, Activation.RELU, requantisation(rng, plain, *ends)))
        return layers[-1].output_range(*ends)

    for channels, units, padding in ((1, 6, 2), (6, 16, 0)):
        edges = (padding,) * 4
        ends = add(lambda w, b, a, r, e=edges: Conv2d(w, b, (1, 1), e, 0, a, r), (units, channels, 5, 5))
        layers.append(pool((2, 2), (2, 2)))
        ends = layers[-1].output_range(*ends)
    for inputs, units in ((400, 120), (120, 84)):
        ends = add(Dense, (units, inputs))
    layers.append(Dense(rng.integers(-127, 128, (10, 84)), rng.integers(-500, 501, 10)))
    return Network(np.zeros(784), np.full(784, 255), tuple(layers), Argmax(10), tuple("0123456789"), (1, 28, 28))
