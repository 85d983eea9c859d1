"""BeMi: sign networks by three lexicographic stages: most confident samples, widest margins, fewest links.

    confident   maximise the outputs that are confident:       y s >= threshold                          (SM)
    margins     maximise the margins of the units over the samples that are confident now               (MM)
    links       minimise the non-zero weights, margins kept                                             (MW)

A unit has the margin m when its sum is >= m on every sample on which it fires and <= -1 - m on all others: sums are
whole numbers, so there is no epsilon. For two classes there is one output (y = +1 for class 0), for more one a class.
The threshold is ceil(P (N + 1) / 4) for N inputs of the output; a corrected linear unit is confident from 1 on. Each
stage starts from the whole network of the stage before, and has the time that those before it left over.

``variant="published"``: no bias; the sum of all units' margins, all layers in one; samples that were not confident are
forgotten; every unit keeps its margin in the last stage.

``variant="corrected"`` (default): units have a bias. Margins of a layer are measured by its weakest unit, against the
layer's reach, and the outputs stay confident: otherwise margins of some 10,000 in the first layer buy off those of the
outputs, at most P N. The first stage is a soft margin: it minimises what outputs lack to the threshold, so noisy
samples are not all or nothing, and no stage after it may lack more. The last stage keeps the share ``keep`` of each
layer's margin.

Source: Bernardelli, Gualandi, Milanesi, Lau and Yorke-Smith, "Multi-Objective Linear Ensembles for Robust and Sparse
Training of Few-Bit Neural Networks", INFORMS Journal on Computing 37(3), 2025.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import ClassVar

import pyomo.environ as pyo

from mip2mcu.dataset import Dataset
from mip2mcu.errors import UsageError
from mip2mcu.mip.solver import Solve, Solver
from mip2mcu.progress import Listener, Stop, never, silent
from mip2mcu.train.bemi_goal import Goal, goal_of
from mip2mcu.train.bemi_job import BemiJob
from mip2mcu.train.bemi_model import build_model
from mip2mcu.train.formulation import check_options, hidden_widths
from mip2mcu.train.reduction import WeightDomain, weight_domain
from mip2mcu.train.sign_network import SignNetwork, as_network, from_network
from mip2mcu.train.trained import Trained, flat_options, report_on

VARIANTS = ("corrected", "published")
KEEPS = (0.7, 0.9, 0.4)
"""Shares that an open ``keep`` is chosen from; the first is the default on large data."""


@dataclass(frozen=True)
class Bemi:
    """Options of the BeMi formulation.

    hidden         units of each hidden layer; none, or 0: a linear unit
    weight_bound   P: weights are whole numbers in {-P..P}; None: 1, a ternary network
    weights        "integer", or "binary" for -1 and +1 alone (then there is no last stage)
    variant        "corrected", or "published" for the program of the paper
    keep           share of the margins that the last stage keeps, 0..1; only of the corrected variant

    ``keep`` may be left open (None): `train` then chooses it by cross-validation on small data.
    """

    hidden: tuple[int, ...] = (4, 4)
    weight_bound: int | None = None
    weights: str = "integer"
    variant: str = "corrected"
    keep: float | None = None

    name: ClassVar[str] = "bemi"
    objective: ClassVar[str] = "most confident samples, then widest margins, then fewest links"

    def __post_init__(self) -> None:
        check_options(self)
        object.__setattr__(self, "hidden", hidden_widths(self.hidden))
        if self.variant not in VARIANTS:
            raise UsageError(f"variant {self.variant!r} is unknown, choose one of {', '.join(VARIANTS)}")
        if self.keep is not None and not 0 <= self.keep <= 1:
            raise UsageError(f"keeping {self.keep} of the margins is not possible: give a share of 0..1")
        if self.published and self.keep not in (None, 1):
            raise UsageError(f"the published variant keeps every margin, not {self.keep} of it: leave keep out")
        _ = self.domain

    @property
    def published(self) -> bool:
        """The program of the paper."""
        return self.variant == "published"

    @property
    def domain(self) -> WeightDomain:
        """What a weight may be."""
        return weight_domain(self.weights, 1 if self.weight_bound is None else self.weight_bound)

    def candidates(self) -> tuple[Bemi, ...]:
        """The formulations that an open option may become, the default first."""
        if self.published or self.keep is not None or self.weights == "binary":
            return (self,)
        return tuple(replace(self, keep=keep) for keep in KEEPS)

    def goal(self, dataset: Dataset) -> Goal:
        """What the stages ask for on these data."""
        keep = 1.0 if self.published else KEEPS[0] if self.keep is None else self.keep
        return goal_of(dataset, self.domain, self.hidden, published=self.published, keep=keep)

    def build(self, dataset: Dataset) -> pyo.ConcreteModel:
        """The model of the first stage."""
        return build_model(self.goal(dataset), "confident")

    def start(self, dataset: Dataset, solver: Solver, *, listener: Listener = silent, stop: Stop = never) -> Trained:
        """All stages without branch and bound: linear units of widest margin, handed through the layers, thinned."""
        job = BemiJob(self.goal(dataset), solver, listener, stop, time.monotonic())
        return self._finish(job, dataset, *job.start())

    def fit(
        self,
        dataset: Dataset,
        solver: Solver,
        *,
        start: Trained | None = None,
        listener: Listener = silent,
        stop: Stop = never,
    ) -> Trained:
        """Start, then branch and bound stage by stage; each has the time that those before it left over."""
        if start is not None and (solver.node_limit == 0 or solver.time_limit == 0 or stop()):
            return start
        job = BemiJob(self.goal(dataset), solver, listener, stop, time.monotonic())
        if start is None:
            networks, records = job.start()
        else:
            reduction = job.goal.reduction
            networks = [from_network(one, reduction) for one in (*start.earlier, start.network)]
            records = list(start.report.solves)
        return self._finish(job, dataset, *job.search(networks, records))

    def _finish(
        self, job: BemiJob, dataset: Dataset, stages: list[SignNetwork], records: list[Solve]
    ) -> Trained:
        networks = [as_network(stage, job.goal.reduction, dataset) for stage in stages]
        seconds = time.monotonic() - job.began
        report = report_on(networks[-1], dataset, self.name, flat_options(self), records, seconds)
        report = replace(report, notes=job.notes(stages[0]))
        return Trained(networks[-1], report, tuple(networks[:-1]))
