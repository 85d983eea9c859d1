"""What one training minimises: an objective, its margin target, and the price of hidden units.

    compress none            the objective
    compress weighted        denominator * loss + numerator * hidden units in use        alpha = numerator / denominator
    compress lexicographic   the objective, then hidden units in use at no loss of it

Without hidden layers a price on squared weights, ``ridge``, may be added: loss + ridge * sum of squares, equal inputs
counting as one. It is convex too, and cut lazily like the hinge.

The margin target is a quarter of the range of the last sums, B = (units + 1) * P; for leads of two outputs, half of it.
With compression it moves: only units in use count. Values are tuples of whole numbers, compared from the left.
Source: Thorbjarnarson and Yorke-Smith (2020), sections on objectives and on the number of neurons.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any, TypeAlias

import numpy as np
import pyomo.environ as pyo

from mip2mcu.errors import UsageError
from mip2mcu.ranges import IntArray
from mip2mcu.train.box import Box
from mip2mcu.train.inn_model import Parts, add_used, build_network, place_network
from mip2mcu.train.objectives import OBJECTIVES, MinHinge, Objective, add_squares, cut_squares
from mip2mcu.train.reduction import Reduction
from mip2mcu.train.sign_network import SignNetwork

COMPRESSIONS = ("none", "weighted", "lexicographic")
Value: TypeAlias = tuple[int, ...]

_STAGES = {
    "max-correct": "errors",
    "sat-margin": "unsaturated",
    "min-hinge": "hinge",
    "min-weight": "weight",
    "max-margin": "margin",
}


@dataclass(frozen=True)
class Goal:
    """What is minimised; see the module.

    bound          P, the largest weight
    margin_target  the target itself; None: by the width
    ridge          price of a squared weight of a network without hidden layers
    """

    objective: str
    bound: int
    margin_target: int | None = None
    compress: str = "none"
    alpha: Fraction = Fraction(1, 10)
    ridge: int = 0

    def __post_init__(self) -> None:
        if self.objective not in OBJECTIVES:
            raise UsageError(f"objective {self.objective!r} is unknown, choose one of {', '.join(OBJECTIVES)}")
        if self.compress not in COMPRESSIONS:
            raise UsageError(f"compression {self.compress!r} is unknown, choose one of {', '.join(COMPRESSIONS)}")
        if self.compress != "none" and self.kind.fits_all:
            raise UsageError(
                f"{self.objective} fits every row at any width: compress max-correct, sat-margin or min-hinge"
            )
        if not 0 < self.alpha <= 1000 or self.alpha.denominator > 1000:
            raise UsageError(f"alpha {float(self.alpha):g} is not possible: give 0.001 to 1000, three decimals at most")
        if self.ridge < 0:
            raise UsageError(f"a ridge of {self.ridge} is not possible: give at least 0")
        if self.margin_target is not None and not 1 <= self.margin_target < 2**31:
            raise UsageError(f"a margin target of {self.margin_target} is not possible: give at least 1")

    @property
    def kind(self) -> Objective:
        """The objective itself."""
        return OBJECTIVES[self.objective]

    @property
    def stages(self) -> tuple[str, ...]:
        """What is solved one after the other."""
        own = _STAGES[self.objective]
        if self.kind.fits_all:
            return ("errors", own)
        if self.compress == "weighted":
            return (f"weighted {own} and units",)
        return (own, "units") if self.compress == "lexicographic" else (own,)

    # ---- in exact integers ----

    def target(self, network: SignNetwork) -> int:
        """The margin target for ``network``."""
        if self.margin_target is not None or not network.hidden:
            return self.margin_target or 1
        width = units_in_use(network)[-1] if self.compress != "none" else network.hidden[-1]
        return self.target_at(width, len(network.bias[-1]))

    def target_at(self, width: int, outputs: int) -> int:
        """The margin target where the last hidden layer has ``width`` units in use."""
        if self.margin_target is not None:
            return self.margin_target
        return -(-self.bound * (width + 1) // (4 if outputs == 1 else 2))

    def _widest_target(self, hidden: tuple[int, ...], classes: int) -> int:
        """The margin target with all units in use."""
        if not hidden:
            return self.margin_target or 1
        return self.target_at(hidden[-1], 1 if classes == 2 else classes)

    def room(self, reduction: Reduction, hidden: tuple[int, ...]) -> int:
        """How far beyond its sums' range an output may have to go."""
        return self._widest_target(hidden, reduction.counts.shape[1]) if self.kind.has_target else 0

    def row_losses(self, sums: IntArray, counts: IntArray, target: int) -> IntArray:
        """Loss of all samples behind each row, (k,); sums (k, outputs), counts (k, classes)."""
        k, true = np.nonzero(counts)
        losses = counts[k, true] * self.kind.losses(sums[k], true, target)
        return losses if len(k) == len(counts) else np.bincount(k, losses, len(counts)).astype(np.int64)

    def loss(self, network: SignNetwork, reduction: Reduction) -> int:
        """The objective's loss over all samples."""
        sums = network.output_sums(reduction.rows)
        return int(self.row_losses(sums, reduction.counts, self.target(network)).sum())

    def value(self, network: SignNetwork, reduction: Reduction) -> Value:
        """What is minimised, stage by stage."""
        loss = self.loss(network, reduction)
        if self.kind.fits_all:
            return loss, self.kind.cost(network, reduction)
        if self.compress == "none":
            return (loss + self.ridge * int((network.weights[0] ** 2).sum()) if self.ridge else loss,)
        units = sum(units_in_use(network))
        if self.compress == "lexicographic":
            return loss, units
        return (self.alpha.denominator * loss + self.alpha.numerator * units,)

    def least(self, reduction: Reduction, hidden: tuple[int, ...]) -> int:
        """A bound on the first stage: what samples with equal inputs and different labels cost at least."""
        counts = np.sort(reduction.counts, axis=1)[:, ::-1]
        if not self.kind.has_target:
            least = int(counts[:, 1:].sum())
        else:
            target = self._widest_target(hidden if self.compress == "none" else hidden and (1,), counts.shape[1])
            least = sum(self._contradiction(a, b, target) for a, b in _pairs(counts))
        units = self.alpha.numerator * len(hidden)
        return self.alpha.denominator * least + units if self.compress == "weighted" else least

    def _contradiction(self, more: int, fewer: int, target: int) -> int:
        """Least loss of ``more`` and ``fewer`` samples whose leads are opposite."""
        if self.objective == "sat-margin":
            return fewer
        lead = np.arange(target + 1)
        return int((more * (target - lead) ** 2 + fewer * (target + lead) ** 2).min())

    # ---- as a program ----

    def program(
        self,
        reduction: Reduction,
        hidden: tuple[int, ...],
        stage: str | None = None,
        *,
        budget: int = 0,
        ordered: bool = True,
        tight: bool = True,
        box: Box | None = None,
    ) -> Program:
        """The model of one stage, the first by default; ``budget``: largest loss of the stage "units".

        ``ordered``, ``tight`` and ``box``: see `build_network`. A box goes with any goal that compresses nothing.
        """
        stage = stage or self.stages[0]
        kind = OBJECTIVES["max-correct"] if stage == "errors" else self.kind
        name = "inn_" + (kind.name if stage != "units" else f"{kind.name}_units").replace("-", "_")
        target: Any = self._widest_target(hidden, reduction.counts.shape[1])
        room = self.room(reduction, hidden)
        parts = build_network(name, reduction, hidden, room=room, ordered=ordered, tight=tight, box=box)
        compressing = self.compress != "none"
        used: Any = add_used(parts) if compressing else 0
        if compressing and kind.has_target and self.margin_target is None:
            target = self._moving_target(parts, hidden)
        loss = kind.add(parts, target)
        if stage == "units":
            parts.model.loss_is_kept = pyo.Constraint(expr=loss <= budget)
            loss = used
        elif self.compress == "weighted":
            loss = self.alpha.denominator * loss + self.alpha.numerator * used
        if self.ridge:
            loss = loss + self.ridge * add_squares(parts)
        parts.model.objective = pyo.Objective(expr=loss)
        return Program(self, stage, parts, kind)

    def _moving_target(self, parts: Parts, hidden: tuple[int, ...]) -> Any:
        """``share * target >= P * (units in use + 1)``: the smallest whole number is what `target_at` gives."""
        model, outputs = parts.model, parts.widths[-1]
        low, high = self.target_at(1, outputs), self.target_at(hidden[-1], outputs)
        model.target = pyo.Var(domain=pyo.Integers, bounds=(low, high))
        last = pyo.quicksum(model.used[len(hidden), j] for j in range(hidden[-1]))
        share = 4 if outputs == 1 else 2
        model.target_moves_with_width = pyo.Constraint(expr=share * model.target >= self.bound * (last + 1))
        return model.target


@dataclass(frozen=True, eq=False)
class Program:
    """The model of one stage, and how a network gets into it."""

    goal: Goal
    stage: str
    parts: Parts
    kind: Objective

    @property
    def model(self) -> pyo.ConcreteModel:
        """The Pyomo model."""
        return self.parts.model

    def place(self, network: SignNetwork) -> None:
        """Set all variables to the solution that ``network``, with ordered units, is; see `Parts`."""
        place_network(self.parts, network)
        target = self.goal.target(network)
        if hasattr(self.model, "used"):
            used = network.used()
            for layer, j in self.model.used:
                self.model.used[layer, j].set_value(int(j in used[layer - 1]))
            for layer in range(1, network.depth):
                if not len(used[layer - 1]):  # every layer keeps a unit
                    self.model.used[layer, 0].set_value(1)
            target = self.goal.target_at(units_in_use(network)[-1], len(network.bias[-1]))
        if hasattr(self.model, "target"):
            self.model.target.set_value(target)
        if hasattr(self.model, "square"):
            for index, weight in self.model.weight.items():
                self.model.square[index].set_value(weight.value**2)
        self.kind.place(self.parts, network, target)

    def cut(self, network: SignNetwork) -> int:
        """Add the rows of a lazily built objective that ``network`` needs; returns their number."""
        missing = cut_squares(self.parts, network) if hasattr(self.model, "square") else 0
        if isinstance(self.kind, MinHinge):
            missing += self.kind.cut(self.parts, network, self.goal.target(network))
        return missing


def units_in_use(network: SignNetwork) -> tuple[int, ...]:
    """Hidden units of each layer that have a weight or a bias, at least one a layer."""
    return tuple(max(1, len(used)) for used in network.used())


def _pairs(counts: IntArray) -> list[tuple[int, int]]:
    """All pairs of positive counts of a row, the larger first; counts (k, classes) in descending order."""
    several = counts[counts[:, 1] > 0]
    return [
        (int(row[a]), int(row[b])) for row in several for b in range(len(row)) for a in range(b) if row[b] > 0
    ]
