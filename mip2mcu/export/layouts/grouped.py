"""Few-bit weights grouped by magnitude: one list entry a non-zero weight, no multiplication a weight.

    running = 0;  sum = bias[j]
    for the magnitudes v_1 > v_2 > ... > v_m:
        running += inputs of +v_k;  running -= inputs of -v_k;  sum += running * (v_k - v_(k+1))

See `mip2mcu.export.layouts.lists` for the codings of the lists. Each magnitude costs two bytes of list lengths a unit
and some twenty instructions, so they should be few.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mip2mcu.export.flash import fetch_supports
from mip2mcu.export.layouts.base import Encoding, Kind, LayerContext, Lowered, Profile, sum_type
from mip2mcu.export.layouts.list_ranges import level_range, running_range
from mip2mcu.export.layouts.lists import (
    Coding,
    ListsDetails,
    build_lists,
    list_details,
    list_turns,
    list_variant,
    magnitudes,
)
from mip2mcu.export.literals import tables_in
from mip2mcu.layers import Dense, Layer

MAGNITUDE_LIMIT = 16
"""Most different magnitudes; with more, one multiplication a weight is cheaper."""


@dataclass(frozen=True)
class GroupedLayout:
    """Lists of inputs, one a weight value."""

    name: str
    coding: Coding
    kind = Kind.DENSE

    @property
    def summary(self) -> str:
        """One line for a table of layouts."""
        return f"few-bit weights by magnitude, one list entry a non-zero weight: {self.coding.value}"

    def accepts(self, layer: Layer, context: LayerContext) -> str | None:
        """Takes dense layers with few different magnitudes of weights."""
        assert isinstance(layer, Dense)
        count = len(magnitudes(layer.weights))
        if count <= MAGNITUDE_LIMIT:
            return None
        return f"takes weights of at most {MAGNITUDE_LIMIT} different magnitudes, these have {count}"

    def lower(self, layer: Layer, context: LayerContext) -> Lowered:
        """The layer as lists, grouped by magnitude."""
        assert isinstance(layer, Dense)
        levels = magnitudes(layer.weights)
        lists = build_lists(layer.weights, levels, self.coding, context)
        ends = (context.input_low, context.input_high)
        running_low, running_high = running_range(lists.flat, np.zeros_like(layer.bias), *ends)
        low, high = level_range(lists, levels, layer.bias, *ends)
        details = list_details(
            lists, layer, levels, self.coding, context, running_type=sum_type(running_low, running_high, context)
        )
        return Lowered(
            layout=self.name,
            partial="grouped",
            description=f"weights of {len(levels)} magnitudes without multiplication, {self.coding.value}",
            reads=Encoding.VALUES,
            tables=(*lists.tables, *tables_in(details.factors, details.bias)),
            details=details,
            sum_low=min(low, running_low),
            sum_high=max(high, running_high),
            sum_type=sum_type(low, high, context),
            supports=fetch_supports(context.target, lists.counts, lists.entries),
            profile=Profile(
                list_variant("grouped", details),
                {**list_turns(lists, details, context), _level_part(details): layer.units * len(levels)},
                {"page": int(details.pages > 1), _level_part(details): int(details.levels > 1)},
            ),
        )


def _level_part(details: ListsDetails) -> str:
    """What a level costs beside its runs: no loop where it is the only one, no product where all factors are 1."""
    if details.levels == 1:
        return "only level"
    return "level" if details.factors == "1" else "product"
