"""Lazy samples: the program on few rows, to which those are added that its answer violates, until none is left.

    best  = a network by best responses on all rows
    known = some rows, half of them such that best violates
    repeat:
        answer = the program on the known rows, from the best network
        best   = the better one, on all rows, of best, answer, and best responses to all rows from the answer
        add other rows that the answer violates to the known ones, those with the largest loss first

No row's loss is negative, so a bound for the known rows holds for all rows; and where the answer to the known rows is
proved optimal and violates no other row, it is an optimum for all rows. On data that a small network can separate a few
per cent of thousands of rows are enough for the proof; on others the best responses to all rows do most of the work.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace

import numpy as np

from mip2mcu.dataset import Dataset
from mip2mcu.mip.solver import Solve, Solver, no_solve
from mip2mcu.parallel import Context
from mip2mcu.ranges import BoolArray, IntArray
from mip2mcu.train.best_response import Engine
from mip2mcu.train.clock import Course, until
from mip2mcu.train.goal import Goal, Value
from mip2mcu.train.inn import Inn
from mip2mcu.train.inn_search import Found, Search
from mip2mcu.train.reduction import Reduction
from mip2mcu.train.sign_network import SignNetwork, from_network
from mip2mcu.train.trained import Trained, settled

ROUNDS = 200
"""Most programs of one training."""
START_SHARE = 0.5
"""Share of the time for the first network on all rows."""
ROUND_SHARE = 0.4
"""Share of the time that is left for the program of one round, where others may follow."""
POLISH_SHARE = 0.2
"""The same for the best responses to all rows after it."""
POLISH_ROUNDS = 3
"""Most rounds of best responses after one program."""
LAST_SECONDS = 0.5
"""No round begins with less time."""


def train_lazily(formulation: Inn, dataset: Dataset, solver: Solver, course: Course) -> Trained:
    """The best network by lazy samples; each step is a task of ``course``.

    Raises `NoSolutionError` where the objective needs a network without training errors and none was found.
    """
    began = time.monotonic()
    reduction = formulation.reduced(dataset)
    first = course.step(_begin, _Start(formulation, dataset, solver), START_SHARE)
    network = from_network(first.network, reduction).padded(formulation.hidden).ordered()
    state = _State(formulation, reduction, network, solver)
    state.note(first.report.solves)
    while state.rounds < ROUNDS and not state.finished and course.goes_on(LAST_SECONDS):
        answer = course.step(_solve, state.task(), ROUND_SHARE if state.grows else 1.0)
        if not answer.solves:
            break
        state.take(answer)
        if state.grows and not state.finished:
            polish = _Polish(state.goal, reduction, answer.network, solver)
            state.consider(course.step(_polish, polish, POLISH_SHARE).network)
    records = state.records()
    formulation.check_fit(records[0], dataset)
    trained = formulation.finish(dataset, reduction, state.best.ordered(), records, began)
    return replace(trained, report=replace(trained.report, notes=(state.summary(),)))


@dataclass(eq=False)
class _State:
    """What is known after some rounds.

    best    the best network on all rows
    known   (k,): rows that are in the program
    grows   rows have been added since the last program
    solved  how many rows went into the last program
    bounds  of each stage, on all rows
    """

    formulation: Inn
    reduction: Reduction
    best: SignNetwork
    solver: Solver
    known: BoolArray = field(init=False)
    grows: bool = field(init=False)
    rounds: int = 0
    solved: int = 0
    bounds: dict[str, float] = field(default_factory=dict)
    latest: dict[str, Solve] = field(default_factory=dict)
    ended: bool = False

    def __post_init__(self) -> None:
        self.goal: Goal = self.formulation.goal_on(self.reduction)
        loss = row_losses(self.best, self.reduction, self.goal)
        self.known = first_rows(loss, self.formulation.batch_rows, self.solver.seed)
        self.grows = not self.known.all()

    @property
    def value(self) -> Value:
        """Of the best network, on all rows."""
        return self.goal.value(self.best, self.reduction)

    @property
    def finished(self) -> bool:
        """True where the best network is proved optimal or good enough, or no row can be added."""
        target = self.formulation.objective_target
        enough = target is not None and self.value[-1] <= target and not any(self.value[:-1])
        stages = zip(self.value, self.goal.stages, strict=True)
        return self.ended or enough or all(value <= self.bounds.get(stage, -1.0) for value, stage in stages)

    def task(self) -> _Round:
        """The next program."""
        rows = self.reduction.part(np.flatnonzero(self.known))
        return _Round(self.goal, rows, self.best, self.formulation, self.solver)

    def note(self, solves: tuple[Solve, ...]) -> None:
        """Take bounds that hold for all rows, and the effort."""
        for solve in solves:
            before = self.latest.get(solve.stage, no_solve(solve.stage, self.solver))
            self.bounds[solve.stage] = max(self.bounds.get(solve.stage, 0.0), solve.bound or 0.0)
            seconds, nodes = before.seconds + solve.seconds, before.nodes + solve.nodes
            self.latest[solve.stage] = replace(solve, seconds=seconds, nodes=nodes)

    def consider(self, network: SignNetwork) -> None:
        """Take ``network`` where it is better on all rows."""
        if self.goal.value(network, self.reduction) < self.value:
            self.best = network

    def take(self, answer: Found) -> None:
        """Take the answer to the known rows, and add those that it violates."""
        self.rounds += 1
        self.solved = int(self.known.sum())
        self.note(answer.solves)
        self.consider(answer.network)
        loss = row_losses(answer.network, self.reduction, self.goal)
        added = violated_rows(loss, self.known, self.formulation.batch_rows)
        self.known[added] = True
        grew, self.grows = self.grows, len(added) > 0
        self.ended = not self.grows and (not grew or self.solver.time_limit is None)

    def summary(self) -> str:
        """What was done, for people."""
        if not self.rounds and self.finished:
            return "lazy samples: the first network is good enough on all rows, so no program was needed"
        return rows_note(self.solved, len(self.known), self.rounds)

    def records(self) -> list[Solve]:
        """One record a stage, for all rows."""
        found = []
        for stage, value in zip(self.goal.stages, self.value, strict=True):
            last = self.latest.get(stage, no_solve(stage, self.solver))
            limit = "node limit" if self.solver.time_limit is None else "time limit"
            status = limit if last.status == "optimal" else last.status
            record = replace(last, status=status, objective=float(value), bound=self.bounds.get(stage))
            found.append(settled(record, value))
            if self.goal.kind.fits_all and value:
                break
        return found


def row_losses(network: SignNetwork, reduction: Reduction, goal: Goal) -> IntArray:
    """Loss of each distinct row, (k,); a row with a loss is violated."""
    return goal.row_losses(network.output_sums(reduction.rows), reduction.counts, goal.target(network))


def first_rows(loss: IntArray, count: int, seed: int) -> BoolArray:
    """(k,): True for ``count`` rows to begin with, up to half of them those with the largest ``loss`` (k,)."""
    known, count = np.zeros(len(loss), dtype=bool), min(count, len(loss))
    worst = np.argsort(-loss, kind="stable")[: count // 2]
    known[worst[loss[worst] > 0]] = True
    others = np.random.default_rng(seed).permutation(np.flatnonzero(~known))
    known[others[: count - known.sum()]] = True
    return known


def violated_rows(loss: IntArray, known: BoolArray, count: int) -> IntArray:
    """At most ``count`` rows that have a ``loss`` (k,) and are not ``known`` (k,), those with the largest first."""
    unknown = np.where(known, 0, loss)
    worst = np.argsort(-unknown, kind="stable")[:count]
    return worst[unknown[worst] > 0]


def rows_note(solved: int, rows: int, programs: int) -> str:
    """How many of all distinct ``rows`` were solved for, for people."""
    if not programs:
        return "lazy samples: no program was solved within the limits, the network is that of best responses"
    named = "1 program" if programs == 1 else f"{programs} programs, one after another"
    return f"lazy samples: {solved:,} of {rows:,} distinct rows went into {named}"


# ---- tasks ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Start:
    formulation: Inn
    dataset: Dataset
    solver: Solver


@dataclass(frozen=True, eq=False)
class _Round:
    goal: Goal
    rows: Reduction
    network: SignNetwork
    formulation: Inn
    solver: Solver


@dataclass(frozen=True, eq=False)
class _Polish:
    goal: Goal
    rows: Reduction
    network: SignNetwork
    solver: Solver


def _begin(task: _Start, context: Context) -> Trained:
    """The first network, on all rows."""
    solver = task.solver.within(context.seconds)
    return task.formulation.start(task.dataset, solver, listener=context.listener, stop=context.stop)


def _solve(task: _Round, context: Context) -> Found:
    """The program on the known rows; without records where no program can be solved."""
    goal, given = task.goal, task.formulation
    search = Search(
        goal, task.rows, given.hidden, context.listener, context.stop, ordered=given.ordered, tight=given.tight
    )
    solver = task.solver.within(context.seconds)
    if not search.able(solver):
        return Found(task.network, ())
    least = float(goal.least(task.rows, given.hidden))
    record = replace(no_solve(goal.stages[0], task.solver), bound=least)
    known = settled(record, goal.value(task.network, task.rows)[0])
    network, records = search.stages(task.network.ordered(), [known], solver, given.objective_target)
    return Found(network, tuple(records))


def _polish(task: _Polish, context: Context) -> Found:
    """Best responses to all rows, unit by unit."""
    engine = Engine(task.rows, task.goal, task.solver.within(context.seconds), context.listener, until(context))
    return Found(engine.polished(task.network, POLISH_ROUNDS), ())
