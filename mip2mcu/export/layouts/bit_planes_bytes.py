"""Bit planes on cores of 8 bits: rows of bytes, counted by the carry-save adder of `mip2mcu.export.carry_save`.

A long row is counted by a loop that keeps its planes, so that the costly sum across columns occurs once a row. What a
row needs besides lies in the same table, where one pointer finds it:

    first (where rows begin at different bytes), then for each byte of inputs signs and masks, then the limit or offset

A sign unit fires from a count of its limit on, see `Planes.limits`; to other counts the unit's offset is added.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mip2mcu.export.carry_save import Block, Chain, adds, chain, plan_blocks
from mip2mcu.export.layouts.base import LayerContext
from mip2mcu.export.layouts.sign_planes import Planes, Windows, windows
from mip2mcu.export.literals import Column, Table
from mip2mcu.ranges import IntArray

_FAST_CODE, _COMPACT_CODE = 150, 0
"""Most instructions of straight-line code, roughly; compact code counts one byte a turn."""
_KEPT = 3
"""Planes that a loop keeps; it takes 2**planes bytes a turn."""


@dataclass(frozen=True)
class BytesDetails:
    """Numbers of the partial ``bit_planes_bytes``.

    planes        for each unit and 8 inputs: the signs, then one mask a magnitude bit, a byte each
    first_bytes   before them: bytes of the number of the byte that the row begins with; 0 where that is byte 0
    limit_bytes   behind them: bytes of a sign unit's limit; 0 for other units
    offset_bytes  behind them: bytes of another unit's offset above `offset_low`; 0 where `offset` holds it
    kind          "binary", "ternary" or "planes"
    masks         number of masks
    step          the count is worth 2**step
    chain         counts a long row by a loop that keeps its planes; else `blocks` count it
    count_type    holds the count
    carry_type    holds what the chain's turns count
    unit_type     counts units
    turn_type     counts turns of a loop
    """

    planes: Table
    first_bytes: int
    offset: Column
    limit_bytes: int
    offset_bytes: int
    offset_low: int
    kind: str
    masks: int
    step: int
    chain: Chain | None
    blocks: tuple[Block, ...]
    count_type: str
    carry_type: str
    unit_type: str
    turn_type: str
    count_high: int
    first: None = None

    @property
    def limit_type(self) -> str:
        """Holds a limit."""
        return "uint8_t" if self.limit_bytes == 1 else "uint16_t"

    @property
    def supports(self) -> tuple[str, ...]:
        """The functions that the partial calls."""
        chained = (*self.chain.steps, *self.chain.rest.steps) if self.chain else ()
        full, half = adds([*chained, *(step for block in self.blocks for step in block.schedule.steps)])
        needs = {
            "next_byte": self.masks > 1 or self.limit_bytes + self.offset_bytes + self.first_bytes > 0,
            "bits_agree": self.masks != 1,
            "bits_agree_masked": self.masks == 1,
            "bits8_add": full,
            "bits8_half": half,
            "bits8_nibbles": True,
            "bits8_sum": True,
        }
        return tuple(name for name, needed in needs.items() if needed)


def lower_bytes(planes: Planes, fires: bool, offset: Column, context: LayerContext) -> BytesDetails:
    """``planes`` byte by byte; ``fires``: of sums only the sign matters."""
    rows = windows(planes, 8)
    masks = len(planes.masks)
    first_bytes = _bytes_for(int(rows.first.max()))
    limit_bytes = max(1, _bytes_for(planes.count_high + 1)) if fires and planes.count_high < 2**16 - 1 else 0
    low = int(planes.offset.min())
    offset_bytes = _offset_bytes(planes, low) if limit_bytes == 0 else 0
    behind = _as_bytes(planes.limits, limit_bytes) if limit_bytes else _as_bytes(planes.offset - low, offset_bytes)
    begin = _as_bytes(rows.first, first_bytes)
    code = _COMPACT_CODE if context.compact else _FAST_CODE
    found = _chain(rows.length, masks, context)
    return BytesDetails(
        planes=_table(rows, begin, behind, _BEHIND[bool(limit_bytes), bool(offset_bytes)], context),
        first_bytes=first_bytes,
        offset="0" if limit_bytes or offset_bytes else offset,
        limit_bytes=limit_bytes,
        offset_bytes=offset_bytes,
        offset_low=low,
        kind=planes.kind,
        masks=masks,
        step=planes.step,
        chain=found,
        blocks=() if found else plan_blocks(rows.length, max(1, masks), planes.column_high, code),
        count_type=_unsigned(planes.count_high),
        carry_type=_unsigned(8 * found.repeat if found else 0),
        unit_type=_unsigned(len(rows.words)),
        turn_type=_unsigned(rows.length),
        count_high=planes.count_high,
    )


def _chain(length: int, masks: int, context: LayerContext) -> Chain | None:
    return None if context.compact or masks > 1 or length < 2 * 2**_KEPT else chain(length, _KEPT)


def _bytes_for(high: int) -> int:
    return (high.bit_length() + 7) // 8


def _unsigned(high: int) -> str:
    return {0: "uint8_t", 1: "uint8_t", 2: "uint16_t"}.get(_bytes_for(high), "uint32_t")


def _offset_bytes(planes: Planes, low: int) -> int:
    """Bytes of each unit's offset above ``low``, the least; 0 where all are equal, or its sum with the count exceeds
    int16_t."""
    most = int(planes.offset.max()) - low
    return _bytes_for(most) if most + (planes.count_high << planes.step) < 2**15 else 0


_BEHIND = {
    (True, False): ", then the count from which on it fires",
    (False, True): ", then what its sum is above the least when no bit is counted",
    (False, False): "",
}


def _table(rows: Windows, first: IntArray, behind: IntArray, behind_text: str, context: LayerContext) -> Table:
    """Each row between what comes before and behind it: bytes (units, any)."""
    table = np.concatenate([first, rows.words.reshape(len(rows.words), -1), behind], axis=1)
    magnitudes = {0: "", 1: " and one of magnitudes"}.get(rows.stride - 1, f" and {rows.stride - 1} of magnitude bits")
    begin = "the byte of inputs that its row begins with, then " if first.size else ""
    signs = f"for each 8 inputs a byte of signs (1: negative){magnitudes}"
    return Table(
        f"{context.prefix}_planes",
        "uint8_t",
        tuple(table.reshape(-1).tolist()),
        row=table.shape[1],
        hexadecimal=True,
        comment=f"Layer {context.index}: for each unit {begin}{signs}{behind_text}.",
    )


def _as_bytes(values: IntArray, count: int) -> IntArray:
    """``values`` (units,) as bytes (units, count), the lowest first."""
    return values[:, None] >> (8 * np.arange(count)) & 0xFF
