"""Bit planes: binary inputs, 32 at a time, against planes of the weights, by population count.

See `mip2mcu.export.layouts.sign_planes` for the planes and for what a count is worth. Four ways to count, each with its
partial:

    bit_planes_rows      a unit at a time, by the carry-save adder of `mip2mcu.export.carry_save`
    bit_planes_shared    at most 16 inputs: the rows of 2 or 4 units share a word
    bit_planes_calls     small code: word by word, in a function that layers share
    bit_planes_bytes     on cores of 8 bits: as the first, byte by byte; see `bit_planes_bytes`
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from mip2mcu.export.carry_save import COLUMN_LIMIT, Block, Schedule, adds, plan_blocks, row_parts, schedule
from mip2mcu.export.layouts.base import Encoding, Kind, LayerContext, Lowered, Profile, sum_type
from mip2mcu.export.layouts.bit_planes_bytes import BytesDetails, lower_bytes
from mip2mcu.export.layouts.sign_planes import Planes, Windows, split, windows
from mip2mcu.export.literals import Column, Table, column, tables_in, unsigned_column, word_table
from mip2mcu.export.packing import WordArray, pack_bits
from mip2mcu.layers import Activation, Dense, Layer
from mip2mcu.ranges import IntArray

_FAST_CODE, _CROWDED_CODE, _COMPACT_CODE = 400, 180, 75
"""Most instructions of straight-line code, roughly; on RV32E, loops over shorter pieces spill less."""


@dataclass(frozen=True)
class RowsDetails:
    """Numbers of the partial ``bit_planes_rows``.

    planes        for each unit and word: the signs, then one mask a magnitude bit
    first         by unit, the word of the inputs that its row begins with; None where that is word 0
    kind          "binary", "ternary" or "planes"
    stride        words of ``planes`` a word of input
    masks         number of masks
    step          the count is worth 2**step
    words         of a row
    blocks        how the words of a row are counted
    total         what is summed over blocks: "" (there is one block), "bytes", "halves" or "count"
    multiplies    a product adds the bytes that make the count
    keeps_masks   constants stay in registers, so that a shift before them costs nothing
    """

    planes: Table
    first: Column | None
    offset: Column
    kind: str
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
        return "input" if self.first is None and not self.total else "x"


@dataclass(frozen=True)
class SharedDetails:
    """Numbers of the partial ``bit_planes_shared``.

    planes        for each group of units: the signs, then one mask a magnitude bit; unit r has bits r * width and up
    kind          "binary", "ternary" or "planes"
    share         units that share a word
    width         bits that each of them has, at least the number of inputs
    repeat        the factor that copies the inputs into each unit's bits
    surplus       units of the last group that do not exist
    schedule      how one word is counted
    """

    planes: Table
    offset: Column
    kind: str
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
    first: None = None

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
    first       by unit, the word of the inputs that its row begins with; None where that is word 0
    stride      words of ``planes`` a word of input
    step        the count is worth 2**step
    words       of a row
    function    that counts a row: a partial of ``templates/support/``
    count_high  most that any count can be
    """

    planes: Table
    first: Column | None
    offset: Column
    stride: int
    step: int
    words: int
    function: str
    count_high: int


Details: TypeAlias = RowsDetails | SharedDetails | CallsDetails | BytesDetails


class BitPlanesLayout:
    """One bit a weight for the sign and one a bit of magnitude."""

    name = "bit_planes"
    kind = Kind.DENSE
    summary = "binary inputs only: XOR, AND and population count, 32 inputs at a time"

    def accepts(self, layer: Layer, context: LayerContext) -> str | None:
        """Takes dense layers with inputs of 0 and 1, or of -1 and +1, and weights of up to 12 bits."""
        assert isinstance(layer, Dense)
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
        low, high = planes.sum_range
        accumulator = sum_type(low, max(high, planes.loose_high), context)
        partial, details = _lower(planes, layer.activation is Activation.SIGN, context)
        return Lowered(
            layout=self.name,
            partial=partial,
            description=planes.description,
            reads=Encoding.BITS,
            tables=tables_in(details.planes, details.first, details.offset),
            details=details,
            sum_low=low,
            sum_high=high,
            sum_type=accumulator,
            supports=details.supports if isinstance(details, BytesDetails) else _supports(details, context),
            profile=_profile(layer.units, details),
        )


def _lower(planes: Planes, fires: bool, context: LayerContext) -> tuple[str, Details]:
    """The partial that suits the core, and its numbers."""
    offset = column(
        f"{context.prefix}_offset",
        planes.offset,
        comment=f"Layer {context.index}: each unit's sum when no bit is counted.",
    )
    if context.target.word_bits == 8:
        return "bit_planes_bytes", lower_bytes(planes, fires, offset, context)
    if context.compact and len(planes.masks) <= 1:
        return "bit_planes_calls", _calls(planes, offset, context)
    shared = _shared(planes, offset, context)
    return ("bit_planes_rows", _rows(planes, offset, context)) if shared is None else ("bit_planes_shared", shared)


def _has_free_shifts(context: LayerContext) -> bool:
    """An operand may be shifted on its way into an instruction, if the other one is a register (Thumb-2)."""
    return context.target.family == "arm" and context.target.registers > 8


def _explain(planes: Planes, entry: str, context: LayerContext) -> str:
    count = len(planes.masks)
    several = f", then {count} of magnitude bits, lowest first"
    magnitudes = {0: "", 1: ", then one of magnitudes"}.get(count, several)
    return f"Layer {context.index}: for each {entry} a word of signs (1: negative){magnitudes}."


# ---- a unit at a time ----------------------------------------------------------------------------------------------


def _rows(planes: Planes, offset: Column, context: LayerContext) -> RowsDetails:
    rows = windows(planes, 32)
    blocks = plan_blocks(rows.length, max(1, len(planes.masks)), planes.column_high, _code(context))
    total = _total(blocks, rows.length, planes.column_high)
    return RowsDetails(
        planes=_row_table(planes, rows, context),
        first=_first(rows, context),
        offset=offset,
        kind=planes.kind,
        stride=rows.stride,
        masks=len(planes.masks),
        step=planes.step,
        words=rows.length,
        blocks=blocks,
        total=total,
        multiplies=_multiplies(blocks, total, planes.count_high, context),
        keeps_masks=_has_free_shifts(context),
        count_high=planes.count_high,
    )


def _code(context: LayerContext) -> int:
    """Most instructions of straight-line code."""
    if context.compact:
        return _COMPACT_CODE
    return _CROWDED_CODE if context.target.family == "riscv" and context.target.registers <= 10 else _FAST_CODE


def _calls(planes: Planes, offset: Column, context: LayerContext) -> CallsDetails:
    rows = windows(planes, 32)
    masked, long = "_masked" * len(planes.masks), "_long" * (8 * rows.length > 255)
    return CallsDetails(
        planes=_row_table(planes, rows, context),
        first=_first(rows, context),
        offset=offset,
        stride=rows.stride,
        step=planes.step,
        words=rows.length,
        function=f"bits_count{masked}{long}",
        count_high=planes.count_high,
    )


def _row_table(planes: Planes, rows: Windows, context: LayerContext) -> Table:
    return word_table(
        f"{context.prefix}_planes",
        rows.words.astype(np.uint32),
        row=rows.length * rows.stride,
        comment=_explain(planes, "unit and 32 inputs", context),
    )


def _first(rows: Windows, context: LayerContext) -> Column | None:
    comment = f"Layer {context.index}: the word of inputs that each unit's row begins with."
    return unsigned_column(f"{context.prefix}_first", rows.first, comment=comment) if rows.first.any() else None


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


def _shared(planes: Planes, offset: Column, context: LayerContext) -> SharedDetails | None:
    """The layer with several units a word; None where a word has no room for two, or a count none in its lane."""
    units, inputs = planes.negative.shape
    width = 8 if inputs <= 8 and planes.column_high <= 31 else 16
    found = schedule(1, max(1, len(planes.masks)), planes.column_high)
    if inputs > width or units == 1 or found.wide:
        return None
    share = 32 // width
    words = np.stack([_side_by_side(plane, share, width) for plane in planes.interleaved], axis=1)
    return SharedDetails(
        planes=word_table(f"{context.prefix}_planes", words, comment=_explain(planes, f"{share} units", context)),
        offset=offset,
        kind=planes.kind,
        stride=words.shape[1],
        masks=len(planes.masks),
        step=planes.step,
        share=share,
        width=width,
        repeat=sum(1 << (width * r) for r in range(share)),
        surplus=-units % share,
        schedule=found,
        keeps_masks=_has_free_shifts(context),
        count_high=planes.count_high,
    )


def _side_by_side(plane: IntArray, share: int, width: int) -> WordArray:
    """Words (groups,): the rows of ``plane`` (units, inputs), ``share`` a word, each in ``width`` bits."""
    units, inputs = plane.shape
    padded = np.zeros((units + -units % share, width), dtype=np.int64)
    padded[:units, :inputs] = plane
    return pack_bits(padded.reshape(-1, share * width))[:, 0]


# ---- what the code consists of -------------------------------------------------------------------------------------


def _profile(units: int, details: Details) -> Profile:
    """Parts are the additions in columns and those of the sums across columns, by row."""
    if isinstance(details, CallsDetails):
        return Profile(f"bit_planes.{details.function}", {"unit": units, "word": units * details.words})
    if isinstance(details, SharedDetails):
        code, variant = Counter(details.schedule.parts), f"shared{details.share}.{details.kind}"
        row, rows = Counter({"word": 1}) + code, -(-units // details.share)
        code["rows"] = int(rows > 1)
    else:
        row, code, variant = row_parts_of(details)
        rows = units
    return Profile(
        f"bit_planes.{variant}", {"unit": units, **{part: rows * count for part, count in row.items()}}, dict(code)
    )


def row_parts_of(details: RowsDetails | BytesDetails) -> tuple[Counter[str], Counter[str], str]:
    """The parts of a row as they run, as they stand in the code, and the name of that code."""
    if isinstance(details, BytesDetails) and details.chain is not None:
        return details.chain.row_parts, details.chain.code_parts, f"bytes.{details.kind}.chain"
    row, code = row_parts(details.blocks, details.masks)
    if isinstance(details, BytesDetails):
        return row, code, f"bytes.{details.kind}"
    return row, code, f"rows.{details.kind}.{details.total or 'whole'}"


def _supports(details: RowsDetails | SharedDetails | CallsDetails, context: LayerContext) -> tuple[str, ...]:
    """The functions that the partial calls."""
    if isinstance(details, CallsDetails):
        return (details.function,)
    full, half = adds([step for entry in details.schedules for step in entry.steps])
    groups = [group for entry in details.schedules for group in entry.groups]
    is_arm = context.target.family == "arm"
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
