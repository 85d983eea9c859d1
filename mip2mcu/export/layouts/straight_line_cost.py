"""What straight-line code costs on each core, by estimate, and so which order of the additions to take.

Rates are instructions (on AVR cycles) and bytes of code. They are fitted by least squares of the relative error to what
GCC makes of some twenty layers with 10 to 784 inputs, 2 to 100 % of weights that are not zero, magnitudes up to 127:
within 13 % of each. See `mip2mcu.export.layouts.straight_line` for the orders.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass
from enum import Enum

import numpy as np

from mip2mcu.export.layouts.straight_line import levels
from mip2mcu.export.targets import Target
from mip2mcu.ranges import IntArray

_FACTORS = 4
"""Magnitudes that are kept in registers where a core multiplies and adds in one instruction."""


class Way(Enum):
    """An order of the additions."""

    SIDE_BY_SIDE = "side by side"
    BY_MAGNITUDE = "by magnitude"
    BY_INPUT = "by input"


@dataclass(frozen=True)
class Order:
    """``way``, with how many units ``together`` side by side, and with which magnitudes in registers (``factors``)."""

    way: Way
    together: int = 1
    factors: tuple[int, ...] = ()


@dataclass(frozen=True)
class Rates:
    """Instructions or bytes of one step of each kind; as a count of steps, how many there are of each kind.

    read, signed    a read of an input, and what is added where inputs can be negative
    add             an addition to a sum
    move            a move of the base
    product, shift  what an addition costs more where a magnitude is multiplied, and where it is a power of two
    fold, scaled    an addition of a run to a sum, and what it costs more where the run is multiplied
    unit, part      around the steps of a unit, and of a function
    """

    read: float = 0
    signed: float = 0
    add: float = 0
    move: float = 0
    product: float = 0
    shift: float = 0
    fold: float = 0
    scaled: float = 0
    unit: float = 0
    part: float = 0

    def times(self, steps: Rates) -> int:
        """What ``steps`` cost at these rates."""
        return round(sum(rate * count for rate, count in zip(astuple(self), astuple(steps), strict=True)))


@dataclass(frozen=True)
class Effort:
    """Estimates for an order: number of steps of each kind, instructions (AVR: cycles) and bytes of code."""

    steps: Rates
    instructions: int
    code_bytes: int


_SIDE_BY_SIDE = {
    "armv6-m": (
        Rates(read=1.05, signed=1.0, add=1.01, move=1.05, product=4.5, shift=0.7, unit=2.2),
        Rates(read=2.1, signed=1.7, add=2.0, move=2.1, product=9.0, shift=1.2, unit=14, part=15),
    ),
    "armv7-m": (
        Rates(read=1.08, add=0.99, move=1, product=1.2, shift=0.1, part=19),
        Rates(read=4.25, signed=0.4, add=2.86, move=2, product=4.5, shift=1.2, part=157),
    ),
    "riscv": (
        Rates(read=1.2, add=0.97, move=1, product=2.2, shift=0.7, unit=0.5, part=14),
        Rates(read=3.8, add=2.8, move=4, product=6.8, shift=5.0, unit=11, part=124),
    ),
    "avr": (
        Rates(read=2.1, signed=3.6, add=2.1, move=2.1, product=25, shift=7, unit=21),
        Rates(read=2.1, signed=6.4, add=4.0, move=2.1, product=36, shift=14, unit=40, part=100),
    ),
    "avr, wide": (
        Rates(read=2.7, signed=3.6, add=4.5, move=2.1, product=40, shift=14, unit=30),
        Rates(read=3.2, signed=6.4, add=8.2, move=2.1, product=45, shift=28, unit=60, part=100),
    ),
}
_UNIT_BY_UNIT = {
    "armv6-m": (
        Rates(add=2.05, signed=1.0, move=0.65, fold=2.0, scaled=1.0, unit=1),
        Rates(add=4.05, signed=2.0, move=1.3, fold=4.1, scaled=1.9, unit=12),
    ),
    "armv7-m": (
        Rates(add=2.0, move=1, fold=0.9, scaled=0.85, unit=1.6),
        Rates(add=5.6, signed=0.8, move=2, fold=4.2, scaled=2.0, unit=8),
    ),
    "riscv": (
        Rates(add=2.0, move=1, fold=0.8, scaled=2.4, unit=2),
        Rates(add=5.9, move=4, fold=1.5, scaled=6.9, unit=20),
    ),
    "avr": (
        Rates(add=4.1, signed=3.0, move=1.9, fold=2.9, scaled=6.3, unit=12.5),
        Rates(add=6.0, signed=6.1, move=3.5, fold=5.1, scaled=13, unit=45),
    ),
    "avr, wide": (
        Rates(add=4.1, signed=3.0, move=1.2, fold=5.0, scaled=8, unit=12),
        Rates(add=6.5, signed=6.0, move=2.4, fold=7, scaled=16, unit=40),
    ),
}
"""By kind of core ("wide": sums of 32 bits): instructions and bytes."""


def cheapest(weights: IntArray, target: Target, *, reach: int, signed: bool, sum_bytes: int) -> tuple[Order, Effort]:
    """The order with the fewest instructions for a layer with ``weights`` (units, inputs), and what it takes.

    reach       elements that a load reaches from its base
    signed      inputs can be negative
    sum_bytes   size of the sums
    """
    core = _core(target)
    orders = [Order(Way.SIDE_BY_SIDE, _together(core, target, sum_bytes)), Order(Way.BY_MAGNITUDE)]
    if core == "armv7-m":
        orders.append(Order(Way.SIDE_BY_SIDE, 8, _frequent(weights)))
    if core == "avr" and max(len(levels(row)) for row in weights) <= _together(core, target, 2):
        orders.append(Order(Way.BY_INPUT))
    rates = core + ", wide" if core == "avr" and sum_bytes > 2 else core
    efforts = [_estimate(weights, order, rates, reach, signed) for order in orders]
    best = min(range(len(orders)), key=lambda n: efforts[n].instructions)
    return orders[best], efforts[best]


def _estimate(weights: IntArray, order: Order, core: str, reach: int, signed: bool) -> Effort:
    side_by_side = order.way is Way.SIDE_BY_SIDE
    steps = _side_by_side(weights, order, reach) if side_by_side else _unit_by_unit(weights, order.way, reach)
    if signed:
        steps = Rates(steps.read, steps.read, *astuple(steps)[2:])
    instructions, code_bytes = (_SIDE_BY_SIDE if side_by_side else _UNIT_BY_UNIT)[core]
    return Effort(steps, instructions.times(steps), code_bytes.times(steps))


def _side_by_side(weights: IntArray, order: Order, reach: int) -> Rates:
    units, inputs = weights.shape
    used = weights != 0
    reads = [int(used[j : j + order.together].any(axis=0).sum()) for j in range(0, units, order.together)]
    magnitudes, counts = np.unique(np.abs(weights[used]), return_counts=True)
    multiplied = (magnitudes > 1) & ~np.isin(magnitudes, order.factors)
    power_of_two = (magnitudes & (magnitudes - 1)) == 0
    return Rates(
        read=sum(reads),
        add=int(used.sum()),
        move=sum(min(count, _windows(inputs, reach)) for count in reads),
        product=int(counts[multiplied & ~power_of_two].sum()),
        shift=int(counts[multiplied & power_of_two].sum()),
        unit=units,
        part=len(reads),
    )


def _unit_by_unit(weights: IntArray, way: Way, reach: int) -> Rates:
    units, inputs = weights.shape
    gaps = [[magnitude - below for magnitude, below in levels(row)] for row in weights]
    adds, folds = int(np.count_nonzero(weights)), sum(map(len, gaps))
    passes = folds if way is Way.BY_MAGNITUDE else units
    return Rates(
        read=adds,
        add=adds,
        move=min(adds, _windows(inputs, reach) * passes),
        fold=folds + (sum(max(len(row) - 1, 0) for row in gaps) if way is Way.BY_INPUT else 0),
        scaled=sum(gap > 1 for row in gaps for gap in row),
        unit=units,
        part=units,
    )


def _windows(inputs: int, reach: int) -> int:
    """Moves of the base in one pass over all inputs."""
    return -(-inputs // reach) - 1


def _frequent(weights: IntArray) -> tuple[int, ...]:
    """The magnitudes most worth a register: no powers of two, which cost nothing there."""
    magnitudes, counts = np.unique(np.abs(weights), return_counts=True)
    ranked = sorted(zip((-counts).tolist(), magnitudes.tolist(), strict=True))
    return tuple(sorted([m for _, m in ranked if m & (m - 1)][:_FACTORS]))


def _core(target: Target) -> str:
    """The kind of core whose rates hold for ``target``."""
    if target.family == "arm":
        return "armv7-m" if target.registers >= 13 else "armv6-m"
    return "avr" if target.family == "avr" else "riscv"


def _together(core: str, target: Target, sum_bytes: int) -> int:
    """How many sums stay in registers, found by measuring."""
    if core == "riscv":
        return 22 if target.registers > 16 else 9
    return {"armv6-m": 4, "armv7-m": 12, "avr": 8 if sum_bytes == 2 else 4}[core]
