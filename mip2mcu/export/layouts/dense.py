"""Dense weights: one table entry a weight, zeros included; takes every dense layer.

    sum = bias[j];  sum += weights[j][i] * input[i]   for i = 0, 1, ...

Three kinds of code, of which a core gets the fastest that it can use:

    dense            one unit after the other
    dense_together   four units pass over the inputs together, so that an input is read once for all of them; the
                     last pass is of those that are left
    dense_offset     one unit after the other, weights stored as ``weight + 128``: bytes without a sign, for cores on
                     which a sign costs an instruction. The inputs are summed first, since

                         sum = bias[j] - 128 * sum of the inputs + sum over i of (weights[j][i] + 128) * input[i]

                     modulo 2**32 (or 2**16, for a sum that fits 16 bits), in which the sum itself is exact
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mip2mcu.export.flash import fetch_supports
from mip2mcu.export.layouts.base import Encoding, Kind, LayerContext, Lowered, Profile, product_turns, sum_type
from mip2mcu.export.literals import SIGNED, Column, Table, accumulator_type, column, table, tables_in
from mip2mcu.export.targets import Target
from mip2mcu.layers import Dense, Layer
from mip2mcu.ranges import prefix_range

OFFSET_BITS = 7
"""Binary logarithm of what is added to a weight in the kind ``dense_offset``."""

_OFFSET_UNITS = 3
"""Fewest units for which it pays to sum the inputs."""
_TOGETHER = 4
"""Units in a pass; with more, none of the cores has registers for all."""


@dataclass(frozen=True)
class DenseDetails:
    """Numbers of the partials ``dense*``.

    product_type    holds every single product
    together        units in a pass
    unroll          inputs in a turn of the loop
    """

    weights: Table
    bias: Column
    product_type: str
    together: int
    unroll: int


class DenseLayout:
    """One int8_t (or int16_t) a weight."""

    name = "dense"
    kind = Kind.DENSE
    summary = "one int8_t a weight, int16_t where a weight needs it"

    def accepts(self, layer: Layer, context: LayerContext) -> str | None:
        """Takes every dense layer."""
        return None

    def lower(self, layer: Layer, context: LayerContext) -> Lowered:
        """The layer as a table of weights, row by row."""
        assert isinstance(layer, Dense)
        low, high = prefix_range(layer.weights, layer.bias, context.input_low, context.input_high)
        accumulator = sum_type(low, high, context)
        kind = _kind(layer, context)
        details = _details(layer, kind, context)
        return Lowered(
            layout=self.name,
            partial=kind,
            description=_describe(kind, details),
            reads=Encoding.VALUES,
            tables=(details.weights, *tables_in(details.bias)),
            details=details,
            sum_low=low,
            sum_high=high,
            sum_type=accumulator,
            supports=_supports(kind, details, accumulator, context.target),
            profile=Profile(
                f"{kind}.{details.together}x{details.unroll}.{details.weights.c_type}.{details.product_type}",
                _turns(layer, details, context),
            ),
        )


def _kind(layer: Dense, context: LayerContext) -> str:
    target = context.target
    if context.compact:
        return "dense"
    if target.has_multiply and not _signs_cost(target):
        return "dense_together"
    bytes_only = context.input_low.min() >= 0 and context.input_high.max() <= 255
    small = -(2**OFFSET_BITS) <= layer.weights.min() < 0 and layer.weights.max() < 2**OFFSET_BITS
    worthwhile = _signs_cost(target) and layer.units >= _OFFSET_UNITS
    return "dense_offset" if worthwhile and bytes_only and small else "dense"


def _signs_cost(target: Target) -> bool:
    """Loads, or sums of products, take more for signed bytes: Armv6-M and AVR."""
    return target.family == "avr" or (target.family == "arm" and target.registers < 13)


def _details(layer: Dense, kind: str, context: LayerContext) -> DenseDetails:
    offset = 2**OFFSET_BITS if kind == "dense_offset" else 0
    comment = f"Layer {context.index}: the weights of each unit, in the order of the inputs"
    weights = table(
        f"{context.prefix}_weights",
        layer.weights + offset,
        row=layer.weights.shape[1],
        comment=f"{comment}, plus {offset}." if offset else f"{comment}.",
    )
    products = np.stack([layer.weights * context.input_low, layer.weights * context.input_high])
    product = accumulator_type(int(products.min()), int(products.max()), int_bits=context.target.int_bits)
    assert product is not None
    return DenseDetails(
        weights=weights,
        bias=column(f"{context.prefix}_bias", layer.bias),
        product_type=product,
        together=_TOGETHER if kind == "dense_together" else 1,
        unroll={"dense": 1, "dense_together": 4, "dense_offset": 8}[kind],
    )


def _describe(kind: str, details: DenseDetails) -> str:
    if kind == "dense_offset":
        return "dense int8_t weights without their signs"
    return f"dense {details.weights.c_type} weights" + (
        f", {details.together} units in a pass" if details.together > 1 else ""
    )


def _supports(kind: str, details: DenseDetails, sums: str, target: Target) -> tuple[str, ...]:
    if kind == "dense":
        return ()
    readers: tuple[str, ...] = ()
    if kind == "dense_offset":
        wide = target.family == "avr" and sums == "int32_t"
        readers = ("multiply_add",) if wide else fetch_supports(target, details.weights)
        readers += (SIGNED[sums],)
    return ("settle", *readers)


def _turns(layer: Dense, details: DenseDetails, context: LayerContext) -> dict[str, int]:
    """Turns of the loops: with all units of a pass together, or (``left``) with those that are left at the end."""
    units, inputs = layer.weights.shape
    passes, left = divmod(units, details.together)
    turns, rest = divmod(inputs, details.unroll)
    return {
        "unit": units,
        "pass": passes + (left > 0),
        "turn": passes * turns,
        "rest": passes * rest,
        "left": left * inputs,
        "offset": inputs if _kind(layer, context) == "dense_offset" else 0,
        **product_turns(layer.weights.size, context),
    }
