"""The smallest change that changes the class, as a mixed-integer program over the levels within reach.

For a row x with levels k0, feature f and the levels above and below within reach, ascending in distance:

    moved[f,up,1] >= moved[f,up,2] >= ...            binary: the feature goes at least so many levels up (down)
    moved[f,up,1] + moved[f,down,1] <= 1
    size[f]  = sum_j (distance_j - distance_j-1) moved[f,.,j]             distance of the level that is reached
    total    = sums of the first layer, linear in moved; later layers in fired (fired = 1  <=>  total >= 0)
    wins[w] = 1  =>  every total of the way w to another class is >= 0     sum_w wins[w] >= 1

    minimise   max_f size[f]  (linf),   sum_f size[f]  (l1),   sum_f moved[f,up,1] + moved[f,down,1]  (l0)

Thermometer bits of a feature move together because they are levels of one ladder; categories have no levels. A sum
that the intervals decide is a constant. A class is lost in one of these ways, c the class of the row:

    Sign      the sum has the other sign
    Argmax    s_j - s_c >= [j > c] for one j
    Vote      more votes for j; as many for j, which wins the pair (c, j), and fewer for all others; as many for at
              least two others, and a larger strength for j (or none needed: the strict rule leaves such ties open)

Source: robust sets of Kurtz and Bah (2021) turned round: weights are given, the change is searched.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyomo.environ as pyo

from mip2mcu.certify.bounds import Interval, Problem, Reach
from mip2mcu.decisions import Argmax, Sign, Vote
from mip2mcu.mip.pieces import Total, sign_link
from mip2mcu.ranges import IntArray

Way = list[Total]
"""Totals that together are a way to another class when none of them is negative."""


@dataclass(frozen=True, eq=False)
class Move:
    """A step of a feature by one level: what it costs more than the step before, and what it adds to each unit."""

    feature: int
    upward: bool
    level: int
    increment: int
    effect: IntArray


def moves(problem: Problem, raw: IntArray, reach: Reach) -> list[list[Move]]:
    """The chains of moves, one a feature and direction, each in the order of its distances."""
    ladders, units = problem.ladders, problem.layers[0].units
    own, distances = ladders.levels(raw), ladders.distances(raw)
    chains = []
    for f in range(ladders.features):
        first, place = int(ladders.start[f]), int(ladders.start[f]) + f
        up = [(k, first + k - 1, 1) for k in range(int(own[f]) + 1, int(reach.highest[f]) + 1)]
        down = [(k, first + k, -1) for k in range(int(own[f]) - 1, int(reach.lowest[f]) - 1, -1)]
        for steps in (up, down):
            chain, before = [], 0
            for level, threshold, direction in steps:
                effect = problem.terms[:units, place + level] - problem.terms[:units, place + level - direction]
                distance = int(distances[threshold])
                chain.append(Move(f, direction > 0, level, distance - before, effect))
                before = distance
            if chain:
                chains.append(chain)
    return chains


def constant(value: int) -> Total:
    """A total without variables."""
    return Total((), (), value, value, value)


def combination(parts: Sequence[tuple[int, Total]], offset: int = 0) -> Total:
    """``offset + sum of factor * total``, like variables together; its interval is that of independent totals."""
    variables: dict[int, Any] = {}
    factors: dict[int, int] = {}
    low = high = value = offset
    for factor, total in parts:
        value += factor * total.constant
        ends = (factor * total.low, factor * total.high)
        low, high = low + min(ends), high + max(ends)
        for variable, coefficient in zip(total.variables, total.coefficients, strict=True):
            variables[id(variable)] = variable
            factors[id(variable)] = factors.get(id(variable), 0) + factor * coefficient
    kept = [key for key, factor in factors.items() if factor]
    return Total(tuple(variables[k] for k in kept), tuple(factors[k] for k in kept), value, low, high)


def narrowed(total: Total, low: int, high: int) -> Total:
    """The same total with a better interval."""
    return Total(total.variables, total.coefficients, total.constant, max(low, total.low), min(high, total.high))


def build_model(
    problem: Problem, inputs: IntArray, raw: IntArray, predicted: int, reach: Reach, norm: str, least: int
) -> pyo.ConcreteModel | None:
    """The program for one row (inputs, raw features); None where the intervals leave no way to another class.

    least   a size that is proved to be too small less one: the objective is at least ``least``
    """
    first = problem.first(inputs, raw, reach)
    if problem.certain(first, predicted):
        return None
    model = pyo.ConcreteModel()
    chains = moves(problem, raw, reach)
    model.moved = pyo.Var([(c, j) for c, chain in enumerate(chains) for j in range(len(chain))], domain=pyo.Binary)
    _add_chains(model, chains)
    _add_size(model, chains, norm, least)
    sums = _add_layers(model, problem, chains, inputs, first)
    ways = [way for way in _ways(model, problem, sums, first, predicted) if all(total.high >= 0 for total in way)]
    if not ways:
        return None
    model.wins = pyo.Var(range(len(ways)), domain=pyo.Binary)
    model.way_is_open = pyo.ConstraintList()
    for w, way in enumerate(ways):
        for total in way:
            if total.low < 0:
                model.way_is_open.add(total.expression((total.low, model.wins[w])) >= total.low)
    model.some_way = pyo.Constraint(expr=sum(model.wins[w] for w in range(len(ways))) >= 1)
    return model


def levels_of(model: pyo.ConcreteModel, problem: Problem, raw: IntArray, reach: Reach) -> IntArray:
    """The levels (features,) of the model's solution."""
    levels = problem.ladders.levels(raw)
    for c, chain in enumerate(moves(problem, raw, reach)):
        for j, move in enumerate(chain):
            if model.moved[c, j].value:
                levels[move.feature] = move.level
    return levels


def _add_chains(model: pyo.ConcreteModel, chains: list[list[Move]]) -> None:
    model.in_order = pyo.ConstraintList()
    model.one_direction = pyo.ConstraintList()
    for c, chain in enumerate(chains):
        for j in range(1, len(chain)):
            model.in_order.add(model.moved[c, j] <= model.moved[c, j - 1])
        if c and chains[c - 1][0].feature == chain[0].feature:
            model.one_direction.add(model.moved[c - 1, 0] + model.moved[c, 0] <= 1)


def _add_size(model: pyo.ConcreteModel, chains: list[list[Move]], norm: str, least: int) -> None:
    """The objective: the size of the change by ``norm``."""
    sizes: dict[int, list[tuple[int, Any]]] = {}
    for c, chain in enumerate(chains):
        for j, move in enumerate(chain):
            counts = 1 if norm == "l0" and j == 0 else 0 if norm == "l0" else move.increment
            sizes.setdefault(move.feature, []).append((counts, model.moved[c, j]))
    terms = [factor * variable for parts in sizes.values() for factor, variable in parts if factor]
    most = sum(factor for parts in sizes.values() for factor, _ in parts)
    model.size = pyo.Var(domain=pyo.Integers, bounds=(least, max(most, least)))
    model.reaches = pyo.ConstraintList()
    if norm == "linf":
        for parts in sizes.values():
            model.reaches.add(model.size >= sum(factor * variable for factor, variable in parts))
    else:
        model.reaches.add(model.size >= sum(terms))
    model.smallest = pyo.Objective(expr=model.size)


def _add_layers(
    model: pyo.ConcreteModel, problem: Problem, chains: list[list[Move]], inputs: IntArray, first: Interval
) -> list[Total]:
    """The last layer's sums, after all sign units."""
    layer, intervals = problem.layers[0], problem.sums(first)
    base = layer.weights @ inputs + layer.bias
    flat = [(model.moved[c, j], move.effect) for c, chain in enumerate(chains) for j, move in enumerate(chain)]
    totals = []
    for unit in range(layer.units):
        parts = [(variable, int(effect[unit])) for variable, effect in flat if effect[unit]]
        low, high = int(intervals[0].low[unit]), int(intervals[0].high[unit])
        totals.append(Total(tuple(v for v, _ in parts), tuple(e for _, e in parts), int(base[unit]), low, high))
    model.fires, model.rests = pyo.Constraint(pyo.Any), pyo.Constraint(pyo.Any)
    model.fired = pyo.Var(pyo.Any, domain=pyo.Binary, dense=False)
    for depth, layer in enumerate(problem.layers[1:], start=1):
        outputs = [_output(model, (depth, unit), total) for unit, total in enumerate(totals)]
        totals = [
            narrowed(
                combination([(int(w), o) for w, o in zip(row, outputs, strict=True) if w], int(bias)),
                int(intervals[depth].low[unit]),
                int(intervals[depth].high[unit]),
            )
            for unit, (row, bias) in enumerate(zip(layer.weights, layer.bias, strict=True))
        ]
    return totals


def _fired(model: pyo.ConcreteModel, index: tuple[object, ...], total: Total) -> Total:
    """1 where ``total`` is not negative, else 0."""
    if total.low >= 0 or total.high < 0:
        return constant(int(total.low >= 0))
    if index not in model.fired:
        sign_link(model, index, total, model.fired[index])
    return Total((model.fired[index],), (1,), 0, 0, 1)


def _output(model: pyo.ConcreteModel, index: tuple[object, ...], total: Total) -> Total:
    """A sign unit's output, -1 or +1."""
    return combination([(2, _fired(model, index, total))], -1)


# ---- ways to lose a class ------------------------------------------------------------------------------------------


def _ways(
    model: pyo.ConcreteModel, problem: Problem, sums: list[Total], first: Interval, predicted: int
) -> Iterator[Way]:
    rule = problem.network.decision
    if isinstance(rule, Sign):
        yield [combination([(-1, sums[0])], -1) if predicted == 0 else sums[0]]
    elif isinstance(rule, Argmax):
        low, high = problem.differences(first)
        for j in range(rule.classes):
            if j != predicted:
                between = combination([(1, sums[j]), (-1, sums[predicted])])
                exact = narrowed(between, int(low[j, predicted]), int(high[j, predicted]))
                yield [combination([(1, exact)], -int(j > predicted))]
    else:
        yield from _lost_votes(model, rule, sums, predicted)


def _lost_votes(model: pyo.ConcreteModel, rule: Vote, sums: list[Total], c: int) -> Iterator[Way]:
    others = [j for j in range(rule.classes) if j != c]
    for_first = [_fired(model, ("vote", m), total) for m, total in enumerate(sums)]
    votes = {k: _votes(rule, for_first, k) for k in range(rule.classes)}
    ahead = {j: combination([(1, votes[j]), (-1, votes[c])]) for j in others}
    for j in others:
        yield [combination([(1, ahead[j])], -1)]
    for j in others:
        member = rule.members.index((min(c, j), max(c, j)))
        wins = for_first[member] if j < c else combination([(-1, for_first[member])], 1)
        fewer = [combination([(-1, ahead[k])], -1) for k in others if k != j]
        yield [ahead[j], combination([(1, wins)], -1), *fewer]
    if rule.classes < 3:
        return
    model.level_with = pyo.Var(others, domain=pyo.Binary)
    model.is_level = pyo.ConstraintList()
    for k in others:
        if ahead[k].low < 0:
            model.is_level.add(ahead[k].expression((ahead[k].low, model.level_with[k])) >= ahead[k].low)
    level = Total(tuple(model.level_with[k] for k in others), (1,) * len(others), -2, -2, len(others) - 2)
    if not rule.by_margin:
        yield [level]
        return
    strengths = {k: _strength(rule, sums, k) for k in range(rule.classes)}
    for j in others:
        stronger = combination([(1, strengths[j]), (-1, strengths[c])], -int(j > c))
        yield [level, ahead[j], stronger]


def _votes(rule: Vote, for_first: list[Total], k: int) -> Total:
    parts, offset = [], 0
    for (a, b), fired in zip(rule.members, for_first, strict=True):
        if k == a:
            parts.append((1, fired))
        elif k == b:
            parts.append((-1, fired))
            offset += 1
    return combination(parts, offset)


def _strength(rule: Vote, sums: list[Total], k: int) -> Total:
    parts = [(1 if k == a else -1, total) for (a, b), total in zip(rule.members, sums, strict=True) if k in (a, b)]
    return combination(parts)


