"""Layers and votes of a given network as pieces of a `Program`: what the network computes for inputs that are columns.

    dense               a combination a unit; sign units by `fires`, requantised units by rectifying, two quotients and
                        a minimum
    smooth, mean        a combination of each window, and its rounded quotient
    sum, max            a combination, the largest of each window
    edges, slopes       differences; both rectified halves of one by a single column; sums of windows, quotient, minimum

A filter's weights are its own arithmetic on unit vectors, so borders and windows are stated once, in the filter.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mip2mcu.decisions import Vote
from mip2mcu.filters import CELL_LIMIT, Edges, Shape, Smooth
from mip2mcu.layers import Activation, AveragePool, Dense, Layer, MaxPool, SumPool
from mip2mcu.mip.program import Expression, Program, combination, difference
from mip2mcu.ranges import IntArray

_OUTPUT_HIGH = 255
"""Of a requantised unit."""


# ---- dense layers --------------------------------------------------------------------------------------------------


def weighted(weights: IntArray, bias: IntArray, outputs: Sequence[Expression]) -> list[Expression]:
    """``weights @ outputs + bias``, an expression a row; weights (rows, outputs)."""
    return [
        combination([(int(row[i]), outputs[i]) for i in np.flatnonzero(row).tolist()], int(offset))
        for row, offset in zip(weights, bias, strict=True)
    ]


def narrowed(totals: Sequence[Expression], low: IntArray, high: IntArray) -> list[Expression]:
    """The same values within better intervals (totals,)."""
    return [t.narrowed(a, b) for t, a, b in zip(totals, low.tolist(), high.tolist(), strict=True)]


def activated(program: Program, layer: Dense, sums: Sequence[Expression]) -> list[Expression]:
    """What the units of ``layer`` make of their ``sums``."""
    if layer.activation is Activation.SIGN:
        return [combination([(2, program.fires(total))], -1) for total in sums]
    by = layer.requantisation
    if by is None:
        return list(sums)
    parameters = zip(by.pre.tolist(), by.mult.tolist(), by.shift.tolist(), strict=True)
    return [_requantised(program, total, *own) for total, own in zip(sums, parameters, strict=True)]


def _requantised(program: Program, total: Expression, pre: int, mult: int, shift: int) -> Expression:
    """``min(255, ((max(total, 0) >> pre) * mult + (1 << (shift - 1))) >> shift)``."""
    scaled = program.quotient(program.rectified(total), 1 << pre)
    rounded = program.quotient(combination([(mult, scaled)], 1 << (shift - 1)), 1 << shift)
    return program.at_most(rounded, _OUTPUT_HIGH)


# ---- filters -------------------------------------------------------------------------------------------------------


def filtered(
    program: Program, layer: Layer, values: Sequence[Expression], shape: Shape
) -> tuple[list[Expression], Shape]:
    """What ``layer``, a filter, makes of ``values``, a tensor of ``shape`` read in its order; and the shape of that."""
    behind = layer.output_shape(shape)
    units = np.eye(len(values), dtype=np.int64).reshape(-1, *shape)
    if isinstance(layer, MaxPool):
        places = layer.windows(np.arange(len(values)).reshape(1, *shape))
        return [program.largest([values[i] for i in window]) for window in places.reshape(-1, places.shape[-1])], behind
    if isinstance(layer, Edges):
        return _edges(program, layer, values, shape), behind
    if isinstance(layer, SumPool):
        return _linear(layer.forward(units), values), behind
    assert isinstance(layer, Smooth | AveragePool), "no filter"
    totals, divisor = _linear(layer.totals(units), values), layer.divisor(shape)
    return [program.quotient(combination([(1, total)], divisor // 2), divisor) for total in totals], behind


def _linear(on_units: IntArray, values: Sequence[Expression]) -> list[Expression]:
    """The linear map of ``values`` that makes ``on_units`` (values, ...) of the unit vectors."""
    weights = on_units.reshape(len(values), -1).T
    return weighted(weights, np.zeros(len(weights), dtype=np.int64), values)


def _edges(program: Program, layer: Edges, values: Sequence[Expression], shape: Shape) -> list[Expression]:
    units = np.eye(len(values), dtype=np.int64).reshape(-1, *shape)
    halves: list[Expression] = []
    for on_units in np.moveaxis(layer.differences(units), 1, 0):
        rising, falling = [], []
        for total in _linear(on_units, values):
            positive = program.rectified(total)
            rising.append(positive)
            falling.append(difference(positive, total).narrowed(max(0, -total.high), max(0, -total.low)))
        halves += rising + falling
    area, cells = shape[1] * shape[2], []
    windows = layer.windows(np.eye(area, dtype=np.int64).reshape(area, 1, *shape[1:]), shape)  # the same in every map
    for start in range(0, len(halves), area):
        cells += _linear(windows, halves[start : start + area])
    return [program.at_most(program.quotient(cell, 1 << layer.shift), CELL_LIMIT) for cell in cells]


# ---- decisions -----------------------------------------------------------------------------------------------------


def votes(program: Program, decision: Vote, sums: Sequence[Expression]) -> list[Expression]:
    """The votes of each class; ``sums`` are those of the members, one after another."""
    return votes_of(decision, choices(program, decision, sums))


def choices(program: Program, decision: Vote, sums: Sequence[Expression]) -> list[list[Expression]]:
    """For each member one value a class of it: 1 for the class that it votes for, 0 for the others."""
    each = decision.sums_per_member
    if each == 1:
        for_first = [program.fires(total) for total in sums]
        return [[fired, combination([(-1, fired)], 1)] for fired in for_first]
    return [_chosen(program, sums[m * each : (m + 1) * each]) for m in range(len(decision.members))]


def votes_of(decision: Vote, chosen: Sequence[Sequence[Expression]]) -> list[Expression]:
    """The votes of each class from the members' `choices`."""
    parts: list[list[tuple[int, Expression]]] = [[] for _ in range(decision.classes)]
    for member, own in zip(decision.members, chosen, strict=True):
        for c, one in zip(member, own, strict=True):
            parts[c].append((1, one))
    return [combination(part) for part in parts]


def _chosen(program: Program, sums: Sequence[Expression]) -> list[Expression]:
    """One column a sum: 1 for the largest, the first on ties."""
    columns = [program.variable(0, 1) for _ in sums]
    program.require(combination((1, column) for column in columns), 1, 1)
    for a, first in enumerate(sums):
        for b, second in enumerate(sums):
            if a != b:
                least = int(b < a)  # an earlier sum must be exceeded
                reach = second.high - first.low + least
                ahead = difference(first, second)
                program.require(combination([(1, ahead), (-reach, columns[a])]), low=least - reach)
    return columns
