"""Compressed sparse weights, close to their entropy: for each non-zero weight the gap before it and its value, in bits.

    sum = bias[j]
    for each non-zero weight:  x += gap;  sum += value * *x;  x += 1

Gaps are Golomb-Rice codes, which fit the gaps between randomly placed weights within a few percent. Values are ranks in
the order of their frequency, coded in the same way; for ternary weights that is one bit. Both parameters are chosen for
the layer. Two variants of the reader: cores of 32 bits look at a window of 16 to 32 bits, others take bit by bit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mip2mcu.export.flash import fetch_supports
from mip2mcu.export.layouts.base import Encoding, Kind, LayerContext, Lowered, Profile, product_turns, sum_type
from mip2mcu.export.layouts.lists import first_bytes, first_column, first_inputs, loop_type
from mip2mcu.export.layouts.rice import RiceCode, best_code, by_frequency, from_chunks, to_chunks
from mip2mcu.export.literals import Column, Table, column, table, tables_in, unsigned_column
from mip2mcu.layers import Dense, Layer
from mip2mcu.ranges import IntArray, prefix_range

VALUE_LIMIT = 256
"""Most different values of non-zero weights: their table must stay small beside the codes."""


@dataclass(frozen=True)
class Compressed:
    """The weights of a layer as bits, unit by unit.

    first             by unit, the input from which its gaps count
    counts            by unit, the number of non-zero weights
    values            of non-zero weights, the most frequent first
    gap_quotients     of all gaps together; rank_quotients alike
    """

    bits: str
    first: IntArray
    counts: IntArray
    values: tuple[int, ...]
    gap_code: RiceCode
    rank_code: RiceCode
    gap_quotients: int = 0
    rank_quotients: int = 0

    def weights(self, inputs: int) -> IntArray:
        """The weights (units, inputs) back."""
        weights = np.zeros((len(self.counts), inputs), dtype=np.int64)
        at = 0
        for j, count in enumerate(self.counts):
            position = int(self.first[j])
            for _ in range(count):
                gap, at = self.gap_code.read(self.bits, at)
                rank, at = self.rank_code.read(self.bits, at)
                weights[j, position + gap] = self.values[rank]
                position += gap + 1
        return weights


def compress(weights: IntArray) -> Compressed:
    """``weights`` (units, inputs) in codes, counted from input 0 or from each unit's first: what is smaller."""
    starts = first_inputs(weights)
    plain, shifted = _compress(weights, np.zeros_like(starts)), _compress(weights, starts)
    saved = (len(plain.bits) - len(shifted.bits)) // 8
    return shifted if saved > first_bytes(starts) else plain


def _compress(weights: IntArray, first: IntArray) -> Compressed:
    units, positions = np.nonzero(weights)
    if len(units) == 0:
        return Compressed("", first, np.zeros(len(weights), dtype=np.int64), (1, -1), RiceCode(0), RiceCode(0, 1))
    found = weights[units, positions]
    before = np.where(np.diff(units, prepend=-1) != 0, first[units] - 1, np.roll(positions, 1))
    gaps = positions - before - 1
    values = by_frequency(found)
    if set(values) <= {1, -1}:
        values = (1, -1)
    rank = {value: k for k, value in enumerate(values)}
    ranks = np.array([rank[value] for value in found.tolist()])
    gap_code, rank_code = best_code(gaps), best_code(ranks, len(values))
    bits = "".join(gap_code.bits(g) + rank_code.bits(r) for g, r in zip(gaps.tolist(), ranks.tolist(), strict=True))
    counts = np.bincount(units, minlength=len(weights))
    quotients = (int((n >> code.remainder).sum()) for n, code in ((gaps, gap_code), (ranks, rank_code)))
    return Compressed(bits, first, counts, values, gap_code, rank_code, *quotients)


@dataclass(frozen=True)
class CompressedDetails:
    """Numbers of the partials ``compressed_*``.

    codes              the bits, in uint16_t or uint8_t
    values             of the ranks; None for ternary weights, whose rank is a bit: 1 for +1
    gap_bits           of a gap's remainder; its quotient counts in steps of ``gap_step``
    rank_bits, ...     the same of a rank, with the largest multiple of ``rank_step`` that a quotient reaches
    product_type       holds every single product
    """

    codes: Table
    counts: Column
    first: Column | None
    bias: Column
    values: Table | None
    gap_bits: int
    gap_step: int
    rank_bits: int
    rank_step: int
    rank_high: int
    count_type: str
    product_type: str
    non_zeros: int
    bits: int

    @property
    def ranked(self) -> bool:
        """Whether weights have ranks, or just a sign."""
        return self.values is not None


@dataclass(frozen=True)
class CompressedLayout:
    """Golomb-Rice codes of gaps and values."""

    name: str = "compressed"
    summary: str = "gaps and values of non-zero weights in bits, near the entropy: the smallest, and slow"
    kind = Kind.DENSE

    def accepts(self, layer: Layer, context: LayerContext) -> str | None:
        """Takes dense layers whose non-zero weights have few values."""
        assert isinstance(layer, Dense)
        count = int(np.count_nonzero(np.unique(layer.weights)))
        return None if count <= VALUE_LIMIT else f"takes at most {VALUE_LIMIT} values of weights, these have {count}"

    def lower(self, layer: Layer, context: LayerContext) -> Lowered:
        """The layer as a stream of codes."""
        assert isinstance(layer, Dense)
        low, high = context.input_low, context.input_high
        sum_low, sum_high = prefix_range(layer.weights, layer.bias, low, high)
        ends = np.stack([layer.weights * low, layer.weights * high])
        product = sum_type(int(ends.min()), int(ends.max()), context)
        packed = compress(layer.weights)
        details = _details(packed, layer, context, product)
        tables = tables_in(details.first, details.counts, details.values, details.codes, details.bias)
        return Lowered(
            layout=self.name,
            partial="compressed_words" if details.codes.c_type == "uint16_t" else "compressed_bits",
            description=f"gaps and values of weights in {details.bits} bits",
            reads=Encoding.VALUES,
            tables=tables,
            details=details,
            sum_low=sum_low,
            sum_high=sum_high,
            sum_type=sum_type(sum_low, sum_high, context),
            supports=fetch_supports(context.target, details.codes),
            profile=_profile(packed, details, context),
        )


def _details(packed: Compressed, layer: Dense, context: LayerContext, product_type: str) -> CompressedDetails:
    prefix, index, gap, rank = context.prefix, context.index, packed.gap_code, packed.rank_code
    assert rank.largest_quotient is not None
    width = 8 if context.target.int_bits < 32 else 16
    ahead = 1 if width == 16 else 0  # a window of 16 bits or more has read one chunk that it does not use
    chunks = to_chunks(packed.bits, width, max(1, -(-len(packed.bits) // width) + ahead))
    codes = Table(
        f"{prefix}_codes",
        f"uint{width}_t",
        tuple(chunks),
        hexadecimal=True,
        comment=f"Layer {index}: gap and value of each weight that is not 0, as Golomb-Rice codes.",
    )
    counts = f"Layer {index}: number of each unit's weights that are not 0."
    ranks = f"Layer {index}: the values of weights, by rank."
    values = table(f"{prefix}_values", np.array(packed.values), comment=ranks)
    return CompressedDetails(
        codes=codes,
        counts=unsigned_column(f"{prefix}_counts", packed.counts, comment=counts),
        first=first_column(packed.first, context),
        bias=column(f"{prefix}_bias", layer.bias),
        values=None if packed.values == (1, -1) else values,
        gap_bits=gap.remainder,
        gap_step=1 << gap.remainder,
        rank_bits=rank.remainder,
        rank_step=1 << rank.remainder,
        rank_high=rank.largest_quotient << rank.remainder,
        count_type=loop_type(int(packed.counts.max()), context.target),
        product_type=product_type,
        non_zeros=int(packed.counts.sum()),
        bits=len(packed.bits),
    )


def _profile(packed: Compressed, details: CompressedDetails, context: LayerContext) -> Profile:
    variant = f"compressed.{details.codes.c_type}.{'ranks' if details.ranked else 'signs'}"
    remainders = (details.gap_bits, details.rank_bits if details.ranked else 0)
    turns = {
        "unit": len(packed.counts),
        "first": len(packed.counts) if details.first is not None else 0,
        "weight": details.non_zeros,
        "gap": packed.gap_quotients,
        "rank": packed.rank_quotients if details.ranked else 0,
        "chunk": len(details.codes.values),
        "remainder": details.non_zeros * sum(bits > 0 for bits in remainders),
        "rest": details.non_zeros * sum(remainders) if details.codes.c_type == "uint8_t" else 0,
    }
    products = product_turns(details.non_zeros, context) if details.ranked else {}
    return Profile(variant, turns | products, {"remainder": sum(bits > 0 for bits in remainders)})


def unpack_table(codes: Table) -> str:
    """The bits that a table of codes holds, the filling zeros included."""
    return from_chunks(codes.values, 8 if codes.c_type == "uint8_t" else 16)
