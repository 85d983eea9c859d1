"""Units that change no score are removed from a network: the scores of every input stay what they were.

A hidden unit whose sum has one sign over the whole input box, or over all +-1 of the layer before, is constant; a unit
without an outgoing weight is not heard. A constant h enters the next layer's sums as ``weight * h``, which its bias
takes over. Every layer keeps one unit, so the depth stays.
Source: Thorbjarnarson and Yorke-Smith (2020), where units whose weights are all zero are stripped.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mip2mcu.layers import Activation, Dense
from mip2mcu.network import Network
from mip2mcu.ranges import IntArray


def stripped(network: Network) -> Network:
    """The same function with fewer units; ``network`` must be dense layers of sign units and one of sums."""
    layers = [layer for layer in network.layers if isinstance(layer, Dense)]
    assert len(layers) == len(network.layers)
    while True:
        smaller = _round(layers, network.input_low, network.input_high)
        if [len(layer.bias) for layer in smaller] == [len(layer.bias) for layer in layers]:
            return replace(network, layers=tuple(layers))
        layers = smaller


def _round(layers: list[Dense], low: IntArray, high: IntArray) -> list[Dense]:
    """One pass from the first layer to the last."""
    layers = list(layers)
    for at in range(len(layers) - 1):
        layer, following = layers[at], layers[at + 1]
        assert layer.activation is Activation.SIGN
        least, most = _range(layer, low, high)
        constant = np.where(least >= 0, 1, np.where(most < 0, -1, 0))
        drop = (constant != 0) | ~following.weights.any(axis=0)
        drop[np.argmin(drop)] = False  # the first unit that is kept anyway, or the first of all
        shift = following.weights[:, drop] @ constant[drop]
        layers[at] = Dense(layer.weights[~drop], layer.bias[~drop], layer.activation)
        layers[at + 1] = Dense(following.weights[:, ~drop], following.bias + shift, following.activation)
        low, high = np.full((~drop).sum(), -1), np.full((~drop).sum(), 1)
    return layers


def _range(layer: Dense, low: IntArray, high: IntArray) -> tuple[IntArray, IntArray]:
    """Least and largest sum of each unit over the box [low, high]."""
    plus: IntArray = np.maximum(layer.weights, 0)
    minus: IntArray = np.minimum(layer.weights, 0)
    return plus @ low + minus @ high + layer.bias, plus @ high + minus @ low + layer.bias
