"""Dense ternary weights, two bits each, zeros skipped in groups: for layers too dense for lists.

Three variants of one layout, by what the core is good at:

    bytes     4 weights a byte: bit 2k is set where weight k is not zero, bit 2k + 1 where it is negative; bytes of
              zeros are skipped
    words     the same with 16 weights a word; its four bytes are tested one by one
    planes    for 32 inputs a word of positive and a word of negative weights, input i at bit 31 - i; leading zeros are
              counted to go from set bit to set bit (cores with that instruction)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mip2mcu.export.flash import fetch_supports
from mip2mcu.export.layouts.base import Encoding, Kind, LayerContext, Lowered, Profile, sum_type
from mip2mcu.export.literals import Column, Table, column, tables_in
from mip2mcu.export.targets import Target
from mip2mcu.layers import Dense, Layer
from mip2mcu.ranges import IntArray, prefix_range

_BYTE_WEIGHTS, _WORD_WEIGHTS, _PLANE_WEIGHTS = 4, 16, 32


@dataclass(frozen=True)
class TernaryDetails:
    """Numbers of the partials ``ternary2_*``.

    fields   the weights of a unit: ``turns`` groups of ``group`` weights, then ``rest`` weights
    stride   table entries of a group
    """

    fields: Table
    bias: Column
    group: int
    turns: int
    rest: int
    stride: int
    non_zeros: int


@dataclass(frozen=True)
class Ternary2Layout:
    """Two bits a weight."""

    name: str = "ternary2"
    summary: str = "ternary weights, two bits each, groups of zeros skipped"
    kind = Kind.DENSE

    def accepts(self, layer: Layer, context: LayerContext) -> str | None:
        """Takes dense layers with weights of -1, 0 and +1."""
        assert isinstance(layer, Dense)
        limit = int(np.abs(layer.weights).max())
        return None if limit <= 1 else f"takes weights of -1, 0 and 1 only, these reach a magnitude of {limit}"

    def lower(self, layer: Layer, context: LayerContext) -> Lowered:
        """The layer in the variant that suits the target."""
        assert isinstance(layer, Dense)
        variant = _variant(context.target, context.compact)
        low, high = _sum_range(layer, context, by_sign=variant == "planes")
        details = _details(layer, context, variant)
        return Lowered(
            layout=self.name,
            partial="ternary2_planes" if variant == "planes" else "ternary2_fields",
            description="ternary weights, two bits each",
            reads=Encoding.VALUES,
            tables=(details.fields, *tables_in(details.bias)),
            details=details,
            sum_low=low,
            sum_high=high,
            sum_type=sum_type(low, high, context),
            supports=("leading_zeros",) if variant == "planes" else fetch_supports(context.target, details.fields),
            profile=_profile(layer.units, details, variant),
        )


def _variant(target: Target, compact: bool) -> str:
    if target.has_clz:
        return "planes"
    return "bytes" if compact or target.int_bits < 32 else "words"


def _details(layer: Dense, context: LayerContext, variant: str) -> TernaryDetails:
    weights = layer.weights
    if variant == "planes":
        what = "32 inputs a word of positive and a word of negative weights, the first input at the highest bit"
        values, group, stride = pack_planes(weights), _PLANE_WEIGHTS, 2
    else:
        group, stride = (_BYTE_WEIGHTS if variant == "bytes" else _WORD_WEIGHTS), 1
        what = f"{group} inputs the weights, two bits each: not zero, negative"
        values = pack_fields(weights, group)
    name, comment = f"{context.prefix}_fields", f"Layer {context.index}: for each unit and {what}."
    c_type = "uint8_t" if variant == "bytes" else "uint32_t"
    flat = tuple(int(v) for v in values.reshape(-1))
    return TernaryDetails(
        fields=Table(name, c_type, flat, values.shape[1], hexadecimal=True, comment=comment),
        bias=column(f"{context.prefix}_bias", layer.bias),
        group=group,
        turns=weights.shape[1] // group,
        rest=weights.shape[1] % group,
        stride=stride,
        non_zeros=int(np.count_nonzero(weights)),
    )


def _profile(units: int, details: TernaryDetails, variant: str) -> Profile:
    fields = np.array(details.fields.values)
    turns = {"unit": units, "field": len(fields) // details.stride, "weight": details.non_zeros}
    if variant == "planes":
        turns["side"] = int(np.count_nonzero(fields))
    else:
        quads = fields[:, None] >> (8 * np.arange(details.group // 4)) & 0xFF
        turns["quad"] = int(np.count_nonzero(quads))
    written = details.rest + (details.group if details.turns else 0)
    return Profile(f"ternary2.{variant}", turns, {"loop": int(details.turns > 0), "written": written})


def _sum_range(layer: Dense, context: LayerContext, *, by_sign: bool) -> tuple[int, int]:
    """Range of the partial sums, input by input or, within each plane word, positive weights first."""
    ends = (context.input_low, context.input_high)
    if not by_sign:
        return prefix_range(layer.weights, layer.bias, *ends)
    blocks = _grouped(layer.weights, _PLANE_WEIGHTS)
    signed = np.stack([np.maximum(blocks, 0), np.minimum(blocks, 0)], axis=2).reshape(len(blocks), -1)
    low, high = (np.repeat(_grouped(end[None], _PLANE_WEIGHTS), 2, axis=1).reshape(-1) for end in ends)
    return prefix_range(signed, layer.bias, low, high)


# ---- packing -------------------------------------------------------------------------------------------------------


def _grouped(rows: IntArray, group: int) -> IntArray:
    """``rows`` (n, inputs) as (n, groups, group), filled up with zeros."""
    padded = np.zeros((len(rows), -(-rows.shape[1] // group) * group), dtype=np.int64)
    padded[:, : rows.shape[1]] = rows
    return padded.reshape(len(rows), -1, group)


def pack_fields(weights: IntArray, group: int) -> IntArray:
    """Fields (units, groups) of ternary ``weights`` (units, inputs), the first weight in the lowest two bits."""
    blocks = _grouped(weights, group)
    fields = np.where(blocks == 0, 0, np.where(blocks > 0, 1, 3))
    return np.bitwise_or.reduce(fields << (2 * np.arange(group)), axis=2)


def unpack_fields(fields: IntArray, group: int, inputs: int) -> IntArray:
    """Inverse of `pack_fields`."""
    pairs = (fields[:, :, None] >> (2 * np.arange(group))) & 3
    return np.where(pairs == 0, 0, np.where(pairs == 1, 1, -1)).reshape(len(fields), -1)[:, :inputs]


def pack_planes(weights: IntArray) -> IntArray:
    """Words (units, 2 * groups) of ternary ``weights`` (units, inputs): positive, negative, positive, ..."""
    blocks = _grouped(weights, _PLANE_WEIGHTS)
    planes = np.stack([blocks > 0, blocks < 0], axis=2).astype(np.int64)
    return np.bitwise_or.reduce(planes << np.arange(_PLANE_WEIGHTS)[::-1], axis=3).reshape(len(weights), -1)


def unpack_planes(words: IntArray, inputs: int) -> IntArray:
    """Inverse of `pack_planes`."""
    bits = (words.reshape(len(words), -1, 2)[:, :, :, None] >> np.arange(_PLANE_WEIGHTS)[::-1]) & 1
    return (bits[:, :, 0] - bits[:, :, 1]).reshape(len(words), -1)[:, :inputs]
