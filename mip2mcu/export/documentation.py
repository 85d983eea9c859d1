"""What the header and the README say about classes and raw features: macro names, ranges, decimal places."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mip2mcu.export.names import Macros
from mip2mcu.quantizer import Affine, Feature, OneHot, Quantizer
from mip2mcu.ranges import IntArray


@dataclass(frozen=True)
class ClassDoc:
    """A class: its index, its label as it stands in the model (not escaped), its macro."""

    index: int
    label: str
    macro: str


@dataclass(frozen=True)
class FeatureDoc:
    """A raw feature: its name (not escaped), macro and coding in words.

    values      range seen in training, in the feature's own units and steps ("categories" for a categorical one)
    raw_values  the same range as integers
    missing     raw value that stands for a missing one
    categories  macros and labels of a categorical feature, in the order of their raw values
    """

    index: int
    name: str
    macro: str
    values: str
    raw_values: str
    coding: str
    missing: int
    categories: tuple[ClassDoc, ...] = ()


@dataclass(frozen=True)
class InputRange:
    """The range [low, high] of the neighbouring inputs ``first`` .. ``last``."""

    first: int
    last: int
    low: int
    high: int


def describe_inputs(low: IntArray, high: IntArray) -> tuple[InputRange, ...]:
    """The ranges of all inputs, neighbours of one range together."""
    ends = np.flatnonzero((np.diff(low) != 0) | (np.diff(high) != 0)).tolist()
    starts = [0, *(end + 1 for end in ends)]
    return tuple(
        InputRange(first, last, int(low[first]), int(high[first]))
        for first, last in zip(starts, [*ends, len(low) - 1], strict=True)
    )


def describe_classes(labels: Sequence[str], macros: Macros) -> tuple[ClassDoc, ...]:
    """One entry a class."""
    return tuple(ClassDoc(c, label, macros.name("CLASS", label, c)) for c, label in enumerate(labels))


def describe_features(quantizer: Quantizer, macros: Macros) -> tuple[FeatureDoc, ...]:
    """One entry a raw feature; all feature macros are named before the first category's."""
    names = [macros.name("FEATURE", feature.name, i) for i, feature in enumerate(quantizer.features)]
    return tuple(_describe(i, feature, names[i], macros) for i, feature in enumerate(quantizer.features))


def _describe(index: int, feature: Feature, macro: str, macros: Macros) -> FeatureDoc:
    coding = feature.coding
    if isinstance(coding, OneHot):
        categories = tuple(
            ClassDoc(k, label, macros.name("CATEGORY", f"{feature.name} {label}", k))
            for k, label in enumerate(coding.categories)
        )
        raw_values = f"0..{coding.width - 1}" if coding.width else "none"
        bits = f"one-hot, {_count(coding.width, 'bit')}"
        return FeatureDoc(index, feature.name, macro, "categories", raw_values, bits, feature.missing, categories)
    low, high, step = (decimal_text(value, feature.decimals) for value in (coding.low, coding.high, 1))
    text = "scaled to 8 bits" if isinstance(coding, Affine) else f"thermometer, {_count(coding.width, 'bit')}"
    return FeatureDoc(
        index,
        feature.name,
        macro,
        f"{low}..{high} in steps of {step}",
        f"{coding.low}..{coding.high}",
        text,
        feature.missing,
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def decimal_text(value: int, decimals: int) -> str:
    """``value / 10**decimals`` exactly, with that many places."""
    if decimals == 0:
        return str(value)
    digits = f"{abs(value):0{decimals + 1}d}"
    return f"{'-' if value < 0 else ''}{digits[:-decimals]}.{digits[-decimals:]}"
