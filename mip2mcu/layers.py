"""Layers of a network in exact integer arithmetic: what the generated C must reproduce bit for bit.

Every layer maps an int64 array (rows, *input_shape) to an int64 array (rows, *output_shape). Tensors are CHW.

Activations
    SIGN    +1 if sum >= 0, else -1
    RELU    requantised to an unsigned 8-bit value, see `Requantisation`
    NONE    the sum itself; for the last layer
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from math import prod
from typing import TypeAlias

import numpy as np

from mip2mcu.errors import ModelError
from mip2mcu.filters import Edges, Shape, Smooth
from mip2mcu.ranges import IntArray, exact_product, frozen, sum_range

WEIGHT_LIMIT = 2**15 - 1
"""Largest magnitude of a weight: what an int16_t holds on both sides."""
BIAS_LIMIT = 2**40
"""Largest magnitude of a bias; keeps every sum of a valid network far inside int64."""
UNIT_LIMIT = 2**16 - 1
"""Most inputs, units or tensor elements of one layer."""
PATCH_LIMIT = 2**24
"""Most values that the windows of one convolution cover, counted as often as they are read."""

_PATCH_VALUES_AT_ONCE = 2**22


class Activation(Enum):
    """What a layer does with its sums."""

    SIGN = "sign"
    RELU = "relu"
    NONE = "none"


@dataclass(frozen=True, eq=False)
class Requantisation:
    """Maps a non-negative sum to 0..255, one entry a unit or channel, in uint32_t arithmetic only.

    t = max(sum, 0) >> pre                                        t <= 65535
    y = min(255, (t * mult + (1 << (shift - 1))) >> shift)        mult <= 32767, 1 <= shift <= 30
    """

    pre: IntArray
    mult: IntArray
    shift: IntArray

    def __post_init__(self) -> None:
        for name, least, most in (("pre", 0, 31), ("mult", 0, 32767), ("shift", 1, 30)):
            values = frozen(getattr(self, name))
            object.__setattr__(self, name, values)
            if values.ndim != 1 or len(values) != len(np.atleast_1d(self.pre)):
                raise ModelError("a requantisation needs one pre, mult and shift a unit, in three lists of one length")
            if len(values) and not least <= values.min() <= values.max() <= most:
                raise ModelError(
                    f"requantisation {name} reaches {values.min()}..{values.max()}, allowed are {least}..{most}"
                )

    def apply(self, sums: IntArray) -> IntArray:
        """Requantise ``sums`` (rows, units, ...)."""
        per_unit = (1, -1) + (1,) * (sums.ndim - 2)
        pre, mult, shift = (v.reshape(per_unit) for v in (self.pre, self.mult, self.shift))
        scaled = np.maximum(sums, 0) >> pre
        return np.minimum(255, (scaled * mult + (np.int64(1) << (shift - 1))) >> shift)


def _check_parameters(weights: IntArray, bias: IntArray, dimensions: int) -> None:
    if weights.ndim != dimensions or weights.size == 0:
        raise ModelError(f"weights have shape {weights.shape}, expected {dimensions} dimensions, none of them empty")
    if bias.shape != (weights.shape[0],):
        raise ModelError(f"bias has shape {bias.shape}, expected one entry for each of {weights.shape[0]} units")
    for name, values, limit in (("weights", weights, WEIGHT_LIMIT), ("biases", bias, BIAS_LIMIT)):
        if values.min() < -limit or values.max() > limit:
            raise ModelError(f"the {name} reach {values.min()}..{values.max()}, allowed is -{limit}..{limit}")


def _check_activation(activation: Activation, requantisation: Requantisation | None, units: int) -> None:
    if (activation is Activation.RELU) != (requantisation is not None):
        raise ModelError("a RELU layer, and no other, carries a requantisation")
    if requantisation is not None and len(requantisation.pre) != units:
        raise ModelError(f"a requantisation of {len(requantisation.pre)} entries stands at a layer of {units} units")


def _activate(sums: IntArray, activation: Activation, requantisation: Requantisation | None) -> IntArray:
    if activation is Activation.SIGN:
        return np.where(sums >= 0, np.int64(1), np.int64(-1))
    if requantisation is not None:
        return requantisation.apply(sums)
    return sums


def _activation_range(
    low: IntArray, high: IntArray, activation: Activation, requantisation: Requantisation | None
) -> tuple[IntArray, IntArray]:
    """The interval of each activation; every activation is monotone, so the ends map to the ends."""
    return (
        _activate(low[None], activation, requantisation)[0],
        _activate(high[None], activation, requantisation)[0],
    )


@dataclass(frozen=True, eq=False)
class Dense:
    """``sums = weights @ x + bias``; weights (units, inputs), bias (units,). A tensor input is read flattened (CHW)."""

    weights: IntArray
    bias: IntArray
    activation: Activation = Activation.NONE
    requantisation: Requantisation | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "weights", frozen(self.weights))
        object.__setattr__(self, "bias", frozen(self.bias))
        _check_parameters(self.weights, self.bias, dimensions=2)
        _check_activation(self.activation, self.requantisation, self.units)

    @property
    def units(self) -> int:
        """Number of outputs."""
        return int(self.weights.shape[0])

    def output_shape(self, input_shape: Shape) -> Shape:
        """Shape of one row's output."""
        if prod(input_shape) != self.weights.shape[1]:
            raise ModelError(f"a dense layer has {self.weights.shape[1]} weights a unit but {prod(input_shape)} inputs")
        return (self.units,)

    def sums(self, inputs: IntArray) -> IntArray:
        """Pre-activations (rows, units)."""
        return exact_product(inputs.reshape(len(inputs), self.weights.shape[1]), self.weights) + self.bias

    def operations(self, input_shape: Shape) -> int:
        """Multiply-additions of one inference."""
        return self.units * prod(input_shape)

    def forward(self, inputs: IntArray) -> IntArray:
        """Activations (rows, units)."""
        return _activate(self.sums(inputs), self.activation, self.requantisation)

    def sum_range(self, low: IntArray, high: IntArray) -> tuple[IntArray, IntArray]:
        """Exact interval of each pre-activation for inputs in [low, high]."""
        return sum_range(self.weights, self.bias, low.reshape(-1), high.reshape(-1))

    def output_range(self, low: IntArray, high: IntArray) -> tuple[IntArray, IntArray]:
        """Exact interval of each output for inputs in [low, high]."""
        return _activation_range(*self.sum_range(low, high), self.activation, self.requantisation)


@dataclass(frozen=True, eq=False)
class Conv2d:
    """2-D convolution (cross-correlation): weights (out, in, kernel rows, kernel columns), bias (out,).

    ``padding`` is (top, left, bottom, right) and filled with ``padding_value``, the input's zero-point.
    """

    weights: IntArray
    bias: IntArray
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    padding_value: int = 0
    activation: Activation = Activation.NONE
    requantisation: Requantisation | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "weights", frozen(self.weights))
        object.__setattr__(self, "bias", frozen(self.bias))
        _check_parameters(self.weights, self.bias, dimensions=4)
        _check_activation(self.activation, self.requantisation, self.units)
        _check_window(self.weights.shape[2:], self.stride)
        kernel = self.weights.shape[2:]
        if len(self.padding) != 4 or not all(0 <= p < side for p, side in zip(self.padding, kernel * 2, strict=True)):
            raise ModelError(
                f"padding {self.padding} is not (top, left, bottom, right), each below the kernel's sides {kernel}"
            )
        if abs(self.padding_value) > WEIGHT_LIMIT:
            raise ModelError(f"padding value {self.padding_value} lies beyond {WEIGHT_LIMIT}")

    @property
    def units(self) -> int:
        """Number of output channels."""
        return int(self.weights.shape[0])

    def output_shape(self, input_shape: Shape) -> Shape:
        """Shape (channels, rows, columns) of one row's output."""
        if len(input_shape) != 3 or input_shape[0] != self.weights.shape[1]:
            raise ModelError(
                f"a convolution over {self.weights.shape[1]} channels has inputs of shape {input_shape}, "
                "expected (channels, rows, columns)"
            )
        top, left, bottom, right = self.padding
        padded = (input_shape[1] + top + bottom, input_shape[2] + left + right)
        down, across = _window_counts(padded, self.weights.shape[2:], self.stride)
        covered = down * across * self.weights[0].size
        if covered > PATCH_LIMIT:
            raise ModelError(f"the windows of a convolution cover {covered} values, at most {PATCH_LIMIT} are possible")
        return (self.units, down, across)

    def operations(self, input_shape: Shape) -> int:
        """Multiply-additions of one inference."""
        return prod(self.output_shape(input_shape)) * self.weights[0].size

    def _padded(self, inputs: IntArray) -> IntArray:
        top, left, bottom, right = self.padding
        return np.pad(
            inputs, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=np.int64(self.padding_value)
        )

    def sums(self, inputs: IntArray) -> IntArray:
        """Pre-activations (rows, channels, rows, columns)."""
        shape = self.output_shape(inputs.shape[1:])
        sums = np.empty((len(inputs), *shape), dtype=np.int64)
        step = max(1, _PATCH_VALUES_AT_ONCE // (shape[1] * shape[2] * self.weights[0].size))
        for start in range(0, len(inputs), step):
            sums[start : start + step] = self._sums_at_once(inputs[start : start + step])
        return sums

    def _sums_at_once(self, inputs: IntArray) -> IntArray:
        """The same in one product, which needs memory for every window of every row."""
        windows = _windows(self._padded(inputs), self.weights.shape[2:], self.stride)
        count, _, down, across = windows.shape[:4]
        patches = windows.transpose(0, 2, 3, 1, 4, 5).reshape(count * down * across, -1)
        sums = exact_product(patches, self.weights.reshape(self.units, -1)) + self.bias
        return sums.reshape(count, down, across, self.units).transpose(0, 3, 1, 2)

    def forward(self, inputs: IntArray) -> IntArray:
        """Activations, in the shape of the sums."""
        return _activate(self.sums(inputs), self.activation, self.requantisation)

    def sum_range(self, low: IntArray, high: IntArray) -> tuple[IntArray, IntArray]:
        """Exact interval of each pre-activation for inputs in [low, high]."""
        positive = Conv2d(np.maximum(self.weights, 0), self.bias, self.stride, self.padding, self.padding_value)
        negative = Conv2d(
            np.minimum(self.weights, 0), np.zeros_like(self.bias), self.stride, self.padding, self.padding_value
        )
        below, above = low[None], high[None]
        return (
            (positive.sums(below) + negative.sums(above))[0],
            (positive.sums(above) + negative.sums(below))[0],
        )

    def output_range(self, low: IntArray, high: IntArray) -> tuple[IntArray, IntArray]:
        """Exact interval of each output for inputs in [low, high]."""
        return _activation_range(*self.sum_range(low, high), self.activation, self.requantisation)


@dataclass(frozen=True, eq=False)
class _Pool:
    """What all pooling layers share: windows a stride apart, (rows, columns) each."""

    window: tuple[int, int]
    stride: tuple[int, int]

    def __post_init__(self) -> None:
        _check_window(self.window, self.stride)

    def output_shape(self, input_shape: Shape) -> Shape:
        """Shape (channels, rows, columns) of one row's output."""
        return _pooled_shape(input_shape, self.window, self.stride)

    def operations(self, input_shape: Shape) -> int:
        """Values that the windows cover in one inference."""
        return prod(self.output_shape(input_shape)) * prod(self.window)


@dataclass(frozen=True, eq=False)
class MaxPool(_Pool):
    """Largest value of each window, channel by channel; windows that do not fit are dropped."""

    def forward(self, inputs: IntArray) -> IntArray:
        """Maxima, one a window."""
        return _windows(inputs, self.window, self.stride).max(axis=(4, 5))

    def windows(self, inputs: IntArray) -> IntArray:
        """The values of each window (rows, channels, rows, columns, values)."""
        return _windows(inputs, self.window, self.stride).reshape(
            len(inputs), *self.output_shape(inputs.shape[1:]), prod(self.window)
        )

    def output_range(self, low: IntArray, high: IntArray) -> tuple[IntArray, IntArray]:
        """Exact interval of each output for inputs in [low, high]."""
        return self.forward(low[None])[0], self.forward(high[None])[0]


@dataclass(frozen=True, eq=False)
class AveragePool(_Pool):
    """Rounded mean of each window of non-negative values: ``(sum + area // 2) // area``, halves upwards."""

    def forward(self, inputs: IntArray) -> IntArray:
        """Means, one a window."""
        divisor = self.divisor(inputs.shape[1:])
        return (self.totals(inputs) + divisor // 2) // divisor

    def totals(self, inputs: IntArray) -> IntArray:
        """Sums, one a window."""
        return _windows(inputs, self.window, self.stride).sum(axis=(4, 5))

    def divisor(self, _input_shape: Shape) -> int:
        """What `totals` are divided by."""
        return prod(self.window)

    def output_range(self, low: IntArray, high: IntArray) -> tuple[IntArray, IntArray]:
        """Exact interval of each output for inputs in [low, high]; refuses negative inputs."""
        if low.min() < 0:
            raise ModelError(f"average pooling rounds non-negative values only, its inputs reach {low.min()}")
        return self.forward(low[None])[0], self.forward(high[None])[0]


@dataclass(frozen=True, eq=False)
class SumPool(_Pool):
    """Sum of each window, channel by channel; windows that do not fit are dropped."""

    def forward(self, inputs: IntArray) -> IntArray:
        """Sums, one a window."""
        return _windows(inputs, self.window, self.stride).sum(axis=(4, 5))

    def output_range(self, low: IntArray, high: IntArray) -> tuple[IntArray, IntArray]:
        """Exact interval of each output for inputs in [low, high]."""
        return self.forward(low[None])[0], self.forward(high[None])[0]


Layer: TypeAlias = Dense | Conv2d | MaxPool | AveragePool | SumPool | Smooth | Edges


def _check_window(window: Shape, stride: Shape) -> None:
    if len(window) != 2 or len(stride) != 2 or not all(1 <= side < 256 for side in (*window, *stride)):
        raise ModelError(f"window {tuple(window)} and stride {tuple(stride)} must be pairs of numbers of 1..255")


def _window_counts(extent: Shape, window: Shape, stride: Shape) -> Shape:
    counts = tuple((e - w) // s + 1 for e, w, s in zip(extent, window, stride, strict=True))
    if any(e < w for e, w in zip(extent, window, strict=True)):
        raise ModelError(f"a window of {tuple(window)} does not fit into {tuple(extent)} rows and columns")
    return counts


def _windows(inputs: IntArray, window: Shape, stride: Shape) -> IntArray:
    """A view (rows, channels, down, across, window rows, window columns) of all windows."""
    view = np.lib.stride_tricks.sliding_window_view(inputs, tuple(window), axis=(2, 3))
    return view[:, :, :: stride[0], :: stride[1]]


def _pooled_shape(input_shape: Shape, window: Shape, stride: Shape) -> Shape:
    if len(input_shape) != 3:
        raise ModelError(f"pooling needs inputs of shape (channels, rows, columns), not {input_shape}")
    return (input_shape[0], *_window_counts(input_shape[1:], window, stride))
