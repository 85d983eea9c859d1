"""What a raw value can become, as levels: between two thresholds of a feature the network sees no difference.

Every coding of whole numbers is a ladder. Its thresholds ascend, and at each one input of the network goes up by a
fixed amount:

    thermometer    a threshold a bit, each adds 1 to its own input
    affine         a threshold a value of the input, each adds 1 to it
    raw input      every whole number of its range
    category       no threshold at all: categories stay what they are

The level of a raw value is the number of thresholds that it reaches. From a raw value x, level k lies at the distance
``threshold[k - 1] - x`` above and ``x - threshold[k] + 1`` below: raw values are whole numbers, so this is exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from mip2mcu.errors import UsageError
from mip2mcu.quantizer import Affine, Coding, OneHot, Quantizer, Thermometer
from mip2mcu.ranges import IntArray

THRESHOLD_LIMIT = 2_000_000
"""Most thresholds of all features together."""


@dataclass(frozen=True, eq=False)
class Ladders:
    """The thresholds of all features, one feature after another.

    start       int64 (features + 1,): thresholds of feature f are start[f]..start[f + 1] - 1
    thresholds  int64 (thresholds,): raw values, ascending within a feature
    inputs      int64 (thresholds,): the network input that goes up at each
    steps       int64 (thresholds,): by how much
    """

    start: IntArray
    thresholds: IntArray
    inputs: IntArray
    steps: IntArray

    @property
    def features(self) -> int:
        """Number of raw features."""
        return len(self.start) - 1

    @property
    def first_level(self) -> IntArray:
        """Place of each feature's level 0 in an array of all levels of all features, (features,)."""
        return self.start[:-1] + np.arange(self.features)

    def of(self, feature: int) -> slice:
        """Where the thresholds of ``feature`` are."""
        return slice(int(self.start[feature]), int(self.start[feature + 1]))

    def levels(self, raw: IntArray) -> IntArray:
        """Level of each feature at the raw values (features,)."""
        return np.array(
            [np.searchsorted(self.thresholds[self.of(f)], raw[f], side="right") for f in range(self.features)],
            dtype=np.int64,
        )

    def raw_at(self, raw: IntArray, levels: IntArray) -> IntArray:
        """The raw values (features,) nearest to ``raw`` that have ``levels``."""
        own, moved = self.levels(raw), raw.copy()
        for f in np.flatnonzero(levels != own).tolist():
            thresholds = self.thresholds[self.of(f)]
            moved[f] = thresholds[levels[f] - 1] if levels[f] > own[f] else thresholds[levels[f]] - 1
        return moved

    def distances(self, raw: IntArray) -> IntArray:
        """How far ``raw`` (features,) must move to reach each threshold or leave it, (thresholds,), all at least 1."""
        value = np.repeat(raw, np.diff(self.start))
        return np.where(self.thresholds > value, self.thresholds - value, value - self.thresholds + 1)


class Coded(Protocol):
    """What has raw features or plain inputs: a `Network` or a `Dataset`."""

    @property
    def quantizer(self) -> Quantizer | None: ...  # noqa: D102
    @property
    def input_low(self) -> IntArray: ...  # noqa: D102
    @property
    def input_high(self) -> IntArray: ...  # noqa: D102


def ladders_of(coded: Coded) -> Ladders:
    """The ladders of raw features, or of the inputs where there is no quantizer."""
    if coded.quantizer is None:
        rungs = [
            (np.arange(low + 1, high + 1), np.full(high - low, i), np.ones(high - low, dtype=np.int64))
            for i, (low, high) in enumerate(zip(coded.input_low.tolist(), coded.input_high.tolist(), strict=True))
        ]
    else:
        rungs, place = [], 0
        for feature in coded.quantizer.features:
            rungs.append(_rungs(feature.coding, place))
            place += feature.coding.width
    count = sum(len(thresholds) for thresholds, _, _ in rungs)
    if count > THRESHOLD_LIMIT:
        raise UsageError(
            f"the inputs have {count} steps in all, at most {THRESHOLD_LIMIT} can be moved about: "
            "train with a thermometer coding or a narrower --input-range"
        )
    start = np.cumsum([0, *(len(thresholds) for thresholds, _, _ in rungs)])
    thresholds, inputs, steps = (np.concatenate(parts).astype(np.int64) for parts in zip(*rungs, strict=True))
    return Ladders(start, thresholds, inputs, steps)


def _rungs(coding: Coding, place: int) -> tuple[IntArray, IntArray, IntArray]:
    """Thresholds, inputs and steps of one coding whose first input is ``place``."""
    if isinstance(coding, OneHot):
        return (np.zeros(0, dtype=np.int64),) * 3
    if isinstance(coding, Thermometer):
        count = coding.width
        return np.array(coding.thresholds, dtype=np.int64), place + np.arange(count), np.ones(count, dtype=np.int64)
    thresholds = _affine_thresholds(coding)
    values = coding.apply(thresholds)[:, 0]
    steps = np.diff(values, prepend=0)
    return thresholds[steps > 0], np.full(int((steps > 0).sum()), place), steps[steps > 0]


def _affine_thresholds(coding: Affine) -> IntArray:
    """The least raw value whose input is at least 1, 2, ..., by bisection of all at once."""
    wanted = np.arange(1, coding.input_high + 1)
    low, high = np.full(len(wanted), coding.low), np.full(len(wanted), coding.high)
    while (low < high).any():
        middle = (low + high) // 2
        reached = coding.apply(middle)[:, 0] >= wanted
        low, high = np.where(reached, low, middle + 1), np.where(reached, middle, high)
    return np.asarray(low, dtype=np.int64)
