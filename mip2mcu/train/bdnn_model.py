"""BDNN: the exact program of networks with 0/1 activations, for whole or continuous weights, plain or robust.

For distinct rows k with activation patterns p = pattern[k], layers l, units j; the last layer's units are 0/1 as well:

    total[1,k,j] = sum_i weight[1,j,i] x_ki + bias[1,j]
    total[l,p,j] = sum_i product[l,p,j,i]   + bias[l,j]          product = weight * fired, linearised exactly
    fired[l,p,j] = 1  <=>  total >= 0                            margins on both sides, see below
    minimise  sum_k,c count[k,c] * (bits of the output of k that differ from class c's)

Two classes have one output, which fires for the first class: the objective counts errors. More classes have one output
each: it counts differing bits. With a pattern of its own for every row this is the exact model; rows that share one
(data splitting) have the same activations in every layer, so only rows of the first layer stay a row each.

Whole weights and inputs make whole totals: "does not fire" is ``total <= -1``, without any epsilon. Continuous weights
lie in [-1, 1], which loses nothing, and keep ``MARGIN`` on both sides of zero: with a margin on one side only, claimed
activations are not those of the weights.

Robust: with a set of changes for every row, ``held[k] = 1`` where the first layer has one pattern for all of them:

    fired = 1 and held = 1:  total - drop >= 0         drop[j,f] >= what unit j can lose by feature f
    fired = 0 and held = 1:  total + rise <= -1        rise[j,f] >= what it can gain
    where raw units are counted, drop and rise are the last entry of a knapsack's table, best[f,b]
    minimise  errors + rows that are not held, or not right

Source: Kurtz and Bah (2021), with held rows instead of a pattern forced on every row.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyomo.environ as pyo

from mip2mcu.mip.pieces import Total, declare_weights, dense_row, sign_link
from mip2mcu.ranges import BoolArray, IntArray
from mip2mcu.train.reduction import Reduction
from mip2mcu.train.robust_set import Move, RobustSets
from mip2mcu.train.sign_network import SignNetwork

MARGIN = 1e-3
"""Distance of continuous totals from zero."""


@dataclass(frozen=True, eq=False)
class Plan:
    """What the program is built from.

    reduction   rows (k, columns) with counts a class
    widths      units of each layer, the output layer last
    pattern     (k,): the activation pattern that a row shares with others; 0, 1, ... without gaps
    continuous  weights in [-1, 1] instead of whole numbers
    shared      one threshold a layer instead of one a unit
    sets        the changes that a row must withstand, or None
    """

    reduction: Reduction
    widths: tuple[int, ...]
    pattern: IntArray
    continuous: bool = False
    shared: bool = False
    sets: RobustSets | None = None

    @property
    def bound(self) -> int:
        """Largest weight."""
        return 1 if self.continuous else self.reduction.domain.bound

    @property
    def margins(self) -> tuple[float, float]:
        """How far above zero the total of a unit that fires is at least, and how far below one that rests."""
        return (MARGIN, MARGIN) if self.continuous else (0, 1)

    def high(self, layer: int) -> IntArray:
        """Largest weight of each input of ``layer``."""
        if layer == 1:
            return self.reduction.copies * self.bound
        return np.full(self.widths[layer - 2], self.bound, dtype=np.int64)

    def inputs(self, layer: int) -> int:
        """Inputs of ``layer``."""
        return len(self.reduction.groups) if layer == 1 else self.widths[layer - 2]

    def bias_high(self, layer: int) -> int:
        """With a bias of this size a unit fires, or rests, whatever its weights are."""
        if layer > 1:
            return self.bound * self.widths[layer - 2] + 1
        reach = int((np.abs(self.reduction.rows) @ self.high(1)).max(initial=0))
        return reach + 1 + (0 if self.sets is None else self.sets.most(self.bound))

    def wanted(self) -> IntArray:
        """(k, outputs): samples behind a row that want each output to fire."""
        return wanted_bits(self.reduction.counts, self.widths[-1])

    @property
    def entries(self) -> int:
        """Matrix entries of the program, roughly."""
        rows, patterns = len(self.reduction.rows), int(self.pattern.max(initial=0)) + 1
        first = rows * self.widths[0] * self.inputs(1)
        deeper = sum(a * b for a, b in zip(self.widths, self.widths[1:], strict=False))
        if self.sets is None:
            return 2 * first + 8 * patterns * deeper
        return 6 * first + 8 * patterns * deeper + self.widths[0] * self.sets.entries


def wanted_bits(counts: IntArray, outputs: int) -> IntArray:
    """(k, outputs): samples behind a row that want each output to fire; ``counts`` (k, classes)."""
    return counts[:, :1] if outputs == 1 else counts


def build_model(plan: Plan) -> pyo.ConcreteModel:
    """The program; layers count from 1, weights are (layer, unit, input), activations (layer, pattern, unit)."""
    model = pyo.ConcreteModel(name="bdnn")
    _declare(model, plan)
    for k, p in enumerate(plan.pattern.tolist()):
        for j in range(plan.widths[0]):
            total = _first_total(model, plan, k, j)
            sign_link(model, ("row", k, j), total, model.fired[1, p, j], margins=plan.margins)
            if plan.sets is not None:
                _hold(model, plan, plan.sets, k, j, total)
    for layer in range(2, len(plan.widths) + 1):
        for p in range(_patterns(plan)):
            for j in range(plan.widths[layer - 1]):
                total = _total(model, plan, layer, p, j)
                sign_link(model, (layer, p, j), total, model.fired[layer, p, j], margins=plan.margins)
    _add_objective(model, plan)
    return model


def _patterns(plan: Plan) -> int:
    return int(plan.pattern.max(initial=-1)) + 1


def _units(plan: Plan) -> Iterator[tuple[int, int]]:
    return ((layer, j) for layer, width in enumerate(plan.widths, start=1) for j in range(width))


def _declare(model: pyo.ConcreteModel, plan: Plan) -> None:
    highs = {layer: plan.high(layer).tolist() for layer in range(1, len(plan.widths) + 1)}
    places = [(layer, j, i) for layer, j in _units(plan) for i in range(plan.inputs(layer))]
    high = {(layer, j, i): highs[layer][i] for layer, j, i in places}
    binary = plan.reduction.domain.binary and not plan.continuous
    declare_weights(model, places, high, binary, whole=not plan.continuous)
    model.bias = pyo.Var(
        sorted({_bias_index(plan, layer, j) for layer, j in _units(plan)}),
        domain=pyo.Reals if plan.continuous else pyo.Integers,
        bounds=lambda _, layer, j: (-plan.bias_high(layer), plan.bias_high(layer)),
    )
    patterns = range(_patterns(plan))
    model.fired = pyo.Var([(layer, p, j) for layer, j in _units(plan) for p in patterns], domain=pyo.Binary)
    model.product = pyo.Var(
        [(layer, p, j, i) for layer, j, i in places if layer > 1 for p in patterns],
        domain=pyo.Reals,
        bounds=(-plan.bound, plan.bound),
    )
    for name in ("fires", "rests", "zero_above", "zero_below", "kept_above", "kept_below"):
        setattr(model, name, pyo.Constraint(pyo.Any))
    if plan.sets is not None:
        model.held = pyo.Var(range(len(plan.reduction.rows)), domain=pyo.Binary)
        alone = range(0 if plan.sets.counts_units else len(plan.sets.moves))
        kinds = [(j, n) for j in range(plan.widths[0]) for n in alone]
        model.drop = pyo.Var(kinds, domain=pyo.NonNegativeReals)
        model.rise = pyo.Var(kinds, domain=pyo.NonNegativeReals)
        model.price = pyo.Var(pyo.Any, domain=pyo.NonNegativeReals, dense=False)
        model.best = pyo.Var(pyo.Any, domain=pyo.NonNegativeReals, dense=False)
        for name in ("drops", "rises", "priced", "bettered", "held_fires", "held_rests"):
            setattr(model, name, pyo.Constraint(pyo.Any))
        for j, n in kinds:
            _add_moves(model, plan.sets, j, n)


def _bias_index(plan: Plan, layer: int, j: int) -> tuple[int, int]:
    return layer, 0 if plan.shared else j


def _first_total(model: pyo.ConcreteModel, plan: Plan, k: int, j: int) -> Total:
    row, high = plan.reduction.rows[k], plan.high(1)
    weights = [model.weight[1, j, i] for i in range(len(row))]
    variables, factors = dense_row(weights, row)
    reach = int(np.abs(row) @ high) + plan.bias_high(1)
    return Total((*variables, model.bias[_bias_index(plan, 1, j)]), (*factors, 1), 0, -reach, reach)


def _total(model: pyo.ConcreteModel, plan: Plan, layer: int, p: int, j: int) -> Total:
    """The sum of a deeper unit, its products linked to weights and activations."""
    bound, products = plan.bound, []
    for i in range(plan.inputs(layer)):
        index = (layer, p, j, i)
        product, weight, fired = model.product[index], model.weight[layer, j, i], model.fired[layer - 1, p, i]
        model.zero_above[index] = product <= bound * fired
        model.zero_below[index] = product >= -bound * fired
        model.kept_above[index] = product <= weight + bound * (1 - fired)
        model.kept_below[index] = product >= weight - bound * (1 - fired)
        products.append(product)
    reach = bound * len(products) + plan.bias_high(layer)
    bias = model.bias[_bias_index(plan, layer, j)]
    return Total((*products, bias), (1,) * (len(products) + 1), 0, -reach, reach)


# ---- robust ----


def _add_moves(model: pyo.ConcreteModel, sets: RobustSets, j: int, n: int) -> None:
    """``drop`` and ``rise`` cover everything that the moves of kind ``n`` add to unit ``j``."""
    for m, move in enumerate(sets.moves[n]):
        effect = _gain(model, j, move)
        model.drops[j, n, m] = model.drop[j, n] >= -effect
        model.rises[j, n, m] = model.rise[j, n] >= effect


def _gain(model: pyo.ConcreteModel, j: int, move: Move) -> Any:
    """What ``move`` adds to unit ``j``."""
    return sum(step * model.weight[1, j, i] for i, step in move)


def _hold(model: pyo.ConcreteModel, plan: Plan, sets: RobustSets, k: int, j: int, total: Total) -> None:
    """``held[k] = 1``: unit j's activation on row k is the same for every change in the row's set."""
    kinds, fired, held = sets.of_row[k], model.fired[1, int(plan.pattern[k]), j], model.held[k]
    most = sets.most_of(kinds, plan.bound)
    low, high = total.low - most, total.high + most
    above, below = plan.margins
    drops, rises = (_worst(model, sets, name, j, kinds) for name in ("drop", "rise"))
    signed = total.expression(*((-c, v) for c, v in drops), (low - above, fired), (low - above, held))
    model.held_fires[k, j] = signed >= 2 * low - above
    signed = total.expression(*rises, (-(high + below), fired), (high + below, held))
    model.held_rests[k, j] = signed <= high


def _worst(
    model: pyo.ConcreteModel, sets: RobustSets, name: str, j: int, kinds: tuple[int, ...]
) -> list[tuple[int, pyo.Var]]:
    """Terms whose sum is at least the worst of all changes: all parts, or the worst ``sets.budget`` of them.

    The largest sum of G parts is the least G * t + sum_f q_f with t + q_f >= part_f (Bertsimas and Sim, 2004).
    """
    row = sets.of_row.index(kinds)  # rows with the same kinds share their terms
    if sets.counts_units:
        return _filled(model, sets, (name, j, row))
    parts = [getattr(model, name)[j, n] for n in kinds]
    if sets.budget is None or sets.budget >= len(parts):
        return [(1, part) for part in parts]
    known = (name, j, row, -1) in model.price
    terms = [(sets.budget, model.price[name, j, row, -1])]
    for f, part in enumerate(parts):
        terms.append((1, model.price[name, j, row, f]))
        if not known:
            model.priced[name, j, row, f] = model.price[name, j, row, -1] + model.price[name, j, row, f] >= part
    return terms


def _filled(model: pyo.ConcreteModel, sets: RobustSets, case: tuple[str, int, int]) -> list[tuple[int, pyo.Var]]:
    """A term that is at least the most of a knapsack: the tables of `RobustSets.knapsack`, an entry a variable."""
    name, j, row = case
    kinds = sets.of_row[row]
    assert sets.budget is not None
    if not kinds:
        return []
    if (*case, len(kinds), sets.budget) not in model.best:
        sign = -1 if name == "drop" else 1
        for f, n in enumerate(kinds, start=1):
            for budget in range(1, sets.budget + 1):
                best = model.best[(*case, f, budget)]
                if f > 1:
                    model.bettered[(*case, f, budget, -1)] = best >= model.best[(*case, f - 1, budget)]
                for m, (cost, move) in enumerate(zip(sets.costs[n], sets.moves[n], strict=True)):
                    if cost <= budget:
                        before = model.best[(*case, f - 1, budget - cost)] if f > 1 and cost < budget else 0
                        model.bettered[(*case, f, budget, m)] = best >= before + sign * _gain(model, j, move)
    return [(1, model.best[(*case, len(kinds), sets.budget)])]


def _add_objective(model: pyo.ConcreteModel, plan: Plan) -> None:
    wanted, last = plan.wanted(), len(plan.widths)
    samples = plan.reduction.counts.sum(axis=1)
    cost = 0
    for k, p in enumerate(plan.pattern.tolist()):
        for c in range(plan.widths[-1]):
            fires = int(wanted[k, c])
            cost += fires + (int(samples[k]) - 2 * fires) * model.fired[last, p, c]
    if plan.sets is not None:
        model.held_is_right = pyo.ConstraintList()
        for k, p in enumerate(plan.pattern.tolist()):
            best = int(plan.reduction.counts[k].argmax())
            for c in range(plan.widths[-1]):
                fired = model.fired[last, p, c]
                should = best == c if plan.widths[-1] > 1 else best == 0
                model.held_is_right.add(model.held[k] <= (fired if should else 1 - fired))
            cost += int(samples[k]) - int(plan.reduction.counts[k, best]) * model.held[k]
    model.cost = pyo.Objective(expr=cost)


# ---- values in and out ----


def zero_one_bias(network: SignNetwork, layer: int) -> IntArray:
    """Bias of 0/1 units that fire exactly where the sign units of ``layer`` (from 0) do.

    With h = 2 u - 1: sum w h + b >= 0 <=> sum w u + (b - sum w) / 2 >= 0, rounded down; the first layer reads inputs.
    """
    if layer == 0:
        return network.bias[0]
    return (network.bias[layer] - network.weights[layer].sum(axis=1)) // 2


def sign_bias(weights: IntArray, bias: IntArray, layer: int) -> IntArray:
    """The inverse: bias of sign units from that of 0/1 units, sum w + 2 b; the first layer's is its own."""
    return bias if layer == 0 else weights.sum(axis=1) + 2 * bias


def place(model: pyo.ConcreteModel, plan: Plan, network: SignNetwork) -> None:
    """Set all variables to the solution that ``network`` is; every row must have a pattern of its own.

    Continuous totals are moved half a step up, so that whole ones keep their margin on both sides of zero. A bias of a
    network that knows more rows is cut at the end of its range, where the unit is constant on these rows too.
    """
    values, half = plan.reduction.rows, 0.5 if plan.continuous else 0
    for depth in range(network.depth):
        layer, weights, bias = depth + 1, network.weights[depth], zero_one_bias(network, depth)
        for j, i in np.ndindex(*weights.shape):
            weight = int(weights[j, i])
            model.weight[layer, j, i].set_value(weight)
            if hasattr(model, "plus"):
                model.plus[layer, j, i].set_value((weight + model.plus[layer, j, i].ub) // 2)
        high = plan.bias_high(layer)
        for j in range(len(bias)):
            model.bias[_bias_index(plan, layer, j)].set_value(min(max(int(bias[j]) + half, -high), high))
        if depth:
            for k, j, i in np.ndindex(len(values), *weights.shape):
                model.product[layer, k, j, i].set_value(int(weights[j, i] * values[k, i]))
        values = (values @ weights.T + bias >= 0).astype(np.int64)
        for k, j in np.ndindex(*values.shape):
            model.fired[layer, k, j].set_value(int(values[k, j]))
    if plan.sets is not None:
        _place_sets(model, plan, plan.sets, network)


def _place_sets(model: pyo.ConcreteModel, plan: Plan, sets: RobustSets, network: SignNetwork) -> None:
    drops, rises = sets.drops_and_rises(network.weights[0])
    for (j, n), variable in model.drop.items():
        variable.set_value(int(drops[n, j]))
        model.rise[j, n].set_value(int(rises[n, j]))
    gains = sets.gains(network.weights[0])
    tables: dict[tuple[str, int], list[np.ndarray]] = {}
    for (name, j, row, f, budget), variable in model.best.items():
        if (name, row) not in tables:
            own = [gains[n] if name == "rise" else -gains[n] for n in sets.of_row[row]]
            tables[name, row] = sets.knapsack(own, sets.of_row[row])
        variable.set_value(int(tables[name, row][f][budget, j]))
    for (name, j, row, part), variable in model.price.items():
        worst = [int((drops if name == "drop" else rises)[n, j]) for n in sets.of_row[row]]
        assert sets.budget is not None
        level = sorted(worst, reverse=True)[sets.budget - 1]
        variable.set_value(level if part < 0 else max(0, worst[part] - level))
    held = sets.held(network.weights[0], network.sums(plan.reduction.rows, 0), right_rows(network, plan.reduction))
    for k, variable in model.held.items():
        variable.set_value(int(held[k]))


def output_bits(network: SignNetwork, reduction: Reduction) -> IntArray:
    """(k, outputs): 1 where an output fires."""
    return (network.sums(network.inputs_of(reduction.rows, network.depth - 1), network.depth - 1) >= 0).astype(np.int64)


def right_rows(network: SignNetwork, reduction: Reduction) -> BoolArray:
    """(k,): the output bits are those of the row's most frequent class."""
    best = reduction.counts.argmax(axis=1)
    bits = output_bits(network, reduction)
    wanted = (best == 0)[:, None] if bits.shape[1] == 1 else best[:, None] == np.arange(bits.shape[1])
    return np.asarray((bits == wanted).all(axis=1))


def cost(network: SignNetwork, reduction: Reduction, sets: RobustSets | None) -> int:
    """The program's objective in exact integers."""
    return int(row_costs(network, reduction, sets).sum())


def row_costs(network: SignNetwork, reduction: Reduction, sets: RobustSets | None) -> IntArray:
    """(k,): each row's share of the objective: output bits that differ, and samples that are not held."""
    bits, counts = output_bits(network, reduction), reduction.counts
    wanted = wanted_bits(counts, bits.shape[1])
    samples = counts.sum(axis=1)
    costs = np.where(bits == 1, samples[:, None] - wanted, wanted).sum(axis=1)
    if sets is not None:
        held = sets.held(network.weights[0], network.sums(reduction.rows, 0), right_rows(network, reduction))
        costs = costs + samples - counts.max(axis=1) * held
    return np.asarray(costs, dtype=np.int64)


def least_costs(reduction: Reduction, outputs: int, sets: RobustSets | None) -> IntArray:
    """(k,): what every network costs on a row, for equal rows of several classes cannot all be right."""
    counts = reduction.counts
    wanted = wanted_bits(counts, outputs)
    samples = counts.sum(axis=1)
    costs = np.minimum(wanted, samples[:, None] - wanted).sum(axis=1)
    if sets is not None:
        costs = costs + samples - counts.max(axis=1)
    return np.asarray(costs, dtype=np.int64)


def read(model: pyo.ConcreteModel, plan: Plan) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Weights and 0/1 bias of every layer as they stand in a solved ``model``."""
    kind = np.float64 if plan.continuous else np.int64
    weights, bias = [], []
    for layer, width in enumerate(plan.widths, start=1):
        inputs = plan.inputs(layer)
        rows = [[model.weight[layer, j, i].value for i in range(inputs)] for j in range(width)]
        weights.append(np.array(rows, dtype=kind).reshape(width, inputs))
        bias.append(np.array([model.bias[_bias_index(plan, layer, j)].value for j in range(width)], dtype=kind))
    return weights, bias
