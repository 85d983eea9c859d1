"""Bit planes: binary inputs, 32 at a time, against planes of the weights, by population count.

A weight is its sign n (1: negative) and the bits m_b of its magnitude. With the input bit x, ``a = x ^ n`` is 1 where
input and sign agree, so that one count a magnitude bit is enough:

    inputs 0 and 1      sum = bias - sum_b 2**b * |n & m_b| +     sum_b 2**b * popcount(a & m_b)
    inputs -1 and +1    sum = bias - sum_b 2**b * |m_b|     + 2 * sum_b 2**b * popcount(a & m_b)

The bracket before the counts is a constant, the table ``offset``. Weights without a zero and of one magnitude bit need
no mask: ``a`` itself is counted, for the unused bits of the last word are 0 in inputs and signs alike.

Four ways to count, each with its partial:

    bit_planes_rows      a unit at a time, by the carry-save adder of `mip2mcu.export.carry_save`
    bit_planes_shared    at most 16 inputs: the rows of 2 or 4 units share a word
    bit_planes_calls     small code: word by word, in a function that layers share
    bit_planes_bytes     on cores of 8 bits: as the first, byte by byte
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from mip2mcu.export.carry_save import (
    COLUMN_LIMIT,
    Block,
    Chain,
    Schedule,
    Step,
    chain,
    plan_blocks,
    row_parts,
    schedule,
)
from mip2mcu.export.layouts.base import Binary, Encoding, LayerContext, Lowered, Profile, sum_type
from mip2mcu.export.literals import Column, Table, column, tables_in, word_table
from mip2mcu.export.packing import WordArray, pack_bits, split_planes
from mip2mcu.layers import Activation, Dense, Layer
from mip2mcu.ranges import IntArray

_FAST_CODE, _COMPACT_CODE = 400, 75
_FAST_BYTES_CODE, _COMPACT_BYTES_CODE = 150, 75
"""Most instructions of straight-line code, roughly."""


@dataclass(frozen=True)
class Planes:
    """A layer's weights as bits: ``sum = offset + 2**step * sum_b 2**b * popcount((x ^ negative) & masks[b])``.

    masks          (units, inputs) each, lowest bit first; none where every weight is -1 or +1
    counted        (units,): most that the sum over b can be
    column_high    most that one input adds to it
    """

    negative: IntArray
    masks: tuple[IntArray, ...]
    offset: IntArray
    step: int
    counted: IntArray
    column_high: int

    @property
    def interleaved(self) -> tuple[IntArray, ...]:
        """What a table holds for each word of inputs: the signs, then the masks."""
        return (self.negative, *self.masks)

    @property
    def description(self) -> str:
        """For the comment above the layer's function."""
        if not self.masks:
            return "binary weights, one bit each"
        count = len(self.masks)
        return "ternary weights, two bits each" if count == 1 else f"weights of {count} magnitude bits and a sign"

    def explain(self, layer: int, sharing: int = 1, inputs: int = 32, behind: str = "") -> str:
        """The comment above the table, of words of ``inputs`` bits, which ``sharing`` units share."""
        entry = f"unit and {inputs} inputs" if sharing == 1 else f"{sharing} units"
        word = "word" if inputs == 32 else "byte"
        signs = f"Layer {layer}: for each {entry} a {word} of signs (1: negative)"
        count = len(self.masks)
        several = f", then {count} of magnitude bits, lowest first"
        return signs + {0: "", 1: ", then one of magnitudes"}.get(count, several) + behind + "."


def split(layer: Dense, binary: Binary | None) -> Planes:
    """The planes of ``layer`` behind inputs of the kind ``binary``."""
    negative, masks = split_planes(layer.weights)
    step = 1 if binary is Binary.MINUS_PLUS else 0
    magnitudes = np.abs(layer.weights)
    constant = magnitudes.sum(axis=1) if step else np.maximum(-layer.weights, 0).sum(axis=1)
    return Planes(
        negative=negative,
        masks=masks if len(masks) > 1 or not masks[0].all() else (),
        offset=layer.bias - constant,
        step=step,
        counted=magnitudes.sum(axis=1),
        column_high=max(1, int(magnitudes.max())),
    )


@dataclass(frozen=True)
class RowsDetails:
    """Numbers of the partial ``bit_planes_rows``.

    planes        for each unit and word: the signs, then one mask a magnitude bit
    stride        words of ``planes`` a word of input
    masks         number of masks
    step          the count is worth 2**step
    words         of a row of inputs
    blocks        how the words of a row are counted
    total         what is summed over blocks: "" (there is one block), "bytes", "halves" or "count"
    multiplies    a product adds the bytes that make the count
    keeps_masks   constants stay in registers, so that a shift before them costs nothing
    """

    planes: Table
    offset: Column
    stride: int
    masks: int
    step: int
    words: int
    blocks: tuple[Block, ...]
    total: str
    multiplies: bool
    keeps_masks: bool
    count_high: int

    @property
    def has_halves(self) -> bool:
        """Lanes of 16 bits occur."""
        return not self.multiplies

    @property
    def schedules(self) -> tuple[Schedule, ...]:
        """How each block counts."""
        return tuple(block.schedule for block in self.blocks)

    @property
    def array(self) -> str:
        """C name of what holds the words of a block."""
        return "x" if self.total else "input"


@dataclass(frozen=True)
class SharedDetails:
    """Numbers of the partial ``bit_planes_shared``.

    planes        for each group of units: the signs, then one mask a magnitude bit; unit r has bits r * width and up
    share         units that share a word
    width         bits that each of them has, at least the number of inputs
    repeat        the factor that copies the inputs into each unit's bits
    surplus       units of the last group that do not exist
    schedule      how one word is counted
    """

    planes: Table
    offset: Column
    stride: int
    masks: int
    step: int
    share: int
    width: int
    repeat: int
    surplus: int
    schedule: Schedule
    keeps_masks: bool
    count_high: int

    @property
    def has_halves(self) -> bool:
        """Lanes of 16 bits occur."""
        return self.width == 16

    @property
    def schedules(self) -> tuple[Schedule, ...]:
        """How a word is counted."""
        return (self.schedule,)

    @property
    def array(self) -> str:
        """There is none: the only word is a variable."""
        return ""


@dataclass(frozen=True)
class CallsDetails:
    """Numbers of the partial ``bit_planes_calls``.

    planes      for each unit and word: the signs, then the mask, if any
    stride      words of ``planes`` a word of input
    step        the count is worth 2**step
    words       of a row of inputs
    function    that counts a row: a partial of ``templates/support/``
    """

    planes: Table
    offset: Column
    stride: int
    step: int
    words: int
    function: str


@dataclass(frozen=True)
class BytesDetails:
    """Numbers of the partial ``bit_planes_bytes``.

    planes        for each unit and 8 inputs: the signs, then one mask a magnitude bit, a byte each
    limit_bytes   of a sign unit: bytes behind its planes, the count from which on it fires; 0 for other units
    masks         number of masks
    step          the count is worth 2**step
    chain         counts a long row by a loop that keeps its planes; else `blocks` count it
    count_type    holds the count
    carry_type    holds what the chain's turns count
    unit_type     counts units
    turn_type     counts turns of a loop
    """

    planes: Table
    offset: Column
    limit_bytes: int
    masks: int
    step: int
    chain: Chain | None
    blocks: tuple[Block, ...]
    count_type: str
    carry_type: str
    unit_type: str
    turn_type: str
    count_high: int

    @property
    def limit_type(self) -> str:
        """Holds a limit."""
        return "uint8_t" if self.limit_bytes == 1 else "uint16_t"


class BitPlanesLayout:
    """One bit a weight for the sign and one a bit of magnitude."""

    name = "bit_planes"
    summary = "binary inputs only: XOR, AND and population count, 32 inputs at a time"

    def accepts(self, layer: Layer, context: LayerContext) -> str | None:
        """Takes dense layers with inputs of 0 and 1, or of -1 and +1, and weights of up to 12 bits."""
        if not isinstance(layer, Dense):
            return "takes dense layers only"
        if context.binary is None:
            low, high = context.input_low.min(), context.input_high.max()
            return f"takes binary inputs only, these lie in {low}..{high}"
        limit = int(np.abs(layer.weights).max())
        if limit > COLUMN_LIMIT:
            return f"takes weights up to {COLUMN_LIMIT}, these reach a magnitude of {limit}"
        return None

    def lower(self, layer: Layer, context: LayerContext) -> Lowered:
        """The layer as interleaved planes."""
        assert isinstance(layer, Dense)
        planes = split(layer, context.binary)
        low, high = int(planes.offset.min()), int((planes.offset + (planes.counted << planes.step)).max())
        accumulator = sum_type(low, max(high, int(planes.counted.max()) << planes.step), context)
        partial, details = _lower(planes, layer.activation is Activation.SIGN, context)
        return Lowered(
            layout=self.name,
            partial=partial,
            description=planes.description,
            reads=Encoding.BITS,
            tables=tables_in(details.planes, details.offset),
            details=details,
            sum_low=low,
            sum_high=high,
            sum_type=accumulator,
            supports=_supports(details, context),
            profile=_profile(layer.units, details),
        )


Details: TypeAlias = RowsDetails | SharedDetails | CallsDetails | BytesDetails


def _lower(planes: Planes, fires: bool, context: LayerContext) -> tuple[str, Details]:
    """The partial that suits the core, and its numbers."""
    if context.target.word_bits == 8:
        return "bit_planes_bytes", _bytes(planes, fires, context)
    if context.compact and len(planes.masks) <= 1:
        return "bit_planes_calls", _calls(planes, context)
    shared = _shared(planes, context)
    return ("bit_planes_rows", _rows(planes, context)) if shared is None else ("bit_planes_shared", shared)


def _offsets(planes: Planes, context: LayerContext) -> Column:
    comment = f"Layer {context.index}: each unit's sum when no bit is counted."
    return column(f"{context.prefix}_offset", planes.offset, comment=comment)


def _has_free_shifts(context: LayerContext) -> bool:
    """An operand may be shifted on its way into an instruction, if the other one is a register (Thumb-2)."""
    return context.target.family == "arm" and context.target.registers > 8


# ---- calls -------------------------------------------------------------------------------------------------------


def _calls(planes: Planes, context: LayerContext) -> CallsDetails:
    table = _row_table(planes, context)
    stride = len(planes.interleaved)
    words = table.row // stride
    masked, long = "_masked" * len(planes.masks), "_long" * (8 * words > 255)
    return CallsDetails(table, _offsets(planes, context), stride, planes.step, words, f"bits_count{masked}{long}")


def _row_table(planes: Planes, context: LayerContext) -> Table:
    words = np.stack([pack_bits(plane) for plane in planes.interleaved], axis=2)
    row = words.shape[1] * words.shape[2]
    return word_table(f"{context.prefix}_planes", words, row=row, comment=planes.explain(context.index))


# ---- a unit at a time ----------------------------------------------------------------------------------------------


def _rows(planes: Planes, context: LayerContext) -> RowsDetails:
    table = _row_table(planes, context)
    stride = len(planes.interleaved)
    row_words = table.row // stride
    code = _COMPACT_CODE if context.compact else _FAST_CODE
    blocks = plan_blocks(row_words, max(1, len(planes.masks)), planes.column_high, code)
    total = _total(blocks, row_words, planes.column_high)
    count_high = int(planes.counted.max())
    return RowsDetails(
        planes=table,
        offset=_offsets(planes, context),
        stride=stride,
        masks=len(planes.masks),
        step=planes.step,
        words=row_words,
        blocks=blocks,
        total=total,
        multiplies=_multiplies(blocks, total, count_high, context),
        keeps_masks=_has_free_shifts(context),
        count_high=count_high,
    )


def _total(blocks: tuple[Block, ...], words: int, column_high: int) -> str:
    """The narrowest lanes that hold the counts of a whole row."""
    if len(blocks) == 1 and blocks[0].repeat == 1:
        return ""
    if 8 * words * column_high <= 255:
        return "bytes"
    return "halves" if words * column_high <= COLUMN_LIMIT else "count"


def _multiplies(blocks: tuple[Block, ...], total: str, count_high: int, context: LayerContext) -> bool:
    has_bytes = total == "bytes" or (total == "" and not blocks[0].schedule.wide)
    return has_bytes and count_high <= 255 and context.target.has_multiply


# ---- several units a word ------------------------------------------------------------------------------------------


def _shared(planes: Planes, context: LayerContext) -> SharedDetails | None:
    """The layer with several units a word; None where a word has no room for two, or a count none in its lane."""
    units, inputs = planes.negative.shape
    width = 8 if inputs <= 8 and planes.column_high <= 31 else 16
    found = schedule(1, max(1, len(planes.masks)), planes.column_high)
    if inputs > width or units == 1 or found.wide:
        return None
    share = 32 // width
    surplus = -units % share
    words = np.stack([_side_by_side(plane, share, width) for plane in planes.interleaved], axis=1)
    return SharedDetails(
        planes=word_table(
            f"{context.prefix}_planes", words, comment=planes.explain(context.index, sharing=share)
        ),
        offset=_offsets(planes, context),
        stride=words.shape[1],
        masks=len(planes.masks),
        step=planes.step,
        share=share,
        width=width,
        repeat=sum(1 << (width * r) for r in range(share)),
        surplus=surplus,
        schedule=found,
        keeps_masks=_has_free_shifts(context),
        count_high=int(planes.counted.max()),
    )


def _side_by_side(plane: IntArray, share: int, width: int) -> WordArray:
    """Words (groups,): the rows of ``plane`` (units, inputs), ``share`` a word, each in ``width`` bits."""
    units, inputs = plane.shape
    padded = np.zeros((units + -units % share, width), dtype=np.int64)
    padded[:units, :inputs] = plane
    return pack_bits(padded.reshape(-1, share * width))[:, 0]


# ---- byte by byte --------------------------------------------------------------------------------------------------


def _bytes(planes: Planes, fires: bool, context: LayerContext) -> BytesDetails:
    rows = np.stack([np.packbits(plane == 1, axis=1, bitorder="little") for plane in planes.interleaved], axis=2)
    length, masks = rows.shape[1], len(planes.masks)
    count_high = int(planes.counted.max())
    limit_bytes = _limit_bytes(count_high) if fires else 0
    found = _chain(length, masks, context)
    code = _COMPACT_BYTES_CODE if context.compact else _FAST_BYTES_CODE
    table = np.concatenate([rows.reshape(len(rows), -1), _limits(planes, limit_bytes)], axis=1)
    behind = ", behind its planes the count from which on it fires" if limit_bytes else ""
    return BytesDetails(
        planes=Table(
            f"{context.prefix}_planes",
            "uint8_t",
            tuple(table.reshape(-1).tolist()),
            row=table.shape[1],
            hexadecimal=True,
            comment=planes.explain(context.index, inputs=8, behind=behind),
        ),
        offset="0" if limit_bytes else _offsets(planes, context),
        limit_bytes=limit_bytes,
        masks=masks,
        step=planes.step,
        chain=found,
        blocks=() if found else plan_blocks(length, max(1, masks), planes.column_high, code),
        count_type=_unsigned(count_high),
        carry_type=_unsigned(8 * found.repeat if found else 0),
        unit_type=_unsigned(len(rows)),
        turn_type=_unsigned(length),
        count_high=count_high,
    )


def _limit_bytes(count_high: int) -> int:
    """Bytes of a limit, which is up to ``count_high`` + 1; 0 where it would take too many."""
    return 1 if count_high < 2**8 - 1 else 2 if count_high < 2**16 - 1 else 0


def _limits(planes: Planes, limit_bytes: int) -> NDArray[np.uint8]:
    """The least count with ``offset + 2**step * count >= 0``, as bytes (units, limit_bytes), the lowest first.

    Where there is none it is one more than the largest count.
    """
    least = np.clip(-(planes.offset >> planes.step), 0, int(planes.counted.max()) + 1)
    return (least[:, None] >> (8 * np.arange(limit_bytes)) & 0xFF).astype(np.uint8)


def _chain(length: int, masks: int, context: LayerContext) -> Chain | None:
    kept = 2 if context.compact else 3
    return None if masks > 1 or length < 2 * 2**kept else chain(length, kept)


def _unsigned(high: int) -> str:
    return "uint8_t" if high < 2**8 else "uint16_t" if high < 2**16 else "uint32_t"


# ---- what they take ------------------------------------------------------------------------------------------------


def _profile(units: int, details: Details) -> Profile:
    """Parts are the additions in columns and those of the sums across columns, by row."""
    if isinstance(details, CallsDetails):
        return Profile(f"bit_planes.{details.function}", {"unit": units, "word": units * details.words})
    masks = {0: "binary", 1: "ternary"}.get(details.masks, "planes")
    if isinstance(details, SharedDetails):
        code = Counter(details.schedule.parts)
        row, rows, variant = Counter({"word": 1}) + code, -(-units // details.share), f"shared{details.share}.{masks}"
    elif isinstance(details, BytesDetails) and details.chain is not None:
        row, code, rows, variant = details.chain.row_parts, details.chain.code_parts, units, f"bytes.{masks}.chain"
    else:
        row, code = row_parts(details.blocks, details.masks)
        rows, variant = units, f"bytes.{masks}"
        if isinstance(details, RowsDetails):
            variant = f"rows.{masks}.{details.total or 'whole'}"
    return Profile(
        f"bit_planes.{variant}", {"unit": units, **{part: rows * count for part, count in row.items()}}, dict(code)
    )


# ---- functions that the partials call ------------------------------------------------------------------------------


def _supports(details: Details, context: LayerContext) -> tuple[str, ...]:
    if isinstance(details, CallsDetails):
        return (details.function,)
    if isinstance(details, BytesDetails):
        return _byte_supports(details)
    steps = [step for entry in details.schedules for step in entry.steps]
    groups = [group for entry in details.schedules for group in entry.groups]
    is_arm = context.target.family == "arm"
    full, half = _adds(steps)
    needs = {
        "bits_keep": (full and is_arm) or details.keeps_masks,
        "bits_add_kept": full and is_arm,
        "bits_add": full and not is_arm,
        "bits_half": half,
        "bits_nibbles": True,
        "bits_fold": any(group.folds for group in groups),
        "bits_bytes": any(not group.folds for group in groups),
        "bits_halves": details.has_halves,
        "bits_sum": details.has_halves and isinstance(details, RowsDetails),
    }
    return tuple(name for name, needed in needs.items() if needed)


def _byte_supports(details: BytesDetails) -> tuple[str, ...]:
    chained = (*details.chain.steps, *details.chain.rest.steps) if details.chain else ()
    full, half = _adds([*chained, *(step for block in details.blocks for step in block.schedule.steps)])
    needs = {
        "next_byte": details.masks > 1 or details.limit_bytes > 0,
        "bits_agree": details.masks != 1,
        "bits_agree_masked": details.masks == 1,
        "bits8_add": full,
        "bits8_half": half,
        "bits8_nibbles": True,
        "bits8_sum": True,
    }
    return tuple(name for name, needed in needs.items() if needed)


def _adds(steps: Sequence[Step]) -> tuple[bool, bool]:
    """Whether there are additions of three bits, and of two."""
    terms = {len(step.terms) for step in steps if step.carry}
    return 2 in terms, 1 in terms
