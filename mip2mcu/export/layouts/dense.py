"""Dense weights: one table entry a weight, zeros included; takes every dense layer.

    sum = bias[j];  sum += weights[j][i] * input[i]   for i = 0, 1, ...
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mip2mcu.export.layouts.base import Encoding, LayerContext, Lowered, Profile, product_turns, sum_type
from mip2mcu.export.literals import Column, Table, accumulator_type, column, table, tables_in
from mip2mcu.layers import Dense, Layer
from mip2mcu.ranges import prefix_range


@dataclass(frozen=True)
class DenseDetails:
    """Numbers of the partial ``dense``; ``product_type`` holds every single product."""

    weights: Table
    bias: Column
    product_type: str


class DenseLayout:
    """One int8_t (or int16_t) a weight."""

    name = "dense"
    summary = "one int8_t a weight, int16_t where a weight needs it"

    def accepts(self, layer: Layer, context: LayerContext) -> str | None:
        """Takes every dense layer."""
        return None if isinstance(layer, Dense) else "takes dense layers only"

    def lower(self, layer: Layer, context: LayerContext) -> Lowered:
        """The layer as a table of weights, row by row."""
        assert isinstance(layer, Dense)
        low, high = prefix_range(layer.weights, layer.bias, context.input_low, context.input_high)
        accumulator = sum_type(low, high, context)
        weights = table(
            f"{context.prefix}_weights",
            layer.weights,
            row=layer.weights.shape[1],
            comment=f"Layer {context.index}: the weights of each unit, in the order of the inputs.",
        )
        bias = column(f"{context.prefix}_bias", layer.bias)
        products = np.stack([layer.weights * context.input_low, layer.weights * context.input_high])
        product = accumulator_type(int(products.min()), int(products.max()), int_bits=context.target.int_bits)
        assert product is not None
        return Lowered(
            layout=self.name,
            partial="dense",
            description=f"dense {weights.c_type} weights",
            reads=Encoding.VALUES,
            tables=(weights, *tables_in(bias)),
            details=DenseDetails(weights, bias, product),
            sum_low=low,
            sum_high=high,
            sum_type=accumulator,
            profile=Profile(f"dense.{weights.c_type}.{product}", _turns(layer, context)),
        )


def _turns(layer: Dense, context: LayerContext) -> dict[str, int]:
    products = layer.weights.size
    return {"unit": layer.units, "product": products, **product_turns(products, context)}
