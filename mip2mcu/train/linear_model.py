"""The model of the linear formulation; `mip2mcu.train.linear` says what its stages mean."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyomo.environ as pyo

from mip2mcu.mip.pieces import Total, count_links, declare_weights, reaches_margin, total_of
from mip2mcu.train.reduction import Reduction


def build_model(reduction: Reduction, target: int, budget: int | None = None) -> pyo.ConcreteModel:
    """The model of both stages; ``budget`` selects the links stage. Names carry the inputs' and rows' indices.

    Inputs are named by the first one that a merged column stands for, rows by their order of first occurrence.
    """
    model = pyo.ConcreteModel(name="linear_margin" if budget is None else "linear_links")
    classes = range(reduction.counts.shape[1])
    single = len(classes) == 2
    units = [0] if single else list(classes)
    columns = [int(group[0]) for group in reduction.groups]
    indices = [(j, i) for j in units for i in columns]
    high = {(j, i): int(h) for j in units for i, h in zip(columns, reduction.weight_high, strict=True)}
    declare_weights(model, indices, high, reduction.domain.binary)
    bias_high = _bias_high(reduction, target)
    model.bias = pyo.Var(units, domain=pyo.Integers, bounds=(-bias_high, bias_high))
    wins = [(k, c, o) for k, c in np.argwhere(reduction.counts).tolist() for o in classes if o != c]
    model.shortfall = pyo.Var(wins, domain=pyo.NonNegativeReals)
    totals = {
        (k, j): _row_total(model, reduction, k, j, columns, bias_high)
        for k in range(len(reduction.rows))
        for j in units
    }

    def wins_by_margin(m: pyo.ConcreteModel, k: int, c: int, other: int) -> Any:
        if single:
            return reaches_margin(totals[k, 0], 1 if c == 0 else -1, target, m.shortfall[k, c, other])
        return reaches_margin(totals[k, c].minus(totals[k, other]), 1, target, m.shortfall[k, c, other])

    model.true_class_wins_by_margin = pyo.Constraint(wins, rule=wins_by_margin)
    missing = sum(int(reduction.counts[k, c]) * model.shortfall[k, c, o] for k, c, o in wins)
    if budget is None:
        model.missing_margin = pyo.Objective(expr=missing)
        return model
    copies = {(j, i): int(n) for j in units for i, n in zip(columns, reduction.copies, strict=True)}
    count_links(model, indices, copies, reduction.domain.bound)
    model.margin_is_kept = pyo.Constraint(expr=missing <= budget)
    model.link_count = pyo.Objective(expr=sum(model.links[index] for index in indices))
    return model


def _row_total(
    model: pyo.ConcreteModel, reduction: Reduction, k: int, unit: int, columns: list[int], bias_high: int
) -> Total:
    weights = [model.weight[unit, i] for i in columns]
    return total_of(weights, reduction.rows[k], reduction.weight_high, model.bias[unit], bias_high)


def _bias_high(reduction: Reduction, target: int) -> int:
    """A bias beyond this never helps: every row's margin is already decided by it alone."""
    return int((np.abs(reduction.rows) @ reduction.weight_high).max()) + target
