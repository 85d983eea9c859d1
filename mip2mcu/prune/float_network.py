"""`FloatNetwork`: a trained ReLU network in floating point, as pruning and quantisation read it.

Every layer maps float64 (rows, *input shape) to (rows, *output shape). Tensors are CHW; a dense layer reads a tensor
flattened. The inputs are the integers of a `Dataset`: what a network expects instead (pixels divided by 255,
standardised columns) is folded into its first layer by `mip2mcu.prune.rescaling`.

Weighted layers (`FloatDense`, `FloatConv`) share one view, which pruning works on: ``matrix`` (units, columns) holds
the weights of a unit in a row, `columns_of` the values that they meet, one row a position. Columns are ordered by the
units of the layer before: its unit j owns columns ``j * taps .. (j + 1) * taps - 1``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mip2mcu.errors import ModelError
from mip2mcu.layers import UNIT_LIMIT, Shape
from mip2mcu.ranges import IntArray

FloatArray: TypeAlias = NDArray[np.float64]

VALUES_AT_ONCE = 2**22
"""Most values of a tensor that pass through a network at a time, so that memory stays bounded."""


def _fixed(values: ArrayLike, what: str, dimensions: int) -> FloatArray:
    array = np.array(values, dtype=np.float64)
    if array.ndim != dimensions or array.size == 0:
        raise ModelError(f"{what} have shape {array.shape}, expected {dimensions} dimensions, none of them empty")
    if not np.isfinite(array).all():
        raise ModelError(f"{what} hold NaN or infinite values: clean them first")
    array.setflags(write=False)
    return array


def _relu(sums: FloatArray, relu: bool) -> FloatArray:
    return np.maximum(sums, 0.0) if relu else sums


@dataclass(frozen=True, eq=False)
class FloatDense:
    """``weights @ x + bias``, then ReLU where ``relu``; weights (units, inputs), bias (units,)."""

    weights: FloatArray
    bias: FloatArray
    relu: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "weights", _fixed(self.weights, "the weights of a dense layer", 2))
        object.__setattr__(self, "bias", _fixed(self.bias, "the biases of a dense layer", 1))
        if len(self.bias) != len(self.weights):
            raise ModelError(f"{len(self.bias)} biases stand at {len(self.weights)} units")

    @property
    def units(self) -> int:
        """Number of outputs."""
        return len(self.bias)

    @property
    def matrix(self) -> FloatArray:
        """Weights (units, columns)."""
        return self.weights

    def with_matrix(self, matrix: FloatArray, bias: FloatArray) -> FloatDense:
        """The same layer with other weights, given as ``matrix`` is."""
        return replace(self, weights=matrix, bias=bias)

    def output_shape(self, input_shape: Shape) -> Shape:
        """Shape of one row's output."""
        if prod(input_shape) != self.weights.shape[1]:
            raise ModelError(f"a dense layer has {self.weights.shape[1]} weights a unit but {prod(input_shape)} inputs")
        return (self.units,)

    def columns_of(self, inputs: FloatArray) -> FloatArray:
        """What the weights meet: (rows, columns)."""
        return inputs.reshape(len(inputs), -1)

    def sums(self, inputs: FloatArray) -> FloatArray:
        """Pre-activations (rows, units)."""
        return self.columns_of(inputs) @ self.weights.T + self.bias

    def forward(self, inputs: FloatArray) -> FloatArray:
        """Activations (rows, units)."""
        return _relu(self.sums(inputs), self.relu)


@dataclass(frozen=True, eq=False)
class FloatConv:
    """2-D convolution: weights (out, in, kernel rows, kernel columns), padding (top, left, bottom, right)."""

    weights: FloatArray
    bias: FloatArray
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    padding_value: float = 0.0
    relu: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "weights", _fixed(self.weights, "the weights of a convolution", 4))
        object.__setattr__(self, "bias", _fixed(self.bias, "the biases of a convolution", 1))
        if len(self.bias) != len(self.weights):
            raise ModelError(f"{len(self.bias)} biases stand at {len(self.weights)} channels")
        if min(self.stride) < 1 or min(self.padding) < 0:
            raise ModelError(f"strides {self.stride} and padding {self.padding} of a convolution: at least 1 and 0")

    @property
    def units(self) -> int:
        """Number of output channels."""
        return len(self.bias)

    @property
    def matrix(self) -> FloatArray:
        """Weights (channels, columns)."""
        return self.weights.reshape(self.units, -1)

    def with_matrix(self, matrix: FloatArray, bias: FloatArray) -> FloatConv:
        """The same layer with other weights, given as ``matrix`` is."""
        kernel = self.weights.shape[2:]
        return replace(self, weights=matrix.reshape(len(bias), -1, *kernel), bias=bias)

    def output_shape(self, input_shape: Shape) -> Shape:
        """Shape (channels, rows, columns) of one row's output."""
        if len(input_shape) != 3 or input_shape[0] != self.weights.shape[1]:
            raise ModelError(
                f"a convolution over {self.weights.shape[1]} channels has inputs of shape {tuple(input_shape)}, "
                "expected (channels, rows, columns)"
            )
        top, left, bottom, right = self.padding
        padded = (input_shape[1] + top + bottom, input_shape[2] + left + right)
        return (self.units, *window_counts(padded, self.weights.shape[2:], self.stride))

    def _patches(self, inputs: FloatArray) -> FloatArray:
        top, left, bottom, right = self.padding
        padded = np.pad(
            inputs, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=np.float64(self.padding_value)
        )
        windows = windows_of(padded, self.weights.shape[2:], self.stride)
        count, _, down, across = windows.shape[:4]
        return windows.transpose(0, 2, 3, 1, 4, 5).reshape(count * down * across, -1)

    def columns_of(self, inputs: FloatArray) -> FloatArray:
        """What the weights meet: (rows * positions, columns)."""
        return self._patches(inputs)

    def sums(self, inputs: FloatArray) -> FloatArray:
        """Pre-activations (rows, channels, rows, columns)."""
        _, down, across = self.output_shape(inputs.shape[1:])
        sums = self._patches(inputs) @ self.matrix.T + self.bias
        return sums.reshape(len(inputs), down, across, self.units).transpose(0, 3, 1, 2)

    def forward(self, inputs: FloatArray) -> FloatArray:
        """Activations, in the shape of the sums."""
        return _relu(self.sums(inputs), self.relu)


@dataclass(frozen=True)
class FloatPool:
    """Largest value or mean of each window, channel by channel; windows that do not fit are dropped."""

    window: tuple[int, int]
    stride: tuple[int, int]
    average: bool = False

    def __post_init__(self) -> None:
        if min(self.window) < 1 or min(self.stride) < 1:
            raise ModelError(f"a pool has windows of {self.window} and strides {self.stride}: give at least 1")

    def output_shape(self, input_shape: Shape) -> Shape:
        """Shape (channels, rows, columns) of one row's output."""
        if len(input_shape) != 3:
            raise ModelError(f"pooling needs inputs of shape (channels, rows, columns), not {tuple(input_shape)}")
        return (input_shape[0], *window_counts(input_shape[1:], self.window, self.stride))

    def forward(self, inputs: FloatArray) -> FloatArray:
        """One value a window."""
        windows = windows_of(inputs, self.window, self.stride)
        found = windows[..., 0, 0].copy()
        for r, c in list(np.ndindex(self.window))[1:]:  # ten times faster than numpy over the last two axes
            (np.add if self.average else np.maximum)(found, windows[..., r, c], out=found)
        return found / prod(self.window) if self.average else found


Weighted: TypeAlias = FloatDense | FloatConv
FloatLayer: TypeAlias = FloatDense | FloatConv | FloatPool


@dataclass(frozen=True, eq=False)
class FloatNetwork:
    """Layers applied in order to tensors of ``input_shape``; the last one is dense and gives one score a class.

    classes   labels where the source knows them, else empty
    notes     what was cleaned, folded or left out on import, one sentence each
    """

    layers: tuple[FloatLayer, ...]
    input_shape: Shape
    classes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("layers", "input_shape", "classes", "notes"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if not self.layers or not isinstance(self.layers[-1], FloatDense) or self.layers[-1].relu:
            raise ModelError("the last layer must be dense and without ReLU: one score a class")
        bare = [k for k in self.prunable if not self.at(k).relu]
        if bare:
            raise ModelError(f"layer {bare[0]} has no ReLU: every layer with weights but the last needs one")
        if any(prod(shape) > UNIT_LIMIT for shape in self.shapes):
            raise ModelError(f"a tensor of the network has more than {UNIT_LIMIT} elements")
        if self.classes and len(self.classes) != self.layers[-1].units:
            raise ModelError(f"the network has {len(self.classes)} classes but {self.layers[-1].units} scores")

    @cached_property
    def shapes(self) -> tuple[Shape, ...]:
        """Shape of the inputs and of each layer's output."""
        shapes = [tuple(self.input_shape)]
        for layer in self.layers:
            shapes.append(tuple(layer.output_shape(shapes[-1])))
        return tuple(shapes)

    @property
    def weighted(self) -> tuple[int, ...]:
        """Indices of the layers with weights; all but the last can lose units."""
        return tuple(k for k, layer in enumerate(self.layers) if not isinstance(layer, FloatPool))

    @property
    def prunable(self) -> tuple[int, ...]:
        """Indices of the layers that can lose units."""
        return self.weighted[:-1]

    @property
    def widths(self) -> tuple[int, ...]:
        """Units of each prunable layer."""
        return tuple(self.at(k).units for k in self.prunable)

    def at(self, k: int) -> Weighted:
        """The weighted layer ``k``."""
        layer = self.layers[k]
        assert not isinstance(layer, FloatPool)
        return layer

    def reader(self, k: int) -> int:
        """Index of the weighted layer that reads what layer ``k`` gives."""
        return self.weighted[self.weighted.index(k) + 1]

    def outgoing(self, k: int) -> FloatArray:
        """Weights (units of the reader, units of layer ``k``, taps) that read the units of layer ``k``."""
        reader = self.at(self.reader(k))
        return reader.matrix.reshape(reader.units, self.at(k).units, -1)

    def with_layer(self, k: int, layer: FloatLayer) -> FloatNetwork:
        """The same network with another layer ``k``."""
        return replace(self, layers=(*self.layers[:k], layer, *self.layers[k + 1 :]))

    @property
    def parameters(self) -> int:
        """Number of weights and biases."""
        return sum(self.at(k).matrix.size + self.at(k).units for k in self.weighted)

    @property
    def bytes(self) -> int:
        """Size of all weights and biases in single precision."""
        return 4 * self.parameters

    def outputs(self, inputs: FloatArray) -> list[FloatArray]:
        """Outputs of every layer for ``inputs`` (rows, inputs)."""
        values = np.asarray(inputs, dtype=np.float64).reshape(-1, *self.input_shape)
        found = []
        for layer in self.layers:
            values = layer.forward(values)
            found.append(values)
        return found

    def into(self, k: int, inputs: FloatArray) -> FloatArray:
        """What layer ``k`` reads for ``inputs`` (rows, inputs): (rows, *its input shape)."""
        return np.concatenate([self._up_to(k, part) for part in self._parts(inputs)])

    def _up_to(self, k: int, inputs: FloatArray) -> FloatArray:
        values = np.asarray(inputs, dtype=np.float64).reshape(-1, *self.input_shape)
        for layer in self.layers[:k]:
            values = layer.forward(values)
        return values

    def _parts(self, inputs: FloatArray) -> Iterator[FloatArray]:
        patches = [prod(self.shapes[k + 1][1:]) * self.at(k).matrix.shape[1] for k in self.weighted]
        widest = max(patches + [prod(shape) for shape in self.shapes])
        step = max(1, VALUES_AT_ONCE // widest)
        for start in range(0, max(len(inputs), 1), step):
            yield inputs[start : start + step]

    def scores(self, inputs: FloatArray) -> FloatArray:
        """Scores (rows, classes) for ``inputs`` (rows, inputs)."""
        return np.concatenate([self.outputs(part)[-1] for part in self._parts(inputs)])

    def accuracy(self, inputs: IntArray | FloatArray, labels: IntArray) -> float:
        """Share of rows whose largest score is the true class's, ties to the lowest."""
        return float((self.scores(np.asarray(inputs, dtype=np.float64)).argmax(axis=1) == labels).mean())


# ---- windows -------------------------------------------------------------------------------------------------------


def window_counts(extent: Shape, window: Shape, stride: Shape) -> tuple[int, int]:
    """Windows down and across."""
    if any(e < w for e, w in zip(extent, window, strict=True)):
        raise ModelError(f"a window of {tuple(window)} does not fit into {tuple(extent)} rows and columns")
    down, across = ((e - w) // s + 1 for e, w, s in zip(extent, window, stride, strict=True))
    return down, across


def windows_of(inputs: FloatArray, window: Shape, stride: Shape) -> FloatArray:
    """A view (rows, channels, down, across, window rows, window columns) of all windows."""
    view = np.lib.stride_tricks.sliding_window_view(inputs, tuple(window), axis=(2, 3))
    return view[:, :, :: stride[0], :: stride[1]]
