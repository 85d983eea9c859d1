"""What networks of sign units are trained for: losses of samples in exact integers, and the same in a Pyomo model.

The lead of a sample's class over another one is the difference of their output sums; with two classes it is the one
output s for class 0 and -s for class 1. A class is decided where its leads over lower classes are >= 1 and those over
higher ones >= 0. With a margin target T:

    max-correct   1 for a sample whose class is not decided
    sat-margin    1 for every lead below T
    min-hinge     max(0, T - lead)^2 for every lead: convex and piecewise linear through all whole numbers, cut lazily
    min-weight    every sample is right; sum of |weight| and |bias|
    max-margin    every sample is right; what the units' margins miss of their reach, each layer's to the same scale

All are minimised and never negative. Sources: Thorbjarnarson and Yorke-Smith (2020) for the first three, with leads in
place of signed outputs, since only leads are decided by; Toro Icarte et al. (2019) for the last two.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

import numpy as np
import pyomo.environ as pyo

from mip2mcu.mip.pieces import Total, margin_link
from mip2mcu.ranges import IntArray
from mip2mcu.train.inn_model import Parts
from mip2mcu.train.reduction import Reduction
from mip2mcu.train.sign_network import SignNetwork, decide, leads


class Objective(Protocol):
    """One of the objectives; a literal dict, `OBJECTIVES`, holds all of them."""

    name: str
    fits_all: bool
    """True where every sample must be right: `losses` are the errors, and `cost` is what is minimised."""
    has_target: bool

    def losses(self, sums: IntArray, true: IntArray, target: int) -> IntArray:
        """Loss (n,) of single samples: output sums (n, outputs), their classes ``true`` (n,)."""

    def cost(self, network: SignNetwork, reduction: Reduction) -> int:
        """The objective of a network that gets everything right; 0 for objectives that are a sum of losses."""

    def add(self, parts: Parts, target: Any) -> Any:
        """Add variables and constraints; returns what is to be minimised. ``target``: a number or a variable."""

    def place(self, parts: Parts, network: SignNetwork, target: int) -> None:
        """Set the variables that `add` made to what ``network`` means."""


class MaxCorrect:
    """Fewest errors."""

    name, fits_all, has_target = "max-correct", False, False

    def losses(self, sums: IntArray, true: IntArray, target: int) -> IntArray:
        """See `Objective`."""
        return (decide(sums) != true).astype(np.int64)

    def cost(self, network: SignNetwork, reduction: Reduction) -> int:
        """See `Objective`."""
        return 0

    def add(self, parts: Parts, target: Any) -> Any:
        """``correct[k, c] = 1`` forces the decision rule to class c on row k."""
        model, counts = parts.model, parts.reduction.counts
        model.correct = pyo.Var([(int(k), int(c)) for k, c in np.argwhere(counts)], domain=pyo.Binary)
        model.true_class_wins = pyo.Constraint(pyo.Any)
        for k, c, other in parts.wins:
            lead, needed = parts.lead(k, c, other), int(other < c)
            correct = (lead.low - needed, model.correct[k, c])
            model.true_class_wins[k, c, other] = lead.expression(correct) >= lead.low
        several = [k for k in range(len(counts)) if (counts[k] > 0).sum() > 1]
        model.one_class_at_most = pyo.Constraint(
            several, rule=lambda m, k: sum(m.correct[k, c] for c in np.flatnonzero(counts[k]).tolist()) <= 1
        )
        return sum(int(counts[k, c]) * (1 - model.correct[k, c]) for k, c in model.correct)

    def place(self, parts: Parts, network: SignNetwork, target: int) -> None:
        """See `Objective`."""
        predicted = network.predict(parts.reduction.rows)
        for k, c in parts.model.correct:
            parts.model.correct[k, c].set_value(int(predicted[k] == c))


class SatMargin:
    """Fewest leads below the target."""

    name, fits_all, has_target = "sat-margin", False, True

    def losses(self, sums: IntArray, true: IntArray, target: int) -> IntArray:
        """See `Objective`."""
        return (leads(sums, true) < target).sum(axis=1)

    def cost(self, network: SignNetwork, reduction: Reduction) -> int:
        """See `Objective`."""
        return 0

    def add(self, parts: Parts, target: Any) -> Any:
        """``saturated = 1`` forces a lead to the target; the other direction is never needed."""
        model, counts = parts.model, parts.reduction.counts
        model.saturated = pyo.Var(parts.wins, domain=pyo.Binary)
        model.lead_reaches_target = pyo.Constraint(pyo.Any)
        for k, c, other in parts.wins:
            lead, saturated = parts.lead(k, c, other), model.saturated[k, c, other]
            reaches = _less_target(lead, target, (lead.low - _high(target), saturated))
            model.lead_reaches_target[k, c, other] = reaches >= lead.low - _high(target)
        return sum(int(counts[k, c]) * (1 - model.saturated[k, c, o]) for k, c, o in parts.wins)

    def place(self, parts: Parts, network: SignNetwork, target: int) -> None:
        """See `Objective`."""
        for index, lead in parts.leads_of(network):
            parts.model.saturated[index].set_value(int(lead >= target))


class MinHinge:
    """Least sum of squared shortfalls of leads."""

    name, fits_all, has_target = "min-hinge", False, True

    def losses(self, sums: IntArray, true: IntArray, target: int) -> IntArray:
        """See `Objective`."""
        return (np.maximum(0, target - leads(sums, true)) ** 2).sum(axis=1)

    def cost(self, network: SignNetwork, reduction: Reduction) -> int:
        """See `Objective`."""
        return 0

    def add(self, parts: Parts, target: Any) -> Any:
        """``loss >= shortfall^2`` through its chord over [0, 1] and chords that double their distance; see `cut`."""
        model, counts = parts.model, parts.reduction.counts
        model.shortfall = pyo.Var(parts.wins, domain=pyo.NonNegativeReals)
        model.loss = pyo.Var(parts.wins, domain=pyo.NonNegativeReals)
        model.lead_reaches_target = pyo.Constraint(pyo.Any)
        model.loss_is_above_chord = pyo.Constraint(pyo.Any)
        for k, c, other in parts.wins:
            lead, shortfall = parts.lead(k, c, other), model.shortfall[k, c, other]
            model.lead_reaches_target[k, c, other] = _less_target(lead, target, (1, shortfall)) >= 0
            chord = 0
            while chord < _high(target) - lead.low:
                _add_chord(model, (k, c, other), chord)
                chord = 2 * chord + 1
        return sum(int(counts[k, c]) * model.loss[k, c, o] for k, c, o in parts.wins)

    def place(self, parts: Parts, network: SignNetwork, target: int) -> None:
        """See `Objective`."""
        for index, lead in parts.leads_of(network):
            parts.model.shortfall[index].set_value(max(0, target - lead))
            parts.model.loss[index].set_value(max(0, target - lead) ** 2)

    def cut(self, parts: Parts, network: SignNetwork, target: int) -> int:
        """Add the chords around the shortfalls that ``network`` has; returns how many were missing."""
        missing = 0
        for index, lead in parts.leads_of(network):
            short = max(0, target - lead)
            for chord in (short - 1, short):
                if chord >= 0 and (*index, chord) not in parts.model.loss_is_above_chord:
                    _add_chord(parts.model, index, chord)
                    missing += 1
        return missing


def _add_chord(model: pyo.ConcreteModel, index: tuple[int, int, int], low: int) -> None:
    """The line through (low, low^2) and (low + 1, (low + 1)^2), below the square at every whole number."""
    line = (2 * low + 1) * model.shortfall[index] - low * (low + 1)
    model.loss_is_above_chord[(*index, low)] = model.loss[index] >= line


def add_squares(parts: Parts) -> Any:
    """Add ``square >= weight^2`` for every weight, by chords on both sides; returns their sum."""
    model = parts.model
    model.square = pyo.Var(list(model.weight), domain=pyo.NonNegativeReals)
    model.square_is_above_chord = pyo.Constraint(pyo.Any)
    for index, weight in model.weight.items():
        chord = 0
        while chord < max(weight.ub, -weight.lb):
            _add_square_chord(model, index, chord)
            _add_square_chord(model, index, -chord - 1)
            chord = 2 * chord + 1
    return pyo.quicksum(model.square.values())


def cut_squares(parts: Parts, network: SignNetwork) -> int:
    """Add the chords around the weights that ``network`` has; returns how many were missing."""
    model, missing = parts.model, 0
    values = np.concatenate([layer.reshape(-1) for layer in network.weights]).tolist()
    for index, value in zip(model.weight, values, strict=True):
        for chord in (value - 1, value):
            if (*index, chord) not in model.square_is_above_chord:
                _add_square_chord(model, index, chord)
                missing += 1
    return missing


def _add_square_chord(model: pyo.ConcreteModel, index: tuple[int, int, int], low: int) -> None:
    """The line through (low, low^2) and (low + 1, (low + 1)^2)."""
    line = (2 * low + 1) * model.weight[index] - low * (low + 1)
    model.square_is_above_chord[(*index, low)] = model.square[index] >= line


class MinWeight:
    """Least sum of absolute weights and biases of a network that gets every sample right."""

    name, fits_all, has_target = "min-weight", True, False

    def losses(self, sums: IntArray, true: IntArray, target: int) -> IntArray:
        """See `Objective`."""
        return MaxCorrect().losses(sums, true, target)

    def cost(self, network: SignNetwork, reduction: Reduction) -> int:
        """See `Objective`."""
        return sum(int(np.abs(part).sum()) for part in (*network.weights, *network.bias))

    def add(self, parts: Parts, target: Any) -> Any:
        """Hard rows, and a size for each weight and bias."""
        model = parts.model
        _every_sample_is_right(parts)
        model.weight_size = pyo.Var(list(model.weight), domain=pyo.NonNegativeReals)
        model.bias_size = pyo.Var(list(model.bias), domain=pyo.NonNegativeReals)
        for size, value, name in (
            (model.weight_size, model.weight, "weight_size"),
            (model.bias_size, model.bias, "bias_size"),
        ):
            for sign, side in ((1, "plus"), (-1, "minus")):
                rows = {index: size[index] >= sign * value[index] for index in value}
                setattr(model, f"{name}_covers_{side}", pyo.Constraint(list(rows), rule=_rows(rows)))
        return pyo.quicksum(model.weight_size.values()) + pyo.quicksum(model.bias_size.values())

    def place(self, parts: Parts, network: SignNetwork, target: int) -> None:
        """See `Objective`."""
        for size, value in (
            (parts.model.weight_size, parts.model.weight),
            (parts.model.bias_size, parts.model.bias),
        ):
            for index in value:
                size[index].set_value(abs(value[index].value))


class MaxMargin:
    """Largest margins of all units of a network that gets every sample right.

    A hidden unit's margin is the least of ``total`` where it fires and ``-1 - total`` where it rests; an output's the
    least lead of its class above what decides (with two classes, of both). No margin counts beyond the layer's reach,
    the largest sum that its weights alone can make. A layer's margins are multiplied by the whole number of times that
    its reach goes into the largest one, so that no layer swamps another.
    """

    name, fits_all, has_target = "max-margin", True, False

    def losses(self, sums: IntArray, true: IntArray, target: int) -> IntArray:
        """See `Objective`."""
        return MaxCorrect().losses(sums, true, target)

    def cost(self, network: SignNetwork, reduction: Reduction) -> int:
        """See `Objective`."""
        reaches = _reaches(reduction, tuple(len(bias) for bias in network.bias))
        scales = _scales(reaches)
        total = 0
        for reach, scale, margins in zip(reaches, scales, _margins(network, reduction), strict=True):
            total += scale * int((reach - np.minimum(margins, reach)).sum())
        return total

    def add(self, parts: Parts, target: Any) -> Any:
        """Both sides of every hidden unit and every decision keep the unit's margin."""
        model, depth = parts.model, len(parts.widths)
        reaches = _reaches(parts.reduction, parts.widths)
        units = [(layer, j) for layer in range(1, depth + 1) for j in range(parts.widths[layer - 1])]
        model.margin = pyo.Var(units, domain=pyo.Integers, bounds=lambda _, layer, j: (0, reaches[layer - 1]))
        model.fires_with_margin = pyo.Constraint(pyo.Any)
        model.rests_with_margin = pyo.Constraint(pyo.Any)
        for (layer, k, j), total in parts.totals.items():
            if layer < depth:
                margin_link(model, (layer, k, j), total, model.fired[layer, k, j], model.margin[layer, j])
        _every_sample_is_right(parts, with_margin=True)
        scales = _scales(reaches)
        return sum(
            scales[layer - 1] * (reaches[layer - 1] - model.margin[layer, j]) for layer, j in model.margin
        )

    def place(self, parts: Parts, network: SignNetwork, target: int) -> None:
        """See `Objective`."""
        reaches = _reaches(parts.reduction, parts.widths)
        for layer, margins in enumerate(_margins(network, parts.reduction), 1):
            for j, margin in enumerate(margins.tolist()):
                parts.model.margin[layer, j].set_value(min(margin, reaches[layer - 1]))


OBJECTIVES: dict[str, Objective] = {
    one.name: one for one in (MaxCorrect(), MinHinge(), SatMargin(), MinWeight(), MaxMargin())
}


# ---- pieces --------------------------------------------------------------------------------------------------------


def _high(target: Any) -> int:
    return target if isinstance(target, int) else int(target.ub)


def _less_target(lead: Total, target: Any, *more: tuple[int, Any]) -> Any:
    """``lead - target`` plus further terms."""
    if isinstance(target, int):
        return lead.expression(*more, constant=-target)
    return lead.expression((-1, target), *more)


def _rows(rows: dict[Any, Any]) -> Any:
    return lambda _, *index: rows[index if len(index) > 1 else index[0]]


def _every_sample_is_right(parts: Parts, *, with_margin: bool = False) -> None:
    """Hard rows: every class is decided, by its output's margin where there is one."""
    model = parts.model
    model.every_sample_is_right = pyo.Constraint(pyo.Any)
    last = len(parts.widths)
    for k, c, other in parts.wins:
        lead = parts.lead(k, c, other)
        more = ((-1, model.margin[last, c if parts.widths[-1] > 1 else 0]),) if with_margin else ()
        model.every_sample_is_right[k, c, other] = lead.expression(*more) >= int(other < c)


def _reaches(reduction: Reduction, widths: tuple[int, ...]) -> list[int]:
    """Largest sum that the weights of each layer can make on a training row; a lead is a difference of two."""
    first = int((np.abs(reduction.rows) @ reduction.weight_high).max())
    reaches = [first, *(reduction.domain.bound * width for width in widths[:-1])]
    return [*reaches[:-1], reaches[-1] * (1 if widths[-1] == 1 else 2)]


def _scales(reaches: Iterable[int]) -> list[int]:
    reaches = list(reaches)
    return [max(1, max(reaches) // max(1, reach)) for reach in reaches]


def _margins(network: SignNetwork, reduction: Reduction) -> list[IntArray]:
    """Margin of every unit of each layer; a class without an error-free row, or an error, makes it negative."""
    values, found = reduction.rows, []
    for layer in range(network.depth - 1):
        sums = network.sums(values, layer)
        found.append(np.where(sums >= 0, sums, -1 - sums).min(axis=0))
        values = np.where(sums >= 0, 1, -1)
    sums = network.sums(values, network.depth - 1)
    k, true = np.nonzero(reduction.counts)
    classes = reduction.counts.shape[1]
    others = (true[:, None] + 1 + np.arange(classes - 1)) % classes
    least = (leads(sums[k], true) - (others < true[:, None])).min(axis=1)
    if sums.shape[1] == 1:
        return [*found, np.array([least.min()])]
    return [*found, np.array([least[true == c].min() for c in range(classes)])]
