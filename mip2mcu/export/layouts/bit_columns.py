"""Bit columns: sign units side by side, the bits of a word, against one binary input after the other.

The word of an input holds, for each unit, whether the weight is negative. XOR with the input, spread over the whole
word, gives the units that agree with it, and a carry-save adder counts them all at once: plane b holds bit b of every
unit's count. Nothing is ever summed across a word, which is what short rows spend most of their time on in
`bit_planes`.

With ``a_i`` of unit j as there, unit j fires where its count reaches a limit:

    sum >= 0   <=>   sum_i |w_i| a_i >= limit_j   <=>   (2**p - limit_j) + sum_i |w_i| a_i >= 2**p

so that planes which begin as 2**p - limit_j, with 2**p above every count, have the answers in plane p: the packed
activations, with no comparison at all. At most 16 units take two inputs at a time, in the halves of a word.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mip2mcu.export.carry_save import Step, adds, plane_name, turn
from mip2mcu.export.layouts.base import Encoding, Kind, LayerContext, Lowered, Profile, sum_type
from mip2mcu.export.layouts.sign_planes import Planes, split
from mip2mcu.export.literals import Table
from mip2mcu.layers import Activation, Dense, Layer
from mip2mcu.ranges import IntArray

WEIGHT_HIGH = 7
"""Largest magnitude: three masks an input."""
_LONG_TURN, _TURN, _COMPACT_TURN = 16, 8, 4
"""Inputs (or pairs of them) that straight-line code adds before it ripples a carry through the planes."""
_LONG = 128
"""Inputs from which on the long turn is worth its code."""


@dataclass(frozen=True)
class ColumnsDetails:
    """Numbers of the partials ``bit_columns_words`` and ``bit_columns_bytes``.

    columns      for each group of units: its planes at the beginning, then for each input (or two of them) the signs
                 and one mask a magnitude bit
    groups       words of units
    kind         "binary", "ternary" or "planes"
    halves       the halves of a word belong to two inputs
    masks        number of masks
    planes       names, lowest first; the last one holds the answers
    steps        of a turn
    turn         columns a turn
    turns        in a full word of inputs
    rest_turns   in the last one
    words        of inputs
    shifts_sign  a bit is spread by an arithmetic shift
    """

    columns: Table
    groups: int
    kind: str
    halves: bool
    masks: int
    planes: tuple[str, ...]
    steps: tuple[Step, ...]
    turn: int
    turns: int
    rest_turns: int
    words: int
    shifts_sign: bool
    count_high: int

    @property
    def stride(self) -> int:
        """Words a column."""
        return 1 + self.masks


class BitColumnsLayout:
    """One bit a weight for the sign and one a bit of magnitude, units side by side."""

    name = "bit_columns"
    kind = Kind.DENSE
    summary = "sign units behind binary inputs: all units at once, input by input, no sum across a word"

    def accepts(self, layer: Layer, context: LayerContext) -> str | None:
        """Takes dense layers of sign units with inputs of 0 and 1, or of -1 and +1, and weights of up to 3 bits."""
        assert isinstance(layer, Dense)
        if context.binary is None:
            low, high = context.input_low.min(), context.input_high.max()
            return f"takes binary inputs only, these lie in {low}..{high}"
        if layer.activation is not Activation.SIGN:
            return f"takes sign units only, these have the activation {layer.activation.value!r}"
        limit = int(np.abs(layer.weights).max())
        return None if limit <= WEIGHT_HIGH else f"takes weights up to {WEIGHT_HIGH}, these reach {limit}"

    def lower(self, layer: Layer, context: LayerContext) -> Lowered:
        """The layer as columns, behind the planes that the count begins with."""
        assert isinstance(layer, Dense)
        planes = split(layer, context.binary)
        low, high = planes.sum_range
        details = _details(planes, context)
        is_bytes = context.target.word_bits == 8
        return Lowered(
            layout=self.name,
            partial="bit_columns_bytes" if is_bytes else "bit_columns_words",
            description=f"{planes.description}, units side by side",
            reads=Encoding.BITS,
            tables=(details.columns,),
            details=details,
            sum_low=low,
            sum_high=high,
            sum_type=sum_type(low, high, context),
            supports=_supports(details, is_bytes, context),
            profile=_profile(layer.units, details, is_bytes),
        )


def _details(planes: Planes, context: LayerContext) -> ColumnsDetails:
    units, inputs = planes.negative.shape
    bits = 8 if context.target.word_bits == 8 else 32
    halves = bits == 32 and units <= 16
    step = bits // 2 if halves else bits
    length = _COMPACT_TURN if context.compact and bits == 32 else _LONG_TURN if inputs >= _LONG else _TURN
    length = min(length, step)
    words = -(-inputs // bits)
    rest_turns = -(-min(inputs - bits * (words - 1), step) // length)
    names = tuple(plane_name(level) for level in range(planes.count_high.bit_length() + 1))
    masks = len(planes.masks)
    table = _table(planes, len(names), bits, step, length * (words - 1) * (step // length) + length * rest_turns)
    return ColumnsDetails(
        columns=Table(
            f"{context.prefix}_columns",
            f"uint{bits}_t",
            tuple(table.reshape(-1).tolist()),
            row=table.shape[1],
            hexadecimal=True,
            comment=_explain(context, min(units, bits), halves, masks),
        ),
        groups=len(table),
        halves=halves,
        masks=masks,
        planes=names,
        steps=turn(length, max(1, masks), len(names)),
        turn=length,
        turns=step // length,
        rest_turns=rest_turns,
        words=words,
        shifts_sign=context.target.family == "arm" and context.target.registers <= 8,
        kind=planes.kind,
        count_high=planes.count_high,
    )


def _table(planes: Planes, count: int, bits: int, step: int, columns: int) -> NDArray[np.int64]:
    """Words (groups, count + columns * stride): the planes to begin with, then the columns in the order of reading."""
    units, inputs = planes.negative.shape
    begin = (1 << (count - 1)) - planes.limits
    first = _words(begin[:, None] >> np.arange(count) & 1, bits)
    side = bits // step
    whole = -(-inputs // bits) * bits
    parts = []
    for plane in planes.interleaved:
        padded = np.zeros((units, whole), dtype=np.int64)
        padded[:, :inputs] = plane
        folded = padded.reshape(units, -1, side, step)
        sides = [_words(folded[:, :, k].reshape(units, -1), bits) << (step * k) for k in range(side)]
        parts.append(np.bitwise_or.reduce(sides)[:, :columns])
    return np.concatenate([first, np.stack(parts, axis=2).reshape(len(first), -1)], axis=1)


def _words(rows: IntArray, bits: int) -> NDArray[np.int64]:
    """Words (groups, n) of ``rows`` (units, n) of 0 and 1: unit j is bit j % bits of group j // bits."""
    units, count = rows.shape
    padded = np.zeros((units + -units % bits, count), dtype=np.int64)
    padded[:units] = rows
    return (padded.reshape(-1, bits, count) << np.arange(bits)[:, None]).sum(axis=1)


def _explain(context: LayerContext, units: int, halves: bool, masks: int) -> str:
    inputs = "input (16 inputs further in the upper half)" if halves else "input"
    magnitudes = {0: "", 1: ", then their magnitudes"}.get(masks, f", then {masks} words of their magnitudes")
    return (
        f"Layer {context.index}: for {units} units the planes to begin with, "
        f"then for each {inputs} the signs of the weights{magnitudes}."
    )


def _profile(units: int, details: ColumnsDetails, is_bytes: bool) -> Profile:
    """Parts are the additions of a turn; each group begins with its planes and ends with their last."""
    width = "bytes" if is_bytes else "halves" if details.halves else "words"
    added = {
        "column": details.turn,
        "mask": details.turn * max(0, details.masks - 1),
        "full": sum(len(step.terms) == 2 for step in details.steps),
        "half": sum(len(step.terms) == 1 and not step.is_top for step in details.steps),
    }
    words = details.groups * details.words
    turns = details.groups * (details.turns * (details.words - 1) + details.rest_turns)
    planes = len(details.planes)
    return Profile(
        f"bit_columns.{details.kind}.{width}",
        {
            "unit": units,
            "group": details.groups,
            "plane": planes * details.groups,
            "word": words,
            "turn": turns,
            **{part: turns * count for part, count in added.items()},
        },
        {"plane": planes, **added},
    )


def _supports(details: ColumnsDetails, is_bytes: bool, context: LayerContext) -> tuple[str, ...]:
    full, half = adds(details.steps)
    is_arm = context.target.family == "arm"
    prefix = "bits8" if is_bytes else "bits"
    needs = {
        "next_byte": is_bytes,
        "bits_keep": full and is_arm,
        "bits_add_kept": full and is_arm,
        f"{prefix}_add": full and not is_arm,
        f"{prefix}_half": half,
        "bits_spread_halves": details.halves,
        "bits_spread_sign": not is_bytes and not details.halves and details.shifts_sign,
        "bits_spread": not is_bytes and not details.halves and not details.shifts_sign,
    }
    return tuple(name for name, needed in needs.items() if needed)
