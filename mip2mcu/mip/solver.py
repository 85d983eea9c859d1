"""Solving a Pyomo model: with HiGHS, which ships with the package, or with any solver that Pyomo knows.

    solve(model, Solver(time_limit=60))  ->  Solve(status, objective, bound, ...), values left in the model's variables

"Optimal" means proved: relative gaps are set to zero. Ctrl-C and `Stop` keep the incumbent.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyomo.environ as pyo
from pyomo.common.tee import capture_output

from mip2mcu.errors import NoSolutionError, SolverError, UsageError
from mip2mcu.files import write_text
from mip2mcu.mip import highs
from mip2mcu.mip.matrix import FloatArray, Matrix, matrix_of, variables_of
from mip2mcu.progress import Listener, Progress, Stop, never, relative_gap, silent, stop_on_interrupt

OptionValue: TypeAlias = str | int | float | bool

LP_MARK = rb"\A\\\* Source Pyomo model name="
"""How every file of `write_model` begins, as a regular expression."""

_IGNORED_OPTION = "No match for "
"""How cbc begins a line about an option that it does not know, before it goes on without it."""

BUILT_ROWS_A_SECOND, BUILT_ENTRIES_A_SECOND = 10_000, 250_000
"""How fast a Pyomo model is built and handed over, by rule of thumb: every row takes its time, and every entry."""

INTEGER_DISTANCE = 1e-4
"""How far a solver's integer variable may lie from a whole number; beyond, its answer is no solution."""


@dataclass(frozen=True)
class _Names:
    """What a solver calls its limits, and how it is installed. An empty name: the solver has no such limit."""

    seconds: str
    nodes: str
    seed: str
    threads: str
    gap: str
    install: str


_OTHER_SOLVERS = {
    "gurobi": _Names("TimeLimit", "NodeLimit", "Seed", "Threads", "MIPGap", "pip install gurobipy, and a licence"),
    "scip": _Names(
        "limits/time", "limits/nodes", "randomization/randomseedshift", "", "limits/gap",
        "install SCIP so that `scip` is on the PATH",
    ),
    "cbc": _Names("seconds", "maxNodes", "randomSeed", "threads", "ratioGap", "apt-get install coinor-cbc"),
    "cplex": _Names(
        "timelimit", "mip_limits_nodes", "randomseed", "threads", "mip_tolerances_mipgap",
        "install CPLEX so that `cplex` is on the PATH",
    ),
    "glpk": _Names("tmlim", "", "", "", "mipgap", "apt-get install glpk-utils"),
}  # fmt: skip


@dataclass(frozen=True)
class Solver:
    """Which solver, and how far it may go. Every field is passed on as given.

    name              "highs", or a solver that Pyomo knows: "gurobi", "scip", "cbc", "cplex", "glpk", ...
    time_limit        seconds a solve; None: no limit
    node_limit        branch-and-bound nodes a solve; with it and without a time limit, results repeat to the byte
    seed, threads     the solver's own
    objective_target  stop at an objective at least this good; None: go on to the proof
    options           the solver's own options, a mapping or pairs
    """

    name: str = "highs"
    time_limit: float | None = None
    node_limit: int | None = None
    seed: int = 0
    threads: int = 1
    objective_target: float | None = None
    options: tuple[tuple[str, OptionValue], ...] = ()

    def __post_init__(self) -> None:
        pairs = self.options.items() if isinstance(self.options, Mapping) else self.options
        object.__setattr__(self, "options", tuple((str(k), v) for k, v in pairs))
        if self.time_limit is not None and not 0 <= self.time_limit < float("inf"):
            raise UsageError(
                f"a time limit of {self.time_limit} seconds is not possible: give 0 or more"
            )
        if self.node_limit is not None and not 0 <= self.node_limit < 2**31:
            raise UsageError(f"a node limit of {self.node_limit} is not possible: give a number of 0..{2**31 - 1}")
        if not 0 <= self.seed < 2**31:
            raise UsageError(f"a seed of {self.seed} is not possible: give a number of 0..{2**31 - 1}")
        if self.threads < 1:
            raise UsageError(f"{self.threads} threads are not possible: give a number of at least 1")

    def within(self, seconds: float | None) -> Solver:
        """The same solver with at most ``seconds`` for its next solve."""
        if seconds is None:
            return self
        limit = seconds if self.time_limit is None else min(seconds, self.time_limit)
        return replace(self, time_limit=max(limit, 0.0))

    def has_time_for(self, rows: int, entries: int) -> bool:
        """True where a Pyomo model of this size can be built, and as much time is left to solve it."""
        seconds = rows / BUILT_ROWS_A_SECOND + entries / BUILT_ENTRIES_A_SECOND
        return self.time_limit is None or self.time_limit > 2 * seconds


@dataclass(frozen=True)
class Solve:
    """The record of one solve.

    status     "optimal" (proved), "target", "time limit", "node limit", "interrupted"; "not searched" where only a
               relaxation and local search were run; "claim rejected" where the weights do not keep what was claimed
    objective  the solver's claim
    exact      the same objective in exact integers, computed from the rounded weights; None where nobody has yet
    bound      proved bound on the objective; None where there is none
    """

    stage: str
    status: str
    objective: float
    bound: float | None
    seconds: float
    nodes: int
    solver: str
    version: str
    seed: int
    exact: int | None = field(default=None)

    @property
    def gap(self) -> float | None:
        """Relative distance of objective and bound; None where one is missing."""
        return relative_gap(self.objective if self.exact is None else float(self.exact), self.bound)


def check_solver(solver: Solver) -> None:
    """Raise `SolverError` now rather than after long work where the solver is missing or refuses an option."""
    if solver.name == "highs":
        highs.check(limits_of(solver))
    else:
        _try_out(replace(solver, time_limit=None if solver.time_limit is None else max(solver.time_limit, 10.0)))


def _try_out(solver: Solver) -> None:
    """Solve a problem of one variable, so that an option that ``solver`` refuses is found at once."""
    model = pyo.ConcreteModel()
    model.count = pyo.Var(domain=pyo.Integers, bounds=(0, 3))
    model.enough = pyo.Constraint(expr=2 * model.count >= 3)
    model.least = pyo.Objective(expr=model.count)
    engine = _factory(solver.name)
    for name, value in _options(solver).items():
        engine.options[name] = value
    try:
        with _quiet(), capture_output() as printed:
            engine.solve(model, load_solutions=False, tee=True)
    except Exception as error:  # whatever the foreign interface raises, the user needs one sentence
        reason = _last_line(printed.getvalue()) or _last_line(str(error)) or "it gave no reason"
        raise SolverError(_refusal(solver, reason)) from error
    for line in printed.getvalue().splitlines():
        if line.startswith(_IGNORED_OPTION):
            raise SolverError(_refusal(solver, line.removesuffix(" - ? for list of commands").strip()))


def _refusal(solver: Solver, reason: str) -> str:
    given = ", ".join(f"{name}={value}" for name, value in solver.options) or "none"
    return f"the solver {solver.name!r} cannot solve with these options ({given}): {reason}"


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else ""


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Pyomo's own messages: what matters is said in an error."""
    logger = logging.getLogger("pyomo")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(level)


def solve(
    model: pyo.ConcreteModel,
    solver: Solver,
    *,
    start: bool = False,
    stage: str = "solve",
    listener: Listener = silent,
    stop: Stop | None = None,
) -> Solve:
    """Solve ``model`` and leave the incumbent in its variables, integer ones rounded.

    start     the variables' values are a feasible point to begin with
    stage     name for progress events, the record and errors
    stop      asked now and then; without it, Ctrl-C stops the solve and keeps the incumbent

    Raises `NoSolutionError` without any feasible point, `SolverError` for a missing solver or a refused option.
    """
    if solver.name != "highs":
        return _solve_elsewhere(model, solver, start, stage, listener)
    if stop is None:
        with stop_on_interrupt() as pressed:
            return _solve_with_highs(model, solver, start, stage, listener, pressed)
    return _solve_with_highs(model, solver, start, stage, listener, stop)


def solve_matrix(
    matrix: Matrix,
    solver: Solver,
    *,
    start: FloatArray | None = None,
    stage: str = "solve",
    listener: Listener = silent,
    stop: Stop = never,
) -> tuple[FloatArray, Solve]:
    """Values (columns,) of the incumbent of ``matrix`` and the record; always by HiGHS."""
    began = time.monotonic()
    outcome = highs.run(matrix, limits_of(solver), start=start, stage=stage, listener=listener, stop=stop)
    record = Solve(
        stage=stage,
        status=outcome.status,
        objective=outcome.objective,
        bound=outcome.bound if np.isfinite(outcome.bound) else None,
        seconds=time.monotonic() - began,
        nodes=outcome.nodes,
        solver="highs",
        version=highs.version(),
        seed=solver.seed,
    )
    return outcome.values, record


def no_solve(stage: str, solver: Solver) -> Solve:
    """The record of a stage that no solver has worked on; for objectives that are never negative."""
    return Solve(stage, "not searched", 0.0, 0.0, 0.0, 0, "highs", highs.version(), solver.seed)


def write_model(model: pyo.ConcreteModel, path: str | Path) -> None:
    """Write ``model`` as an LP file with readable names; the same model gives the same bytes."""
    write_text(path, lp_text(model))


def lp_text(model: pyo.ConcreteModel) -> str:
    """``model`` in the LP format, with the names of its variables and constraints."""
    import io  # noqa: PLC0415

    from pyomo.repn.plugins.lp_writer import LPWriter  # noqa: PLC0415

    stream = io.StringIO()
    LPWriter().write(model, stream, symbolic_solver_labels=True)
    return stream.getvalue()


def limits_of(solver: Solver) -> highs.Limits:
    """What HiGHS needs to know of ``solver``."""
    return highs.Limits(
        seconds=solver.time_limit,
        nodes=solver.node_limit,
        seed=solver.seed,
        threads=solver.threads,
        target=solver.objective_target,
        options=solver.options,
    )


def _solve_with_highs(
    model: pyo.ConcreteModel, solver: Solver, start: bool, stage: str, listener: Listener, stop: Stop
) -> Solve:
    began = time.monotonic()
    matrix, variables = matrix_of(model), variables_of(model)
    if start and any(v.value is None for v in variables):
        raise SolverError(f"{stage}: a start needs a value for every variable")
    values = np.array([v.value for v in variables], dtype=np.float64) if start else None
    left = (
        solver if solver.time_limit is None else solver.within(solver.time_limit - (time.monotonic() - began))
    )
    values, record = solve_matrix(matrix, left, start=values, stage=stage, listener=listener, stop=stop)
    for variable, value, whole in zip(variables, values, matrix.integer, strict=True):
        variable.set_value(_rounded(value, stage) if whole else float(value), skip_validation=True)
    return replace(record, seconds=time.monotonic() - began)


def _rounded(value: float, stage: str) -> int:
    whole = round(value)
    if abs(value - whole) > INTEGER_DISTANCE:
        raise SolverError(
            f"{stage}: the solver gave {value} for a whole number: tighten its tolerances or try another seed"
        )
    return whole


def _factory(name: str) -> Any:
    """Pyomo's interface to the solver ``name``."""
    if name not in pyo.SolverFactory:
        raise SolverError(
            f"the solver {name!r} is not known to Pyomo: take highs, {', '.join(_OTHER_SOLVERS)} or another of its list"
        )
    usable, engine = False, None
    try:
        with _quiet():
            engine = pyo.SolverFactory(name)
            usable = bool(engine.available(exception_flag=False))
    except Exception:  # an interface may fail in any way while it looks for its solver
        usable = False
    if not usable:
        names = _OTHER_SOLVERS.get(name)
        hint = f" ({names.install})" if names else ""
        raise SolverError(f"the solver {name!r} is not installed{hint}: HiGHS needs nothing, take highs")
    return engine


def _solve_elsewhere(
    model: pyo.ConcreteModel, solver: Solver, start: bool, stage: str, listener: Listener
) -> Solve:
    """Solve with one of Pyomo's other solvers, without events from inside the solve."""
    engine = _factory(solver.name)
    for name, value in _options(solver).items():
        engine.options[name] = value
    began = time.monotonic()
    accepts_start = start and bool(getattr(engine, "warm_start_capable", lambda: False)())
    try:
        with _quiet():
            result = engine.solve(model, load_solutions=False, **({"warmstart": True} if accepts_start else {}))
    except Exception as error:  # whatever the foreign interface raises, the user needs one sentence
        raise SolverError(
            f"{stage}: the solver {solver.name!r} failed: {str(error).strip().splitlines()[0]}"
        ) from error
    condition = str(result.solver.termination_condition)
    if condition in ("infeasible", "unbounded", "infeasibleOrUnbounded"):
        raise NoSolutionError(f"{stage}: there is no solution, {solver.name} says {condition}")
    try:
        _load_solution(engine, model, result)
    except Exception as error:
        raise NoSolutionError(
            f"{stage}: {solver.name} found no feasible point before it ended ({condition}): allow more time or nodes, "
            "or take fewer rows, units or a simpler formulation"
        ) from error
    for variable in variables_of(model):
        if not variable.is_continuous():
            variable.set_value(_rounded(variable.value, stage), skip_validation=True)
    record = _record(model, solver, stage, condition, result, time.monotonic() - began)
    listener(Progress(stage, record.objective, record.bound, record.seconds))
    return record


def _load_solution(engine: Any, model: pyo.ConcreteModel, result: Any) -> None:
    if hasattr(engine, "load_vars"):
        engine.load_vars()
    elif len(result.solution) == 0:
        raise ValueError("no solution")
    else:
        model.solutions.load_from(result)


def _options(solver: Solver) -> dict[str, OptionValue]:
    names = _OTHER_SOLVERS.get(solver.name)
    options: dict[str, OptionValue] = {}
    if names is not None:
        if solver.node_limit is not None and not names.nodes:
            raise SolverError(
                f"{solver.name} has no node limit: limit its time instead, or use --solver highs"
            )
        wanted: tuple[tuple[str, OptionValue | None], ...] = (
            (
                names.seconds,
                solver.time_limit
                if names.seconds != "tmlim" or solver.time_limit is None
                else max(1, round(solver.time_limit)),
            ),
            (names.nodes, solver.node_limit),
            (names.seed, solver.seed),
            (names.threads, solver.threads),
            (names.gap, 0.0),
        )
        options = {name: value for name, value in wanted if name and value is not None}
    return {**options, **dict(solver.options)}


def _record(
    model: pyo.ConcreteModel, solver: Solver, stage: str, condition: str, result: Any, seconds: float
) -> Solve:
    objective = next(model.component_data_objects(pyo.Objective, active=True))
    claimed = float(pyo.value(objective))
    status = {"optimal": "optimal", "userInterrupt": "interrupted"}.get(condition, "time limit")
    raw = result.problem.upper_bound if objective.sense == pyo.maximize else result.problem.lower_bound
    bound = float(raw) if isinstance(raw, int | float) and np.isfinite(raw) else None
    return Solve(
        stage=stage,
        status=status,
        objective=claimed,
        bound=claimed if status == "optimal" else bound,
        seconds=seconds,
        nodes=0,
        solver=solver.name,
        version=".".join(str(part) for part in _version_of(solver.name)),
        seed=solver.seed,
    )


def _version_of(name: str) -> tuple[Any, ...]:
    found = pyo.SolverFactory(name).version()
    return tuple(found) if found else ("unknown",)
