"""BDNN: binary activations, exact, by local search or by data splitting, and robust against errors of the sensor.

The program is `mip2mcu.train.bdnn_model`; here it is solved in three ways, each from a complete start, or replaced:

    exact       branch and bound on all rows, or on few rows to which those are added that are violated (lazy batches)
    local       one layer at a time, the others fixed, in turn until none improves; restarts with random outer layers
    splitting   `mip2mcu.train.splitting`: rows share activation patterns, subsets are split where the loss is
    committee   `mip2mcu.train.committee`: no program; units for random draws of the rows vote
    descent     `mip2mcu.train.descent`: no program; steps along straight-through gradients, for thousands of rows

All end in the +1/-1 network that `Network` is: sum_i w u + b >= 0 with u in {0, 1} is sum_i w h + (sum_i w + 2 b) >= 0
with h = 2 u - 1. Source: Kurtz and Bah (2021); their heuristic throws an unfinished solve away, here it is kept.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pyomo.environ as pyo

from mip2mcu.dataset import Dataset
from mip2mcu.errors import UsageError
from mip2mcu.ladders import ladders_of
from mip2mcu.mip.solver import Solver, no_solve
from mip2mcu.progress import Listener, Stop, never, silent
from mip2mcu.ranges import IntArray
from mip2mcu.train.bdnn_job import BdnnJob
from mip2mcu.train.bdnn_model import build_model
from mip2mcu.train.formulation import check_options, hidden_widths
from mip2mcu.train.reduction import WeightDomain, reduce, weight_domain
from mip2mcu.train.robust_set import RobustSets, robust_reduction, robust_sets
from mip2mcu.train.sign_network import from_network
from mip2mcu.train.trained import Trained, settled

METHODS = ("exact", "local", "splitting", "committee", "descent")
BATCHES = ("none", "lazy")
RADIUS_LIMIT = 2**31 - 1
"""Largest robust radius, in raw units."""
TOTAL_LIMIT = 1000
"""Most raw units of all features together."""


@dataclass(frozen=True)
class Bdnn:
    """Options of the BDNN formulation.

    hidden         units of each hidden layer
    weight_bound   P: weights are whole numbers in {-P..P}; None: 1
    weights        "integer", "binary" for -1 and +1 alone, or "continuous": in [-1, 1], then scaled to whole numbers
    thresholds     "unit": one a unit, "layer": one for all units of a layer
    method         "exact", "local", "splitting", "committee" or "descent"
    robust_radius  raw units that every feature, or each feature of a list, may be off without changing an activation;
                   members of a committee are fitted to rows that are off by so much, and may differ as before
    robust_features  most features that are off at a time; None: all
    robust_total   most raw units that all features together are off by (l1); with a robust radius each stays within it
    batches        "lazy": the exact program on few rows, to which those are added that its answer gets wrong; "none"
    batch_rows     rows that are added at once, and rows of a batch of data splitting
    splits, purity, random_batch   of data splitting
    restarts       random starts of the local search, and of descents
    """

    hidden: tuple[int, ...] = (4,)
    weight_bound: int | None = None
    weights: str = "integer"
    thresholds: str = "unit"
    method: str = "exact"
    robust_radius: tuple[int, ...] = ()
    robust_features: int | None = None
    robust_total: int | None = None
    batches: str = "none"
    batch_rows: int = 64
    splits: int = 20
    purity: bool = False
    random_batch: bool = True
    restarts: int = 3

    name: ClassVar[str] = "bdnn"

    def __post_init__(self) -> None:
        check_options(self)
        object.__setattr__(self, "hidden", hidden_widths(self.hidden))
        if not self.hidden:
            raise UsageError("bdnn has no networks without hidden layers: give hidden layers such as 8,4, or take inn")
        if self.weights not in ("integer", "binary", "continuous"):
            raise UsageError(f"weights {self.weights!r} are unknown, choose integer, binary or continuous")
        for option, value, choices in (
            ("thresholds", self.thresholds, ("unit", "layer")),
            ("method", self.method, METHODS),
            ("batches", self.batches, BATCHES),
        ):
            if value not in choices:
                raise UsageError(f"{option} {value!r} is unknown, choose one of {', '.join(choices)}")
        self._check_robust()
        for option, count in (("batch_rows", self.batch_rows), ("splits", self.splits), ("restarts", self.restarts)):
            if count < 1:
                raise UsageError(f"{option} {count} is not possible: give at least 1")
        if self.batches == "lazy" and self.method != "exact":
            raise UsageError(
                f"lazy batches are parts of the exact program, not of the method {self.method}: leave one of them out"
            )
        if self.method == "committee" and len(self.hidden) > 1:
            raise UsageError("a committee knows no second hidden layer: choose the method local, or leave it out")
        if self.method == "descent" and self.robust:
            raise UsageError("a descent knows no robust radius: choose the method local or committee, or leave it out")
        if self.method == "descent" and self.thresholds == "layer":
            raise UsageError("a descent gives every unit its own threshold: choose the method local or exact")
        _ = self.domain

    def _check_robust(self) -> None:
        if any(radius < 0 for radius in self.robust_radius):
            raise UsageError(f"a robust radius of {min(self.robust_radius)} is not possible: give 0 or more")
        if max(self.robust_radius, default=0) > RADIUS_LIMIT:
            raise UsageError(
                f"a robust radius of {max(self.robust_radius)} is not possible: raw integers have at most 32 bits, "
                f"give at most {RADIUS_LIMIT}"
            )
        if self.robust_total is not None:
            self._check_total(self.robust_total)
        if self.robust_features is not None and self.robust_features < 1:
            raise UsageError(f"{self.robust_features} features that are off are not possible: give at least 1")
        if self.robust_features is not None and not self.robust:
            raise UsageError(
                f"{self.robust_features} features are off by a robust radius of 0: give robust_radius too, or leave "
                "robust_features out"
            )

    def _check_total(self, total: int) -> None:
        if not 1 <= total <= TOTAL_LIMIT:
            raise UsageError(f"{total} raw units of all features together are not possible: give 1 to {TOTAL_LIMIT}")
        if self.robust_features is not None:
            raise UsageError("robust_total counts raw units, robust_features counts features: leave one of them out")
        if not self.robust:
            raise UsageError(
                f"{total} raw units are off by a robust radius of 0: give another robust_radius, or none to let a "
                "single feature be off by all of them"
            )

    @property
    def domain(self) -> WeightDomain:
        """What a weight may be; of continuous weights, what the start's may be."""
        if self.weights == "continuous":
            if self.weight_bound not in (None, 1):
                raise UsageError(
                    f"continuous weights lie in -1..1: a weight bound of {self.weight_bound} is not possible"
                )
            return WeightDomain(1)
        return weight_domain(self.weights, 1 if self.weight_bound is None else self.weight_bound)

    @property
    def robust(self) -> bool:
        """Some feature may be off."""
        return any(self.robust_radius) or (self.robust_total is not None and not self.robust_radius)

    def build(self, dataset: Dataset) -> pyo.ConcreteModel:
        """The exact program of all rows."""
        job = self.job(dataset, Solver(), silent, never)
        return build_model(job.plan(np.arange(len(job.reduction.rows))))

    def start(self, dataset: Dataset, solver: Solver, *, listener: Listener = silent, stop: Stop = never) -> Trained:
        """A network by linear units and neuron-wise best responses; robust ones by linear margins too."""
        job = self.job(dataset, solver, listener, stop)
        network = job.start()
        return job.finished(network, settled(replace(no_solve("bits", solver), bound=0.0), job.cost(network)))

    def fit(
        self,
        dataset: Dataset,
        solver: Solver,
        *,
        start: Trained | None = None,
        listener: Listener = silent,
        stop: Stop = never,
    ) -> Trained:
        """Start, then improve it by the chosen method; the better of both by its exact objective."""
        first = start or self.start(dataset, solver, listener=listener, stop=stop)
        before = first.report.solves[0]
        if self.method in ("committee", "descent") or before.status == "optimal" or solver.node_limit == 0 or stop():
            return first
        job = self.job(dataset, solver, listener, stop)
        network = from_network(first.network, job.reduction)
        solved = job.lazy if self.batches == "lazy" else getattr(job, self.method)
        found, record, *notes = solved(network, before)
        trained = job.finished(found, record, *notes)
        if len(dataset.classes) > 2 and not self.robust and trained.report.correct < first.report.correct:
            note = (
                f"wrong output bits fell from {before.exact} to {record.exact}, but {trained.report.correct} rows are "
                f"right instead of {first.report.correct}: with more than two classes take the ensemble pairs"
            )
            trained = replace(trained, report=replace(trained.report, notes=(*trained.report.notes, note)))
        return trained

    def job(self, dataset: Dataset, solver: Solver, listener: Listener, stop: Stop) -> BdnnJob:
        """The steps of a training; its time starts now."""
        began = time.monotonic()
        sets: RobustSets | None = None
        if self.robust:
            reduction, chosen = robust_reduction(dataset, self.domain)
            total = self.robust_total
            budget = self.robust_features if total is None else total
            sets = robust_sets(chosen, reduction, self._radius(dataset), budget, counts_units=total is not None)
        else:
            reduction = reduce(dataset, self.domain, merge_columns=self.weights != "continuous")
        return BdnnJob(self, dataset, reduction, sets, solver, listener, stop, began)

    def _radius(self, dataset: Dataset) -> IntArray:
        features = ladders_of(dataset).features
        most = RADIUS_LIMIT if self.robust_total is None else self.robust_total
        given = self.robust_radius or (most,)
        radius = given * features if len(given) == 1 else given
        if len(radius) != features:
            raise UsageError(f"{len(radius)} robust radii for {features} features: give one for all, or one each")
        return np.minimum(radius, most)
