"""A layer as rows of a linear program, and the intervals of its values: what the programs over networks share.

`rows_of` writes ``sums = A x + constant`` over the flattened input of a layer or mean pool; `intervals` bounds the
inputs and sums of all layers for inputs in a box.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from mip2mcu.layers import Shape
from mip2mcu.mip.matrix import NO_LIMIT, FloatArray, Matrix
from mip2mcu.prune.float_network import FloatConv, FloatDense, FloatLayer, FloatNetwork, FloatPool, windows_of


@dataclass(frozen=True, eq=False)
class Rows:
    """Sparse rows ``A x + constant``: column and value (outputs, terms), constant (outputs,); column -1 is no term."""

    column: NDArray[np.int64]
    value: FloatArray
    constant: FloatArray


def rows_of(layer: FloatLayer, input_shape: Shape) -> Rows:
    """The sums of a weighted layer, or the means of a pool, over its flattened inputs; outputs in CHW order."""
    if isinstance(layer, FloatDense):
        column = np.broadcast_to(np.arange(layer.weights.shape[1]), layer.weights.shape)
        return Rows(column, layer.weights, layer.bias)
    index = np.arange(prod(input_shape), dtype=np.float64).reshape(1, *input_shape)
    if isinstance(layer, FloatConv):
        outside = FloatConv(np.zeros_like(layer.weights), layer.bias, layer.stride, layer.padding, -1.0)
        column = outside.columns_of(index).astype(np.int64)  # (positions, columns)
        value = np.repeat(layer.matrix[:, None, :], len(column), axis=1)  # (units, positions, columns)
        beyond = (value * (column < 0)).sum(axis=2) * layer.padding_value
        column = np.broadcast_to(column, value.shape)
        constant = layer.bias[:, None] + beyond
        return Rows(column.reshape(-1, value.shape[2]), value.reshape(-1, value.shape[2]), constant.reshape(-1))
    column = pool_columns(layer, input_shape)
    return Rows(column, np.full(column.shape, 1.0 / column.shape[1]), np.zeros(len(column)))


def pool_columns(layer: FloatPool, input_shape: Shape) -> NDArray[np.int64]:
    """Indices (outputs, window size) of the inputs under each window."""
    index = np.arange(prod(input_shape), dtype=np.float64).reshape(1, *input_shape)
    windows = windows_of(index, layer.window, layer.stride)[0]
    return windows.reshape(prod(windows.shape[:3]), -1).astype(np.int64)


@dataclass(frozen=True, eq=False)
class Intervals:
    """Ends of each layer's values: ``low`` and ``high`` of what goes in and of the sums, (rows, *shape) each.

    A pool has no sums; its entry is what it gives.
    """

    into: tuple[tuple[FloatArray, FloatArray], ...]
    sums: tuple[tuple[FloatArray, FloatArray], ...]


def intervals(network: FloatNetwork, low: FloatArray, high: FloatArray) -> Intervals:
    """Intervals for inputs (rows, inputs) in [low, high], propagated layer by layer."""
    low, high = (np.asarray(v, dtype=np.float64).reshape(-1, *network.input_shape) for v in (low, high))
    into, sums = [], []
    for layer in network.layers:
        into.append((low, high))
        low, high = sum_interval(layer, low, high)
        sums.append((low, high))
        if not isinstance(layer, FloatPool) and layer.relu:
            low, high = np.maximum(low, 0.0), np.maximum(high, 0.0)
    return Intervals(tuple(into), tuple(sums))


def sum_interval(layer: FloatLayer, low: FloatArray, high: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Interval of the sums of a layer, or of what a pool gives, for inputs (rows, *shape) in [low, high]."""
    if isinstance(layer, FloatPool):
        return layer.forward(low), layer.forward(high)
    positive = layer.with_matrix(np.maximum(layer.matrix, 0.0), layer.bias)
    negative = layer.with_matrix(np.minimum(layer.matrix, 0.0), np.zeros_like(layer.bias))
    return positive.sums(low) + negative.sums(high), positive.sums(high) + negative.sums(low)


class Builder:
    """Collects columns and rows of a `Matrix`."""

    def __init__(self) -> None:
        """Begins empty."""
        self._columns: list[tuple[FloatArray, FloatArray, FloatArray, NDArray[np.bool_]]] = []
        self._rows: list[tuple[NDArray[np.int64], FloatArray, FloatArray, FloatArray]] = []
        self._count = 0

    def variables(
        self,
        count: int,
        low: FloatArray | float = -NO_LIMIT,
        high: FloatArray | float = NO_LIMIT,
        cost: FloatArray | float = 0.0,
        *,
        whole: bool = False,
    ) -> NDArray[np.int64]:
        """Indices (count,) of new variables."""
        low, high, cost = (np.broadcast_to(np.asarray(v, dtype=np.float64), (count,)) for v in (low, high, cost))
        self._columns.append((low, high, cost, np.full(count, whole)))
        self._count += count
        return np.arange(self._count - count, self._count)

    def rows(
        self,
        terms: list[tuple[NDArray[np.int64], FloatArray]],
        low: FloatArray | float = -NO_LIMIT,
        high: FloatArray | float = NO_LIMIT,
    ) -> None:
        """Rows ``low <= sum of terms <= high``; a term is variables (rows, n) or (rows,) with their factors.

        A variable -1 is no term. Several terms of one row may not name the same variable.
        """
        columns, values = zip(*(_as_rows(c, v) for c, v in terms), strict=True)
        column, value = np.concatenate(columns, axis=1), np.concatenate(values, axis=1)
        ends = [np.broadcast_to(np.asarray(v, dtype=np.float64), (len(column),)) for v in (low, high)]
        self._rows.append((column, np.where(column < 0, 0.0, value), ends[0], ends[1]))

    def matrix(self) -> Matrix:
        """The program: minimise the cost."""
        low, high, cost, whole = (np.concatenate(part) for part in zip(*self._columns, strict=True))
        starts, columns, values, row_low, row_high = [np.zeros(1, dtype=np.int64)], [], [], [], []
        end = 0
        for column, value, least, most in self._rows:
            used = value != 0
            starts.append(end + np.cumsum(used.sum(axis=1)))
            end += int(used.sum())
            columns.append(column[used])
            values.append(value[used])
            row_low.append(least)
            row_high.append(most)
        return Matrix(
            cost=cost,
            low=low,
            high=high,
            integer=whole,
            start=np.concatenate(starts).astype(np.int32),
            column=np.concatenate(columns).astype(np.int32),
            value=np.concatenate(values),
            row_low=np.concatenate(row_low),
            row_high=np.concatenate(row_high),
        )


def _as_rows(column: NDArray[np.int64], value: FloatArray) -> tuple[NDArray[np.int64], FloatArray]:
    column = column[:, None] if column.ndim == 1 else column
    value = np.asarray(value, dtype=np.float64)
    value = value[:, None] if value.ndim == 1 else value
    return column, np.broadcast_to(value, column.shape)
