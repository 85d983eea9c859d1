"""Post-training quantisation: from a `FloatNetwork` to an exact integer `Network`.

    weights       int8: w = round(weight * input_step / weight_step); a weight_step a unit, one for the last layer
    sums          w @ x + b, where x are the integers of the layer before; one sum counts weight_step
    activations   y = min(255, round(sum * weight_step / output_step)), by `Requantisation` in 32-bit integers

Steps come from calibration rows: an activation's step is that of several candidates that loses least, a unit's bias
takes back what rounding its weights shifts its mean sum by.
"""

from __future__ import annotations

import numpy as np

from mip2mcu.dataset import Dataset
from mip2mcu.decisions import Argmax
from mip2mcu.errors import ModelError
from mip2mcu.layers import Activation, AveragePool, Conv2d, Dense, Layer, MaxPool, Requantisation
from mip2mcu.network import Network
from mip2mcu.prune.float_network import FloatArray, FloatDense, FloatNetwork, FloatPool, Weighted
from mip2mcu.ranges import IntArray

WEIGHT_TOP = 127
ACTIVATION_TOP = 255
BIAS_TOP = 2**26
"""Largest bias; where weights are so small that it would be larger, they are nothing beside it."""
SMALLEST_STEP = 1e-200
"""Steps below belong to units without weights and bias."""
CALIBRATION_ROWS = 512
"""Most rows that steps are measured on, spread evenly over the data."""
CLIPPED = (1.0, 0.97, 0.93, 0.88, 0.82, 0.75, 0.67, 0.58)
"""Candidates for the largest activation, as shares of the largest that calibration meets."""


def quantise(network: FloatNetwork, calibration: Dataset) -> Network:
    """The integer network nearest to ``network``, for inputs in the ranges of ``calibration``.

    Raises `ModelError` where a layer cannot be expressed, such as average pooling of negative inputs.
    """
    if calibration.rows == 0:
        raise ModelError("quantisation needs rows to calibrate with: give data with at least one")
    rows = calibration.inputs[spread_rows(calibration.rows, CALIBRATION_ROWS)]
    exact = rows.astype(np.float64).reshape(-1, *network.input_shape)
    whole = rows.reshape(-1, *network.input_shape)
    ends = tuple(v.reshape(network.input_shape) for v in (calibration.input_low, calibration.input_high))
    low, high = ends
    step, layers = 1.0, []
    for k, layer in enumerate(network.layers):
        exact = layer.forward(exact)
        made: Layer
        if isinstance(layer, FloatPool):
            made = (AveragePool if layer.average else MaxPool)(layer.window, layer.stride)
        elif layer.relu:
            made, step = _hidden(layer, step, whole, exact, low, high)
        else:
            made = _last(layer, step, whole, exact)
        layers.append(made)
        whole = made.forward(whole)
        if k < len(network.layers) - 1:
            low, high = made.output_range(low, high)
    return Network(
        input_low=calibration.input_low,
        input_high=calibration.input_high,
        layers=tuple(layers),
        decision=Argmax(len(calibration.classes)),
        classes=calibration.classes,
        input_shape=network.input_shape,
        quantizer=calibration.quantizer,
    )


def spread_rows(count: int, most: int) -> IntArray:
    """Indices of at most ``most`` rows, evenly spread over ``count``."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.int64))


def _integer_weights(layer: Weighted, step: float, weight_step: FloatArray) -> IntArray:
    return np.clip(np.rint(layer.matrix * step / weight_step[:, None]), -WEIGHT_TOP, WEIGHT_TOP).astype(np.int64)


def _build(
    layer: Weighted, matrix: IntArray, bias: IntArray, requantisation: Requantisation | None
) -> Dense | Conv2d:
    activation = Activation.NONE if requantisation is None else Activation.RELU
    if isinstance(layer, FloatDense):
        return Dense(matrix, bias, activation, requantisation)
    weights = matrix.reshape(layer.weights.shape)
    value = round(layer.padding_value) if any(layer.padding) else 0
    return Conv2d(weights, bias, layer.stride, layer.padding, value, activation, requantisation)


def _integer_bias(
    layer: Weighted, matrix: IntArray, weight_step: FloatArray, whole: IntArray, sums: FloatArray
) -> IntArray:
    """Biases for which every unit's mean sum on calibration is what it is in floating point."""
    bare = _build(layer, matrix, np.zeros(layer.units, dtype=np.int64), None).sums(whole)
    others = tuple(axis for axis in range(bare.ndim) if axis != 1)
    return np.rint(sums.mean(axis=others) / weight_step - bare.mean(axis=others)).astype(np.int64)


def _hidden(
    layer: Weighted, step: float, whole: IntArray, exact: FloatArray, low: IntArray, high: IntArray
) -> tuple[Dense | Conv2d, float]:
    """A layer with ReLU, and the step of its activations; ``exact`` are those in floating point."""
    weight_step = np.maximum(np.abs(layer.matrix).max(axis=1) * step / WEIGHT_TOP, np.abs(layer.bias) / BIAS_TOP)
    weight_step[weight_step < SMALLEST_STEP] = 1.0
    matrix = _integer_weights(layer, step, weight_step)
    bare = _build(layer, matrix, np.zeros(layer.units, dtype=np.int64), None)
    top = bare.sum_range(low, high)[1].reshape(layer.units, -1).max(axis=1)
    output_step = _activation_step(exact)
    bias = np.rint(layer.bias / weight_step).astype(np.int64)
    bias += _shift_of_active(layer, matrix, bias, weight_step, whole, exact)
    requantisation, rounding = _requantisation(weight_step / output_step, top + bias)
    return _build(layer, matrix, bias + rounding, requantisation), output_step


def _shift_of_active(
    layer: Weighted, matrix: IntArray, bias: IntArray, weight_step: FloatArray, whole: IntArray, exact: FloatArray
) -> IntArray:
    """What to add to each bias so that activations keep their mean where the unit is active in floating point."""
    sums = _build(layer, matrix, bias, None).sums(whole)
    per_unit = (1, -1) + (1,) * (sums.ndim - 2)
    others = tuple(axis for axis in range(sums.ndim) if axis != 1)
    active = exact > 0
    lost = np.where(active, exact / weight_step.reshape(per_unit) - sums, 0.0).sum(axis=others)
    return np.rint(lost / np.maximum(active.sum(axis=others), 1)).astype(np.int64)


def _activation_step(exact: FloatArray) -> float:
    """The step for which activations, clipped and rounded, have the least squared error."""
    largest = float(exact.max(initial=0.0))
    if largest <= 0:
        return 1.0 / ACTIVATION_TOP
    steps = [share * largest / ACTIVATION_TOP for share in CLIPPED]
    errors = [((np.minimum(np.rint(exact / s), ACTIVATION_TOP) * s - exact) ** 2).sum() for s in steps]
    return steps[int(np.argmin(errors))]


def _requantisation(factor: FloatArray, top: IntArray) -> tuple[Requantisation, IntArray]:
    """Multiplication of sums of at most ``top`` by ``factor``, and what the biases must add for it.

    The first shift drops bits, which rounds downwards: half of the smallest bit that is left, added to the bias, makes
    it round to the nearest. It may not lift a sum over the limit, so it is part of ``top``.
    """
    pre = np.zeros(len(top), dtype=np.int64)
    while (over := (np.maximum(top + _half(pre), 0) >> pre) > 65535).any():
        pre = pre + over
    if pre.max() > 31:
        raise ModelError(f"a sum can reach {top.max()}, too large for 32-bit requantisation: scale the inputs down")
    scaled = factor * np.exp2(pre)
    shift = np.clip(14 - np.floor(np.log2(np.maximum(scaled, 1e-300))), 1, 30).astype(np.int64)
    mult = np.clip(np.rint(scaled * np.exp2(shift)), 0, 32767).astype(np.int64)
    return Requantisation(pre, mult, shift), _half(pre)


def _half(pre: IntArray) -> IntArray:
    return np.where(pre > 0, np.int64(1) << np.maximum(pre - 1, 0), 0)


def _last(layer: Weighted, step: float, whole: IntArray, exact: FloatArray) -> Dense | Conv2d:
    """The last layer: its sums are compared with each other, so they share one step."""
    largest = float(np.abs(layer.matrix).max()) * step
    weight_step = np.full(layer.units, max(largest / WEIGHT_TOP, float(np.abs(layer.bias).max()) / BIAS_TOP))
    weight_step[weight_step < SMALLEST_STEP] = 1.0
    matrix = _integer_weights(layer, step, weight_step)
    return _build(layer, matrix, _integer_bias(layer, matrix, weight_step, whole, exact), None)
