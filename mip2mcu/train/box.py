"""A box of weights: least and largest value of every weight and bias, in which a search moves.

Batch training shrinks a box around the mean of many networks, in P + 1 epochs for weights in {-P..P}:

    epoch 0        all that the domain allows
    epoch e > 0    every weight within P + 1 - e of the mean: P, P - 1, ..., 1

A column that stands for m equal inputs, or a bias, has a larger range: it may move by the same share of its own range,
rounded up. Steps are those of the domain, 2 for weights of -1 and +1.
Source: Thorbjarnarson and Yorke-Smith (2020), batch training.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from mip2mcu.ranges import IntArray
from mip2mcu.train.reduction import WeightDomain
from mip2mcu.train.sign_network import SignNetwork

ANY_BIAS = (-(2**40), 2**40)
"""Limits of a bias that has none: beyond every sum."""


@dataclass(frozen=True, eq=False)
class Box:
    """Limits of the weights (units, inputs) and biases (units,) of every layer, the output layer last."""

    weight_low: tuple[IntArray, ...]
    weight_high: tuple[IntArray, ...]
    bias_low: tuple[IntArray, ...]
    bias_high: tuple[IntArray, ...]

    def around(self, centre: SignNetwork, radius: int, domain: WeightDomain) -> Box:
        """The part of this box, whose limits are symmetric, within ``radius`` of the domain's steps of ``centre``."""

        def moved(middle: tuple[IntArray, ...], high: tuple[IntArray, ...]) -> tuple[list[IntArray], list[IntArray]]:
            reach = [-(-radius * domain.step * most // domain.bound) for most in high]
            low = [np.maximum(m - r, -h) for m, r, h in zip(middle, reach, high, strict=True)]
            return low, [np.minimum(m + r, h) for m, r, h in zip(middle, reach, high, strict=True)]

        weight_low, weight_high = moved(centre.weights, self.weight_high)
        bias_low, bias_high = moved(centre.bias, self.bias_high)
        return Box(tuple(weight_low), tuple(weight_high), tuple(bias_low), tuple(bias_high))

    def fixed_inputs(self, columns: IntArray, network: SignNetwork) -> Box:
        """The box with the first layer's weights of these ``columns`` fixed to those of ``network``."""
        low, high = self.weight_low[0].copy(), self.weight_high[0].copy()
        low[:, columns] = high[:, columns] = network.weights[0][:, columns]
        return replace(self, weight_low=(low, *self.weight_low[1:]), weight_high=(high, *self.weight_high[1:]))

    def unit(self, layer: int, unit: int) -> UnitBox:
        """The limits of one unit."""
        bias = int(self.bias_low[layer][unit]), int(self.bias_high[layer][unit])
        return UnitBox(self.weight_low[layer][unit], self.weight_high[layer][unit], bias)

    def clipped(self, network: SignNetwork) -> SignNetwork:
        """The network with every weight and bias at the nearest value of the box."""
        weights = zip(network.weights, self.weight_low, self.weight_high, strict=True)
        bias = zip(network.bias, self.bias_low, self.bias_high, strict=True)
        return SignNetwork(tuple(np.clip(*part) for part in weights), tuple(np.clip(*part) for part in bias))

    def holds(self, network: SignNetwork) -> bool:
        """True where all weights and biases lie in the box."""
        within = self.clipped(network)
        parts = zip((*network.weights, *network.bias), (*within.weights, *within.bias), strict=True)
        return all(np.array_equal(a, b) for a, b in parts)


@dataclass(frozen=True, eq=False)
class UnitBox:
    """Limits of one unit's weights, low and high (inputs,), and of its bias."""

    low: IntArray
    high: IntArray
    bias: tuple[int, int] = ANY_BIAS


def radii(bound: int, epochs: int | None) -> tuple[int, ...]:
    """Radius of each epoch after the first, in steps; None: as published, from the bound to 1.

    Fewer epochs begin nearer: the last one always has the radius 1.
    """
    return tuple(range(bound if epochs is None else epochs - 1, 0, -1))
