"""The outputs of a network moved one weight at a time while the loss falls, in exact integers.

What a step of weight i does to a row depends on the row's input i alone. Where inputs take few values v (+-1 behind a
hidden layer, bits, small ranges), the losses of all rows at ``sum + v * step`` are computed once a value, and one
product of matrices with the places of that value gives the effect of the step for all weights of the output. Of inputs
with many values only those whose step would help most at first order are tried.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mip2mcu.mip.matrix import FloatArray
from mip2mcu.progress import Stop
from mip2mcu.ranges import IntArray, exact_product
from mip2mcu.train.box import Box
from mip2mcu.train.goal import Goal

VALUES = 24
"""Most values of the inputs for which all weights are tried."""
TRIED = 24
"""Weights of an output that are tried otherwise."""


@dataclass(eq=False)
class Outputs:
    """Weights (outputs, inputs) and bias (outputs,), changed by `tune`; inputs (rows, inputs), high (inputs,).

    With a ``box`` they stay in its last layer; otherwise weights go up to ``high`` and biases anywhere.
    """

    goal: Goal
    counts: IntArray
    inputs: IntArray
    high: IntArray
    weights: IntArray
    bias: IntArray
    target: int
    stop: Stop
    box: Box | None = None

    def __post_init__(self) -> None:
        self.sums = exact_product(self.inputs, self.weights) + self.bias
        values = np.unique(self.inputs) if self.inputs.size else np.zeros(1, dtype=np.int64)
        few = len(values) <= VALUES
        self.places = {int(v): (self.inputs == v).T.astype(np.float64) for v in values if v} if few else None

    def losses(self) -> IntArray:
        """Loss of each row at the present sums."""
        return self.goal.row_losses(self.sums, self.counts, self.target)

    def tune(self, step: int) -> None:
        """Take the best step of +-``step`` of each output in turn until none lowers the loss."""
        improving = True
        while improving and not self.stop():
            improving = False
            for j in range(len(self.bias)):
                while self._move(j, step):
                    improving = True
                    if self.stop():
                        return

    def _move(self, j: int, step: int) -> bool:
        """The best step of one output, where it lowers the loss."""
        now = self.losses().astype(np.float64)
        tried = [(change, *self._effects(j, change, now)) for change in (step, -step)]
        change, effects, bias_effect = min(tried, key=lambda one: min(one[1].min(initial=0.0), one[2]))
        column = int(np.argmin(effects)) if len(effects) else 0
        least = effects.min(initial=np.inf)
        if min(least, bias_effect) >= 0:
            return False
        if bias_effect <= least:
            self.bias[j] += change
            self.sums[:, j] += change
        else:
            self.weights[j, column] += change
            self.sums[:, j] += change * self.inputs[:, column]
        return True

    def _effects(self, j: int, change: int, now: FloatArray) -> tuple[FloatArray, float]:
        """What ``change`` of each weight of output ``j``, and of its bias, adds to the value."""
        moved = self._moved(j, change, now)
        if self.places is not None:
            effects = np.zeros(len(self.high))
            for value, place in self.places.items():
                effects += place @ (moved if value == 1 else self._moved(j, change * value, now))
        else:
            effects = np.full(len(self.high), np.inf)
            for column in np.argsort(moved @ self.inputs, kind="stable")[:TRIED].tolist():
                effects[column] = self._moved(j, change * self.inputs[:, column], now).sum()
        own = self.weights[j]
        effects = effects + self.goal.ridge * ((own + change) ** 2 - own**2)
        if self.box is None:
            effects[np.abs(own + change) > self.high] = np.inf
            return effects, float(moved.sum())
        low, high = self.box.weight_low[-1][j], self.box.weight_high[-1][j]
        effects[(own + change < low) | (own + change > high)] = np.inf
        inside = self.box.bias_low[-1][j] <= self.bias[j] + change <= self.box.bias_high[-1][j]
        return effects, float(moved.sum()) if inside else np.inf

    def _moved(self, j: int, by: int | IntArray, now: FloatArray) -> FloatArray:
        """Change of each row's loss when the sum of output ``j`` moves."""
        self.sums[:, j] += by
        after = self.losses()
        self.sums[:, j] -= by
        return after - now
