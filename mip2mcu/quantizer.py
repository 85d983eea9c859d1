"""From raw features in their own units to network inputs, in integers only, so that C can do the same bit for bit.

On the chip a raw feature is an integer: a decimal column with d places is its value times 10**d, a category is its
index in the list of categories. Each feature has one coding:

    `Affine`        one input: the clamped value, scaled to at most 8 bits
    `Thermometer`   one bit a threshold: 1 where the raw value is at least the threshold
    `OneHot`        one bit a category; a value outside the list gives all zeros

Codings are fitted on training data only (`fit_numeric`, `fit_categorical`) and stored in the model.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from mip2mcu.errors import ModelError
from mip2mcu.ranges import INT32_MAX, INT32_MIN, BoolArray, IntArray

RAW_TYPES = {
    "uint8_t": (0, 255),
    "int8_t": (-128, 127),
    "int16_t": (-(2**15), 2**15 - 1),
    "int32_t": (INT32_MIN, INT32_MAX),
}
"""C types of a raw feature, narrowest first, with their ranges."""

DECIMALS_LIMIT = 9
"""Most decimal places of a raw feature."""

TEXT_LIMIT = 1000
"""Longest name, label or category in characters."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def text_fault(text: object) -> str | None:
    """What keeps ``text`` from being a feature's name, a label or a category; None where nothing does."""
    if not isinstance(text, str):
        return "is no text"
    if len(text) > TEXT_LIMIT:
        return f"has {len(text)} characters, at most {TEXT_LIMIT} are possible"
    return "holds a control character or broken Unicode" if _CONTROL.search(text) else None


@dataclass(frozen=True)
class Affine:
    """One input in 0..255, from the raw value clamped to [low, high].

        t = (clamp(raw, low, high) - low) >> pre                            t <= 65535
        y = (t * mult + (1 << (shift - 1))) >> shift     (shift >= 1)
        y = t                                            (shift == 0, mult == 1)

    All intermediate values fit uint32_t.
    """

    low: int
    high: int
    pre: int = 0
    mult: int = 1
    shift: int = 0

    def __post_init__(self) -> None:
        if not INT32_MIN <= self.low <= self.high <= INT32_MAX:
            raise ModelError(f"an affine coding from {self.low} to {self.high} is no range of 32-bit integers")
        if not (0 <= self.pre <= 31 and 0 <= self.shift <= 30 and 1 <= self.mult <= 65535):
            raise ModelError(f"affine coding with pre {self.pre}, mult {self.mult}, shift {self.shift} is out of range")
        if self.shift == 0 and self.mult != 1:
            raise ModelError(f"an affine coding without shift multiplies by 1, not by {self.mult}")
        top = (self.high - self.low) >> self.pre
        if top > 65535 or top * self.mult + ((1 << self.shift) >> 1) >= 2**32 or self._scale(top) > 255:
            raise ModelError(f"an affine coding over {self.low}..{self.high} leaves its 32-bit or 8-bit range")

    def _scale(self, t: int) -> int:
        return (t * self.mult + ((1 << self.shift) >> 1)) >> self.shift

    @property
    def width(self) -> int:
        """Number of network inputs."""
        return 1

    @property
    def input_high(self) -> int:
        """Largest value of the input; the smallest is 0."""
        return self._scale((self.high - self.low) >> self.pre)

    def apply(self, raw: IntArray) -> IntArray:
        """Inputs (rows, 1) of raw values (rows,)."""
        t = (np.clip(raw, self.low, self.high) - self.low) >> self.pre
        return ((t * self.mult + ((1 << self.shift) >> 1)) >> self.shift)[:, None]

    def saturates(self, raw: IntArray) -> BoolArray:
        """True where the raw value lies outside [low, high]."""
        return (raw < self.low) | (raw > self.high)


@dataclass(frozen=True)
class Thermometer:
    """One bit a threshold, ascending: 1 where raw >= threshold. ``low`` and ``high`` are the training range."""

    low: int
    high: int
    thresholds: tuple[int, ...]

    def __post_init__(self) -> None:
        if not INT32_MIN <= self.low <= self.high <= INT32_MAX:
            raise ModelError(f"a thermometer from {self.low} to {self.high} is no range of 32-bit integers")
        if list(self.thresholds) != sorted(set(self.thresholds)):
            raise ModelError("thermometer thresholds must ascend strictly")
        if self.thresholds and not self.low < self.thresholds[0] <= self.thresholds[-1] <= self.high:
            raise ModelError(f"thermometer thresholds must lie above {self.low} and at most at {self.high}")

    @property
    def width(self) -> int:
        """Number of network inputs."""
        return len(self.thresholds)

    @property
    def input_high(self) -> int:
        """Largest value of each input."""
        return 1

    def apply(self, raw: IntArray) -> IntArray:
        """Bits (rows, thresholds) of raw values (rows,)."""
        return (raw[:, None] >= np.array(self.thresholds, dtype=np.int64)[None, :]).astype(np.int64)

    def saturates(self, raw: IntArray) -> BoolArray:
        """True where the raw value lies outside the training range (its bits are those of the nearest end)."""
        return (raw < self.low) | (raw > self.high)


@dataclass(frozen=True)
class OneHot:
    """One bit a category; the raw value is the category's index, any other value gives all zeros."""

    categories: tuple[str, ...]

    def __post_init__(self) -> None:
        for category in self.categories:
            if fault := text_fault(category):
                raise ModelError(f"the category {str(category)[:40]!r} {fault}")
        if len(set(self.categories)) != len(self.categories):
            raise ModelError("a category is listed twice")

    @property
    def width(self) -> int:
        """Number of network inputs."""
        return len(self.categories)

    @property
    def input_high(self) -> int:
        """Largest value of each input."""
        return 1

    def apply(self, raw: IntArray) -> IntArray:
        """Bits (rows, categories) of raw indices (rows,)."""
        return (raw[:, None] == np.arange(self.width)[None, :]).astype(np.int64)

    def saturates(self, raw: IntArray) -> BoolArray:
        """True where the raw value is no listed category."""
        return (raw < 0) | (raw >= self.width)


Coding: TypeAlias = Affine | Thermometer | OneHot


@dataclass(frozen=True)
class Feature:
    """One raw feature: its name, decimal places, C type, the raw value that stands for a missing one, its coding."""

    name: str
    coding: Coding
    missing: int
    decimals: int = 0
    raw_type: str = "int32_t"

    def __post_init__(self) -> None:
        if fault := text_fault(self.name):
            raise ModelError(f"the feature name {str(self.name)[:40]!r} {fault}")
        if self.raw_type not in RAW_TYPES:
            raise ModelError(f"raw type {self.raw_type!r} is not one of {', '.join(RAW_TYPES)}")
        if not 0 <= self.decimals <= DECIMALS_LIMIT:
            raise ModelError(
                f"feature {self.name!r} has {self.decimals} decimal places, allowed are 0..{DECIMALS_LIMIT}"
            )
        low, high = RAW_TYPES[self.raw_type]
        ends = (0, self.coding.width) if isinstance(self.coding, OneHot) else (self.coding.low, self.coding.high)
        if not (low <= min(ends) and max(ends) <= high and low <= self.missing <= high):
            raise ModelError(
                f"feature {self.name!r} reaches {min(ends)}..{max(ends)}, beyond its raw type {self.raw_type}"
            )


@dataclass(frozen=True)
class Quantizer:
    """The codings of all raw features, in order; inputs are the features' inputs one after another."""

    features: tuple[Feature, ...]

    def __post_init__(self) -> None:
        if not self.features:
            raise ModelError("a quantizer needs at least one feature")
        if len({f.name for f in self.features}) != len(self.features):
            raise ModelError("two raw features have the same name")

    @property
    def width(self) -> int:
        """Number of network inputs."""
        return sum(f.coding.width for f in self.features)

    @property
    def input_high(self) -> IntArray:
        """Largest value of each input; the smallest is 0 throughout."""
        return np.array([f.coding.input_high for f in self.features for _ in range(f.coding.width)], dtype=np.int64)

    @property
    def raw_type(self) -> str:
        """C type of the array of raw features: the narrowest that holds every feature's own type."""
        low = min(RAW_TYPES[f.raw_type][0] for f in self.features)
        high = max(RAW_TYPES[f.raw_type][1] for f in self.features)
        return next(name for name, (least, most) in RAW_TYPES.items() if least <= low and high <= most)

    def quantize(self, raw: IntArray) -> IntArray:
        """Network inputs (rows, width) of raw integers (rows, features)."""
        return np.concatenate([f.coding.apply(raw[:, i]) for i, f in enumerate(self.features)], axis=1)

    def saturated(self, raw: IntArray) -> BoolArray:
        """True (rows, features) where a raw value lies beyond what training has seen."""
        return np.stack([f.coding.saturates(raw[:, i]) for i, f in enumerate(self.features)], axis=1)


def raw_type_for(low: int, high: int) -> str:
    """The narrowest of int16_t and int32_t that leaves a sensor twice the training range before it wraps."""
    return "int16_t" if low >= -(2**14) and high < 2**14 else "int32_t"


def fit_affine(low: int, high: int) -> Affine:
    """Scale [low, high] to 0..255; ranges of at most 256 values are kept one to one."""
    span = high - low
    if span <= 255:
        return Affine(low, high)
    pre = max(0, span.bit_length() - 16)
    top = span >> pre
    shift = 16
    mult = (255 << shift) // top
    return Affine(low, high, pre, mult, shift)


def fit_thermometer(raw: IntArray, bits: int) -> Thermometer:
    """At most ``bits`` thresholds at training quantiles of the raw values (rows,).

    A value that holds more than its share of the rows (a column that is mostly zero) is set apart by thresholds at
    itself and at the next value, the heaviest first; the remaining thresholds are quantiles of the other values.
    Columns of few values get a threshold at each.
    """
    values, counts = np.unique(raw, return_counts=True)
    low, high = int(values[0]), int(values[-1])
    if len(values) <= bits + 1:
        return Thermometer(low, high, tuple(int(v) for v in values[1:]))
    thresholds: set[int] = set()
    share = len(raw) / (bits + 1)
    heavy = counts > share
    for i in sorted(np.flatnonzero(heavy), key=lambda i: -counts[i]):
        thresholds.update([int(v) for v in values[i : i + 2] if v > low][: bits - len(thresholds)])
    rest = np.repeat(values[~heavy], counts[~heavy])
    wanted = bits - len(thresholds)
    if wanted > 0:
        ranks = (np.arange(1, wanted + 1) * len(rest)) // (wanted + 1)
        thresholds.update(int(v) for v in rest[ranks] if v > low)
    return Thermometer(low, high, tuple(sorted(thresholds)))


def fit_one_hot(categories: Sequence[str]) -> OneHot:
    """One bit for each distinct category, in sorted order."""
    return OneHot(tuple(sorted(set(categories))))
