"""Predicts what generated C takes before it is generated: instructions (cycles on AVR), bytes of code, stack.

A program is a list of items, each one function: a layer in some variant of its layout, the decision rule, packing. Its
parts run and stand in the code so often, a fact of the layer (`Profile`); what each of them
takes is fitted to measurements:

    instructions = sum over items and parts of  turns      * instructions a turn
    code bytes   = sum over items and parts of  statements * bytes a statement
    stack        = most of all items, tensors and sums on the stack beside it

The coefficients are in ``cost_tables/``, a file a core, see `mip2mcu.export.cost_table`. The program that measures and
fits is benchmarks/fit_costs.py, and the benchmarks compare predictions with measurements.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mip2mcu.export.cost_table import CORES, Entry, costs_on
from mip2mcu.export.deciding import DecisionProgram
from mip2mcu.export.layouts import Lowered
from mip2mcu.export.quantizing import QuantizerProgram
from mip2mcu.export.targets import Target

_STAND_INS = {
    "cortex-m": "cortex-m0",
    "cortex-m0plus": "cortex-m0",
    "cortex-m3": "cortex-m4",
    "cortex-m7": "cortex-m4",
    "cortex-m33": "cortex-m4",
    "cortex-m55": "cortex-m4",
    "host": "cortex-m4",
    "generic": "cortex-m0",
}
"""What targets that were not measured themselves are predicted as."""
_TYPES = ("uint8_t", "int8_t", "int16_t", "uint32_t")


@dataclass(frozen=True)
class Item:
    """A function of a program: ``key`` names its code, see `mip2mcu.export.layouts.base.Profile` for the rest."""

    key: str
    turns: Mapping[str, int]
    statements: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Cost:
    """What an item takes beside its tables."""

    instructions: float
    code: float
    stack: int


NOTHING = Cost(0.0, 0.0, 0)


def core_of(target: Target) -> str:
    """The core whose coefficients predict code for ``target``."""
    return target.name if target.name in CORES else _STAND_INS.get(target.name, target.name)


def layer_item(lowered: Lowered, epilogue: str, input_type: str, target: Target) -> Item:
    """A layer behind inputs of the C type ``input_type``; ``epilogue`` is what becomes of a sum."""
    sums = f" {lowered.sum_type}" if target.int_bits < 32 else ""
    return Item(
        f"{lowered.profile.variant} {input_type}{sums}",
        {"call": 1, **_with_epilogue(lowered.profile.turns, epilogue)},
        {f"function {epilogue}": 1, **_around(lowered), **_with_epilogue(lowered.profile.statements, epilogue)},
    )


def _around(lowered: Lowered) -> dict[str, int]:
    """What every layer's code holds around its parts: addresses of tables, a loop where there are several units."""
    several = {"units": 1} if lowered.profile.turns.get("unit", 0) > 1 else {}
    return {"table": len(lowered.tables), **several} if lowered.tables else several


def _with_epilogue(parts: Mapping[str, int], epilogue: str) -> dict[str, int]:
    """``parts`` with the name of what follows a unit's sum at the part "unit", and without those that never occur."""
    return {f"unit {epilogue}" if name == "unit" else name: count for name, count in parts.items() if count}


def decision_item(decision: DecisionProgram, layers: int) -> Item:
    """Everything of `predict` that is no layer: calls of ``layers`` functions and the decision."""
    turns = {"call": 1, "class": decision.scores, "member": decision.members, "layer": layers}
    used = {name: count for name, count in turns.items() if count}
    return Item(decision.partial, used, {"function": 1, "layer": layers})


def pack_item(inputs: int) -> Item:
    """`pack`, which turns bytes into bits."""
    words, rest = divmod(inputs, 32)
    return Item(
        "pack", {"call": 1, "word": words, "rest": rest}, {"function": 1, "loop": min(words, 1), "rest": min(rest, 1)}
    )


def quantizer_items(quantizer: QuantizerProgram) -> tuple[Item, ...]:
    """`quantize`, whose code is counted; its instructions depend on the data."""
    steps = [Item(f"quantize.{step.partial}", {}, {"function": 1}) for step in quantizer.steps]
    return (Item("quantize", {}, {"function": 1}), *steps)


def cost(item: Item, target: Target) -> Cost | None:
    """What ``item`` takes on ``target``; None where nothing like it was measured."""
    return taken_by(item, costs_on(core_of(target)))


def taken_by(item: Item, table: Mapping[str, Entry]) -> Cost | None:
    """What ``item`` takes on the core whose coefficients ``table`` holds; None where nothing like it was measured."""
    known = table.get(item.key) or _like(item.key, table)
    if known is None:
        return None
    instructions, code, stack = known
    return Cost(_total(item.turns, instructions), _total(item.statements, code), stack)


def _like(key: str, table: Mapping[str, Entry]) -> Entry | None:
    """The entry of the same variant whose types are most alike."""
    variant, *types = key.split(" ")
    alike = [found for found in table if found.split(" ")[0] == variant]
    return table[min(alike, key=lambda found: _distance(types, found.split(" ")[1:]))] if alike else None


def _distance(types: list[str], others: list[str]) -> tuple[int, int]:
    """Sums of another type weigh more than inputs of another type."""
    inputs = abs(_rank(types[0]) - _rank(others[0])) if types and others else 0
    return int(types[1:] != others[1:]), inputs


def _rank(c_type: str) -> int:
    return _TYPES.index(c_type) if c_type in _TYPES else len(_TYPES)


def _total(counts: Mapping[str, int], coefficients: Mapping[str, float]) -> float:
    """Parts that were never measured (an epilogue, say) take what their likes take."""
    return sum(count * _coefficient(name, coefficients) for name, count in counts.items())


def _coefficient(name: str, coefficients: Mapping[str, float]) -> float:
    if name in coefficients:
        return coefficients[name]
    stem = name.split(" ", maxsplit=1)[0]
    likes = [value for other, value in coefficients.items() if other.split(" ")[0] == stem]
    return max(likes, default=0.0)
