"""Linear: integer weights without hidden layer, by soft margin, then by fewest links.

Two classes have one unit s (class 0 where s >= 0); more classes one unit a class, the largest sum wins. Two stages:

    margin   minimise H = sum_k count_k * max(0, target - m_k)          m_k: signed sum, or true minus other sum
    links    minimise the number of non-zero weights, subject to       H <= H1 + (1 - keep) * (N * target - H1)

H1 is the first stage's best, N * target - H1 the margin that it captures, so the second stage keeps the stated share of
it. Asking a little less than all of the margin removes most links and usually gains accuracy. The target is a share
``margin`` of half the distance of the class means, measured by the largest weights:

    target = margin * sum_i P |mean_a(x_i) - mean_b(x_i)| / 2

Source: min-hinge of Thorbjarnarson and Yorke-Smith (2020); margin and minimum-weight stages of Bernardelli et al.
(2023).
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from itertools import combinations
from typing import ClassVar

import numpy as np
import pyomo.environ as pyo

from mip2mcu.dataset import Dataset
from mip2mcu.errors import UsageError
from mip2mcu.mip.solver import Solve, Solver
from mip2mcu.progress import Listener, Stop, never, silent
from mip2mcu.train.formulation import check_options
from mip2mcu.train.linear_job import LinearJob, Units
from mip2mcu.train.linear_model import build_model
from mip2mcu.train.reduction import Reduction, WeightDomain, reduce, weight_domain
from mip2mcu.train.trained import Trained, flat_options, report_on

MARGINS = (0.25, 0.5, 1.0)
"""Shares that an open ``margin`` is chosen from; the first is the default on large data."""
KEEPS = (0.99, 0.95, 0.9, 0.8)
"""Shares that an open ``keep`` is chosen from."""


@dataclass(frozen=True)
class Linear:
    """Options of the linear formulation.

    weight_bound   P: weights are whole numbers in {-P..P}; None: 3, or 1 for binary weights
    weights        "integer", or "binary" for -1 and +1 alone (then there is no second stage)
    margin         target of the margin as a share of half the distance of the class means
    target         the target itself, a whole number; None: by ``margin``
    keep           share of the captured margin that the links stage keeps, 0..1

    ``margin`` and ``keep`` may be left open (None): `train` then chooses them by cross-validation on small data, and
    otherwise they are 0.25 and 0.99.
    """

    weight_bound: int | None = None
    weights: str = "integer"
    margin: float | None = None
    target: int | None = None
    keep: float | None = None

    name: ClassVar[str] = "linear"

    def __post_init__(self) -> None:
        check_options(self)
        if self.margin is not None and not 0 < self.margin <= 2:
            raise UsageError(f"a margin of {self.margin} is not possible: give a share above 0 and at most 2")
        if self.target is not None and not 1 <= self.target <= 2**31:
            raise UsageError(f"a margin target of {self.target} is not possible: give a whole number of at least 1")
        if self.keep is not None and not 0 <= self.keep <= 1:
            raise UsageError(f"keeping {self.keep} of the margin is not possible: give a share of 0..1")
        _ = self.domain

    @property
    def domain(self) -> WeightDomain:
        """What a weight may be."""
        return weight_domain(self.weights, self.weight_bound)

    def candidates(self) -> tuple[Linear, ...]:
        """The formulations that open options may become, the defaults first."""
        margins = MARGINS if self.margin is None and self.target is None else (self.margin,)
        keeps = KEEPS if self.keep is None and self.weights != "binary" else (self.keep,)
        return tuple(replace(self, margin=margin, keep=keep) for margin in margins for keep in keeps)

    def build(self, dataset: Dataset, *, budget: int | None = None) -> pyo.ConcreteModel:
        """The model of the margin stage, or, with a ``budget`` of shortfall, of the links stage."""
        reduction = reduce(dataset, self.domain)
        return build_model(reduction, self.target_of(reduction), budget)

    def target_of(self, reduction: Reduction) -> int:
        """The margin's target on these data; the mean over pairs of classes where there are several."""
        if self.target is not None:
            return self.target
        means = (reduction.counts.T @ reduction.rows) / reduction.counts.sum(axis=0)[:, None]
        distances = [np.abs(a - b) @ reduction.weight_high / 2 for a, b in combinations(means, 2)]
        margin = MARGINS[0] if self.margin is None else self.margin
        return max(1, round(margin * float(np.mean(distances))))

    def start(self, dataset: Dataset, solver: Solver, *, listener: Listener = silent, stop: Stop = never) -> Trained:
        """A good network in little time: relaxation, rounding, local search; nothing is searched exhaustively."""
        job = self.job(dataset, solver, listener=listener, stop=stop)
        units, margin = job.start_margin()
        if not job.sparse:
            return self._finish(job, [units], [margin])
        fewer, links = job.start_links(units)
        return self._finish(job, [units, fewer], [margin, links])

    def fit(
        self,
        dataset: Dataset,
        solver: Solver,
        *,
        start: Trained | None = None,
        listener: Listener = silent,
        stop: Stop = never,
    ) -> Trained:
        """Start, then branch and bound stage by stage within the solver's time limit, which covers everything.

        Without a time limit the search goes on to the proof, or to the node limit of each stage; with a node limit
        of 0 there is none.
        """
        if start is not None and (solver.node_limit == 0 or solver.time_limit == 0 or stop()):
            return start
        job = self.job(dataset, solver, listener=listener, stop=stop)
        first = start or self.start(dataset, solver, listener=listener, stop=stop)
        stages = [job.units_of(network) for network in (*first.earlier, first.network)]
        units, margin = job.search_margin(stages[0], first.report.solves[0])
        if not job.sparse:
            return self._finish(job, [units], [margin])
        fewer, links = job.search_links(units, stages[1], first.report.solves[1])
        return self._finish(job, [units, fewer], [margin, links])

    def job(self, dataset: Dataset, solver: Solver, *, listener: Listener = silent, stop: Stop = never) -> LinearJob:
        """The steps of a training, on reduced data; its time starts now."""
        began = time.monotonic()
        reduction = reduce(dataset, self.domain)
        keep = KEEPS[0] if self.keep is None else self.keep
        return LinearJob(dataset, reduction, self.target_of(reduction), keep, solver, listener, stop, began)

    def _finish(self, job: LinearJob, stages: list[Units], solves: list[Solve]) -> Trained:
        networks = [job.network(units) for units in stages]
        options = (*flat_options(self), ("target", job.target))
        report = report_on(networks[-1], job.dataset, self.name, options, solves, time.monotonic() - job.began)
        if job.too_large:
            report = replace(report, notes=("the data are too large for branch and bound: local search only",))
        return Trained(networks[-1], report, tuple(networks[:-1]))
