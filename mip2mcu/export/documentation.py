"""What the header and the README say about classes and raw features: macro names, ranges, decimal places."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mip2mcu.export.names import Macros
from mip2mcu.quantizer import Affine, Feature, OneHot, Quantizer


@dataclass(frozen=True)
class ClassDoc:
    """A class: its index, its label as it stands in the model (not escaped), its macro."""

    index: int
    label: str
    macro: str


@dataclass(frozen=True)
class FeatureDoc:
    """A raw feature: its name (not escaped), macro, decimal places, coding in words, range in its own units.

    ``categories`` are macros and labels of a categorical feature, in the order of their raw values.
    """

    index: int
    name: str
    macro: str
    decimals: int
    coding: str
    low: str
    high: str
    missing: str
    categories: tuple[ClassDoc, ...]


def describe_classes(labels: Sequence[str], macros: Macros) -> tuple[ClassDoc, ...]:
    """One entry a class."""
    return tuple(ClassDoc(c, label, macros.name("CLASS", label, c)) for c, label in enumerate(labels))


def describe_features(quantizer: Quantizer, macros: Macros) -> tuple[FeatureDoc, ...]:
    """One entry a raw feature; all feature macros are named before the first category's."""
    names = [macros.name("FEATURE", feature.name, i) for i, feature in enumerate(quantizer.features)]
    return tuple(_describe(i, feature, names[i], macros) for i, feature in enumerate(quantizer.features))


def _describe(index: int, feature: Feature, macro: str, macros: Macros) -> FeatureDoc:
    coding = feature.coding
    missing = decimal_text(feature.missing, feature.decimals)
    if isinstance(coding, OneHot):
        categories = tuple(
            ClassDoc(k, label, macros.name("CATEGORY", f"{feature.name} {label}", k))
            for k, label in enumerate(coding.categories)
        )
        text = f"category, {coding.width} bits"
        return FeatureDoc(index, feature.name, macro, 0, text, "0", str(coding.width - 1), missing, categories)
    text = "scaled to 8 bits" if isinstance(coding, Affine) else f"thermometer, {coding.width} bits"
    low, high = (decimal_text(end, feature.decimals) for end in (coding.low, coding.high))
    return FeatureDoc(index, feature.name, macro, feature.decimals, text, low, high, missing, ())


def decimal_text(value: int, decimals: int) -> str:
    """``value / 10**decimals`` exactly, with that many places."""
    if decimals == 0:
        return str(value)
    digits = f"{abs(value):0{decimals + 1}d}"
    return f"{'-' if value < 0 else ''}{digits[:-decimals]}.{digits[-decimals:]}"
