"""A mixed-integer program as arrays, and the way there from a Pyomo model.

    minimise or maximise   cost @ x + constant
    subject to             row_low <= A x <= row_high,    low <= x <= high,    x[integer] whole numbers

`Matrix` is what solvers are fed with. Formulations are written in Pyomo and translated by `matrix_of`; relaxations that
are solved by the dozen (one a pair of classes) are built as arrays at once, which is ten times faster.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pyomo.environ as pyo
from numpy.typing import NDArray
from pyomo.repn import generate_standard_repn

from mip2mcu.errors import SolverError

FloatArray: TypeAlias = NDArray[np.float64]
NO_LIMIT = float("inf")


@dataclass(frozen=True, eq=False)
class Matrix:
    """Arrays of a mixed-integer program; rows in compressed sparse form (start, column, value).

    cost, low, high (columns,) float; integer (columns,) bool; start (rows + 1,), column and value (entries,);
    row_low, row_high (rows,).
    """

    cost: FloatArray
    low: FloatArray
    high: FloatArray
    integer: NDArray[np.bool_]
    start: NDArray[np.int32]
    column: NDArray[np.int32]
    value: FloatArray
    row_low: FloatArray
    row_high: FloatArray
    constant: float = 0.0
    maximise: bool = False

    @property
    def columns(self) -> int:
        """Number of variables."""
        return len(self.cost)

    @property
    def rows(self) -> int:
        """Number of constraints."""
        return len(self.row_low)


def sparse_rows(dense: FloatArray) -> tuple[NDArray[np.int32], NDArray[np.int32], FloatArray]:
    """(start, column, value) of a dense matrix."""
    row, column = np.nonzero(dense)
    start = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=len(dense)))]).astype(np.int32)
    return start, column.astype(np.int32), dense[row, column].astype(np.float64)


def _linear(expression: Any, index: dict[int, int], what: str) -> tuple[list[int], list[float], float]:
    """Columns, coefficients and constant of a linear Pyomo expression."""
    repn = generate_standard_repn(expression)
    if not repn.is_linear():
        raise SolverError(f"{what} is not linear: solvers of mixed-integer linear programs cannot take it")
    columns = [index[id(variable)] for variable in repn.linear_vars]
    return columns, [float(c) for c in repn.linear_coefs], float(repn.constant)


def _bounds(variable: Any) -> tuple[float, float]:
    low, high = variable.bounds
    return (-NO_LIMIT if low is None else float(low), NO_LIMIT if high is None else float(high))


def variables_of(model: pyo.ConcreteModel) -> list[Any]:
    """All variables that are not fixed, in the order of their declaration."""
    return [v for v in model.component_data_objects(pyo.Var, descend_into=True) if not v.fixed]


def matrix_of(model: pyo.ConcreteModel) -> Matrix:
    """Translate a linear Pyomo model with one active objective; columns are in the order of `variables_of`."""
    variables = variables_of(model)
    index = {id(variable): j for j, variable in enumerate(variables)}
    objectives = list(model.component_data_objects(pyo.Objective, active=True, descend_into=True))
    if len(objectives) != 1:
        raise SolverError(f"a model needs exactly one active objective, this one has {len(objectives)}")
    columns, coefficients, constant = _linear(objectives[0].expr, index, "the objective")
    cost = np.zeros(len(variables))
    np.add.at(cost, columns, coefficients)
    start, column, value, row_low, row_high = [0], [], [], [], []
    for row in model.component_data_objects(pyo.Constraint, active=True, descend_into=True):
        entries, factors, shift = _linear(row.body, index, f"constraint {row.name}")
        column += entries
        value += factors
        start.append(len(column))
        row_low.append(-NO_LIMIT if row.lb is None else float(row.lb) - shift)
        row_high.append(NO_LIMIT if row.ub is None else float(row.ub) - shift)
    low, high = np.array([_bounds(v) for v in variables], dtype=np.float64).reshape(-1, 2).T
    return Matrix(
        cost=cost,
        low=low,
        high=high,
        integer=np.array([not v.is_continuous() for v in variables], dtype=bool),
        start=np.array(start, dtype=np.int32),
        column=np.array(column, dtype=np.int32),
        value=np.array(value, dtype=np.float64),
        row_low=np.array(row_low, dtype=np.float64),
        row_high=np.array(row_high, dtype=np.float64),
        constant=constant,
        maximise=objectives[0].sense == pyo.maximize,
    )
