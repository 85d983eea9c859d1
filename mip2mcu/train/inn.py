"""INN: hidden layers of sign units with integer weights, by one exact mixed-integer program for any objective.

`mip2mcu.train.inn_model` holds the network part, `mip2mcu.train.objectives` what is minimised, `mip2mcu.train.goal` how
stages and the number of hidden units come in. A training begins with neuron-wise best responses
(`mip2mcu.train.best_response`), which stand alone where the program is too large, and goes on by branch and bound.
Source: Thorbjarnarson and Yorke-Smith (2020), with one output for two classes and integer inputs.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import ClassVar

import pyomo.environ as pyo

from mip2mcu.dataset import Dataset
from mip2mcu.errors import NoSolutionError, UsageError
from mip2mcu.mip.solver import Solve, Solver, no_solve
from mip2mcu.network import Network
from mip2mcu.progress import Listener, Stop, never, silent
from mip2mcu.train.best_response import Engine
from mip2mcu.train.clock import Clock
from mip2mcu.train.compress import stripped
from mip2mcu.train.formulation import check_options, hidden_widths
from mip2mcu.train.goal import Goal, Program
from mip2mcu.train.inn_search import Search
from mip2mcu.train.reduction import Reduction, WeightDomain, reduce, weight_domain
from mip2mcu.train.sign_network import SignNetwork, as_network, from_network
from mip2mcu.train.sign_start import first_network, outputs_alone, spread
from mip2mcu.train.trained import Trained, flat_options, report_on, settled

BATCHES = ("none", "averaging", "lazy")
"""How rows may be divided."""
RIDGES = (3, 1, 10, 30)
"""Prices of a squared weight that an open ``ridge`` is chosen from; the first is the default on large data."""


@dataclass(frozen=True)
class Inn:
    """Options of the INN formulation.

    hidden         units of each hidden layer; none, or 0: outputs alone
    weight_bound   P: weights are whole numbers in {-P..P}; None: 3, or 1 for binary weights
    weights        "integer", or "binary" for -1 and +1 alone
    objective      "max-correct": fewest errors; "sat-margin": fewest leads below the margin target; "min-hinge": least
                   squares of what leads lack of it; "min-weight", "max-margin": of a network without training errors
    objective_target  a value of the objective that is good enough; None: go on to the proof or the limits
    margin_target  the margin target of sat-margin and min-hinge; None: a quarter of the range of the last sums, or,
                   without hidden layers, as far as the weights reach in a real fit
    ridge          min-hinge without hidden layers: price of a squared weight on bits, scaled with the inputs' variance;
                   None: by cross-validation on small data, else 3
    compress       "weighted": alpha times the hidden units in use is added to the objective; "lexicographic": first
                   the objective, then the units; units that are not used are removed from the network
    alpha          price of a hidden unit, three decimals at most
    batches        for thousands of rows. "averaging", as published: networks of single batches, averaged by validation
                   rows, in boxes that shrink; "lazy": the program on few rows, to which those are added that its
                   answer violates, and best responses on all rows
    batch_rows     rows of a batch; under "lazy", rows that are added at once
    epochs         of averaging; None: P + 1 as published, fewer begin with smaller boxes
    ordered, tight, merge_columns, merge_rows   switches for measurements: order of interchangeable units, big-M values
                   of each row's own, identical columns and identical rows taken together
    """

    hidden: tuple[int, ...] = (4,)
    weight_bound: int | None = None
    weights: str = "integer"
    objective: str = "max-correct"
    objective_target: int | None = None
    margin_target: int | None = None
    compress: str = "none"
    alpha: float = 0.1
    ridge: int | None = None
    batches: str = "none"
    batch_rows: int = 100
    epochs: int | None = None
    ordered: bool = True
    tight: bool = True
    merge_columns: bool = True
    merge_rows: bool = True

    name: ClassVar[str] = "inn"

    def __post_init__(self) -> None:
        check_options(self)
        object.__setattr__(self, "hidden", hidden_widths(self.hidden))
        if self.compress != "none" and self.domain.binary:
            raise UsageError("binary weights cannot be zero, so no unit can be unused: compress integer weights")
        if self.objective_target is not None and self.objective_target < 0:
            raise UsageError(f"an objective of {self.objective_target} is not possible: give at least 0")
        if not self.hidden and self.compress != "none":
            raise UsageError("there are no hidden units to compress: give hidden layers such as 8,4, or leave compress")
        if self.ridge is not None and (self.hidden or self.objective != "min-hinge"):
            raise UsageError("a ridge is for min-hinge without hidden layers: leave one of them out")
        self._check_batches()
        _ = self.goal

    def _check_batches(self) -> None:
        if self.batches not in BATCHES:
            raise UsageError(f"batches {self.batches!r} are unknown, choose one of {', '.join(BATCHES)}")
        if self.batch_rows < 2:
            raise UsageError(f"batches of {self.batch_rows} rows are not possible: give at least 2")
        if self.epochs is not None and self.epochs < 1:
            raise UsageError(f"{self.epochs} epochs are not possible: give at least 1")
        if self.epochs is not None and self.batches != "averaging":
            raise UsageError("epochs are for averaged batches: give batches averaging, or leave them out")
        if self.batches == "averaging" and self.goal.kind.fits_all:
            raise UsageError(
                f"{self.objective} needs every row right, and a mean of networks keeps no row right: average batches "
                "of max-correct, sat-margin or min-hinge, or take the batches lazy"
            )
        if self.batches == "lazy" and (self.objective == "max-margin" or self.compress == "lexicographic"):
            raise UsageError(
                "lazy batches need losses of single rows: take another objective than max-margin, and compress weighted"
            )

    @property
    def domain(self) -> WeightDomain:
        """What a weight may be."""
        return weight_domain(self.weights, self.weight_bound)

    @property
    def goal(self) -> Goal:
        """What is minimised."""
        alpha = Fraction(str(self.alpha))
        return Goal(self.objective, self.domain.bound, self.margin_target, self.compress, alpha, self._ridge)

    @property
    def _ridge(self) -> int:
        default = RIDGES[0] if self.objective == "min-hinge" and not self.hidden else 0
        return default if self.ridge is None else self.ridge

    def goal_on(self, reduction: Reduction) -> Goal:
        """What is minimised on these data: without hidden layers, target and ridge have the inputs' scale."""
        if self.hidden:
            return self.goal
        ridge = self._ridge * spread(reduction)
        target = self.margin_target or outputs_alone(reduction, ridge)[1]
        return replace(self.goal, margin_target=target, ridge=ridge)

    def candidates(self) -> tuple[Inn, ...]:
        """The formulations that an open ridge may become, the default first."""
        is_open = self.ridge is None and not self.hidden and self.objective == "min-hinge"
        return tuple(replace(self, ridge=ridge) for ridge in RIDGES) if is_open else (self,)

    def build(self, dataset: Dataset) -> pyo.ConcreteModel:
        """The model of the first stage, ready to be solved or written."""
        return self.program(self.reduced(dataset)).model

    def program(self, reduction: Reduction, stage: str | None = None, budget: int = 0) -> Program:
        """The model of a stage, and how networks get into it."""
        return self.goal_on(reduction).program(
            reduction, self.hidden, stage, budget=budget, ordered=self.ordered, tight=self.tight
        )

    def start(
        self, dataset: Dataset, solver: Solver, *, listener: Listener = silent, stop: Stop = never
    ) -> Trained:
        """A network by linear units and best responses; see `mip2mcu.train.sign_start`."""
        began = time.monotonic()
        reduction = self.reduced(dataset)
        search = self.search(reduction)
        share = 0.5 if search.searchable else 1.0
        enough = Clock.of(solver, began, share).stop(stop)
        goal = search.goal
        target = None if self.objective_target is None or len(self.goal.stages) > 1 else (self.objective_target,)
        engine = Engine(reduction, goal, solver, listener, enough, target)
        network = first_network(dataset, engine, self.hidden).ordered()
        trained = self.finish(dataset, reduction, network, self.counted(network, reduction, solver), began)
        if search.searchable:
            return trained
        notes = ("the data are too large for branch and bound: best responses only",)
        return replace(trained, report=replace(trained.report, notes=notes))

    def counted(self, network: SignNetwork, reduction: Reduction, solver: Solver) -> list[Solve]:
        """The records of a network that no solver has worked on: one a stage, up to the first that it fails."""
        goal = self.goal_on(reduction)
        value = goal.value(network, reduction)
        records = [settled(no_solve(stage, solver), v) for stage, v in zip(self.goal.stages, value, strict=True)]
        least = float(goal.least(reduction, self.hidden))
        records[0] = settled(replace(no_solve(self.goal.stages[0], solver), bound=least), value[0])
        return records[:1] if self.goal.kind.fits_all and value[0] else records

    def fit(
        self,
        dataset: Dataset,
        solver: Solver,
        *,
        start: Trained | None = None,
        listener: Listener = silent,
        stop: Stop = never,
    ) -> Trained:
        """Start, then branch and bound from there, stage by stage; the better of both by its exact value.

        Raises `NoSolutionError` where the objective needs a network without training errors and there is none.
        """
        began = time.monotonic()
        first = start or self.start(dataset, solver, listener=listener, stop=stop)
        reduction = self.reduced(dataset)
        network = from_network(first.network, reduction).padded(self.hidden).ordered()
        search = replace(self.search(reduction), listener=listener, stop=stop)
        left = solver.within(Clock.of(solver, began).left())
        network, records = search.stages(network, first.report.solves, left, self.objective_target)
        self.check_fit(records[0], dataset)
        trained = self.finish(dataset, reduction, network.ordered(), records, began)
        return replace(trained, report=replace(trained.report, notes=first.report.notes))

    def check_fit(self, record: Solve, dataset: Dataset) -> None:
        """Raise `NoSolutionError` where every row must be right and the best network leaves some wrong."""
        if not self.goal.kind.fits_all or record.stage != "errors" or not record.exact:
            return
        wrong = f"{record.exact} of {dataset.rows} training rows wrong"
        way_out = "take more hidden units, a larger weight bound, or another objective such as sat-margin"
        if record.status == "optimal":
            raise NoSolutionError(
                f"{self.objective} needs a network that gets every training row right, and there is none: the best "
                f"one has {wrong}, which is proved; {way_out}"
            )
        raise NoSolutionError(
            f"{self.objective} needs a network that gets every training row right, and none was found: the best one "
            f"has {wrong}, at least {record.bound or 0:.0f} are proved; allow more time, {way_out}"
        )

    def reduced(self, dataset: Dataset) -> Reduction:
        """The rows of ``dataset`` as the program sees them."""
        return reduce(dataset, self.domain, merge_columns=self.merge_columns, merge_rows=self.merge_rows)

    def search(self, reduction: Reduction) -> Search:
        """Branch and bound on these data."""
        return Search(self.goal_on(reduction), reduction, self.hidden, ordered=self.ordered, tight=self.tight)

    def finish(
        self, dataset: Dataset, reduction: Reduction, units: SignNetwork, records: list[Solve], began: float
    ) -> Trained:
        """The finished network and its report, with the seconds since ``began``."""
        network = as_network(units, reduction, dataset)
        if self.compress != "none":
            network = stripped(network)
        seconds = time.monotonic() - began
        return Trained(network, report_on(network, dataset, self.name, flat_options(self), records, seconds))


def wrong(network: Network, dataset: Dataset) -> int:
    """Training rows that the finished network gets wrong: the exact value of max-correct."""
    return int((network.predict(dataset.inputs) != dataset.labels).sum())
