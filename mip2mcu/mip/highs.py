"""HiGHS: the one place that talks to highspy.

`run` solves a `Matrix`, passes a start, reports progress, and can be stopped at any time without losing the incumbent.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cache
from typing import Any

import highspy
import numpy as np
from numpy.typing import NDArray

from mip2mcu.errors import InfeasibleError, NoSolutionError, SolverError
from mip2mcu.mip.matrix import FloatArray, Matrix
from mip2mcu.progress import Listener, Progress, Stop

EVENT_SECONDS = 0.5
"""Shortest time between two progress events that bring no new incumbent."""

_STATUS = {
    highspy.HighsModelStatus.kOptimal: "optimal",
    highspy.HighsModelStatus.kModelEmpty: "optimal",
    highspy.HighsModelStatus.kObjectiveTarget: "target",
    highspy.HighsModelStatus.kTimeLimit: "time limit",
    highspy.HighsModelStatus.kSolutionLimit: "node limit",
    highspy.HighsModelStatus.kInterrupt: "interrupted",
}
_WITHOUT_SOLUTION = {
    highspy.HighsModelStatus.kInfeasible: "the constraints contradict each other",
    highspy.HighsModelStatus.kUnbounded: "the objective is unbounded",
    highspy.HighsModelStatus.kUnboundedOrInfeasible: "constraints contradict each other or the objective is unbounded",
}


@dataclass(frozen=True)
class Limits:
    """How long HiGHS may work and how it is set; ``options`` are HiGHS' own, last word included."""

    seconds: float | None
    nodes: int | None
    seed: int
    threads: int
    target: float | None
    options: tuple[tuple[str, str | int | float | bool], ...]


@dataclass(frozen=True, eq=False)
class Outcome:
    """What HiGHS found: values (columns,) of the incumbent, its objective, the dual bound, nodes, status."""

    status: str
    values: FloatArray
    objective: float
    bound: float
    nodes: int


@cache
def version() -> str:
    """The installed HiGHS."""
    return str(highspy.Highs().version())


def _typed(highs: highspy.Highs, name: str, value: str | int | float | bool) -> Any:
    """``value`` in the type that HiGHS expects of the option ``name``."""
    status, kind = highs.getOptionType(name)
    if status != highspy.HighsStatus.kOk:
        raise SolverError(
            f"HiGHS has no option {name!r}: see https://ergo-code.github.io/HiGHS for its options"
        )
    try:
        if kind == highspy.HighsOptionType.kBool:
            return {"true": True, "on": True, "1": True, "false": False, "off": False, "0": False}[
                str(value).lower()
            ]
        if kind == highspy.HighsOptionType.kInt:
            return int(value)
        if kind == highspy.HighsOptionType.kDouble:
            return float(value)
    except (KeyError, ValueError):
        raise SolverError(f"HiGHS' option {name!r} cannot take the value {value!r}") from None
    return str(value)


def _set(highs: highspy.Highs, name: str, value: str | int | float | bool) -> None:
    if highs.setOptionValue(name, _typed(highs, name, value)) != highspy.HighsStatus.kOk:
        raise SolverError(f"HiGHS' option {name!r} cannot take the value {value!r}")


def check(limits: Limits) -> None:
    """Raise `SolverError` where HiGHS refuses one of the options."""
    _configured(limits)


def _configured(limits: Limits) -> highspy.Highs:
    highs = highspy.Highs()
    highs.setOptionValue("output_flag", False)
    _set(highs, "mip_rel_gap", 0.0)
    _set(highs, "mip_abs_gap", 1e-6)
    _set(highs, "random_seed", limits.seed)
    _set(highs, "threads", limits.threads)
    if limits.seconds is not None:
        _set(highs, "time_limit", max(limits.seconds, 0.0))
    if limits.nodes is not None:
        _set(highs, "mip_max_nodes", limits.nodes)
    if limits.target is not None:
        _set(highs, "objective_target", limits.target)
    for name, value in limits.options:
        _set(highs, name, value)
    return highs


def _load(highs: highspy.Highs, matrix: Matrix) -> None:
    lp = highspy.HighsLp()
    lp.num_col_, lp.num_row_ = matrix.columns, matrix.rows
    lp.col_cost_, lp.col_lower_, lp.col_upper_ = matrix.cost, matrix.low, matrix.high
    lp.row_lower_, lp.row_upper_ = matrix.row_low, matrix.row_high
    lp.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    lp.a_matrix_.start_, lp.a_matrix_.index_, lp.a_matrix_.value_ = matrix.start, matrix.column, matrix.value
    lp.offset_ = matrix.constant
    lp.sense_ = highspy.ObjSense.kMaximize if matrix.maximise else highspy.ObjSense.kMinimize
    if matrix.integer.any():
        kinds = (highspy.HighsVarType.kContinuous, highspy.HighsVarType.kInteger)
        lp.integrality_ = [kinds[int(i)] for i in matrix.integer]
    if highs.passModel(lp) == highspy.HighsStatus.kError:
        raise SolverError("HiGHS refused the model: a coefficient or bound is not finite")


class _Observer:
    """Reports events to the listener and interrupts the solve when asked to, from inside HiGHS' callbacks.

    An exception must not cross the C++ code: it is kept, stops the solve, and is raised afterwards.
    """

    def __init__(self, stage: str, listener: Listener, stop: Stop) -> None:
        self.stage, self.listener, self.stop = stage, listener, stop
        self.error: BaseException | None = None
        self.began = time.monotonic()
        self.last = -EVENT_SECONDS
        self.incumbent: float | None = None

    def watch(self, highs: highspy.Highs) -> None:
        """Subscribe to the events of ``highs``."""
        highs.cbSimplexInterrupt += self.on_event
        highs.cbIpmInterrupt += self.on_event
        highs.cbMipInterrupt += self.on_event
        highs.cbMipImprovingSolution += self.on_event

    def on_event(self, event: Any) -> None:
        """Called by HiGHS, often; reports a new incumbent at once and everything else now and then."""
        try:
            self.report(event)
            stopped = self.stop()
        except BaseException as error:
            self.error, stopped = error, True
        if (stopped or self.error) and event.data_in is not None:
            event.data_in.user_interrupt = True

    def report(self, event: Any) -> None:
        """Pass an event on to the listener."""
        seconds = time.monotonic() - self.began
        incumbent = _finite(event.data_out.mip_primal_bound)
        if incumbent == self.incumbent and seconds - self.last < EVENT_SECONDS:
            return
        self.incumbent, self.last = incumbent, seconds
        bound = _finite(event.data_out.mip_dual_bound)
        self.listener(Progress(self.stage, incumbent, bound if incumbent is not None else None, seconds))


def _finite(value: float) -> float | None:
    return float(value) if abs(value) < highspy.kHighsInf / 2 and np.isfinite(value) else None


def run(
    matrix: Matrix, limits: Limits, *, start: FloatArray | None, stage: str, listener: Listener, stop: Stop
) -> Outcome:
    """Solve ``matrix``; ``start`` (columns,) are the values of a feasible point.

    Raises `NoSolutionError` where the solve ends without a feasible point.
    """
    highs = _configured(limits)
    _load(highs, matrix)
    if start is not None:
        solution = highspy.HighsSolution()
        solution.col_value = start.tolist()
        highs.setSolution(solution)
    observer = _Observer(stage, listener, stop)
    observer.watch(highs)
    highs.run()
    if observer.error is not None:
        raise observer.error
    return _outcome(highs, matrix, limits, stage)


class Session:
    """One model that grows: rows are added between solves, and linear programs go on from the last basis."""

    def __init__(self, matrix: Matrix, limits: Limits, *, stage: str, listener: Listener, stop: Stop) -> None:
        """Load ``matrix``; the limits hold for each solve."""
        self._matrix, self._limits, self._stage = matrix, limits, stage
        self._highs = _configured(limits)
        _load(self._highs, matrix)
        self._observer = _Observer(stage, listener, stop)
        self._observer.watch(self._highs)

    def add_row(self, low: float, high: float, columns: NDArray[np.int32], values: FloatArray) -> None:
        """Add ``low <= sum values * x[columns] <= high``."""
        if self._highs.addRow(low, high, len(columns), columns, values) == highspy.HighsStatus.kError:
            raise SolverError(f"{self._stage}: HiGHS refused a row: a coefficient or bound is not finite")

    def solve(self, seconds: float | None) -> Outcome:
        """Solve what there is now, within ``seconds``; raises `NoSolutionError` without a feasible point."""
        if seconds is not None:  # HiGHS counts all solves of one object together
            _set(self._highs, "time_limit", self._highs.getRunTime() + max(seconds, 0.0))
        self._highs.run()
        if self._observer.error is not None:
            raise self._observer.error
        return _outcome(self._highs, self._matrix, self._limits, self._stage)


def _outcome(highs: highspy.Highs, matrix: Matrix, limits: Limits, stage: str) -> Outcome:
    model_status, info = highs.getModelStatus(), highs.getInfo()
    if model_status in _WITHOUT_SOLUTION:
        error = InfeasibleError if model_status == highspy.HighsModelStatus.kInfeasible else NoSolutionError
        raise error(f"{stage}: there is no solution, {_WITHOUT_SOLUTION[model_status]}")
    status = _STATUS.get(model_status)
    if status is None:
        raise SolverError(f"{stage}: HiGHS ended with status {highs.modelStatusToString(model_status)!r}")
    if info.primal_solution_status != highspy.SolutionStatus.kSolutionStatusFeasible:
        raise NoSolutionError(
            f"{stage}: HiGHS found no feasible point before it ended ({status}): allow more time or nodes, "
            "or take fewer rows, units or a simpler formulation"
        )
    values = np.array(highs.getSolution().col_value, dtype=np.float64)
    objective = float(info.objective_function_value)
    if matrix.integer.any():
        bound = float(info.mip_dual_bound)
    else:
        bound = objective if status == "optimal" else (np.inf if matrix.maximise else -np.inf)
    return Outcome(status, values, objective, bound, max(int(info.mip_node_count), 0))
