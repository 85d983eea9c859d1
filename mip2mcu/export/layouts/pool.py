"""Pooling: the largest value, the sum or the rounded mean of each window; no weights, no division.

    maximum     best = window[0];  best = max(best, window[i])   for i = 1, 2, ...
    sum         of all values
    average     (sum + area // 2) // area, the division as a shift or as a product that `exact_division` proves exact
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from mip2mcu.export.layouts.base import Encoding, Kind, LayerContext, Lowered, Profile, sum_type
from mip2mcu.export.literals import count_type
from mip2mcu.layers import AveragePool, Layer, MaxPool, Shape, SumPool

_UNROLLED_AREA = 9
"""Windows of at most this many values are read without a loop."""


@dataclass(frozen=True)
class Division:
    """``n // divisor`` for 0 <= n <= most: ``(n * factor) >> shift``, or by long division in ``steps`` steps (not 0).

    The product stays below 2**32.
    """

    divisor: int
    most: int
    factor: int
    shift: int
    steps: int = 0


def exact_division(divisor: int, most: int) -> Division:
    """The cheapest exact division of 0..``most`` by ``divisor`` in uint32_t arithmetic.

    With m = ceil(2**s / d) and e = m * d - 2**s, n * m / 2**s exceeds n / d by n * e / (d * 2**s). Both have the same
    floor for all n <= most where most * e < 2**s: the excess then stays below 1 / d, the least distance of n / d to the
    next integer.
    """
    for shift in range(32):
        factor = -(-(2**shift) // divisor)
        if most * factor >= 2**32:
            break
        if most * (factor * divisor - 2**shift) < 2**shift:
            return Division(divisor, most, factor, shift)
    return Division(divisor, most, 0, 0, steps=(most // divisor).bit_length())


@dataclass(frozen=True)
class PoolDetails:
    """Numbers of the partials ``max_pool`` and ``average_pool``.

    shape        channels, rows and columns of the input
    down/across  rows and columns of the output
    offsets      where a window's values lie behind its first one, row by row; empty where a loop reads them
    total_type   C type of a window's sum plus half its area
    """

    shape: Shape
    window: tuple[int, int]
    stride: tuple[int, int]
    down: int
    across: int
    offsets: tuple[int, ...]
    total_type: str = ""
    division: Division | None = None

    @property
    def area(self) -> int:
        """Values of a window."""
        return prod(self.window)


class PoolLayout:
    """Windows read in place."""

    name = "pool"
    kind = Kind.POOLING
    summary = "maximum, sum and average of windows, without a division"

    def accepts(self, layer: Layer, context: LayerContext) -> str | None:
        """Takes every pooling layer."""
        return None

    def lower(self, layer: Layer, context: LayerContext) -> Lowered:
        """The layer as loops over its windows."""
        assert isinstance(layer, MaxPool | AveragePool | SumPool)
        kind = "average" if isinstance(layer, AveragePool) else "sum" if isinstance(layer, SumPool) else "maximum"
        average = kind == "average"
        area = prod(layer.window)
        low, high = int(context.input_low.min()), int(context.input_high.max())
        most = area * high + area // 2
        if average:
            low, high = area // 2, most
        elif kind == "sum":
            low, high = min(0, area * low), max(0, area * high)
        channels, down, across = layer.output_shape(context.input_shape)
        values = channels * down * across
        details = PoolDetails(
            shape=context.input_shape,
            window=layer.window,
            stride=layer.stride,
            down=down,
            across=across,
            offsets=_offsets(layer.window, context.input_shape[2]) if area <= _UNROLLED_AREA else (),
            total_type=count_type(most, int_bits=context.target.int_bits) if average else "",
            division=exact_division(area, most) if average else None,
        )
        return Lowered(
            layout=self.name,
            partial={"average": "average_pool", "sum": "sum_pool", "maximum": "max_pool"}[kind],
            description=f"{'mean' if average else kind} of windows of {layer.window[0]} x {layer.window[1]}",
            reads=Encoding.VALUES,
            tables=(),
            details=details,
            sum_low=low,
            sum_high=high,
            sum_type=sum_type(low, high, context),
            profile=_profile(kind, details, values),
        )


def _profile(kind: str, details: PoolDetails, values: int) -> Profile:
    """Windows are written out or walked over; a division is a shift, a product or goes step by step."""
    division = details.division
    how = "" if division is None else ".steps" if division.steps else ".product" if division.factor > 1 else ".shift"
    written = "" if details.offsets else ".loop"
    return Profile(f"pool.{kind}{how}{written}", {"unit": values, "read": values * details.area})


def _offsets(window: tuple[int, int], row_step: int) -> tuple[int, ...]:
    return tuple(row * row_step + column for row in range(window[0]) for column in range(window[1]))
