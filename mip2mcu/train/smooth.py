"""Smooth: units without hidden layer that follow all classes' rows, for few rows of images, series or sensors.

A pair of classes has few rows of its own, but the data have more, and neighbouring inputs of an image say much the
same. The weights of each unit have a prior that knows both; under it the pair's rows give a reference of real numbers,
and the network's unit is the nearest one with few links and few bits. Nothing of this is left on the chip: the network
reads the inputs as they are. `mip2mcu.train.prior` has the mathematics.

    nearest    minimise the share of the reference's variance that sums of whole-number weights miss, at most
               ``links`` weights not 0

The objective is counted in parts per million, rounded up. It is a quadratic integer program, beyond HiGHS: the weights
come from local search, and no bound but 0 is claimed.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyomo.environ as pyo

from mip2mcu.dataset import Dataset
from mip2mcu.errors import UsageError
from mip2mcu.layers import Dense
from mip2mcu.mip.pieces import count_links, declare_weights
from mip2mcu.mip.solver import Solver, no_solve
from mip2mcu.network import Network
from mip2mcu.progress import Listener, Progress, Stop, never, silent
from mip2mcu.train.formulation import Formulation, check_options
from mip2mcu.train.prior import Prior, Reference, nearest, prior_of, reference
from mip2mcu.train.reduction import WeightDomain, check_classes, weight_domain
from mip2mcu.train.trained import Trained, flat_options, network_on, report_on, settled

DEFAULT_BOUND = 7
"""Weight bound where none is asked for: four bits a weight."""
PARTS = 1_000_000
"""The objective counts such parts of the reference's variance."""


@dataclass(frozen=True)
class Smooth(Formulation):
    """Options of the smooth formulation.

    weight_bound   P: weights are whole numbers in {-P..P}; None: 7
    links          most non-zero weights of a unit
    length         distance in pixels over which weights of neighbouring inputs go together; without effect on lists
    scatter        how much weight is left in directions in which rows of one class differ; large: as if they did not
    hardness       price of the square of a row's missing margin; large: all rows are separated where that is possible
    """

    weight_bound: int | None = None
    links: int = 150
    length: float = 3.0
    scatter: float = 0.1
    hardness: float = 10.0

    name: ClassVar[str] = "smooth"

    def __post_init__(self) -> None:
        check_options(self)
        if self.links < 1:
            raise UsageError(f"{self.links} links of a unit are not possible: give at least 1")
        for option, value, most in (
            ("length", self.length, 1e3), ("scatter", self.scatter, 1e6), ("hardness", self.hardness, 1e4)
        ):  # fmt: skip
            if not 1e-6 <= value <= most:
                raise UsageError(f"a {option} of {value} is not possible: give a number above 0, at most {most:g}")
        _ = self.domain

    @property
    def domain(self) -> WeightDomain:
        """What a weight may be."""
        return weight_domain("integer", DEFAULT_BOUND if self.weight_bound is None else self.weight_bound)

    def shared(self, dataset: Dataset) -> Informed:
        """The formulation with what the rows of all classes tell; see `mip2mcu.train.formulation.Shared`."""
        check_classes(dataset)
        return Informed(self, prior_of(dataset, self.length, self.scatter))

    def build(self, dataset: Dataset) -> pyo.ConcreteModel:
        """The quadratic program of the nearest unit, on a prior from these rows alone."""
        return self.shared(dataset).build(dataset)

    def start(self, dataset: Dataset, solver: Solver, *, listener: Listener = silent, stop: Stop = never) -> Trained:
        """The network; there is no further search."""
        return self.shared(dataset).start(dataset, solver, listener=listener, stop=stop)


@dataclass(frozen=True, eq=False)
class Informed(Formulation):
    """`Smooth` with a prior from more rows than those that it is given later."""

    options: Smooth
    prior: Prior

    name: ClassVar[str] = Smooth.name

    def reference(self, dataset: Dataset, seed: int) -> Reference:
        """The reference of two classes' rows."""
        if len(dataset.classes) != 2:
            raise UsageError(
                f"smooth separates two classes at a time, here are {len(dataset.classes)}: take --ensemble rest, or "
                "pairs without a --subset-size"
            )
        check_classes(dataset)
        signs = np.where(dataset.labels == 0, 1, -1)
        return reference(self.prior, dataset.inputs[:, self.prior.columns], signs, self.options.hardness, seed)

    def build(self, dataset: Dataset) -> pyo.ConcreteModel:
        """The quadratic program of the unit nearest to the reference."""
        return build_model(self.prior, self.reference(dataset, 0).weights, self.options)

    def start(self, dataset: Dataset, solver: Solver, *, listener: Listener = silent, stop: Stop = never) -> Trained:
        """Reference, then the nearest whole weights."""
        began = time.monotonic()
        wanted = self.reference(dataset, solver.seed)
        found = nearest(self.prior, wanted, self.options.domain.bound, self.options.links, stop)
        mean = dataset.inputs[:, self.prior.columns].mean(axis=0)
        bias = round(found.scale * wanted.bias + float((found.scale * wanted.weights - found.weights) @ mean))
        network = self._network(dataset, found.weights, bias)
        record = settled(no_solve("nearest", solver), math.ceil(found.error * PARTS))
        seconds = time.monotonic() - began
        listener(Progress(record.stage, record.objective, record.bound, seconds))
        report = report_on(network, dataset, self.name, flat_options(self.options), [record], seconds)
        return Trained(network, report)

    def _network(self, dataset: Dataset, weights: Sequence[int] | np.ndarray, bias: int) -> Network:
        every = np.zeros((1, dataset.inputs.shape[1]), dtype=np.int64)
        every[0, self.prior.columns] = weights
        return network_on(dataset, [Dense(every, np.array([bias]))])


def build_model(prior: Prior, wanted: np.ndarray, options: Smooth) -> pyo.ConcreteModel:
    """The error of sums as a quadratic form in whole weights, named by their inputs; ``wanted`` (n,) on their scale."""
    model = pyo.ConcreteModel(name="smooth_nearest")
    columns = prior.columns.tolist()
    bound = options.domain.bound
    declare_weights(model, columns, dict.fromkeys(columns, bound), False)
    count_links(model, columns, dict.fromkeys(columns, 1), bound)
    model.links_are_few = pyo.Constraint(expr=sum(model.links[i] for i in columns) <= options.links)
    spread = prior.spread.astype(np.float64)
    slope = -2 * spread @ wanted
    model.missed_variance = pyo.Objective(
        expr=pyo.quicksum(
            float(spread[a, b]) * model.weight[i] * model.weight[j]
            for a, i in enumerate(columns)
            for b, j in enumerate(columns)
            if spread[a, b]
        )
        + pyo.quicksum(float(s) * model.weight[i] for s, i in zip(slope, columns, strict=True))
        + float(wanted @ spread @ wanted)
    )
    return model
