"""Compressed sparse rows: for each non-zero weight an 8-bit step to its input and its 8-bit magnitude.

    sum = bias[j]
    for the positive weights of unit j:  x += step;  sum += magnitude * *x
    for the negative ones:               x += step;  sum -= magnitude * *x

Split by sign, magnitudes are unsigned: no sign extension on cores that have none in a load, and short loops in the
multiply helpers of cores without a multiplier. A gap over 255 is bridged by an entry of magnitude 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mip2mcu.export.flash import fetch_supports
from mip2mcu.export.layouts.base import Encoding, Kind, LayerContext, Lowered, Profile, product_turns, sum_type
from mip2mcu.export.layouts.bridges import STEP_LIMIT
from mip2mcu.export.layouts.lists import (
    UNROLL,
    compares_pointers,
    count_table,
    first_bytes,
    first_column,
    first_inputs,
    loop_type,
    run_turns,
    wide_turns,
)
from mip2mcu.export.literals import Column, Table, column, tables_in
from mip2mcu.layers import Dense, Layer
from mip2mcu.ranges import IntArray, prefix_range

MAGNITUDE_LIMIT = 255
"""Largest magnitude of a weight."""


@dataclass(frozen=True)
class CsrDetails:
    """Numbers of the partial ``csr8``.

    entries        steps and magnitudes, alternating
    counts         number of entries of each run; a unit has a positive and a negative run
    first          the input from which a unit's steps count; None where that is input 0
    product_type   holds every single product; zeros fill up an unsigned one, which is less work than a sign
    """

    entries: Table
    counts: Table
    first: Column | None
    bias: Column
    product_type: str
    count_type: str
    unroll: int
    to_end: bool
    non_zeros: int
    bridges: int


@dataclass(frozen=True)
class Csr8Layout:
    """Two bytes a non-zero weight."""

    name: str = "csr8"
    summary: str = "one 8-bit step and one 8-bit magnitude a non-zero weight"
    kind = Kind.DENSE

    def accepts(self, layer: Layer, context: LayerContext) -> str | None:
        """Takes dense layers whose magnitudes fit 8 bits."""
        assert isinstance(layer, Dense)
        limit = int(np.abs(layer.weights).max())
        return None if limit <= MAGNITUDE_LIMIT else f"takes magnitudes up to {MAGNITUDE_LIMIT}, these reach {limit}"

    def lower(self, layer: Layer, context: LayerContext) -> Lowered:
        """The layer as rows of steps and magnitudes."""
        assert isinstance(layer, Dense)
        low, high = context.input_low, context.input_high
        signed = np.concatenate([np.maximum(layer.weights, 0), np.minimum(layer.weights, 0)], axis=1)
        sum_low, sum_high = prefix_range(signed, layer.bias, np.tile(low, 2), np.tile(high, 2))
        product_low, product_high = _product_range(np.abs(layer.weights), low, high)
        accumulator = sum_type(min(sum_low, product_low), max(sum_high, product_high), context)
        narrow = context.target.int_bits < 32 and product_low >= 0 and accumulator == "int32_t"
        product = "uint16_t" if narrow and product_high < 2**16 else sum_type(product_low, product_high, context)
        details = self._details(layer, context, product)
        return Lowered(
            layout=self.name,
            partial="csr8",
            description="sparse weights, an 8-bit step and an 8-bit magnitude each",
            reads=Encoding.VALUES,
            tables=tables_in(details.first, details.counts, details.entries, details.bias),
            details=details,
            sum_low=sum_low,
            sum_high=sum_high,
            sum_type=accumulator,
            supports=fetch_supports(context.target, details.counts, details.entries),
            profile=_profile(layer.units, details, context),
        )

    def _details(self, layer: Dense, context: LayerContext, product_type: str) -> CsrDetails:
        runs, first = _smaller(layer.weights)
        counts = np.array([len(run) // 2 for run in runs])
        flat = tuple(value for run in runs for value in run) or (0, 0)
        non_zeros = int(np.count_nonzero(layer.weights))
        comment = f"Layer {context.index}: step and magnitude of each weight, each unit's positive weights first."
        return CsrDetails(
            entries=Table(f"{context.prefix}_entries", "uint8_t", flat, comment=comment),
            counts=count_table(counts, context),
            first=first_column(first, context),
            bias=column(f"{context.prefix}_bias", layer.bias),
            product_type=product_type,
            count_type=loop_type(int(counts.max()), context.target),
            unroll=1 if context.compact else UNROLL,
            to_end=compares_pointers(context),
            non_zeros=non_zeros,
            bridges=int(counts.sum()) - non_zeros,
        )


def _profile(units: int, details: CsrDetails, context: LayerContext) -> Profile:
    first = units if details.first is not None else 0
    products = product_turns(details.non_zeros + details.bridges, context)
    turns = {"unit": units, "first": first, **run_turns(details.counts, details.unroll), **products}
    turns |= wide_turns(details.entries, details.counts, details.count_type, details.unroll, context)
    return Profile("csr8" if details.unroll > 1 else "csr8.compact", turns)


def _smaller(weights: IntArray) -> tuple[list[list[int]], IntArray]:
    """The runs, two a unit, counted from input 0 or from each unit's first: what is smaller; and those first inputs."""
    starts = first_inputs(weights)
    plain, shifted = ([run for row, start in zip(weights, first, strict=True) for run in _row_runs(row, int(start))]
                      for first in (np.zeros_like(starts), starts))  # fmt: skip
    saved = sum(map(len, plain)) - sum(map(len, shifted))
    return (shifted, starts) if saved > first_bytes(starts) else (plain, np.zeros_like(starts))


def _row_runs(row: IntArray, first: int) -> list[list[int]]:
    """The entries (step, magnitude, step, ...) of a unit's positive and of its negative weights."""
    return [_entries(np.flatnonzero(sign * row > 0), np.abs(row), first) for sign in (1, -1)]


def _entries(positions: IntArray, magnitudes: IntArray, first: int) -> list[int]:
    entries: list[int] = []
    at = first
    for q in positions.tolist():
        while q - at > STEP_LIMIT:
            entries += (STEP_LIMIT, 0)
            at += STEP_LIMIT
        entries += (q - at, int(magnitudes[q]))
        at = q
    return entries


def _product_range(magnitudes: IntArray, low: IntArray, high: IntArray) -> tuple[int, int]:
    return min(0, int((magnitudes * low).min())), max(0, int((magnitudes * high).max()))

