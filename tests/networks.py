"""Random small networks of every kind of layer, decision rule and coding, for tests that compare two evaluators."""

from __future__ import annotations

from math import prod

import numpy as np
from hypothesis import strategies as st

from mip2mcu.decisions import Argmax, Sign, Vote
from mip2mcu.filters import Edges, Smooth
from mip2mcu.layers import Activation, AveragePool, Conv2d, Dense, MaxPool, Requantisation, SumPool
from mip2mcu.network import INPUT_LIMIT, Network
from mip2mcu.quantizer import Affine, Feature, OneHot, Quantizer, Thermometer, fit_affine


def decisions(classes):
    """Every decision rule over ``classes`` classes."""
    rules = [Argmax(classes)]
    if classes == 2:
        rules.append(Sign())
    for size in (2, 3):
        if size <= classes:
            rules += [Vote(classes, size), Vote(classes, size, by_margin=True)]
    return rules


@st.composite
def quantizers(draw):
    """One to four features of any coding."""
    features = []
    for i in range(draw(st.integers(1, 4))):
        low = draw(st.integers(-300, 300))
        high = low + draw(st.integers(0, 2000))
        coding = draw(
            st.sampled_from(
                [
                    fit_affine(low, high),
                    Affine(low, low + 200, pre=2),
                    Thermometer(low, low + 40, (low + 1, low + 17, low + 40)),
                    OneHot(tuple("abc")),
                ]
            )
        )
        missing = 0 if isinstance(coding, OneHot) else coding.low
        features.append(Feature(f"f{i}", coding, missing, raw_type="int16_t"))
    return Quantizer(tuple(features))


def requantisation(rng, layer, low, high):
    """A requantisation under which the sums of ``layer`` keep the limits and mostly leave 0."""
    top = layer.sum_range(low, high)[1].reshape(layer.units, -1).max(axis=1)
    bits = np.array([max(1, int(v)).bit_length() for v in top])
    pre = np.maximum(0, bits - 16) + rng.integers(0, 2, layer.units)
    shift = rng.integers(1, 12, layer.units)
    full = (255 << shift) // np.maximum(1, np.maximum(top, 1) >> pre)
    mult = np.minimum(32767, full + rng.integers(0, 3, layer.units))
    return Requantisation(pre, mult, shift)


def activated(rng, make, low, high):
    """``make(activation, requantisation)`` with an activation that keeps the outputs within the limits."""
    plain = make(Activation.NONE, None)
    least, most = plain.sum_range(low, high)
    choice = rng.integers(0, 3)
    if choice == 0 and least.min() >= -INPUT_LIMIT and most.max() <= INPUT_LIMIT:
        return plain
    if choice == 1:
        return make(Activation.RELU, requantisation(rng, plain, low, high))
    return make(Activation.SIGN, None)


def hidden_dense(rng, low, high):
    """A dense layer of one to five units."""
    units = int(rng.integers(1, 6))
    weights = rng.integers(-3, 4, (units, low.size))
    bias = rng.integers(-20, 21, units)
    return activated(rng, lambda a, r: Dense(weights, bias, a, r), low, high)


def hidden_tensor(rng, low, high):
    """A convolution, a pool or a filter over a tensor."""
    kind = rng.integers(0, 7)
    if kind == 4 and np.abs(low).max() < 2000 and high.max() < 2000:
        return SumPool((1, 2) if low.shape[2] > 1 else (1, 1), (int(rng.integers(1, 3)), 1))
    if kind == 5 and low.min() >= 0:
        return Smooth()
    if kind == 6:
        return Edges(int(rng.integers(1, 4)), int(rng.integers(0, 3)))
    if kind == 0 and min(low.shape[1:]) >= 2:
        return MaxPool((2, 2), (int(rng.integers(1, 3)), int(rng.integers(1, 3))))
    if kind == 1 and min(low.shape[1:]) >= 2 and low.min() >= 0:
        return AveragePool((2, 1), (1, int(rng.integers(1, 3))))
    rows, columns = (int(rng.integers(1, min(side, 3) + 1)) for side in low.shape[1:])
    units = int(rng.integers(1, 4))
    weights = rng.integers(-3, 4, (units, low.shape[0], rows, columns))
    bias = rng.integers(-20, 21, units)
    padding = tuple(int(rng.integers(0, side)) for side in (rows, columns, rows, columns))
    stride = (int(rng.integers(1, 3)), int(rng.integers(1, 3)))
    value = int(rng.integers(-2, 3))
    return activated(rng, lambda a, r: Conv2d(weights, bias, stride, padding, value, a, r), low, high)


@st.composite
def networks(draw):
    """A random network: up to two tensor layers, up to two hidden dense layers, any decision rule."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    classes = draw(st.integers(2, 5))
    decision = draw(st.sampled_from(decisions(classes)))
    front = draw(st.sampled_from(["quantizer", "plain", "tensor"]))
    quantizer, shape = None, (int(rng.integers(1, 7)),)
    if front == "quantizer":
        quantizer = draw(quantizers())
        shape = (quantizer.width,)
        low, high = np.zeros(shape, dtype=np.int64), quantizer.input_high
    else:
        if front == "tensor":
            shape = tuple(int(side) for side in rng.integers(1, 5, 3))
        low = rng.integers(-3, 1, prod(shape)) * draw(st.sampled_from([0, 1, 40]))
        high = low + rng.integers(0, 256, prod(shape))
    layers, ranges = [], (low.reshape(shape), high.reshape(shape))
    kinds = [hidden_tensor] * (front == "tensor") * draw(st.integers(0, 2)) + [hidden_dense] * draw(st.integers(0, 2))
    for kind in kinds:
        layers.append(kind(rng, *ranges))
        ranges = layers[-1].output_range(*ranges)
    sums = decision.sums_expected()
    layers.append(Dense(rng.integers(-2, 3, (sums, ranges[0].size)), rng.integers(-3, 4, sums)))
    return Network(low, high, tuple(layers), decision, tuple(f"class {c}" for c in range(classes)), shape, quantizer)


@st.composite
def networks_with_rows(draw, rows=6):
    """A random network with random rows of inputs, the corners of its ranges among them."""
    network = draw(networks())
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    inside = rng.integers(network.input_low, network.input_high + 1, (rows, network.inputs))
    return network, np.concatenate([inside, [network.input_low, network.input_high]])
