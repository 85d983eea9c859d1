"""Sparse ternary weights: one list entry a non-zero weight, no multiplication.

    sum = bias[j];  sum += inputs of weight +1;  sum -= inputs of weight -1

See `mip2mcu.export.layouts.lists` for the three codings of the lists. Steps of 8 bits are the smallest down to a
density of about one weight in 100 inputs; indices of 8 bits save an addition an entry where there are at most 256
inputs; indices of 16 bits save it everywhere, for twice the flash.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mip2mcu.export.flash import fetch_supports
from mip2mcu.export.layouts.base import Encoding, Kind, LayerContext, Lowered, Profile, sum_type
from mip2mcu.export.layouts.list_ranges import running_range
from mip2mcu.export.layouts.lists import (
    Coding,
    ListsDetails,
    build_lists,
    list_details,
    list_turns,
    list_variant,
)
from mip2mcu.export.literals import tables_in
from mip2mcu.layers import Dense, Layer

_TERNARY = (1,)


@dataclass(frozen=True)
class SparseLayout:
    """Lists of the inputs of weight +1 and of weight -1."""

    name: str
    coding: Coding
    kind = Kind.DENSE

    @property
    def summary(self) -> str:
        """One line for a table of layouts."""
        return f"ternary weights, one list entry a non-zero weight: {self.coding.value}"

    def accepts(self, layer: Layer, context: LayerContext) -> str | None:
        """Takes dense layers with weights of -1, 0 and +1."""
        assert isinstance(layer, Dense)
        limit = int(np.abs(layer.weights).max())
        return None if limit <= 1 else f"takes weights of -1, 0 and 1 only, these reach a magnitude of {limit}"

    def lower(self, layer: Layer, context: LayerContext) -> Lowered:
        """The layer as lists; one pass over a unit's lists gives its sum."""
        assert isinstance(layer, Dense)
        lists = build_lists(layer.weights, _TERNARY, self.coding, context)
        low, high = running_range(lists.flat, layer.bias, context.input_low, context.input_high)
        accumulator = sum_type(low, high, context)
        details: ListsDetails = list_details(lists, layer, _TERNARY, self.coding, context)
        return Lowered(
            layout=self.name,
            partial="sparse",
            description=f"sparse ternary weights, {self.coding.value}",
            reads=Encoding.VALUES,
            tables=(*lists.tables, *tables_in(details.bias)),
            details=details,
            sum_low=low,
            sum_high=high,
            sum_type=accumulator,
            supports=fetch_supports(context.target, lists.counts, lists.entries),
            profile=Profile(
                list_variant("sparse", details), list_turns(lists, details, context), {"page": int(details.pages > 1)}
            ),
        )
