"""The network part of the INN program: weights, activations and sums of sign units, for any depth.

For distinct rows k, layers l, units j (hidden units are h = 2 fired - 1):

    total[1,k,j] = sum_i x_ki weight[1,j,i] + bias[1,j]
    total[l,k,j] = sum_i product[l,k,j,i]   + bias[l,j]      product = weight * h, linearised exactly
    fired[l,k,j] = 1  <=>  total[l,k,j] >= 0                 big-M from the total's own interval

`mip2mcu.train.objectives` adds what is minimised. Indices are (layer from 1, unit, input) for weights and (layer, row,
unit) for activations; inputs are named by the first one that a merged column stands for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyomo.environ as pyo

from mip2mcu.mip.pieces import Total, declare_weights, product_link, sign_link, total_within
from mip2mcu.train.box import Box
from mip2mcu.train.reduction import Reduction
from mip2mcu.train.sign_network import SignNetwork, leads


@dataclass(frozen=True, eq=False)
class Parts:
    """The network part of a model, for objectives to build on.

    widths   units of each layer, outputs last
    totals   (layer, row, unit) -> sum
    wins     (row, class, other class) for every class that occurs on the row
    """

    model: pyo.ConcreteModel
    reduction: Reduction
    widths: tuple[int, ...]
    totals: dict[tuple[int, int, int], Total]
    wins: tuple[tuple[int, int, int], ...]

    def lead(self, k: int, c: int, other: int) -> Total:
        """Lead of class ``c`` over the other one on row ``k``; with two classes +-s."""
        last = len(self.widths)
        if self.widths[-1] == 1:
            total = self.totals[last, k, 0]
            return total if c == 0 else total.negated()
        return self.totals[last, k, c].minus(self.totals[last, k, other])

    def leads_of(self, network: SignNetwork) -> Iterator[tuple[tuple[int, int, int], int]]:
        """The leads that a network has, in the order of `wins`."""
        sums = network.output_sums(self.reduction.rows)
        k, c = np.nonzero(self.reduction.counts)
        return zip(self.wins, leads(sums[k], c).reshape(-1).tolist(), strict=True)


def build_network(
    name: str,
    reduction: Reduction,
    hidden: tuple[int, ...],
    *,
    room: int = 0,
    ordered: bool = True,
    tight: bool = True,
    box: Box | None = None,
) -> Parts:
    """A model with everything but an objective.

    room      how far beyond its sums' range an output may have to go: the margin target
    ordered   hidden units of a layer, which are interchangeable, stand in descending order of their bias: exact
    tight     big-M values from each row's own sums; otherwise from the largest of all rows
    box       limits of weights and biases, which big-M values follow; None: all that the domain allows
    """
    model = pyo.ConcreteModel(name=name)
    classes = reduction.counts.shape[1]
    widths = (*hidden, 1 if classes == 2 else classes)
    limits = whole_box(reduction, hidden, room) if box is None else box
    _declare(model, reduction, widths, limits)
    totals: dict[tuple[int, int, int], Total] = {}
    for layer in range(1, len(widths) + 1):
        for k in range(len(reduction.rows)):
            for j in range(widths[layer - 1]):
                total = _total(model, reduction, widths, (layer, k, j), limits)
                totals[layer, k, j] = total if tight or layer > 1 else _loosened(total, reduction, limits)
                if layer < len(widths):
                    sign_link(model, (layer, k, j), totals[layer, k, j], model.fired[layer, k, j])
    if ordered:
        pairs = [(layer, j) for layer, width in enumerate(hidden, 1) for j in range(width - 1)]
        model.units_are_ordered = pyo.Constraint(
            pairs, rule=lambda m, layer, j: m.bias[layer, j] >= m.bias[layer, j + 1]
        )
    wins = [
        (int(k), int(c), int((c + 1 + step) % classes))
        for k, c in np.argwhere(reduction.counts)
        for step in range(classes - 1)
    ]
    return Parts(model, reduction, widths, totals, tuple(wins))


def _loosened(total: Total, reduction: Reduction, limits: Box) -> Total:
    """The total with the interval of all rows and units together."""
    far = max(int(np.abs(limits.bias_low[0]).max()), int(np.abs(limits.bias_high[0]).max()))
    reach = int((np.abs(reduction.rows) @ reduction.weight_high).max()) + far
    return replace(total, low=-reach, high=reach)


def _inputs(reduction: Reduction, widths: tuple[int, ...], layer: int) -> list[int]:
    """Names of a layer's inputs: the first input that a merged column stands for, then units of the layer before."""
    if layer == 1:
        return [int(group[0]) for group in reduction.groups]
    return list(range(widths[layer - 2]))


def whole_box(reduction: Reduction, hidden: tuple[int, ...], room: int = 0) -> Box:
    """All that the domain allows; with the largest bias a unit is on, or off, for every row whatever its weights are.

    Of several outputs each may also have to outweigh another one; ``room`` is added for them.
    """
    classes, bound = reduction.counts.shape[1], reduction.domain.bound
    widths = (*hidden, 1 if classes == 2 else classes)
    reaches = [int((np.abs(reduction.rows) @ reduction.weight_high).max())]
    reaches += [bound * width for width in widths[:-1]]
    biases = [reach + 1 for reach in reaches]
    biases[-1] += room + (reaches[-1] if widths[-1] > 1 else 0)
    columns = [reduction.weight_high, *(np.full(width, bound) for width in hidden)]
    high = tuple(np.tile(column, (width, 1)) for column, width in zip(columns, widths, strict=True))
    bias = tuple(np.full(width, most) for most, width in zip(biases, widths, strict=True))
    return Box(tuple(-part for part in high), high, tuple(-part for part in bias), bias)


def _declare(model: pyo.ConcreteModel, reduction: Reduction, widths: tuple[int, ...], limits: Box) -> None:
    """All variables and the constraints that are filled later."""
    layers, rows = range(1, len(widths) + 1), range(len(reduction.rows))
    units = [(layer, j) for layer in layers for j in range(widths[layer - 1])]
    places = {
        (layer, j, i): (layer - 1, j, column)
        for layer, j in units
        for column, i in enumerate(_inputs(reduction, widths, layer))
    }
    most = {index: int(limits.weight_high[at][j, i]) for index, (at, j, i) in places.items()}
    if reduction.domain.binary:
        most = {index: int(reduction.weight_high[i]) if at == 0 else 1 for index, (at, j, i) in places.items()}
    declare_weights(model, list(places), most, reduction.domain.binary)
    for index, (at, j, i) in places.items():
        model.weight[index].setlb(int(limits.weight_low[at][j, i]))
        model.weight[index].setub(int(limits.weight_high[at][j, i]))
    model.bias = pyo.Var(
        units,
        domain=pyo.Integers,
        bounds=lambda _, layer, j: (int(limits.bias_low[layer - 1][j]), int(limits.bias_high[layer - 1][j])),
    )
    model.fired = pyo.Var(
        [(layer, k, j) for layer in layers[:-1] for k in rows for j in range(widths[layer - 1])],
        domain=pyo.Binary,
    )
    products = [
        (layer, k, j, i)
        for layer in layers[1:]
        for k in rows
        for j in range(widths[layer - 1])
        for i in range(widths[layer - 2])
    ]
    reach = [np.maximum(high, -low) for low, high in zip(limits.weight_low, limits.weight_high, strict=True)]
    model.product = pyo.Var(
        products,
        domain=pyo.Reals,
        bounds=lambda _, layer, k, j, i: (-int(reach[layer - 1][j, i]), int(reach[layer - 1][j, i])),
    )
    for name in ("fires", "rests", "kept_below", "kept_above", "negated_below", "negated_above"):
        setattr(model, name, pyo.Constraint(pyo.Any))


def _total(
    model: pyo.ConcreteModel, reduction: Reduction, widths: tuple[int, ...], index: tuple[int, int, int], limits: Box
) -> Total:
    """The sum of one unit on one row, with its exact interval; links the products of deeper layers."""
    layer, k, j = index
    bias = model.bias[layer, j]
    bias_limits = int(limits.bias_low[layer - 1][j]), int(limits.bias_high[layer - 1][j])
    low, high = limits.weight_low[layer - 1][j], limits.weight_high[layer - 1][j]
    if layer == 1:
        weights = [model.weight[1, j, i] for i in _inputs(reduction, widths, 1)]
        return total_within(weights, reduction.rows[k], (low, high), bias, bias_limits)
    before = range(widths[layer - 2])
    for i in before:
        product, weight = model.product[layer, k, j, i], model.weight[layer, j, i]
        fired = model.fired[layer - 1, k, i]
        product_link(model, (layer, k, j, i), product, weight, fired, low=int(low[i]), high=int(high[i]))
    products = [model.product[layer, k, j, i] for i in before]
    reach = np.maximum(high, -low)
    return total_within(products, np.ones(len(products), dtype=np.int64), (-reach, reach), bias, bias_limits)


def add_used(parts: Parts) -> Any:
    """Add ``used[l, j]``: a hidden unit that is not used has no weight, in or out, and no bias. Returns their sum.

    The last hidden layer keeps one unit, so that the network keeps its depth.
    """
    model, widths = parts.model, parts.widths
    hidden = [(layer, j) for layer, width in enumerate(widths[:-1], 1) for j in range(width)]
    model.used = pyo.Var(hidden, domain=pyo.Binary)
    model.only_used_units_have_weights = pyo.Constraint(pyo.Any)
    for (layer, j, i), weight in model.weight.items():
        ends = [end for end in ((layer, j), (layer - 1, i)) if end in model.used]
        for end in ends:
            high = int(weight.ub)
            model.only_used_units_have_weights[(*end, layer, j, i, "plus")] = weight <= high * model.used[end]
            model.only_used_units_have_weights[(*end, layer, j, i, "minus")] = -weight <= high * model.used[end]
    model.only_used_units_have_bias = pyo.Constraint(pyo.Any)
    for index in hidden:
        bias = model.bias[index]
        model.only_used_units_have_bias[(*index, "plus")] = bias <= int(bias.ub) * model.used[index]
        model.only_used_units_have_bias[(*index, "minus")] = -bias <= int(bias.ub) * model.used[index]
    layers = range(1, len(widths))
    model.every_layer_has_a_unit = pyo.Constraint(
        layers, rule=lambda m, layer: sum(m.used[layer, j] for j in range(widths[layer - 1])) >= 1
    )
    return pyo.quicksum(model.used.values())


def place_network(parts: Parts, network: SignNetwork) -> None:
    """Set weights, sums and activations of the model to those of ``network``, whose units must be ordered."""
    model, reduction, values = parts.model, parts.reduction, parts.reduction.rows
    for layer in range(1, network.depth + 1):
        weights, bias = network.weights[layer - 1], network.bias[layer - 1]
        names = _inputs(reduction, parts.widths, layer)
        for j in range(len(bias)):
            model.bias[layer, j].set_value(int(bias[j]))
            for column, i in enumerate(names):
                weight = int(weights[j, column])
                model.weight[layer, j, i].set_value(weight)
                if hasattr(model, "plus"):
                    model.plus[layer, j, i].set_value((weight + model.plus[layer, j, i].ub) // 2)
        if layer > 1:
            for k, j, i in np.ndindex(len(values), len(bias), len(names)):
                model.product[layer, k, j, i].set_value(int(weights[j, i] * values[k, i]))
        sums = network.sums(values, layer - 1)
        if layer < network.depth:
            values = np.where(sums >= 0, 1, -1)
            for k, j in np.ndindex(*values.shape):
                model.fired[layer, k, j].set_value(int(values[k, j] > 0))


def read_network(model: pyo.ConcreteModel) -> SignNetwork:
    """The network in the variables of a solved ``model``."""

    def units(layer: int) -> Iterator[int]:
        return (j for number, j in model.bias if number == layer)

    def weights_of(layer: int, unit: int) -> list[Any]:
        return [
            variable.value
            for (number, j, _), variable in model.weight.items()
            if (number, j) == (layer, unit)
        ]

    layers = sorted({layer for layer, _ in model.bias})
    return SignNetwork(
        tuple(np.array([weights_of(layer, j) for j in units(layer)], dtype=np.int64) for layer in layers),
        tuple(
            np.array([model.bias[layer, j].value for j in units(layer)], dtype=np.int64) for layer in layers
        ),
    )
