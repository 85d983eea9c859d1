"""Unrolled: weights become straight-line code, one addition or subtraction for each weight that is not zero.

No table, no index, no loop: the fastest layout wherever weights are sparse, for 4 to 8 bytes of code a weight. Of the
orders in `mip2mcu.export.layouts.straight_line` the cheapest by estimate is taken: units side by side where magnitudes
are cheap to multiply by, otherwise a unit after the other without a multiplication.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from mip2mcu.export.layouts.base import Encoding, Kind, LayerContext, Lowered, Profile, sum_type
from mip2mcu.export.layouts.straight_line import (
    Block,
    Part,
    Read,
    Span,
    by_input,
    by_magnitude,
    cut,
    level_spans,
    lifted_start,
    side_by_side,
)
from mip2mcu.export.layouts.straight_line_cost import Effort, Order, Way, cheapest
from mip2mcu.export.literals import SIGNED, TYPE_BYTES, accumulator_type, signed, value_type
from mip2mcu.layers import Dense, Layer
from mip2mcu.ranges import INT32_MIN, IntArray, prefix_range

_NEAR = 256
"""Inputs over which the base of reads moves by a byte, in one instruction."""


@dataclass(frozen=True)
class UnrolledDetails:
    """Numbers of the partial ``unrolled``.

    factors       magnitudes that stay in registers
    value_type    C type of the variable that an input is read into
    widen_often   zeros are added in front of a value at each use, not once: there they cost nothing
    carried       most variables that pass from one part to the next
    """

    parts: tuple[Part, ...]
    factors: tuple[int, ...]
    value_type: str
    widen_often: bool
    carried: int
    order: Order
    effort: Effort


class UnrolledLayout:
    """Code instead of tables."""

    name = "unrolled"
    kind = Kind.DENSE
    summary = "straight-line code, an addition a non-zero weight: fastest, 4 to 8 bytes a weight"

    def accepts(self, layer: Layer, context: LayerContext) -> str | None:
        """Takes dense layers whose code stays below the limit."""
        assert isinstance(layer, Dense)
        _, effort = _plan(layer, context)
        if effort.code_bytes > context.unroll_bytes:
            return (
                f"takes layers of at most {context.unroll_bytes} bytes of code (--max-unroll-bytes), this one needs "
                f"some {effort.code_bytes}"
            )
        return None

    def lower(self, layer: Layer, context: LayerContext) -> Lowered:
        """The layer as functions without a loop."""
        assert isinstance(layer, Dense)
        order, effort = _plan(layer, context)
        low, high = _span(layer, order, context)
        accumulator = sum_type(low, high, context)
        rows = zip(layer.weights, layer.bias, _lifts(layer, order, accumulator, context), strict=True)
        low = min(low, *(lifted_start(row, int(bias), lift) for row, bias, lift in rows))
        value, widen_often = _value(context, accumulator)
        parts = cut(_blocks(layer, order, accumulator, value, context), context.prefix, _reach(context))
        return Lowered(
            layout=self.name,
            partial="unrolled",
            description=f"straight-line code for {np.count_nonzero(layer.weights)} weights that are not zero",
            reads=Encoding.VALUES,
            tables=(),
            details=UnrolledDetails(
                parts=parts,
                factors=order.factors,
                value_type=value,
                widen_often=widen_often,
                carried=max((len(part.block.variables) for part in parts if not part.whole), default=0),
                order=order,
                effort=effort,
            ),
            sum_low=low,
            sum_high=high,
            sum_type=accumulator,
            supports=("not_inlined", "settle", *_converters(parts, accumulator)),
            code_bytes=effort.code_bytes,
            profile=_profile(order, effort, layer),
        )


def _profile(order: Order, effort: Effort, layer: Dense) -> Profile:
    """All code runs once, so that its steps are both turns and statements; the base moves further over many inputs."""
    steps = {name: int(count) for name, count in asdict(effort.steps).items() if name != "signed"}
    if layer.weights.shape[1] > _NEAR:
        steps["far move"] = steps.pop("move")
    way = order.way.name.lower() + (".factors" if order.factors else "")
    return Profile(f"unrolled.{way}", steps, steps)


def _plan(layer: Dense, context: LayerContext) -> tuple[Order, Effort]:
    low, high = prefix_range(layer.weights, layer.bias, context.input_low, context.input_high)
    size = TYPE_BYTES[accumulator_type(low, high, int_bits=context.target.int_bits) or "int32_t"]
    return cheapest(layer.weights, context.target, reach=_reach(context), signed=_signed(context), sum_bytes=size)


def _blocks(layer: Dense, order: Order, accumulator: str, value: str, context: LayerContext) -> list[Block]:
    units = layer.units
    if order.way is Way.SIDE_BY_SIDE:
        groups = [range(j, min(j + order.together, units)) for j in range(0, units, order.together)]
        terms = _terms(layer.weights, order, accumulator, value, context)
        return [side_by_side(layer.weights, layer.bias, group, accumulator, terms) for group in groups]
    make = by_input if order.way is Way.BY_INPUT else by_magnitude
    lifts = _lifts(layer, order, accumulator, context)
    blocks = []
    for j, (row, bias) in enumerate(zip(layer.weights, layer.bias, strict=True)):
        _, runs = level_spans(row, int(bias), context.input_low, context.input_high)
        run_type = "uint16_t" if lifts[j] else sum_type(*runs, context)
        blocks.append(make(row, int(bias), j, accumulator, run_type, lifts[j]))
    return blocks


def _lifts(layer: Dense, order: Order, accumulator: str, context: LayerContext) -> list[int]:
    """How far above 0 each unit's runs start: as far as they would fall below, where sums are wider than they are."""
    if order.way is Way.SIDE_BY_SIDE or context.target.word_bits > 8 or accumulator != "int32_t":
        return [0] * layer.units
    lifts = []
    for row, bias in zip(layer.weights, layer.bias, strict=True):
        _, (low, high) = level_spans(row, int(bias), context.input_low, context.input_high)
        possible = high - low < 2**16 and lifted_start(row, int(bias), -low) >= INT32_MIN
        lifts.append(-low if possible else 0)
    return lifts


def _terms(weights: IntArray, order: Order, accumulator: str, value: str, context: LayerContext) -> dict[int, str]:
    """C text of the value read last, times each magnitude; shifts hide from a compiler that it could multiply."""
    wide = "value" if value == accumulator else f"({accumulator})value"
    terms = {}
    for magnitude in (int(m) for m in np.unique(np.abs(weights))):
        power_of_two = magnitude & (magnitude - 1) == 0
        if magnitude in order.factors:
            terms[magnitude] = f"{wide} * times{magnitude}"
        elif power_of_two and magnitude > 1 and not _signed(context):
            terms[magnitude] = _shifted(accumulator, magnitude.bit_length() - 1)
        else:
            terms[magnitude] = "value" if magnitude == 1 else f"{wide} * {magnitude}"
    return terms


def _shifted(accumulator: str, places: int) -> str:
    """C text of the value, which is not negative, times a power of two; only unsigned numbers may be shifted."""
    shifted = f"(u{accumulator})value << {places}"
    return signed(accumulator, shifted if accumulator == "int32_t" else f"(u{accumulator})({shifted})")


def _converters(parts: Sequence[Part], accumulator: str) -> tuple[str, ...]:
    """The partials that `_shifted` needs in ``parts``."""
    name = SIGNED[accumulator]
    reads = (step for part in parts for step in part.steps if isinstance(step, Read))
    return (name,) if any(add.term.startswith(name) for read in reads for add in read.adds) else ()


def _span(layer: Dense, order: Order, context: LayerContext) -> Span:
    """Smallest and largest value of every sum, run and product, at every step."""
    low, high = context.input_low, context.input_high
    if order.way is Way.SIDE_BY_SIDE:
        ends = np.stack([layer.weights * low, layer.weights * high])
        sums = prefix_range(layer.weights, layer.bias, low, high)
        return min(sums[0], int(ends.min())), max(sums[1], int(ends.max()))
    rows = zip(layer.weights, layer.bias, strict=True)
    spans = [span for row, bias in rows for span in level_spans(row, int(bias), low, high)]
    return min(least for least, _ in spans), max(most for _, most in spans)


# ---- inputs --------------------------------------------------------------------------------------------------------


def _signed(context: LayerContext) -> bool:
    return int(context.input_low.min()) < 0


def _element_type(context: LayerContext) -> str:
    c_type = value_type(int(context.input_low.min()), int(context.input_high.max()))
    assert c_type is not None
    return c_type


def _value(context: LayerContext, accumulator: str) -> tuple[str, bool]:
    """C type of the variable that an input is read into, and whether each use widens it anew.

    On AVR a byte that is zero-extended in an addition needs no instruction more, one that is extended before does.
    """
    element = _element_type(context)
    if context.target.family == "avr" and element == "uint8_t":
        return element, True
    return ("int16_t" if context.target.family == "avr" else accumulator), False


def _reach(context: LayerContext) -> int:
    """How many elements a load with a constant offset reaches from its base.

    Armv6-M has no load of a signed element with a constant offset: there the offset is loaded too, up to 255.
    """
    size = TYPE_BYTES[_element_type(context)]
    target = context.target
    if target.family == "arm" and target.registers < 13:
        return 256 // size if _signed(context) else 32
    if target.family == "arm" and context.compact:
        return 32
    reach = {"avr": 64, "arm": 4096, "riscv": 2048}.get(target.family)
    return reach // size if reach else 2**16
