"""The steps of a BDNN training: reduced data, a start, and the methods that improve it.

Every network is counted anew in exact integers, and an incumbent of an unfinished solve is kept.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pyomo.environ as pyo

from mip2mcu.dataset import Dataset
from mip2mcu.errors import NoSolutionError
from mip2mcu.mip.pieces import program_size
from mip2mcu.mip.solver import Solve, Solver, no_solve, solve
from mip2mcu.progress import Listener, Stop
from mip2mcu.ranges import BoolArray, IntArray
from mip2mcu.train.bdnn_lazy import solve_lazily
from mip2mcu.train.bdnn_model import (
    Plan,
    build_model,
    cost,
    place,
    read,
    right_rows,
    sign_bias,
    zero_one_bias,
)
from mip2mcu.train.bdnn_scaling import ScaledNetwork, scaled_network
from mip2mcu.train.best_response import Engine
from mip2mcu.train.clock import Clock
from mip2mcu.train.committee import certain_rows, committee
from mip2mcu.train.descent import descended
from mip2mcu.train.goal import Goal
from mip2mcu.train.reduction import Reduction
from mip2mcu.train.robust_set import RobustSets
from mip2mcu.train.sign_network import SignNetwork, as_network
from mip2mcu.train.sign_start import first_network, linear_chain, linear_layer
from mip2mcu.train.splitting import Subsets, batch, validation_rows
from mip2mcu.train.trained import Trained, flat_options, report_on, settled

if TYPE_CHECKING:
    from mip2mcu.train.bdnn import Bdnn

MODEL_ENTRIES = 1_000_000
"""Most matrix entries of a program that goes to branch and bound."""
START_SHARE = 0.5
"""Share of the time limit that the start may take where a program is solved behind it."""
ROBUST_MARGINS = (0.25, 0.5, 1.0, 2.0)
"""Margins of the linear networks that a robust training begins with."""


@dataclass(frozen=True, eq=False)
class BdnnJob:
    """One training: reduced data, the sets of changes, and the methods. ``began`` starts the solver's time limit."""

    options: Bdnn
    dataset: Dataset
    reduction: Reduction
    sets: RobustSets | None
    solver: Solver
    listener: Listener
    interrupted: Stop
    began: float

    @property
    def widths(self) -> tuple[int, ...]:
        """Units of every layer."""
        classes = len(self.dataset.classes)
        return (*self.options.hidden, 1 if classes == 2 else classes)

    @property
    def continuous(self) -> bool:
        """Weights in [-1, 1]."""
        return self.options.weights == "continuous"

    def plan(self, pattern: IntArray, rows: IntArray | None = None) -> Plan:
        """The program of ``rows`` (all without it), whose activation patterns are ``pattern``."""
        reduction, sets = self.reduction, self.sets
        if rows is not None:
            reduction = replace(reduction, rows=reduction.rows[rows], counts=reduction.counts[rows])
            sets = None if sets is None else replace(sets, of_row=tuple(sets.of_row[k] for k in rows.tolist()))
        _, pattern = np.unique(pattern, return_inverse=True)
        shared = self.options.thresholds == "layer"
        return Plan(reduction, self.widths, pattern.reshape(-1), self.continuous, shared, sets)

    def cost(self, network: SignNetwork) -> int:
        """The exact objective on all rows."""
        return cost(network, self.reduction, self.sets)

    def left(self) -> float | None:
        """Seconds that are left; None without a limit."""
        return Clock.of(self.solver, self.began).left()

    def over(self) -> bool:
        """Time is over, or the caller has enough."""
        return self.interrupted() or self.left() == 0.0

    # ---- start ----

    def start(self) -> SignNetwork:
        """The best of best responses and, where it must be robust, of constant and linear networks. Or no program's."""
        if self.options.method == "committee":
            voters = committee(self.reduction, self.options.hidden[0], self.solver.seed, self.over, self.sets)
            return self._with_shared_thresholds(voters)
        if self.options.method == "descent":
            hidden, restarts = self.options.hidden, self.options.restarts
            return descended(self.reduction, hidden, restarts, self.solver.seed, self.over, self.listener)
        divided = self.options.batches == "lazy"
        final = not divided and self.plan(np.arange(len(self.reduction.rows))).entries > MODEL_ENTRIES
        share = START_SHARE if not final or self.options.method == "splitting" else 1.0
        enough = Clock.of(self.solver, self.began, share).stop(self.interrupted)
        # where nothing is solved behind the start and leads decide, the hinge of leads tells more than errors do
        objective = "min-hinge" if final and len(self.dataset.classes) > 2 and self.sets is None else "max-correct"

        found = []
        if self.sets is not None:
            found += [self._constant(fires=False)]
        if self.sets is not None and len(self.dataset.classes) == 2:
            found += [self._constant(fires=True), *(self._linear(margin) for margin in ROBUST_MARGINS)]
        goal = Goal(objective, self.reduction.domain.bound)
        engine = Engine(self.reduction, goal, self.solver, self.listener, enough)
        found.append(first_network(self.dataset, engine, self.options.hidden))
        usable = [self._with_shared_thresholds(network) for network in found]
        return min(usable, key=self.cost)

    def _linear(self, margin: float) -> SignNetwork:
        """A linear network as a network of this shape: every unit of a layer repeats it."""
        limit = None if self.solver.time_limit is None else 0.1 * self.solver.time_limit
        layer = linear_layer(self.dataset, self.reduction, self.solver.within(limit), self.interrupted, margin)
        return linear_chain(layer, self.options.hidden)

    def _constant(self, *, fires: bool) -> SignNetwork:
        """Every unit fires, or every unit rests, whatever the input and its change."""
        inputs = (len(self.reduction.groups), *self.widths)
        step = 1 if self.reduction.domain.binary else 0
        weights = tuple(np.full((w, n), step, dtype=np.int64) for w, n in zip(self.widths, inputs, strict=False))
        reach = [
            int((np.abs(self.reduction.rows) @ self.reduction.weight_high).max())
            + (0 if self.sets is None else self.sets.most(self.reduction.domain.bound))
            + 1,
            *(n + 1 for n in self.widths),
        ]
        bias = tuple(np.full(w, r if fires else -r, dtype=np.int64) for w, r in zip(self.widths, reach, strict=False))
        return SignNetwork(weights, bias)

    def _with_shared_thresholds(self, network: SignNetwork) -> SignNetwork:
        """The network where its thresholds are allowed; else with the best of them for all units of a layer."""
        if self.options.thresholds == "unit":
            return network
        for depth in range(network.depth):
            zero_one = np.unique(zero_one_bias(network, depth))
            candidates = [
                network.with_layer(depth, w := network.weights[depth], sign_bias(w, np.full(len(w), b), depth))
                for b in zero_one.tolist()
            ]
            network = min(candidates, key=self.cost)
        return network

    # ---- methods ----

    def exact(self, network: SignNetwork, before: Solve) -> tuple[SignNetwork, Solve, *tuple[str, ...]]:
        """Branch and bound on all rows."""
        plan = self.plan(np.arange(len(self.reduction.rows)))
        if not self.worth(plan):
            return network, before, *self.size_notes(plan)
        model = build_model(plan)
        place(model, plan, network)
        try:
            record = self.solve(model, self.left(), start=True)
        except NoSolutionError:
            return network, before
        return self._better(network, self.read(model, plan), record, before)

    def lazy(self, network: SignNetwork, before: Solve) -> tuple[SignNetwork, Solve, *tuple[str, ...]]:
        """Branch and bound on few rows, and on more as needed."""
        return solve_lazily(self, network, before)

    def local(self, network: SignNetwork, before: Solve) -> tuple[SignNetwork, Solve, *tuple[str, ...]]:
        """One layer at a time until none improves; then again from random outer layers, the best of all is kept."""
        plan = self.plan(np.arange(len(self.reduction.rows)))
        if not self.worth(plan):
            return network, before, *self.size_notes(plan)
        model, rng = build_model(plan), np.random.default_rng(self.solver.seed)
        best, seconds, nodes = network, 0.0, 0
        for attempt in range(self.options.restarts):
            if self.over():
                break
            current = best if attempt == 0 else self._shaken(best, rng)
            stale, layer = 0, 1
            while stale < len(self.widths) and not self.over():
                found, record = self._layer_response(model, plan, current, layer)
                seconds, nodes = seconds + record.seconds, nodes + record.nodes
                improved = self.cost(found) < self.cost(current)
                current, stale = (found, 0) if improved else (current, stale + 1)
                layer = layer % len(self.widths) + 1
            best = min(best, current, key=self.cost)
        record = replace(before, status="not searched", seconds=before.seconds + seconds, nodes=nodes)
        return best, settled(record, self.cost(best))

    def _shaken(self, network: SignNetwork, rng: np.random.Generator) -> SignNetwork:
        """The network with random weights behind its first layer, as the published search begins."""
        bound, step = self.reduction.domain.bound, self.reduction.domain.step
        for depth in range(1, network.depth):
            weights = rng.integers(0, 2 * bound // step + 1, network.weights[depth].shape) * step - bound
            network = network.with_layer(
                depth, weights, sign_bias(weights, np.zeros(len(weights), dtype=np.int64), depth)
            )
        return self._with_shared_thresholds(network)

    def _layer_response(
        self, model: pyo.ConcreteModel, plan: Plan, network: SignNetwork, layer: int
    ) -> tuple[SignNetwork, Solve]:
        """The best weights of one layer with all others fixed."""
        place(model, plan, network)
        ends = {id(v): (v.lb, v.ub) for v in (*model.weight.values(), *model.bias.values())}
        for variables in (model.weight, model.bias):
            for index, variable in variables.items():
                if index[0] != layer:
                    variable.setlb(variable.value)
                    variable.setub(variable.value)
        left = self.left()
        try:
            record = self.solve(model, None if left is None else max(left / 4, min(left, 1.0)), start=True)
            found = self.read(model, plan)
        except NoSolutionError:
            found, record = network, no_solve("bits", self.solver)
        for variable in (*model.weight.values(), *model.bias.values()):
            variable.setlb(ends[id(variable)][0])
            variable.setub(ends[id(variable)][1])
        return found, record

    def splitting(self, network: SignNetwork, before: Solve) -> tuple[SignNetwork, Solve]:
        """Programs on batches in which subsets of rows share a pattern; validation rows choose among the networks."""
        kept = validation_rows(self.reduction, self.solver.seed)
        solved = np.flatnonzero(~kept)
        subsets = Subsets(
            self.reduction.rows[solved],
            self.reduction.counts[solved].argmax(axis=1),
            self.solver.seed,
            self.options.purity,
        )
        rng = np.random.default_rng(self.solver.seed)
        best = None
        loss, nodes, seconds = np.ones(len(solved), dtype=np.int64), 0, 0.0
        for number in range(self.options.splits):
            if self.over() or not subsets.split(loss):
                break
            chosen = batch(
                np.arange(len(solved)), self.options.batch_rows, number, rng if self.options.random_batch else None
            )
            plan = self.plan(subsets.of_row[chosen], solved[chosen])
            if not self.has_time_for(plan):
                break
            model, left = build_model(plan), self.left()
            try:
                record = self.solve(
                    model, None if left is None else left / (self.options.splits - number), start=False
                )
            except NoSolutionError:
                continue
            nodes, seconds = nodes + record.nodes, seconds + record.seconds
            found = self.read(model, plan)
            if best is None or self._validated(found, kept) > self._validated(best, kept):
                best = found
                loss = (~self._as_wanted(best)[solved]).astype(np.int64)
        if best is None or self._validated(network, kept) >= self._validated(best, kept):
            best = network
        record = replace(before, status="not searched", seconds=before.seconds + seconds, nodes=nodes)
        return best, settled(record, self.cost(best))

    def _validated(self, network: SignNetwork, kept: BoolArray) -> int:
        """Validation samples that the network gets right, and holds where it must be robust."""
        predicted = network.predict(self.reduction.rows)
        own = self.reduction.counts[np.arange(len(predicted)), predicted]
        if self.sets is not None:
            own = own * self._as_wanted(network)
        return int(own[kept].sum())

    def _as_wanted(self, network: SignNetwork) -> BoolArray:
        """(k,): all output bits are right, and stay so where they must."""
        right = right_rows(network, self.reduction)
        if self.sets is None:
            return right
        return self.sets.held(network.weights[0], network.sums(self.reduction.rows, 0), right) > 0

    # ---- solves ----

    def worth(self, plan: Plan) -> bool:
        """True where the program is small enough, and the time that is left is not spent by building it."""
        return plan.entries <= MODEL_ENTRIES and self.has_time_for(plan)

    def size_notes(self, plan: Plan) -> tuple[str, ...]:
        """That a program is too large to be solved, for people; none if it was another reason."""
        if plan.entries <= MODEL_ENTRIES:
            return ()
        return (
            f"the program of {len(plan.reduction.rows):,} distinct rows has about {plan.entries:,} matrix entries, and "
            f"programs of at most {MODEL_ENTRIES:,} are solved: the network was found without it; fewer units, lazy "
            "batches of few rows or the method splitting make smaller ones",
        )

    def has_time_for(self, plan: Plan) -> bool:
        """True where the time that is left is not spent by building the program."""
        times = 1 if self.sets is None else 3
        rows, entries = program_size(plan.reduction.rows, self.widths)
        tables = 0 if plan.sets is None else self.widths[0] * plan.sets.entries
        return not self.over() and self.solver.within(self.left()).has_time_for(times * rows, times * entries + tables)

    def solve(self, model: pyo.ConcreteModel, seconds: float | None, *, start: bool) -> Solve:
        """Branch and bound for ``seconds``, from the values of ``model`` where it has a ``start``."""
        return solve(
            model, self.solver.within(seconds), start=start, stage="bits", listener=self.listener, stop=self.interrupted
        )

    def _better(
        self, network: SignNetwork, found: SignNetwork, record: Solve, before: Solve
    ) -> tuple[SignNetwork, Solve]:
        if self.cost(found) > self.cost(network):
            found = network
        return found, settled(replace(record, seconds=record.seconds + before.seconds), self.cost(found))

    def read(self, model: pyo.ConcreteModel, plan: Plan) -> SignNetwork:
        """The network of the model's solution, continuous weights scaled to whole ones layer by layer."""
        weights, bias = read(model, plan)
        if self.continuous:
            return scaled_network(weights, bias, plan.reduction.rows)
        return SignNetwork(
            tuple(weights),
            tuple(sign_bias(w, b, depth) for depth, (w, b) in enumerate(zip(weights, bias, strict=True))),
        )

    def finished(self, network: SignNetwork, record: Solve, *notes: str) -> Trained:
        """The network on all inputs, and the report with ``notes``."""
        made = as_network(network, self.reduction, self.dataset)
        options = flat_options(self.options)
        report = report_on(made, self.dataset, self.options.name, options, [record], time.monotonic() - self.began)
        return Trained(made, replace(report, notes=(*notes, *self._notes(network))))

    def _notes(self, network: SignNetwork) -> tuple[str, ...]:
        notes = []
        if self.sets is not None:
            if self.options.method == "committee":  # whose members need not agree
                held, least, kept = certain_rows(network, self.reduction, self.sets), "at least ", "stay so"
            else:
                held, least, kept = self._as_wanted(network), "", "keep every activation"
            commonest = int(self.reduction.counts.sum(axis=0).max())
            count = int((self.reduction.counts.max(axis=1) * held).sum())
            notes.append(
                f"{least}{count} of {self.dataset.rows} training rows are right and {kept} within the robust radius"
                + (": no more than by always answering the most frequent class" if count <= commonest else "")
            )
        if isinstance(network, ScaledNetwork) and network.changed:
            notes.append(
                f"no 16-bit scale keeps every activation of the continuous weights: {network.changed} of "
                f"{network.activations} changed on the distinct training rows"
            )
        return tuple(notes)
