"""The steps of a linear training: relaxation, rounding and local search first, then branch and bound.

Every incumbent is rebuilt as a `Network` and its objective is computed from that network's own sums on all rows.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pyomo.environ as pyo
from numpy.typing import NDArray

from mip2mcu.dataset import Dataset
from mip2mcu.errors import NoSolutionError
from mip2mcu.layers import Dense
from mip2mcu.mip.matrix import FloatArray
from mip2mcu.mip.solver import Solve, Solver, no_solve, solve, solve_matrix
from mip2mcu.network import Network
from mip2mcu.progress import Listener, Progress, Stop
from mip2mcu.ranges import IntArray, exact_product
from mip2mcu.train.clock import Clock
from mip2mcu.train.linear_model import build_model
from mip2mcu.train.margin import (
    MarginTask,
    Unit,
    drop_links,
    improve,
    quick,
    reach,
    relaxation,
    rounded,
)
from mip2mcu.train.reduction import Reduction
from mip2mcu.train.trained import network_on, settled

RELAXATION_ENTRIES = 1_000_000
"""Most matrix entries of a relaxation; of larger data a sample of the rows is relaxed, and nothing is proved by it."""
RELAXED_ENTRIES_A_SECOND = 1_000_000
"""How fast relaxations are solved, by rule of thumb: in short time a smaller sample is relaxed."""
MODEL_ENTRIES = 2_000_000
"""Most matrix entries of a model that goes to branch and bound; larger ones end with the local search."""


@dataclass(frozen=True, eq=False)
class Units:
    """All units of a linear network on the reduced columns: weights int64 (units, columns), bias (units,)."""

    weights: IntArray
    bias: IntArray

    def replaced(self, index: int, unit: Unit) -> Units:
        """The same units with one of them exchanged."""
        weights, bias = self.weights.copy(), self.bias.copy()
        weights[index], bias[index] = unit.weights, unit.bias
        return Units(weights, bias)


@dataclass(frozen=True, eq=False)
class LinearJob:
    """One training: the reduced data, the margin's target, the share of it to keep, and the steps.

    Several units are worked on in turn: with the others fixed, each is a `MarginTask` of its own. The solver's time
    limit counts from ``began`` (monotonic clock).
    """

    dataset: Dataset
    reduction: Reduction
    target: int
    keep: float
    solver: Solver
    listener: Listener
    interrupted: Stop
    began: float

    @property
    def single(self) -> bool:
        """Two classes: one unit."""
        return len(self.dataset.classes) == 2

    @property
    def sparse(self) -> bool:
        """Weights can be zero: there is a links stage."""
        return not self.reduction.domain.binary

    @property
    def entries(self) -> int:
        """Matrix entries of the model, roughly."""
        return self.reduction.rows.size * (1 if self.single else 2 * (len(self.dataset.classes) - 1))

    @property
    def too_large(self) -> bool:
        """Branch and bound is out of reach."""
        return self.entries > MODEL_ENTRIES

    # ---- time ----

    def left(self) -> float | None:
        """Seconds that are left; None without a limit."""
        return Clock.of(self.solver, self.began).left()

    def stop(self) -> bool:
        """True when time is over or the user has had enough."""
        return self.interrupted() or self.left() == 0.0

    def within(self, share: float) -> Solver:
        """The solver with a share of the time that is left."""
        left = self.left()
        return self.solver if left is None else self.solver.within(left * share)

    # ---- from units to networks and back, and their exact value ----

    def network(self, units: Units) -> Network:
        """The network of all inputs."""
        weights, bias = self.reduction.expand(units.weights, units.bias)
        return network_on(self.dataset, [Dense(weights, bias)])

    def units_of(self, network: Network) -> Units:
        """The units behind a network that `network` made."""
        layer = network.layers[0]
        assert isinstance(layer, Dense)
        return Units(*self.reduction.collapse(layer.weights, layer.bias))

    def shortfall(self, units: Units) -> int:
        """The exact objective of the margin stage, as the finished network scores on all rows."""
        return missing_margin(self.network(units), self.dataset, self.target)

    def links(self, units: Units) -> int:
        """The exact objective of the links stage."""
        return self.network(units).link_count

    def budget(self, shortfall: int) -> int:
        """Largest shortfall of the links stage."""
        captured = self.dataset.rows * (len(self.dataset.classes) - 1) * self.target - shortfall
        return shortfall + math.floor((1 - self.keep) * captured + 1e-9)

    def block(self, units: Units, unit: int) -> MarginTask:
        """What the margin asks of one unit while the others stay as they are."""
        rows, counts = self.reduction.rows, self.reduction.counts
        if self.single:
            k, c = np.nonzero(counts)
            signs, shift = np.where(c == 0, 1, -1), np.zeros(len(k), dtype=np.int64)
        else:
            sums = exact_product(rows, units.weights) + units.bias
            k, c, other = np.nonzero((counts[:, :, None] > 0) & self._pairs_with(unit))
            signs = np.where(c == unit, 1, -1)
            shift = np.where(c == unit, sums[k, other], -sums[k, c])
        high, step = self.reduction.weight_high, self.reduction.domain.step
        return MarginTask(rows[k], signs, counts[k, c], self.target + shift, high, step)

    def _pairs_with(self, unit: int) -> NDArray[np.bool_]:
        """(1, classes, classes): pairs of a true and another class that involve ``unit``."""
        count = len(self.dataset.classes)
        one = np.arange(count) == unit
        return ((one[:, None] | one[None, :]) & ~np.eye(count, dtype=bool))[None]

    # ---- the start ----

    def start_margin(self) -> tuple[Units, Solve]:
        """Relaxation, rounding and local search for the margin stage."""
        width = len(self.reduction.groups)
        count = 1 if self.single else len(self.dataset.classes)
        units = Units(np.zeros((count, width), dtype=np.int64), np.zeros(count, dtype=np.int64))
        record: Solve | None = None
        for unit in range(count):
            best, record = self._best_unit(self.block(units, unit))
            units = units.replaced(unit, best)
        if not self.single:
            units = self._sweep(units)
            record = replace(record, bound=0.0) if record else None
        assert record is not None
        return units, self._told(settled(record, self.shortfall(units)))

    def _sweep(self, units: Units) -> Units:
        """Improve the units in turn until none can be."""
        best = self.shortfall(units)
        while best > 0 and not self.stop():
            for unit in range(len(units.weights)):
                task = self.block(units, unit)
                current = Unit(units.weights[unit], int(units.bias[unit]), 0)
                current = replace(current, shortfall=task.shortfall(current.weights, current.bias))
                units = units.replaced(unit, improve(task, current, self.stop))
            reached = self.shortfall(units)
            if reached >= best:
                break
            best = reached
        return units

    def _best_unit(self, task: MarginTask) -> tuple[Unit, Solve]:
        """One unit by relaxation, rounding and local search, and the relaxation's record."""
        values, record = self._relax(task, None)
        unit = improve(task, rounded(task, values), self.stop)
        return unit, record

    def _relax(self, task: MarginTask, budget: int | None) -> tuple[FloatArray, Solve]:
        """Weights of the linear relaxation and the record, whose bound holds only if no rows were left out."""
        stage = "margin" if budget is None else "links"
        if self.stop():
            return _mean_difference(task), no_solve(stage, self.solver)
        width = task.rows.shape[1]
        share = self.within(0.25)
        part = self._sample(task, share.time_limit)
        limit = None if budget is None else budget * float(part.counts.sum()) / float(task.counts.sum())
        matrix = relaxation(part, budget=limit, price=None if budget is None else np.ones(width))
        try:
            values, record = solve_matrix(matrix, quick(share), stage=stage, stop=self.interrupted)
        except NoSolutionError:
            return _mean_difference(task), no_solve(stage, self.solver)
        weights = values[:width] if budget is None else values[:width] - values[width : 2 * width]
        bound = (record.bound or 0.0) if record.status == "optimal" and part is task else 0.0
        price = 1 if budget is None else self.reduction.domain.bound
        return weights, replace(record, status="not searched", bound=bound / price)

    def _sample(self, task: MarginTask, seconds: float | None) -> MarginTask:
        """Rows of the task drawn at random, as many as a relaxation can take; the task itself where it is small."""
        entries = RELAXATION_ENTRIES
        if seconds is not None:
            entries = min(entries, int(RELAXED_ENTRIES_A_SECOND * seconds))
        most = max(100, entries // max(1, task.rows.shape[1]))
        if len(task.rows) <= most:
            return task
        kept = np.sort(np.random.default_rng(self.solver.seed).permutation(len(task.rows))[:most])
        return replace(
            task,
            rows=task.rows[kept],
            signs=task.signs[kept],
            counts=task.counts[kept],
            targets=task.targets[kept],
        )

    def start_links(self, units: Units) -> tuple[Units, Solve]:
        """Fewer links within the budget: relaxation and rounding, then removal one by one."""
        shortfall = self.shortfall(units)
        slack = self.budget(shortfall) - shortfall
        record = no_solve("links", self.solver)
        for unit in range(len(units.weights)):
            task = self.block(units, unit)
            own = task.shortfall(units.weights[unit], int(units.bias[unit]))
            share = slack // (len(units.weights) - unit)
            fewer, record = self._fewer_links(
                task, Unit(units.weights[unit], int(units.bias[unit]), own), own + share
            )
            slack -= fewer.shortfall - own
            units = units.replaced(unit, fewer)
        if not self.single:
            record = replace(record, bound=0.0)
        return units, self._told(settled(record, self.links(units)))

    def _told(self, record: Solve) -> Solve:
        """``record``, after an event with its result."""
        incumbent = None if record.exact is None else float(record.exact)
        self.listener(Progress(record.stage, incumbent, record.bound, time.monotonic() - self.began))
        return record

    def _fewer_links(self, task: MarginTask, unit: Unit, budget: int) -> tuple[Unit, Solve]:
        values, record = self._relax(task, budget)
        found = reach(task, rounded(task, values), budget, self.stop) or unit
        return drop_links(task, found, budget, self.stop), record

    # ---- branch and bound ----

    def search_margin(self, units: Units, start: Solve) -> tuple[Units, Solve]:
        """Prove or improve the margin stage."""
        solver = self.within(0.5 if self.sparse else 1.0)
        if start.status == "optimal" or not self._worth(solver):
            return units, start
        model = build_model(self.reduction, self.target)
        self._place(model, units)
        return self._search(model, units, start, solver, self.shortfall)

    def _worth(self, solver: Solver) -> bool:
        """True where a search is wanted, and a model of this size can be built and leaves time for it."""
        if solver.node_limit == 0 or self.too_large or self.stop():
            return False
        leads = len(self.reduction.rows) * (len(self.dataset.classes) - 1)
        return solver.has_time_for(leads, self.entries)

    def search_links(self, units: Units, fewer: Units, start: Solve) -> tuple[Units, Solve]:
        """Prove or improve the links stage, whose start must keep to the margin stage's budget."""
        budget = self.budget(self.shortfall(units))
        if self.shortfall(fewer) > budget:
            fewer, start = self.start_links(units)
        if start.status == "optimal" or not self._worth(self.within(1.0)):
            return fewer, start
        model = build_model(self.reduction, self.target, budget)
        self._place(model, fewer)

        def links_within_budget(found: Units) -> int | None:
            return self.links(found) if self.shortfall(found) <= budget else None

        return self._search(model, fewer, start, self.within(1.0), links_within_budget)

    def _search(
        self,
        model: pyo.ConcreteModel,
        units: Units,
        start: Solve,
        solver: Solver,
        exact: Callable[[Units], int | None],
    ) -> tuple[Units, Solve]:
        """Solve ``model`` from ``units``; the better of start and result by its exact value, and the record."""
        try:
            record = solve(
                model, solver, start=True, stage=start.stage, listener=self.listener, stop=self.interrupted
            )
        except NoSolutionError:  # time was over before the solver had even taken the start
            return units, start
        found = self._read(model)
        value, before = exact(found), start.exact
        assert before is not None
        if value is None or value > before:
            rejected = "claim rejected" if record.status == "optimal" else record.status
            return units, settled(replace(record, status=rejected), before)
        bound = max(record.bound or 0.0, start.bound or 0.0)
        return found, settled(replace(record, bound=bound, seconds=record.seconds + start.seconds), value)

    def _place(self, model: pyo.ConcreteModel, units: Units) -> None:
        """Set all variables of ``model`` to the solution that ``units`` are."""
        columns = [int(group[0]) for group in self.reduction.groups]
        for j, weights in enumerate(units.weights):
            model.bias[j].set_value(int(units.bias[j]))
            for i, weight, copies in zip(
                columns, weights.tolist(), self.reduction.copies.tolist(), strict=True
            ):
                model.weight[j, i].set_value(weight)
                if hasattr(model, "plus"):
                    model.plus[j, i].set_value((weight + copies) // 2)
                if hasattr(model, "links"):
                    model.links[j, i].set_value(-(-abs(weight) // self.reduction.domain.bound))
        sums = self.reduction.rows @ units.weights.T + units.bias
        for k, c, other in model.shortfall:
            margin = (sums[k, 0] if c == 0 else -sums[k, 0]) if self.single else sums[k, c] - sums[k, other]
            model.shortfall[k, c, other].set_value(max(0, self.target - int(margin)))

    def _read(self, model: pyo.ConcreteModel) -> Units:
        columns = [int(group[0]) for group in self.reduction.groups]
        units = range(len(model.bias))
        weights = np.array([[model.weight[j, i].value for i in columns] for j in units], dtype=np.int64)
        return Units(
            weights.reshape(len(units), len(columns)),
            np.array([model.bias[j].value for j in units], dtype=np.int64),
        )


def missing_margin(network: Network, dataset: Dataset, target: int) -> int:
    """Exact sum over rows of max(0, target - margin), over all other classes where there are several units."""
    sums = network.sums(dataset.inputs)
    if sums.shape[1] == 1:
        margins = np.where(dataset.labels == 0, sums[:, 0], -sums[:, 0])
        return int(np.maximum(0, target - margins).sum())
    own = np.take_along_axis(sums, dataset.labels[:, None], axis=1)
    return int(np.maximum(0, target - (own - sums)).sum()) - target * dataset.rows


def _mean_difference(task: MarginTask) -> FloatArray:
    """Weights towards the positive rows' mean: the start where no relaxation could be solved in time."""
    positive, negative = task.signs > 0, task.signs < 0
    difference = task.rows[positive].mean(axis=0) - task.rows[negative].mean(axis=0)
    top = float(np.abs(difference).max(initial=0.0)) or 1.0
    return difference / top * task.high
