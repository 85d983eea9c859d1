"""Cutting planes: a convex function that no row can state is approached by its tangents, one round after another.

    solve; where the function lies above its tangents at the solution, add those that touch it there; solve again

Every tangent lies below a convex function, so the objective of each round is a bound on the true optimum.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from mip2mcu.errors import NoSolutionError
from mip2mcu.mip import highs
from mip2mcu.mip.matrix import FloatArray, Matrix
from mip2mcu.mip.solver import Solve, Solver, limits_of
from mip2mcu.progress import Listener, Stop, never, silent


@dataclass(frozen=True, eq=False)
class Cut:
    """``low <= sum values * x[columns]``."""

    low: float
    columns: NDArray[np.int32]
    values: FloatArray


Separate: TypeAlias = Callable[[FloatArray], Sequence[Cut]]
"""The cuts that values (columns,) of the variables break; none where the function is met closely enough."""


def solve_with_cuts(
    matrix: Matrix,
    separate: Separate,
    solver: Solver,
    *,
    rounds: int,
    stage: str = "cuts",
    listener: Listener = silent,
    stop: Stop = never,
) -> tuple[FloatArray, Solve]:
    """Values (columns,) of the last round and the record, whose ``bound`` holds for the convex problem.

    The status is "optimal" where the last round broke no cut, else what ended it, such as "round limit".
    """
    began = time.monotonic()
    end = None if solver.time_limit is None else began + solver.time_limit
    session = highs.Session(matrix, limits_of(solver), stage=stage, listener=listener, stop=stop)
    nodes, status, bound = 0, "round limit", -np.inf
    for done in range(max(rounds, 1)):
        try:
            outcome = session.solve(None if end is None else end - time.monotonic())
        except NoSolutionError:
            if done == 0:
                raise
            status = "interrupted" if stop() else "time limit"  # in the middle of a round: the one before stands
            break
        nodes, bound = nodes + outcome.nodes, max(bound, outcome.bound)
        if outcome.status != "optimal":
            status = outcome.status
            break
        cuts = separate(outcome.values)
        if not cuts:
            status = "optimal"
            break
        if stop() or (end is not None and time.monotonic() > end):
            status = "interrupted" if stop() else "time limit"
            break
        for cut in cuts:
            session.add_row(cut.low, np.inf, cut.columns, cut.values)
    record = Solve(
        stage=stage,
        status=status,
        objective=outcome.objective,
        bound=bound if np.isfinite(bound) else None,
        seconds=time.monotonic() - began,
        nodes=nodes,
        solver="highs",
        version=highs.version(),
        seed=solver.seed,
    )
    return outcome.values, record
