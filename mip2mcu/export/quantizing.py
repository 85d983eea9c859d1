"""The quantizer's part of a program: runs of neighbouring features of one coding become one loop with tables.

Where all features of a run share a number (a range, a count of thresholds), it is a literal instead of a table.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, TypeAlias

import numpy as np

from mip2mcu.export.literals import Column, Table, accumulator_type, column, table, tables_in, unsigned_column
from mip2mcu.export.targets import Target
from mip2mcu.quantizer import RAW_TYPES, Affine, Feature, OneHot, Quantizer, Thermometer
from mip2mcu.ranges import IntArray


@dataclass(frozen=True)
class AffineStep:
    """A run of affine features; ``scaled`` is False where the clamped value itself, less ``low``, is the input."""

    span: str
    count: int
    low: Column
    high: Column
    pre: Column
    mult: Column
    shift: Column
    scaled: bool
    partial: str = "affine"

    @property
    def tables(self) -> tuple[Table, ...]:
        """Tables in order of emission."""
        return tables_in(self.low, self.high, *((self.pre, self.mult, self.shift) if self.scaled else ()))


@dataclass(frozen=True)
class ThermometerStep:
    """A run of thermometer features; the thresholds of all of them stand in one table."""

    span: str
    count: int
    bits: Column
    thresholds: Table
    partial: str = "thermometer"

    @property
    def tables(self) -> tuple[Table, ...]:
        """Tables in order of emission."""
        return (*tables_in(self.bits), self.thresholds)


@dataclass(frozen=True)
class OneHotStep:
    """A run of categorical features with ``categories`` bits each."""

    span: str
    count: int
    categories: Column
    partial: str = "one_hot"

    @property
    def tables(self) -> tuple[Table, ...]:
        """Tables in order of emission."""
        return tables_in(self.categories)


@dataclass(frozen=True)
class SkippedStep:
    """A run of features that are constant in training and give no input."""

    span: str
    count: int
    partial: str = "skipped"
    tables: tuple[Table, ...] = ()


Step: TypeAlias = AffineStep | ThermometerStep | OneHotStep | SkippedStep


@dataclass(frozen=True)
class QuantizerProgram:
    """Numbers of NAME_quantize; ``value_type`` holds a raw value on its way through the comparisons."""

    features: int
    raw_type: str
    value_type: str
    steps: tuple[Step, ...]

    @property
    def tables(self) -> tuple[Table, ...]:
        """Tables in order of emission."""
        return tuple(entry for step in self.steps for entry in step.tables)

    @property
    def table_bytes(self) -> int:
        """Flash of `tables`."""
        return sum(entry.bytes for entry in self.tables)


def lower_quantizer(quantizer: Quantizer, target: Target) -> QuantizerProgram:
    """The program of ``quantizer`` on ``target``."""
    value_type = accumulator_type(*RAW_TYPES[quantizer.raw_type], int_bits=target.int_bits)
    assert value_type is not None
    return QuantizerProgram(len(quantizer.features), quantizer.raw_type, value_type, tuple(_steps(quantizer.features)))


def _steps(features: Sequence[Feature]) -> Iterator[Step]:
    first = 0
    for (kind, silent), group in groupby(features, key=lambda f: (type(f.coding), f.coding.width == 0)):
        codings: list[Any] = [feature.coding for feature in group]
        prefix = f"quantizer{first}"
        if silent:
            yield SkippedStep(_span(first, len(codings)), len(codings))
        elif kind is Affine:
            yield _lower_affine(prefix, first, codings)
        elif kind is Thermometer:
            yield _lower_thermometer(prefix, first, codings)
        else:
            yield _lower_one_hot(prefix, first, codings)
        first += len(codings)


def _span(first: int, count: int) -> str:
    """The features of a step, in words."""
    return f"Raw feature {first}" if count == 1 else f"Raw features {first} to {first + count - 1}"


def _integers(values: Sequence[int]) -> IntArray:
    return np.array(values, dtype=np.int64)


def _lower_affine(prefix: str, first: int, codings: Sequence[Affine]) -> AffineStep:
    return AffineStep(
        _span(first, len(codings)),
        len(codings),
        low=column(f"{prefix}_low", _integers([c.low for c in codings])),
        high=column(f"{prefix}_high", _integers([c.high for c in codings])),
        pre=unsigned_column(f"{prefix}_pre", _integers([c.pre for c in codings])),
        mult=unsigned_column(f"{prefix}_mult", _integers([c.mult for c in codings])),
        shift=unsigned_column(f"{prefix}_shift", _integers([c.shift for c in codings])),
        scaled=any((c.pre, c.mult, c.shift) != (0, 1, 0) for c in codings),
    )


def _lower_thermometer(prefix: str, first: int, codings: Sequence[Thermometer]) -> ThermometerStep:
    thresholds = _integers([t for c in codings for t in c.thresholds])
    explained = f"{_span(first, len(codings))}: the thresholds of each, in ascending order."
    return ThermometerStep(
        _span(first, len(codings)),
        len(codings),
        bits=unsigned_column(f"{prefix}_bits", _integers([c.width for c in codings])),
        thresholds=table(f"{prefix}_thresholds", thresholds, comment=explained),
    )


def _lower_one_hot(prefix: str, first: int, codings: Sequence[OneHot]) -> OneHotStep:
    widths = _integers([c.width for c in codings])
    categories = unsigned_column(f"{prefix}_categories", widths)
    return OneHotStep(_span(first, len(codings)), len(codings), categories)
