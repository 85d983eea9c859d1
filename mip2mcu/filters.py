"""Fixed filters of images and series, in exact integers: the layers that may stand before the first trained one.

Tensors are (channels, rows, columns), a series is one row; every filter works channel by channel. Where a filter looks
beyond the border it sees the nearest value inside.

    Smooth      (sum_ab binomial_a binomial_b x + half) >> 4      binomial (1, 2, 1); a series: >> 2, along its row
    SumPool     sum of each window
    Edges       min(255, (sum of each window of max(0, difference)) >> shift), one channel a direction

`Edges` takes central differences x[p + e] - x[p - e] along the directions e and against them. Their windows overlap by
half: of side 2 * step, one every ``step`` values, the first one begins step // 2 values before the first value.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TypeAlias

import numpy as np

from mip2mcu.errors import ModelError
from mip2mcu.ranges import IntArray

Shape: TypeAlias = tuple[int, ...]

IMAGE_DIRECTIONS = ((0, 1), (1, 1), (1, 0), (1, -1))
"""(rows, columns) from one end of a difference to its middle; each counts forward, then backward."""
SERIES_DIRECTIONS = ((0, 1),)
CELL_LIMIT = 255
"""Largest output of `Edges`."""


def check_tensor(input_shape: Shape, what: str) -> None:
    """Raise `ModelError` unless ``input_shape`` is (channels, rows, columns)."""
    if len(input_shape) != 3:
        raise ModelError(f"{what} needs inputs of shape (channels, rows, columns), not {input_shape}")


@dataclass(frozen=True, eq=False)
class Smooth:
    """Binomial smoothing of non-negative values over 3 x 3 neighbours (1 x 3 in a series), rounded, halves upwards."""

    def output_shape(self, input_shape: Shape) -> Shape:
        """The input's own shape."""
        check_tensor(input_shape, "smoothing")
        return input_shape

    def operations(self, input_shape: Shape) -> int:
        """Additions of one inference, roughly."""
        return prod(input_shape) * (9 if input_shape[1] > 1 else 3)

    def forward(self, inputs: IntArray) -> IntArray:
        """Smoothed values (rows, channels, rows, columns)."""
        divisor = self.divisor(inputs.shape[1:])
        return (self.totals(inputs) + divisor // 2) >> (divisor.bit_length() - 1)

    def divisor(self, input_shape: Shape) -> int:
        """What `totals` are divided by, a power of two."""
        return 16 if input_shape[1] > 1 else 4

    def totals(self, inputs: IntArray) -> IntArray:
        """Weighted sums of the neighbours (rows, channels, rows, columns), before they are rounded."""
        along = _binomial(inputs, 3)
        return _binomial(along, 2) if inputs.shape[2] > 1 else along

    def output_range(self, low: IntArray, high: IntArray) -> tuple[IntArray, IntArray]:
        """Exact interval of each output for inputs in [low, high]; refuses negative inputs."""
        if low.min() < 0:
            raise ModelError(f"smoothing rounds non-negative values only, its inputs reach {low.min()}")
        return self.forward(low[None])[0], self.forward(high[None])[0]


def _binomial(values: IntArray, axis: int) -> IntArray:
    """Neighbours along ``axis`` weighted 1, 2, 1."""
    width = values.shape[axis]
    before = np.take(values, np.maximum(np.arange(width) - 1, 0), axis=axis)
    after = np.take(values, np.minimum(np.arange(width) + 1, width - 1), axis=axis)
    return before + 2 * values + after


@dataclass(frozen=True)
class Edges:
    """Rectified differences, pooled: where an image or a series rises or falls, in which direction, how much.

    step    distance of neighbouring windows, 1..64
    shift   bits that a window's sum loses, 0..16; what then exceeds 255 is 255

    A channel of an image becomes 8 channels: right, left, down right, up left, down, up, down left, up right, by where
    the values rise; of a series 2: rising, falling.
    """

    step: int
    shift: int

    def __post_init__(self) -> None:
        if not (1 <= self.step <= 64 and 0 <= self.shift <= 16):
            raise ModelError(f"edges of step {self.step} and shift {self.shift} are not within 1..64 and 0..16")

    def cells(self, extent: int) -> int:
        """Windows along a side of ``extent`` values."""
        return max(1, (extent + self.step // 2) // self.step)

    def directions(self, input_shape: Shape) -> tuple[tuple[int, int], ...]:
        """What differences are taken."""
        return IMAGE_DIRECTIONS if input_shape[1] > 1 else SERIES_DIRECTIONS

    def output_shape(self, input_shape: Shape) -> Shape:
        """Shape (channels, rows, columns) of one row's output."""
        check_tensor(input_shape, "taking edges")
        channels, rows, columns = input_shape
        down = self.cells(rows) if rows > 1 else 1
        return (2 * len(self.directions(input_shape)) * channels, down, self.cells(columns))

    def operations(self, input_shape: Shape) -> int:
        """Differences of one inference."""
        return prod(input_shape) * len(self.directions(input_shape))

    def area(self, input_shape: Shape) -> int:
        """Most values of a window."""
        rows, columns = input_shape[1:]
        return min(2 * self.step, rows) * min(2 * self.step, columns)

    def totals(self, inputs: IntArray) -> IntArray:
        """Sums of the windows (rows, channels, rows, columns), before their shift."""
        differences = self.differences(inputs)
        halves = np.stack([np.maximum(differences, 0), np.maximum(-differences, 0)], axis=2)
        maps = halves.reshape(len(inputs), -1, *inputs.shape[2:])
        return self.windows(maps, inputs.shape[1:])

    def differences(self, inputs: IntArray) -> IntArray:
        """Central differences (rows, channels * directions, rows, columns); each becomes two maps, forward first."""
        shape = inputs.shape[1:]
        found = [
            _moved(inputs[:, channel], rows, columns) - _moved(inputs[:, channel], -rows, -columns)
            for channel in range(shape[0])
            for rows, columns in self.directions(shape)
        ]
        return np.stack(found, axis=1)

    def interval(self, low: IntArray, high: IntArray) -> tuple[IntArray, IntArray]:
        """Ends (channels, rows, columns) of the outputs for any inputs between ``low`` and ``high``, value by value.

        Every difference takes its own extremes, which no single input may attain for all of them.
        """
        shape = low.shape
        least, most = [], []
        for channel in range(shape[0]):
            below, above = low[None, channel], high[None, channel]
            for rows, columns in self.directions(shape):
                falls = _moved(below, rows, columns) - _moved(above, -rows, -columns)
                rises = _moved(above, rows, columns) - _moved(below, -rows, -columns)
                least += [np.maximum(falls, 0), np.maximum(-rises, 0)]
                most += [np.maximum(rises, 0), np.maximum(-falls, 0)]
        ends = (self.windows(np.stack(maps, axis=1), shape) for maps in (least, most))
        least_cells, most_cells = (np.minimum(cells[0] >> self.shift, CELL_LIMIT) for cells in ends)
        return least_cells, most_cells

    def windows(self, maps: IntArray, input_shape: Shape) -> IntArray:
        """Sums of the windows of ``maps`` (rows, maps, rows, columns) of an input of ``input_shape``."""
        pooled = self._pooled(maps, axis=3)
        return self._pooled(pooled, axis=2) if input_shape[1] > 1 else pooled

    def _pooled(self, values: IntArray, axis: int) -> IntArray:
        """Sums along ``axis`` over windows of 2 * step values."""
        extent = values.shape[axis]
        below = np.zeros((*values.shape[:axis], 1, *values.shape[axis + 1 :]), dtype=np.int64)
        running = np.concatenate([below, np.cumsum(values, axis=axis)], axis=axis)
        first = self.step * np.arange(self.cells(extent)) - self.step // 2
        ends = (np.clip(end, 0, extent) for end in (first, first + 2 * self.step))
        begin, end = (np.take(running, at, axis=axis) for at in ends)
        return end - begin

    def forward(self, inputs: IntArray) -> IntArray:
        """Pooled edges (rows, channels, rows, columns), 0..255."""
        return np.minimum(self.totals(inputs) >> self.shift, CELL_LIMIT)

    def output_range(self, low: IntArray, high: IntArray) -> tuple[IntArray, IntArray]:
        """An interval that holds each output for inputs in [low, high]."""
        shape = self.output_shape(low.shape)
        most = self.area(low.shape) * int(high.max() - low.min())
        return np.zeros(shape, dtype=np.int64), np.full(shape, min(CELL_LIMIT, most >> self.shift))


def _moved(values: IntArray, rows: int, columns: int) -> IntArray:
    """``values[k, y + rows, x + columns]`` at (k, y, x), the nearest value inside beyond the border."""
    down, across = values.shape[1:]
    y = np.clip(np.arange(down) + rows, 0, down - 1)
    x = np.clip(np.arange(across) + columns, 0, across - 1)
    return values[:, y[:, None], x[None, :]]
