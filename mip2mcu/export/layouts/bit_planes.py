"""Bit planes: binary inputs, 32 at a time, against planes of the weights, by population count.

A weight is its sign n (1: negative) and the bits m_b of its magnitude. With the input bit x, ``a = x ^ n`` is 1 where
input and sign agree, so that one count a magnitude bit is enough:

    inputs 0 and 1      sum = bias - sum_b 2**b * |n & m_b| +     sum_b 2**b * popcount(a & m_b)
    inputs -1 and +1    sum = bias - sum_b 2**b * |m_b|     + 2 * sum_b 2**b * popcount(a & m_b)

The bracket before the counts is a constant, the table ``offset``. Weights without a zero and of one magnitude bit need
no mask: ``a`` itself is counted, for the unused bits of the last word are 0 in inputs and signs alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mip2mcu.export.layouts.base import Binary, Encoding, LayerContext, Lowered, sum_type
from mip2mcu.export.literals import Column, Table, column, count_type, tables_in, word_table
from mip2mcu.export.packing import pack_bits, split_planes, words_for
from mip2mcu.layers import Dense, Layer


@dataclass(frozen=True)
class BitPlanesDetails:
    """Numbers of the partials ``bit_planes_*``.

    planes      for each unit and word: the signs, then one mask a magnitude bit (none where ``masked`` is False)
    shifts      binary logarithm of what a counted bit of each mask is worth
    stride      words of ``planes`` a word of input
    """

    planes: Table
    offset: Column
    masked: bool
    shifts: tuple[int, ...]
    stride: int
    words: int
    count_type: str
    count_high: int


class BitPlanesLayout:
    """One bit a weight for the sign and one a bit of magnitude."""

    name = "bit_planes"
    summary = "binary inputs only: XOR, AND and population count, 32 inputs at a time"

    def accepts(self, layer: Layer, context: LayerContext) -> str | None:
        """Takes dense layers with inputs of 0 and 1, or of -1 and +1."""
        if not isinstance(layer, Dense):
            return "takes dense layers only"
        if context.binary is None:
            low, high = context.input_low.min(), context.input_high.max()
            return f"takes binary inputs only, these lie in {low}..{high}"
        return None

    def lower(self, layer: Layer, context: LayerContext) -> Lowered:
        """The layer as interleaved planes."""
        assert isinstance(layer, Dense)
        negative, masks = split_planes(layer.weights)
        step = 1 if context.binary is Binary.MINUS_PLUS else 0
        counted = sum((mask.sum(axis=1) << (b + step) for b, mask in enumerate(masks)), np.zeros_like(layer.bias))
        constant = np.abs(layer.weights).sum(axis=1) if step else np.maximum(-layer.weights, 0).sum(axis=1)
        offset = layer.bias - constant
        low, high = int(offset.min()), int((offset + counted).max())
        accumulator = sum_type(low, max(high, int(counted.max())), context)
        masked = len(masks) > 1 or not masks[0].all()
        planes = [negative, *masks] if masked else [negative]
        words = np.stack([pack_bits(plane) for plane in planes], axis=2)
        table = word_table(
            f"{context.prefix}_planes",
            words,
            row=words.shape[1] * words.shape[2],
            comment=self._explain(context, len(masks), masked),
        )
        explained = f"Layer {context.index}: each unit's sum when no bit is counted."
        offsets = column(f"{context.prefix}_offset", offset, comment=explained)
        return Lowered(
            layout=self.name,
            partial="bit_planes_swar",
            description=self._describe(len(masks), masked),
            reads=Encoding.BITS,
            tables=(table, *tables_in(offsets)),
            details=BitPlanesDetails(
                planes=table,
                offset=offsets,
                masked=masked,
                shifts=tuple(b + step for b in range(len(masks))),
                stride=len(planes),
                words=words_for(layer.weights.shape[1]),
                count_type=count_type(int(counted.max()), int_bits=context.target.int_bits),
                count_high=int(counted.max()),
            ),
            sum_low=low,
            sum_high=high,
            sum_type=accumulator,
            supports=("bits_set_swar",),
        )

    @staticmethod
    def _explain(context: LayerContext, masks: int, masked: bool) -> str:
        signs = f"Layer {context.index}: for each unit and 32 inputs a word of signs (1: negative)"
        words = "then one of magnitudes" if masks == 1 else f"then {masks} of magnitude bits, lowest first"
        return f"{signs}, {words}." if masked else f"{signs}."

    @staticmethod
    def _describe(masks: int, masked: bool) -> str:
        if not masked:
            return "binary weights, one bit each"
        return "ternary weights, two bits each" if masks == 1 else f"weights of {masks} magnitude bits and a sign"
