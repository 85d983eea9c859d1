"""What a layout is: one way to hold a layer's weights in flash and to compute its sums from them.

A layout is one file in this folder with a class that fulfils `Layout`, one row in `mip2mcu.export.layouts.LAYOUTS`, and
one Jinja2 partial a variant in ``templates/layouts/``. The partial prints a function ``layer.function`` that computes
``sum`` for each unit ``j`` and hands it to the macro ``store``, which knows what becomes of a sum.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol

import numpy as np

from mip2mcu.errors import ExportError
from mip2mcu.export.literals import TYPE_BYTES, Table, accumulator_type
from mip2mcu.export.options import UNROLL_BYTES
from mip2mcu.export.targets import Target
from mip2mcu.filters import Edges, Smooth
from mip2mcu.layers import Activation, Conv2d, Dense, Layer, Shape
from mip2mcu.ranges import IntArray


class Encoding(Enum):
    """How a tensor lies in memory."""

    BITS = "bits"
    """uint32_t words; bit i % 32 of word i // 32 is element i: 1 stands for the larger of its two values."""
    VALUES = "values"
    """One array element a value."""


class Binary(Enum):
    """What the two values of a binary tensor are."""

    ZERO_ONE = "0 and 1"
    MINUS_PLUS = "-1 and +1"


class Kind(Enum):
    """What layers do, as layouts say what they take."""

    DENSE = "dense layers"
    CONVOLUTION = "convolutions"
    POOLING = "pooling layers"
    FILTER = "filters"


@dataclass(frozen=True)
class LayerContext:
    """Where a layer stands: its index in the network, the target, and its inputs' shape, ranges (inputs,) and kind.

    compact       prefer small code to fast code, in layouts that have the choice
    unroll_bytes  most bytes of straight-line code for the layer, by estimate
    """

    index: int
    target: Target
    input_shape: Shape
    input_low: IntArray
    input_high: IntArray
    binary: Binary | None
    compact: bool = False
    unroll_bytes: int = UNROLL_BYTES

    @property
    def prefix(self) -> str:
        """Start of the C names of this layer's tables and functions."""
        return f"layer{self.index}"


@dataclass(frozen=True)
class Work:
    """An array of memory; as part of `Lowered`, a parameter that a layer's function needs while it runs."""

    name: str
    c_type: str
    length: int

    @property
    def bytes(self) -> int:
        """Size of the array."""
        return self.length * TYPE_BYTES[self.c_type]


@dataclass(frozen=True)
class Profile:
    """What a layer's code takes, for the cost model in `mip2mcu.export.costs`.

    variant    names the code that the partial prints: layers of one variant run the same parts
    turns      how often each part runs in one call, by name; "unit" comes first
    statements how often each part stands in the code, where that depends on the layer
    """

    variant: str
    turns: Mapping[str, int]
    statements: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Lowered:
    """A layer in one layout: its tables and numbers, ready to be printed by ``templates/layouts/<partial>.c.j2``.

    description   of the layout, for the comment above the function
    reads         how the layer's inputs must lie in memory
    tables        in the order of emission
    details       the layout's own numbers, a frozen dataclass; the partial knows it as ``layer.details``
    sum_low/high  every partial sum, in the order of emission, lies in this range
    supports      partials of ``templates/support/`` that hold functions which this one calls
    work          memory that the function needs beside its input and output
    code_bytes    estimate of the code that grows with the layer, where weights become code
    profile       what the code takes
    """

    layout: str
    partial: str
    description: str
    reads: Encoding
    tables: tuple[Table, ...]
    details: Any
    sum_low: int
    sum_high: int
    sum_type: str
    supports: tuple[str, ...] = ()
    work: tuple[Work, ...] = ()
    code_bytes: int = 0
    profile: Profile = field(default_factory=lambda: Profile("", {}))

    @property
    def table_bytes(self) -> int:
        """Flash that the tables take."""
        return sum(table.bytes for table in self.tables)


class Layout(Protocol):
    """One way to hold a layer's weights."""

    @property
    def name(self) -> str:
        """By which users choose it."""

    @property
    def summary(self) -> str:
        """One line for a table of layouts."""

    @property
    def kind(self) -> Kind:
        """What it takes; `accepts` and `lower` are never given anything else."""

    def accepts(self, layer: Layer, context: LayerContext) -> str | None:
        """None where `lower` works, else the reason why not (a clause that follows "it")."""

    def lower(self, layer: Layer, context: LayerContext) -> Lowered:
        """The layer in this layout; raises `ExportError` where a sum could overflow int32_t."""


def sum_type(low: int, high: int, context: LayerContext) -> str:
    """C type of an accumulator that stays in [low, high]; raises `ExportError` beyond int32_t."""
    c_type = accumulator_type(low, high, int_bits=context.target.int_bits)
    if c_type is None:
        raise ExportError(
            f"a partial sum of layer {context.index} can reach {low}..{high}, beyond int32_t: "
            "train with smaller weights or a smaller bias, or narrow the ranges of the inputs"
        )
    return c_type


def product_turns(products: int, context: LayerContext) -> dict[str, int]:
    """The turns of the loop in the compiler's multiplication of ``products`` inputs by weights, where there is one.

    It takes a turn a bit of the input, up to the highest that is set (32 for a negative one), and one for 0. Inputs are
    taken as uniform over their ranges. What an inner layer gives is mostly small, so that its bits are a part of their
    own, which takes less.
    """
    if context.target.has_multiply or context.target.word_bits < 32:
        return {}
    ranges, counts = np.unique(np.stack([context.input_low, context.input_high]), axis=1, return_counts=True)
    means = [_mean_bits(int(low), int(high), context.binary) for low, high in ranges.T]
    is_inner = context.index > 0 and context.binary is None
    part = "inner bit" if is_inner else "bit"
    return {part: round(products * float(np.average(means, weights=counts)))}


def _mean_bits(low: int, high: int, binary: Binary | None) -> float:
    values = (-1, 1) if binary is Binary.MINUS_PLUS else range(low, high + 1)
    return sum(max(1, (x % 2**32).bit_length()) for x in values) / len(values)


def kind_of(layer: Layer) -> Kind:
    """What ``layer`` does."""
    if isinstance(layer, Dense):
        return Kind.DENSE
    if isinstance(layer, Conv2d):
        return Kind.CONVOLUTION
    return Kind.FILTER if isinstance(layer, Smooth | Edges) else Kind.POOLING


def input_kind(low: IntArray, high: IntArray) -> Binary | None:
    """The kind of network inputs with these ranges."""
    return Binary.ZERO_ONE if low.min() >= 0 and high.max() <= 1 else None


def activation_kind(layer: Layer) -> Binary | None:
    """The kind of the tensor that an inner layer gives."""
    return Binary.MINUS_PLUS if getattr(layer, "activation", None) is Activation.SIGN else None
