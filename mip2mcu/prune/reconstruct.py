"""The units that the next layer misses least, without any refit: a mixed-integer program, linear in the removals.

While the layers before are whole, removing units changes the next sums linearly. For image i, unit k of the next
layer and what unit j gives it, ``given[i, k, j]``:

    minimise   mean_ik missed[i, k]
    subject to |sum_j gone[j] given[i, k, j] - shift[k]| <= missed[i, k]        gone binary, shift free (into the bias)
               sum_j cost[j] (1 - gone[j]) <= budget

There is no ReLU in it, so it is proved optimal in seconds for some 30 units. The budget counts units, in blocks of
``multiple`` where kernels want that, or bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pyomo.environ as pyo
from pyomo.core.expr import LinearExpression

from mip2mcu.errors import NoSolutionError
from mip2mcu.mip.matrix import FloatArray
from mip2mcu.mip.solver import Solve, no_solve, solve
from mip2mcu.prune.removal import sampled
from mip2mcu.prune.selection import Problem, Selection
from mip2mcu.ranges import IntArray

EQUATIONS = 60
"""Images, or positions in images, that the program is written for."""


@dataclass(frozen=True, eq=False)
class Budget:
    """What the kept units may cost together; ``cost`` (units,), ``multiple`` units at a time."""

    cost: FloatArray
    most: float
    multiple: int = 1


def removal_model(given: FloatArray, budget: Budget) -> pyo.ConcreteModel:
    """The program for ``given`` (images, units of the next layer, units)."""
    images, readers, units = given.shape
    model = pyo.ConcreteModel(name="reconstruction")
    model.gone = pyo.Var(range(units), domain=pyo.Binary)
    model.shift = pyo.Var(range(readers))
    model.missed = pyo.Var(range(images), range(readers), domain=pyo.NonNegativeReals)

    def side(i: int, k: int, sign: float) -> LinearExpression:
        used = [j for j in range(units) if given[i, k, j]]
        return LinearExpression(
            linear_coefs=[*(sign * given[i, k, used]).tolist(), -sign, -1.0],
            linear_vars=[*(model.gone[j] for j in used), model.shift[k], model.missed[i, k]],
        )

    pairs = pyo.Set(initialize=[(i, k) for i in range(images) for k in range(readers)], dimen=2)
    model.pairs = pairs
    model.misses_above = pyo.Constraint(pairs, rule=lambda _, i, k: (None, side(i, k, 1.0), 0.0))
    model.misses_below = pyo.Constraint(pairs, rule=lambda _, i, k: (None, side(i, k, -1.0), 0.0))
    total = float(budget.cost.sum())
    freed = LinearExpression(linear_coefs=budget.cost.tolist(), linear_vars=[model.gone[j] for j in range(units)])
    model.fits_the_budget = pyo.Constraint(expr=(total - budget.most, freed, None))
    model.keeps_one = pyo.Constraint(expr=sum(model.gone.values()) <= units - 1)
    if budget.multiple > 1:
        model.blocks = pyo.Var(domain=pyo.NonNegativeIntegers)
        model.keeps_blocks = pyo.Constraint(expr=units - sum(model.gone.values()) == budget.multiple * model.blocks)
    model.mean_missed = pyo.Objective(expr=sum(model.missed.values()) / (images * readers))
    return model


def reconstruction(problem: Problem, multiple: int = 1) -> Selection:
    """Layer by layer, the units whose removal changes the next layer's sums least."""
    network, kept, solves = problem.network, [], []
    share = None if problem.solver.time_limit is None else problem.solver.time_limit / max(1, len(network.prunable))
    for k, count in zip(network.prunable, problem.counts, strict=True):
        given = given_by(problem, k)
        # every unit costs the same, so the budget is met where only as many are freed as must be
        budget = Budget(np.ones(given.shape[2]), float(count), multiple if count % multiple == 0 else 1)
        chosen, record = chosen_units(given, budget, problem, share, f"sums after layer {k}")
        kept.append(_filled(chosen, given, count))
        solves.append(record)
    return Selection(tuple(kept), solves=tuple(solves))


def chosen_units(
    given: FloatArray, budget: Budget, problem: Problem, seconds: float | None, stage: str
) -> tuple[IntArray, Solve]:
    """Units to keep within ``budget``, ascending, and the record."""
    scale = max(float(np.abs(given).max()), 1e-30)
    clean = np.where(np.abs(given) < 1e-6 * scale, 0.0, given) / scale
    model = removal_model(clean, budget)
    start = _by_spread_in(clean, budget)
    _set_start(model, clean, start, budget)
    solver = problem.solver.within(seconds)
    try:
        record = solve(
            model, solver, start=True, stage=stage, listener=problem.listener, stop=problem.stop
        )
    except NoSolutionError:  # no time to look at the start, if it keeps the budget at all
        if budget.cost[start].sum() > budget.most or len(start) % budget.multiple:
            raise
        return start, replace(no_solve(stage, solver), objective=float(pyo.value(model.mean_missed)))
    return np.array([j for j in model.gone if not model.gone[j].value], dtype=np.int64), record


def _by_spread_in(given: FloatArray, budget: Budget) -> IntArray:
    """A start: the units with the largest spread for their cost, as many as the budget allows."""
    order = np.argsort(-given.std(axis=0).sum(axis=0) / budget.cost, kind="stable")
    count = len(order)
    while count > 1 and (budget.cost[order[:count]].sum() > budget.most or count % budget.multiple):
        count -= 1
    return np.sort(order[:count])


def _set_start(model: pyo.ConcreteModel, given: FloatArray, kept: IntArray, budget: Budget) -> None:
    """Values for which ``kept`` and the medians of what is missed keep all constraints."""
    gone = np.ones(given.shape[2])
    gone[kept] = 0.0
    lost = given @ gone
    shift = np.median(lost, axis=0)
    missed = np.abs(lost - shift)
    model.gone.set_values({j: int(value) for j, value in enumerate(gone)})
    model.shift.set_values({k: float(value) for k, value in enumerate(shift)})
    model.missed.set_values({(i, k): float(missed[i, k]) for i, k in model.pairs})
    if budget.multiple > 1:
        model.blocks.set_value(len(kept) // budget.multiple)


def _filled(chosen: IntArray, given: FloatArray, count: int) -> IntArray:
    """``chosen``, and until there are ``count`` the others with the largest spread: room that costs nothing."""
    spread = given.std(axis=0).sum(axis=0)
    spread[chosen] = np.inf
    return np.sort(np.argsort(-spread, kind="stable")[: max(count, len(chosen))])


def given_by(problem: Problem, k: int) -> FloatArray:
    """What each unit of layer ``k`` gives each sum of the next one: (equations, next units, units)."""
    network = problem.network
    outgoing = network.outgoing(k)
    columns = sampled(network, network.reader(k), problem.inputs)[0]
    rows = np.random.default_rng(problem.seed).permutation(len(columns))[:EQUATIONS]
    return np.einsum("ijt,ojt->ioj", columns[np.sort(rows)].reshape(len(rows), outgoing.shape[1], -1), outgoing)
