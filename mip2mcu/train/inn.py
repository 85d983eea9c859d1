"""INN: hidden layers of sign units with integer weights, by one exact mixed-integer program; fewest errors.

For distinct rows k, layers l, units j (hidden units are h = 2 fired - 1):

    total[1,k,j] = sum_i x_ki weight[1,j,i] + bias[1,j]
    total[l,k,j] = sum_i product[l,k,j,i]   + bias[l,j]      product = weight * h, linearised exactly
    fired[l,k,j] = 1  <=>  total[l,k,j] >= 0                 big-M from the total's own interval
    correct[k,c] = 1   =>  class c is decided on row k       two classes: one output, >= 0 is class 0
                                                             more: the true output is the largest, ties by index
    minimise  sum_k,c count[k,c] * (1 - correct[k,c])

Hidden units of a layer are interchangeable: they are ordered by their bias, which is exact.
Source: Thorbjarnarson and Yorke-Smith (2020), max-correct, with one output for two classes and integer inputs.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pyomo.environ as pyo

from mip2mcu.dataset import Dataset
from mip2mcu.errors import NoSolutionError, UsageError
from mip2mcu.layers import UNIT_LIMIT
from mip2mcu.mip.pieces import Total, declare_weights, product_link, sign_link, total_of
from mip2mcu.mip.solver import Solve, Solver, no_solve, solve
from mip2mcu.network import Network
from mip2mcu.progress import Listener, Stop, never, silent
from mip2mcu.train.reduction import Reduction, WeightDomain, reduce, weight_domain
from mip2mcu.train.sign_network import SignNetwork, as_network, from_network, least_errors
from mip2mcu.train.sign_start import first_network
from mip2mcu.train.trained import Trained, flat_options, report_on, settled

MODEL_ENTRIES = 1_000_000
"""Most matrix entries of a model that goes to branch and bound; larger ones end with their start."""


@dataclass(frozen=True)
class Inn:
    """Options of the INN formulation.

    hidden         units of each hidden layer
    weight_bound   P: weights are whole numbers in {-P..P}; None: 3, or 1 for binary weights
    weights        "integer", or "binary" for -1 and +1 alone
    """

    hidden: tuple[int, ...] = (4,)
    weight_bound: int | None = None
    weights: str = "integer"

    name: ClassVar[str] = "inn"
    objective: ClassVar[str] = "fewest training errors"

    def __post_init__(self) -> None:
        object.__setattr__(self, "hidden", tuple(self.hidden))
        if not self.hidden or not all(1 <= width <= UNIT_LIMIT for width in self.hidden):
            raise UsageError(
                f"hidden layers {self.hidden} are not possible: give at least one unit a layer, such as 8,4"
            )
        _ = self.domain

    @property
    def domain(self) -> WeightDomain:
        """What a weight may be."""
        return weight_domain(self.weights, self.weight_bound)

    def build(self, dataset: Dataset) -> pyo.ConcreteModel:
        """The model, ready to be solved or written."""
        return build_model(reduce(dataset, self.domain), self.hidden)

    def start(
        self, dataset: Dataset, solver: Solver, *, listener: Listener = silent, stop: Stop = never
    ) -> Trained:
        """A network by linear units and sweeps of responses; see `mip2mcu.train.sign_start`."""
        began = time.monotonic()
        reduction = reduce(dataset, self.domain)
        share = 0.5 if self._searchable(reduction) else 1.0
        limit = None if solver.time_limit is None else began + share * solver.time_limit

        def enough() -> bool:
            return stop() or (limit is not None and time.monotonic() > limit)

        found = first_network(dataset, reduction, self.hidden, solver, listener, enough)
        network = as_network(found.ordered(), reduction, dataset)
        record = replace(no_solve("correct", solver), bound=float(least_errors(reduction)))
        trained = self._finish(dataset, network, settled(record, wrong(network, dataset)), began)
        if self._searchable(reduction):
            return trained
        notes = ("the data are too large for branch and bound: quick start only",)
        return replace(trained, report=replace(trained.report, notes=notes))

    def fit(
        self,
        dataset: Dataset,
        solver: Solver,
        *,
        start: Trained | None = None,
        listener: Listener = silent,
        stop: Stop = never,
    ) -> Trained:
        """Start, then branch and bound from there; the better of both by its exact errors."""
        began = time.monotonic()
        first = start or self.start(dataset, solver, listener=listener, stop=stop)
        before = first.report.solves[0]
        reduction = reduce(dataset, self.domain)
        if before.status == "optimal" or solver.node_limit == 0 or not self._searchable(reduction) or stop():
            return first
        model = build_model(reduction, self.hidden)
        place(model, reduction, from_network(first.network, reduction))
        left = None if solver.time_limit is None else began + solver.time_limit - time.monotonic()
        try:
            record = solve(model, solver.within(left), start=True, stage="correct", listener=listener, stop=stop)
        except NoSolutionError:  # time was over before the solver had even taken the start
            return first
        network = as_network(read(model), reduction, dataset)
        record = replace(record, bound=max(record.bound or 0.0, before.bound or 0.0))
        value = wrong(network, dataset)
        assert before.exact is not None
        if value > before.exact:
            network, value = first.network, before.exact
        return self._finish(dataset, network, settled(record, value), began)

    def _searchable(self, reduction: Reduction) -> bool:
        """True where the model is small enough for branch and bound."""
        return reduction.rows.size * self.hidden[0] <= MODEL_ENTRIES

    def _finish(self, dataset: Dataset, network: Network, record: Solve, began: float) -> Trained:
        report = report_on(
            network, dataset, self.name, flat_options(self), [record], time.monotonic() - began
        )
        return Trained(network, report)


def wrong(network: Network, dataset: Dataset) -> int:
    """The exact objective: training rows that the finished network gets wrong."""
    return int((network.predict(dataset.inputs) != dataset.labels).sum())


def build_model(reduction: Reduction, hidden: tuple[int, ...]) -> pyo.ConcreteModel:
    """The model; indices are (layer from 1, unit, input) for weights, (layer, row, unit) for activations."""
    model = pyo.ConcreteModel(name="inn_max_correct")
    classes = reduction.counts.shape[1]
    widths = (*hidden, 1 if classes == 2 else classes)
    _declare(model, reduction, widths)
    totals: dict[tuple[int, int], Total] = {}
    for layer in range(1, len(widths) + 1):
        for k in range(len(reduction.rows)):
            for j in range(widths[layer - 1]):
                total = _total(model, reduction, widths, (layer, k, j))
                if layer < len(widths):
                    sign_link(model, (layer, k, j), total, model.fired[layer, k, j])
                else:
                    totals[k, j] = total
    for k, c in model.correct:
        _decides(model, totals, k, c, widths[-1])
    several = [k for k in range(len(reduction.rows)) if (reduction.counts[k] > 0).sum() > 1]
    model.one_class_at_most = pyo.Constraint(
        several,
        rule=lambda m, k: sum(m.correct[k, c] for c in np.flatnonzero(reduction.counts[k]).tolist()) <= 1,
    )
    pairs = [(layer, j) for layer, width in enumerate(hidden, 1) for j in range(width - 1)]
    model.units_are_ordered = pyo.Constraint(
        pairs, rule=lambda m, layer, j: m.bias[layer, j] >= m.bias[layer, j + 1]
    )
    model.errors = pyo.Objective(
        expr=sum(int(reduction.counts[k, c]) * (1 - model.correct[k, c]) for k, c in model.correct)
    )
    return model


def _inputs(reduction: Reduction, widths: tuple[int, ...], layer: int) -> list[int]:
    """Names of a layer's inputs: the first input that a merged column stands for, then units of the layer before."""
    if layer == 1:
        return [int(group[0]) for group in reduction.groups]
    return list(range(widths[layer - 2]))


def _weight_high(reduction: Reduction, widths: tuple[int, ...], layer: int) -> list[int]:
    if layer == 1:
        return [int(h) for h in reduction.weight_high]
    return [reduction.domain.bound] * widths[layer - 2]


def _bias_high(reduction: Reduction, widths: tuple[int, ...], layer: int) -> int:
    """With this bias a unit is on, or off, for every row whatever its weights are."""
    if layer == 1:
        return int((np.abs(reduction.rows) @ reduction.weight_high).max()) + 1
    return reduction.domain.bound * widths[layer - 2] + 1


def _declare(model: pyo.ConcreteModel, reduction: Reduction, widths: tuple[int, ...]) -> None:
    """All variables and the constraints that are filled later."""
    layers, rows = range(1, len(widths) + 1), range(len(reduction.rows))
    high = {
        (layer, j, i): h
        for layer in layers
        for j in range(widths[layer - 1])
        for i, h in zip(
            _inputs(reduction, widths, layer), _weight_high(reduction, widths, layer), strict=True
        )
    }
    declare_weights(model, list(high), high, reduction.domain.binary)
    model.bias = pyo.Var(
        [(layer, j) for layer in layers for j in range(widths[layer - 1])],
        domain=pyo.Integers,
        bounds=lambda _, layer, j: (
            -_bias_high(reduction, widths, layer),
            _bias_high(reduction, widths, layer),
        ),
    )
    model.fired = pyo.Var(
        [(layer, k, j) for layer in layers[:-1] for k in rows for j in range(widths[layer - 1])],
        domain=pyo.Binary,
    )
    bound = reduction.domain.bound
    model.product = pyo.Var(
        [
            (layer, k, j, i)
            for layer in layers[1:]
            for k in rows
            for j in range(widths[layer - 1])
            for i in range(widths[layer - 2])
        ],
        domain=pyo.Reals,
        bounds=(-bound, bound),
    )
    model.correct = pyo.Var([(int(k), int(c)) for k, c in np.argwhere(reduction.counts)], domain=pyo.Binary)
    for name in (
        "fires",
        "rests",
        "kept_below",
        "kept_above",
        "negated_below",
        "negated_above",
        "true_class_wins",
    ):
        setattr(model, name, pyo.Constraint(pyo.Any))


def _total(
    model: pyo.ConcreteModel, reduction: Reduction, widths: tuple[int, ...], index: tuple[int, int, int]
) -> Total:
    """The sum of one unit on one row, with its exact interval; links the products of deeper layers."""
    layer, k, j = index
    bias, bias_high = model.bias[layer, j], _bias_high(reduction, widths, layer)
    if layer == 1:
        weights = [model.weight[1, j, i] for i in _inputs(reduction, widths, 1)]
        return total_of(weights, reduction.rows[k], reduction.weight_high, bias, bias_high)
    bound, before = reduction.domain.bound, range(widths[layer - 2])
    for i in before:
        product, weight = model.product[layer, k, j, i], model.weight[layer, j, i]
        product_link(model, (layer, k, j, i), product, weight, model.fired[layer - 1, k, i], high=bound)
    products = [model.product[layer, k, j, i] for i in before]
    ones = np.ones(len(products), dtype=np.int64)
    return total_of(products, ones, ones * bound, bias, bias_high)


def _decides(
    model: pyo.ConcreteModel, totals: dict[tuple[int, int], Total], k: int, c: int, outputs: int
) -> None:
    """``correct[k, c] = 1`` forces the decision rule to class c on row k."""
    correct = model.correct[k, c]
    if outputs == 1:
        total = totals[k, 0]
        if c == 0:
            model.true_class_wins[k, c] = total.expression((total.low, correct)) >= total.low
        else:
            model.true_class_wins[k, c] = total.expression((total.high + 1, correct)) <= total.high
        return
    for other in range(outputs):
        if other != c:
            lead = totals[k, c].minus(totals[k, other])
            needed = 1 if other < c else 0
            model.true_class_wins[k, c, other] = lead.expression((lead.low - needed, correct)) >= lead.low


def place(model: pyo.ConcreteModel, reduction: Reduction, network: SignNetwork) -> None:
    """Set all variables of ``model`` to the solution that ``network``, with ordered units, is."""
    values = reduction.rows
    for layer in range(1, network.depth + 1):
        weights, bias = network.weights[layer - 1], network.bias[layer - 1]
        names = _inputs(reduction, tuple(len(b) for b in network.bias), layer)
        for j in range(len(bias)):
            model.bias[layer, j].set_value(int(bias[j]))
            for column, i in enumerate(names):
                weight = int(weights[j, column])
                model.weight[layer, j, i].set_value(weight)
                if hasattr(model, "plus"):
                    model.plus[layer, j, i].set_value((weight + model.plus[layer, j, i].ub) // 2)
        if layer > 1:
            for k, j, i in np.ndindex(len(values), len(bias), len(names)):
                model.product[layer, k, j, i].set_value(int(weights[j, i] * values[k, i]))
        sums = network.sums(values, layer - 1)
        if layer < network.depth:
            values = np.where(sums >= 0, 1, -1)
            for k, j in np.ndindex(*values.shape):
                model.fired[layer, k, j].set_value(int(values[k, j] > 0))
    predicted = network.predict(reduction.rows)
    for k, c in model.correct:
        model.correct[k, c].set_value(int(predicted[k] == c))


def read(model: pyo.ConcreteModel) -> SignNetwork:
    """The network in the variables of a solved ``model``."""

    def units(layer: int) -> Iterator[int]:
        return (j for number, j in model.bias if number == layer)

    def weights_of(layer: int, unit: int) -> list[Any]:
        return [
            variable.value
            for (number, j, _), variable in model.weight.items()
            if (number, j) == (layer, unit)
        ]

    layers = sorted({layer for layer, _ in model.bias})
    return SignNetwork(
        tuple(np.array([weights_of(layer, j) for j in units(layer)], dtype=np.int64) for layer in layers),
        tuple(
            np.array([model.bias[layer, j].value for j in units(layer)], dtype=np.int64) for layer in layers
        ),
    )
