"""The models of BeMi's stages; `mip2mcu.train.bemi` says what they mean, `mip2mcu.train.bemi_goal` gives the numbers.

For rows k, layers l from 1, units j, inputs i (named by the first one that a merged column stands for):

    total[1,k,j] = sum_i x_ki weight[1,j,i] (+ bias[1,j])
    total[l,k,j] = sum_i product[l,k,j,i]   (+ bias[l,j])      product = weight * (2 fired - 1), linearised exactly
    fired[l,k,j] = 1  <=>  total[l,k,j] >= 0                   big-M from the total's own interval
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyomo.environ as pyo

from mip2mcu.mip.pieces import (
    Total,
    count_links,
    declare_weights,
    dense_row,
    margin_link,
    product_link,
    reaches_margin,
    sign_link,
    total_of,
)
from mip2mcu.ranges import BoolArray, IntArray
from mip2mcu.train.bemi_goal import Goal
from mip2mcu.train.sign_network import SignNetwork

_LISTS = (
    "fires",
    "rests",
    "fires_with_margin",
    "rests_with_margin",
    "output_has_margin",
    "output_is_confident",
    "kept_below",
    "kept_above",
    "negated_below",
    "negated_above",
)


@dataclass(frozen=True, eq=False)
class After:
    """What an earlier stage leaves to the next ones.

    kept    samples (samples,) that were confident
    budget  most that all outputs together may lack to the threshold; of the corrected variant
    floors  least margin of each unit, layer by layer; for the last stage
    """

    kept: BoolArray
    budget: int
    floors: list[IntArray] | None = None


def build_model(goal: Goal, stage: str, after: After | None = None) -> pyo.ConcreteModel:
    """The model of one stage of `STAGES`; the later ones need what the earlier ones gave."""
    model = pyo.ConcreteModel(name=f"bemi_{stage}")
    rows = list(range(len(goal.reduction.rows)))
    if after is not None and goal.published:
        rows = goal.kept_rows(after.kept)
    _declare(model, goal, rows)
    if stage == "margins":
        assert after is not None
        _declare_margins(model, goal, after)
    with_margin = set() if after is None else set(goal.kept_rows(after.kept))
    totals: dict[tuple[int, int], Total] = {}
    for layer in range(1, len(goal.widths) + 1):
        for k in rows:
            for j in range(goal.widths[layer - 1]):
                total = _total(model, goal, (layer, k, j))
                if layer == len(goal.widths):
                    totals[k, j] = total
                elif k not in with_margin:
                    sign_link(model, (layer, k, j), total, model.fired[layer, k, j])
                else:
                    assert after is not None
                    _link_with_margin(model, goal, (layer, k, j), total, after)
    if after is None:
        _aim_at_confidence(model, goal, totals)
    else:
        _keep_outputs(model, goal, totals, after)
        _aim_at_margins(model, goal) if stage == "margins" else _aim_at_links(model, goal)
    return model


def _inputs(goal: Goal, layer: int) -> list[int]:
    if layer == 1:
        return [int(group[0]) for group in goal.reduction.groups]
    return list(range(goal.widths[layer - 2]))


def _units(goal: Goal) -> list[tuple[int, int]]:
    return [(layer, j) for layer, width in enumerate(goal.widths, 1) for j in range(width)]


def _declare(model: pyo.ConcreteModel, goal: Goal, rows: list[int]) -> None:
    """Weights, activations, products, and the lists of constraints that are filled later."""
    high = {
        (layer, j, i): int(h)
        for layer, j in _units(goal)
        for i, h in zip(_inputs(goal, layer), goal.weight_high(layer), strict=True)
    }
    declare_weights(model, list(high), high, goal.reduction.domain.binary)
    if not goal.published:
        model.bias = pyo.Var(
            _units(goal),
            domain=pyo.Integers,
            bounds=lambda _, layer, _unit: (-goal.bias_high(layer), goal.bias_high(layer)),
        )
    hidden = [(layer, k, j) for layer, j in _units(goal) if layer < len(goal.widths) for k in rows]
    model.fired = pyo.Var(hidden, domain=pyo.Binary)
    bound = goal.reduction.domain.bound
    products = [(layer, k, j, i) for layer, j in _units(goal) if layer > 1 for k in rows for i in _inputs(goal, layer)]
    model.product = pyo.Var(products, domain=pyo.Reals, bounds=(-bound, bound))
    for name in _LISTS:
        setattr(model, name, pyo.Constraint(pyo.Any))


def _total(model: pyo.ConcreteModel, goal: Goal, index: tuple[int, int, int]) -> Total:
    """The sum of one unit on one row, with its exact interval; links the products of deeper layers."""
    layer, k, j = index
    names = _inputs(goal, layer)
    if layer == 1:
        variables, values = [model.weight[1, j, i] for i in names], goal.reduction.rows[k]
        high = goal.weight_high(1)
    else:
        bound = goal.reduction.domain.bound
        for i in names:
            product, weight = model.product[layer, k, j, i], model.weight[layer, j, i]
            product_link(model, (layer, k, j, i), product, weight, model.fired[layer - 1, k, i], high=bound)
        variables = [model.product[layer, k, j, i] for i in names]
        values, high = np.ones(len(names), dtype=np.int64), goal.weight_high(layer)
    if not goal.published:
        return total_of(variables, values, high, model.bias[layer, j], goal.bias_high(layer))
    reach = int(np.abs(values) @ high)
    kept, factors = dense_row(variables, values)
    return Total(kept, factors, 0, -reach, reach)


# ---- stages --------------------------------------------------------------------------------------------------------


def _aim_at_confidence(model: pyo.ConcreteModel, goal: Goal, totals: dict[tuple[int, int], Total]) -> None:
    """The first stage; corrected: least that outputs lack, published: most confident outputs."""
    outputs = [(k, c, j) for k, c in goal.samples for j in range(goal.widths[-1])]
    if not goal.published:
        _declare_shortfalls(model, goal, totals, goal.samples)
        model.missing_confidence = pyo.Objective(expr=_missing(model, goal))
        return
    model.confident = pyo.Var(outputs, domain=pyo.Binary)
    for k, c, j in outputs:
        total, sign = totals[k, j], goal.sign(c, j)
        least = total.low if sign == 1 else -total.high
        signed = total if sign == 1 else _negated(total)
        enough = signed.expression((least - goal.threshold, model.confident[k, c, j])) >= least
        model.output_is_confident[k, c, j] = enough
    counts = goal.reduction.counts
    model.confident_outputs = pyo.Objective(
        expr=sum(int(counts[k, c]) * model.confident[k, c, j] for k, c, j in outputs), sense=pyo.maximize
    )


def _negated(total: Total) -> Total:
    return Total(total.variables, tuple(-c for c in total.coefficients), -total.constant, -total.high, -total.low)


def _declare_shortfalls(
    model: pyo.ConcreteModel, goal: Goal, totals: dict[tuple[int, int], Total], samples: list[tuple[int, int]]
) -> None:
    outputs = [(k, c, j) for k, c in samples for j in range(goal.widths[-1])]
    model.shortfall = pyo.Var(outputs, domain=pyo.NonNegativeReals)
    for k, c, j in outputs:
        lacking = reaches_margin(totals[k, j], goal.sign(c, j), goal.threshold, model.shortfall[k, c, j])
        model.output_is_confident[k, c, j] = lacking


def _missing(model: pyo.ConcreteModel, goal: Goal) -> Any:
    return sum(int(goal.reduction.counts[k, c]) * model.shortfall[k, c, j] for k, c, j in model.shortfall)


def _keep_outputs(
    model: pyo.ConcreteModel, goal: Goal, totals: dict[tuple[int, int], Total], after: After
) -> None:
    """What the outputs owe in later stages: their margins, and, as corrected, the confidence of the first stage."""
    last = len(goal.widths)
    others = []
    for (k, c), kept in zip(goal.samples, after.kept, strict=True):
        if not kept:
            others.append((k, c))
            continue
        for j in range(goal.widths[-1]):
            sign = goal.sign(c, j)
            signed = totals[k, j] if sign == 1 else _negated(totals[k, j])
            least = 0 if sign == 1 else 1
            if after.floors is None:
                margin = model.margin[_margin_index(goal, last, j)]
                model.output_has_margin[k, c, j] = signed.expression((-1, margin)) >= least
            else:
                model.output_has_margin[k, c, j] = signed.expression() >= least + int(after.floors[-1][j])
            if not goal.published:
                model.output_is_confident[k, c, j] = signed.expression() >= goal.threshold
    if not goal.published and others:
        _declare_shortfalls(model, goal, totals, others)
        model.no_more_confidence_is_missing = pyo.Constraint(expr=_missing(model, goal) <= after.budget)


def _margin_index(goal: Goal, layer: int, unit: int) -> Any:
    return (layer, unit) if goal.published else layer


def _declare_margins(model: pyo.ConcreteModel, goal: Goal, after: After) -> None:
    """A margin a unit as published, else one a layer."""
    indices = _units(goal) if goal.published else list(range(1, len(goal.widths) + 1))
    model.margin = pyo.Var(
        indices,
        domain=pyo.NonNegativeReals,
        bounds=lambda _, layer, *_unit: (0, goal.margin_high(layer, after.kept)),
    )


def _link_with_margin(
    model: pyo.ConcreteModel, goal: Goal, index: tuple[int, int, int], total: Total, after: After
) -> None:
    """``fired = 1 => total >= margin``, ``fired = 0 => total <= -1 - margin``; the margin is a variable or a floor."""
    layer, _, j = index
    fired = model.fired[index]
    if after.floors is not None:
        floor = int(after.floors[layer - 1][j])
        model.fires_with_margin[index] = total.expression((total.low - floor, fired)) >= total.low
        model.rests_with_margin[index] = total.expression((-(total.high + 1 + floor), fired)) <= -1 - floor
        return
    margin_link(model, index, total, fired, model.margin[_margin_index(goal, layer, j)])


def _aim_at_margins(model: pyo.ConcreteModel, goal: Goal) -> None:
    priced = [goal.price(index[0] if goal.published else index) * margin for index, margin in model.margin.items()]
    model.margins = pyo.Objective(expr=pyo.quicksum(priced), sense=pyo.maximize)


def _aim_at_links(model: pyo.ConcreteModel, goal: Goal) -> None:
    copies = {
        (layer, j, i): int(n)
        for layer, j in _units(goal)
        for i, n in zip(
            _inputs(goal, layer),
            goal.reduction.copies if layer == 1 else np.ones(goal.widths[layer - 2], dtype=np.int64),
            strict=True,
        )
    }
    count_links(model, list(copies), copies, goal.reduction.domain.bound)
    model.link_count = pyo.Objective(expr=pyo.quicksum(model.links.values()))


# ---- values --------------------------------------------------------------------------------------------------------


def place(model: pyo.ConcreteModel, goal: Goal, network: SignNetwork, after: After | None) -> None:
    """Set all variables of ``model`` to the solution that ``network`` is."""
    values = goal.reduction.rows
    bound = goal.reduction.domain.bound
    for layer in range(1, network.depth + 1):
        names = _inputs(goal, layer)
        for j, (weights, bias) in enumerate(zip(network.weights[layer - 1], network.bias[layer - 1], strict=True)):
            if not goal.published:
                model.bias[layer, j].set_value(int(bias))
            for i, weight in zip(names, weights.tolist(), strict=True):
                model.weight[layer, j, i].set_value(weight)
                if hasattr(model, "plus"):
                    model.plus[layer, j, i].set_value((weight + model.plus[layer, j, i].ub) // 2)
                if hasattr(model, "links"):
                    model.links[layer, j, i].set_value(-(-abs(weight) // bound))
        sums = network.sums(values, layer - 1)
        if layer > 1:
            for number, k, j, i in model.product:
                if number == layer:
                    model.product[number, k, j, i].set_value(int(network.weights[layer - 1][j, i] * values[k, i]))
        if layer < network.depth:
            values = np.where(sums >= 0, 1, -1)
            for number, k, j in model.fired:
                if number == layer:
                    model.fired[number, k, j].set_value(int(values[k, j] > 0))
    _place_outputs(model, goal, network, after)


def _place_outputs(model: pyo.ConcreteModel, goal: Goal, network: SignNetwork, after: After | None) -> None:
    outputs = goal.signed_outputs(network)
    for (k, c), signed in zip(goal.samples, outputs.tolist(), strict=True):
        for j, value in enumerate(signed):
            if hasattr(model, "confident"):
                model.confident[k, c, j].set_value(int(value >= goal.threshold))
            if hasattr(model, "shortfall") and (k, c, j) in model.shortfall:
                model.shortfall[k, c, j].set_value(max(0, goal.threshold - value))
    if hasattr(model, "margin"):
        assert after is not None
        margins = goal.margins(network, after.kept)
        for index in model.margin:
            value = int(margins[index[0] - 1][index[1]]) if goal.published else int(margins[index - 1].min())
            model.margin[index].set_value(min(value, model.margin[index].ub))


def read(model: pyo.ConcreteModel, goal: Goal) -> SignNetwork:
    """The network in the variables of a solved ``model``."""
    weights, bias = [], []
    for layer, width in enumerate(goal.widths, 1):
        names = _inputs(goal, layer)
        values = [[model.weight[layer, j, i].value for i in names] for j in range(width)]
        weights.append(np.array(values, dtype=np.int64).reshape(width, len(names)))
        own = [0 if goal.published else model.bias[layer, j].value for j in range(width)]
        bias.append(np.array(own, dtype=np.int64))
    return SignNetwork(tuple(weights), tuple(bias))
