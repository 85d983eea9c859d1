"""Descent: networks of sign units by steps along straight-through gradients, for rows beyond every program.

Every weight and bias has a real number behind it, and the network is what these round to. A step draws some rows, runs
the rounded network on them and moves the real numbers against the gradient of the squared hinge of leads,

    sum of max(0, T - lead)^2        T: half of the margin target of `mip2mcu.train.goal`, rounded up

where rounding counts as the identity, and a sign as a slope of 1 where its sum lies within about one standard deviation
of zero, else as flat. The gradients are sums of products of whole numbers, far below 2^53, so they are the same in any
order of summation; Adam's steps, with a rate that falls to zero, are single roundings in a fixed order: the same
network on every machine.

It is meant for many inputs, such as pixels, and thousands of rows: all weights move at once. With few inputs whole
weights are coarse steps, and responses of single units, which lower the same hinge, are the better way. The first
descent is short, for short time limits; of all that ended the one with the least hinge is kept.
Sources: Bengio, Leonard and Courville (2013); Hubara, Courbariaux et al. (2016); Kingma and Ba (2015).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from mip2mcu.mip.matrix import FloatArray
from mip2mcu.progress import Listener, Progress, Stop, never, silent
from mip2mcu.ranges import IntArray
from mip2mcu.train.goal import Goal
from mip2mcu.train.reduction import Reduction
from mip2mcu.train.sign_network import SignNetwork

STEPS = 48_000
"""Of a descent."""
FIRST_STEPS = 1_000
"""Of the first one, for short time limits."""
ROWS = 64
"""That are drawn for a step."""
RATE = 0.02
"""Of the first step, in terms of the largest weight and of the scale of the sums."""
BEYOND = 0.2
"""How far the real numbers may go beyond the largest weight."""
FIRST_MOMENT, SECOND_MOMENT = 0.9, 0.99
"""How much of Adam's running means is kept in a step."""


def descended(
    reduction: Reduction,
    hidden: tuple[int, ...],
    descents: int,
    seed: int,
    stop: Stop = never,
    listener: Listener = silent,
) -> SignNetwork:
    """The best of a short descent and of ``descents`` long ones; the same for a ``seed`` unless it is stopped.

    hidden   units of each hidden layer, at least one
    """
    classes, bound = reduction.counts.shape[1], reduction.domain.bound
    widest = Goal("min-hinge", bound).target_at(hidden[-1], 1 if classes == 2 else classes)
    goal = Goal("min-hinge", bound, -(-widest // 2))
    best: SignNetwork | None = None
    began = time.monotonic()
    for attempt, steps in enumerate((FIRST_STEPS, *(STEPS,) * descents)):
        descent = _begun(reduction, hidden, goal.target_at(hidden[-1], classes), np.random.default_rng([seed, attempt]))
        whole = descent.go(steps, stop)
        if best is None or (whole and goal.loss(descent.network, reduction) < goal.loss(best, reduction)):
            best = descent.network
        listener(Progress("descent", float(goal.loss(best, reduction)), 0.0, time.monotonic() - began))
        if stop():
            break
    assert best is not None
    return best


@dataclass(eq=False)
class _Parameters:
    """Real numbers ``values``, their largest size (broadcast) and the size of a step at rate 1, with Adam's means."""

    values: FloatArray
    high: FloatArray | None
    scale: FloatArray | float
    mean: FloatArray = field(init=False)
    square: FloatArray = field(init=False)

    def __post_init__(self) -> None:
        self.mean, self.square = np.zeros_like(self.values), np.zeros_like(self.values)

    def move(self, gradient: FloatArray, rate: float, kept: tuple[float, float]) -> None:
        """A step at this rate; ``kept``: what the means still hold of their zeros."""
        self.mean = FIRST_MOMENT * self.mean + (1 - FIRST_MOMENT) * gradient
        self.square = SECOND_MOMENT * self.square + (1 - SECOND_MOMENT) * gradient**2
        size = np.sqrt(self.square / (1 - kept[1])) + 1e-10
        self.values = self.values - rate * self.scale * (self.mean / (1 - kept[0])) / size
        if self.high is not None:
            self.values = np.clip(self.values, -self.high - BEYOND, self.high + BEYOND)


@dataclass(eq=False)
class _Descent:
    """A network on its way: of each layer the weights, the bias and, of hidden ones, how far a sign is a slope."""

    reduction: Reduction
    target: int
    rng: np.random.Generator
    weights: Sequence[_Parameters]
    bias: Sequence[_Parameters]
    reach: Sequence[int]

    @property
    def network(self) -> SignNetwork:
        """What the real numbers round to."""
        weights = [_rounded(own, self.reduction.domain.step).astype(np.int64) for own in self.weights]
        return SignNetwork(tuple(weights), tuple(np.rint(own.values).astype(np.int64) for own in self.bias))

    def go(self, steps: int, stop: Stop) -> bool:
        """So many steps; False where it was stopped before."""
        samples, true = np.nonzero(self.reduction.counts)
        times = self.reduction.counts[samples, true]
        samples, true = np.repeat(samples, times), np.repeat(true, times)
        drawn, kept = np.zeros(0, dtype=np.int64), (1.0, 1.0)
        for number in range(steps):
            if number % 16 == 0 and stop():
                return False
            if len(drawn) < min(ROWS, len(samples)):
                drawn = self.rng.permutation(len(samples))
            k, drawn = drawn[:ROWS], drawn[ROWS:]
            kept = (kept[0] * FIRST_MOMENT, kept[1] * SECOND_MOMENT)
            gradients = self._gradients(self.reduction.rows[samples[k]].astype(np.float64), true[k])
            for own, gradient in gradients:
                own.move(gradient, RATE * (1 - (number + 1) / steps), kept)
        return True

    def _gradients(self, values: FloatArray, true: IntArray) -> list[tuple[_Parameters, FloatArray]]:
        """What a step of each layer's weights and bias does to the hinge of the rows ``values`` (n, inputs)."""
        weights = [_rounded(own, self.reduction.domain.step) for own in self.weights]
        inputs, sums = [values], []
        for own, bias in zip(weights, self.bias, strict=True):
            sums.append(inputs[-1] @ own.T + np.rint(bias.values))
            inputs.append(np.where(sums[-1] >= 0, 1.0, -1.0))
        slope, found = hinge_slope(sums[-1], true, self.target), []
        for layer in reversed(range(len(weights))):
            found += [(self.weights[layer], slope.T @ inputs[layer]), (self.bias[layer], slope.sum(axis=0))]
            if layer:
                slope = (slope @ weights[layer]) * (np.abs(sums[layer - 1]) <= self.reach[layer - 1])
        return found


def hinge_slope(sums: FloatArray, true: IntArray, target: int) -> FloatArray:
    """Half of the derivative of the squared hinge of leads by the output ``sums`` (n, outputs) of classes ``true``."""
    if sums.shape[1] == 1:
        signs = np.where(true == 0, 1.0, -1.0)[:, None]
        return -signs * np.maximum(0.0, target - signs * sums)
    own = np.arange(len(true)), true
    slope: FloatArray = np.maximum(0.0, target - (sums[own][:, None] - sums))
    slope[own] = 0.0
    slope[own] = -slope.sum(axis=1)
    return slope


def _begun(reduction: Reduction, hidden: tuple[int, ...], target: int, rng: np.random.Generator) -> _Descent:
    """Random weights, thresholds of hidden units at the means of their sums."""
    classes, domain = reduction.counts.shape[1], reduction.domain
    values, weights, bias, reach = reduction.rows.astype(np.float64), [], [], []
    high = reduction.weight_high.astype(np.float64)
    for width in (*hidden, 1 if classes == 2 else classes):
        own = _Parameters(high * rng.uniform(-1, 1, (width, len(high))), high, high)
        sums = values @ _rounded(own, domain.step).T
        spread = max(1, round(float(np.sqrt(sums.var(axis=0).mean()))))
        weights.append(own)
        if len(weights) <= len(hidden):
            bias.append(_Parameters(-np.rint(sums.mean(axis=0)), None, float(spread)))
            reach.append(spread)
            values = np.where(sums + bias[-1].values >= 0, 1.0, -1.0)
            high = np.full(width, float(domain.bound))
        else:
            bias.append(_Parameters(np.zeros(width), None, float(domain.bound)))
    return _Descent(reduction, target, rng, weights, bias, reach)


def _rounded(own: _Parameters, step: int) -> FloatArray:
    """The whole weights: those of the domain that are nearest."""
    assert own.high is not None
    if step == 1:
        return np.clip(np.rint(own.values), -own.high, own.high)
    return np.clip(np.floor((own.values + own.high) / step + 0.5) * step - own.high, -own.high, own.high)
