"""Chooses the layouts of all layers together, by predicted costs, for a goal and within budgets.

Layers depend on each other: what one writes (bits or values) is what the next one reads, and packing the network's
inputs costs as well. So whole chains are compared. From the last layer to the first, chains are extended by every
candidate that could stand before them; of the chains that begin alike, those are kept that no other one beats in
instructions, flash and RAM at once. Nothing that could become the best chain is lost.

    speed       fewest instructions, then least flash
    size        least flash, then fewest instructions
    balanced    least product of both: one per cent of the one is worth one per cent of the other
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from math import prod

from mip2mcu.errors import ExportError
from mip2mcu.export.costs import NOTHING, Cost, cost, layer_item, pack_item
from mip2mcu.export.layouts import LAYOUTS, Encoding, LayerContext, Layout, Lowered
from mip2mcu.export.layouts.compressed import CompressedLayout
from mip2mcu.export.literals import TYPE_BYTES
from mip2mcu.export.options import AUTO, ExportOptions, Goal
from mip2mcu.export.packing import words_for
from mip2mcu.export.targets import Target
from mip2mcu.layers import Activation, Dense, Layer


@dataclass(frozen=True)
class Task:
    """A layer to choose a layout for; ``values_type`` is the C type of its inputs where they lie as values."""

    layer: Layer
    context: LayerContext
    values_type: str

    def input_type(self, reads: Encoding) -> str:
        """C type of the array that the layer reads."""
        return "uint32_t" if reads is Encoding.BITS else self.values_type

    def input_bytes(self, reads: Encoding) -> int:
        """Size of that array."""
        elements = prod(self.context.input_shape)
        return 4 * words_for(elements) if reads is Encoding.BITS else elements * TYPE_BYTES[self.values_type]


@dataclass(frozen=True)
class Candidate:
    """A layer in one layout, or why it cannot be; ``cost`` is None where nothing like it was measured.

    compact    small code is preferred to fast code
    """

    layout: str
    compact: bool = False
    lowered: Lowered | None = None
    cost: Cost | None = None
    refusal: str = ""

    @property
    def flash(self) -> int:
        """Bytes of tables and code."""
        assert self.lowered is not None
        return self.lowered.table_bytes + round(self.cost.code if self.cost else self.lowered.code_bytes)


@dataclass(frozen=True)
class Fixed:
    """What a program takes whatever the layouts: decision rule and quantizer.

    packs    the caller has a byte an input: where the first layer reads bits they are packed first
    """

    instructions: float = 0.0
    flash: float = 0.0
    ram: int = 0
    packs: bool = True


@dataclass(frozen=True)
class Plan:
    """The chosen layouts, what the whole program is predicted to take, and why."""

    lowered: tuple[Lowered, ...]
    instructions: int
    flash: int
    ram: int
    reason: str


def epilogue_kind(layer: Layer, written: Encoding) -> str:
    """What becomes of a unit's sum where the output lies in memory as ``written``."""
    if getattr(layer, "requantisation", None) is not None:
        return "requantised"
    if getattr(layer, "activation", Activation.NONE) is Activation.SIGN:
        return "bit" if written is Encoding.BITS else "sign"
    return "sum"


# ---- candidates ----------------------------------------------------------------------------------------------------


def survey(task: Task, options: ExportOptions) -> list[Candidate]:
    """Every layout for ``task`` that ``options`` allow, refusals included; `priced` adds the costs."""
    found: list[Candidate] = []
    allowed, kinds = _named(task, options)
    for name, layout in allowed.items():
        refusal = layout.accepts(task.layer, task.context)
        if refusal is not None:
            found.append(Candidate(name, refusal=refusal))
            continue
        variants = [(compact, _lower(layout, task, compact)) for compact in kinds]
        if len(variants) == 2 and variants[0][1].profile == variants[1][1].profile:
            variants.pop()
        found += [_checked(Candidate(name, compact, lowered), task.context.target) for compact, lowered in variants]
    return found


def priced(candidate: Candidate, task: Task, written: Encoding) -> Candidate:
    """``candidate`` for ``task`` with its costs where the layer's output is ``written``."""
    lowered, target = candidate.lowered, task.context.target
    if lowered is None:
        return candidate
    item = layer_item(lowered, epilogue_kind(task.layer, written), task.input_type(lowered.reads), target)
    return replace(candidate, cost=cost(item, target))


def _lower(layout: Layout, task: Task, compact: bool) -> Lowered:
    return layout.lower(task.layer, replace(task.context, compact=compact))


def _checked(candidate: Candidate, target: Target) -> Candidate:
    """``candidate``, refused where a table is larger than an array may be."""
    assert candidate.lowered is not None
    largest = max((table.bytes for table in candidate.lowered.tables), default=0)
    if target.object_limit is None or largest <= target.object_limit:
        return candidate
    refusal = f"needs a table of {largest} bytes, an array of {target.name} has at most {target.object_limit}"
    return Candidate(candidate.layout, candidate.compact, refusal=refusal)


def _named(task: Task, options: ExportOptions) -> tuple[dict[str, Layout], tuple[bool, ...]]:
    """The layouts that ``options`` allow, and with which kinds of code (compact or not), the preferred one first.

    Convolutions and pools that the named layout does not take keep theirs.
    """
    name, _, kind = options.layout_of(task.context.index).partition("/")
    if kind not in _KINDS:
        raise ExportError(f"there is no kind {kind!r} of layout {name}: choose {name}/fast or {name}/compact")
    kinds = _KINDS[kind] or ((True, False) if options.optimize == "size" else (False, True))
    if name == AUTO:
        return LAYOUTS, kinds
    if name not in LAYOUTS:
        raise ExportError(f"there is no layout {name!r}: choose one of {', '.join(LAYOUTS)}")
    if not isinstance(task.layer, Dense) and LAYOUTS[name].accepts(task.layer, task.context):
        return LAYOUTS, kinds
    return {name: LAYOUTS[name]}, kinds


_KINDS: dict[str, tuple[bool, ...]] = {"": (), "fast": (False,), "compact": (True,)}


def _usable(task: Task, every: Iterable[Candidate], goal: Goal) -> list[Candidate]:
    """Those of ``every`` that exist, and are of known cost if any is; raises `ExportError` where there is none.

    Where no cost is known, codes of variable length are left to the goal "size": they take ten times the instructions
    of lists.
    """
    every = list(every)
    usable = [candidate for candidate in every if candidate.lowered is not None]
    if not usable:
        listed = "; ".join(f"{candidate.layout} {candidate.refusal}" for candidate in every)
        kind, context = type(task.layer).__name__, task.context
        raise ExportError(f"layer {context.index} ({kind}) fits no layout for target {context.target.name}: {listed}")
    known = [candidate for candidate in usable if candidate.cost is not None]
    if known or goal == "size":
        return known or usable
    return [candidate for candidate in usable if candidate.layout != CompressedLayout.name] or usable


# ---- chains --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Chain:
    """The layers from some layer on: what they take together; ``reads`` is how its first layer reads.

    tensors    most bytes of tensors and work areas alive at once, the first layer's input not among them
    """

    lowered: tuple[Lowered, ...]
    instructions: float
    flash: float
    tensors: int
    stack: int

    @property
    def reads(self) -> Encoding:
        return self.lowered[0].reads

    @property
    def ram(self) -> int:
        """Tensors and stack."""
        return self.tensors + self.stack

    def beats(self, other: _Chain) -> bool:
        """No worse in anything."""
        return (
            self.instructions <= other.instructions
            and self.flash <= other.flash
            and self.tensors <= other.tensors
            and self.stack <= other.stack
        )


_END = _Chain((), 0.0, 0.0, 0, 0)
"""What stands behind the last layer."""


def plan_layouts(
    tasks: Sequence[Task], surveyed: Sequence[list[Candidate]], options: ExportOptions, fixed: Fixed
) -> Plan:
    """The best chain of the ``surveyed`` candidates for each task.

    Raises `ExportError` where a task has none, or no chain is within the budgets of ``options``.
    """
    chains: list[_Chain] = []
    for k in range(len(tasks) - 1, -1, -1):
        chains = _extended(tasks, k, surveyed[k], chains, options.optimize)
    whole = [_completed(chain, tasks[0], fixed) for chain in chains]
    within = _within(whole, options)
    best = min(within, key=_order(options.optimize))
    return Plan(
        best.lowered, round(best.instructions), round(best.flash), best.ram, _reason(options, len(within) < len(whole))
    )


def _extended(
    tasks: Sequence[Task], k: int, surveyed: list[Candidate], chains: list[_Chain], goal: Goal
) -> list[_Chain]:
    """Every chain of ``chains`` behind every candidate for layer ``k``, without those that are beaten."""
    found: list[_Chain] = []
    for written in dict.fromkeys(chain.reads for chain in chains) or [Encoding.VALUES]:
        behind = [chain for chain in chains if chain.reads is written]
        output = tasks[k + 1].input_bytes(written) if behind else 0
        for candidate in _usable(tasks[k], (priced(entry, tasks[k], written) for entry in surveyed), goal):
            found += [_joined(candidate, tasks[k], k == 0, output, chain) for chain in behind or [_END]]
    return [chain for reads in Encoding for chain in _unbeaten([c for c in found if c.reads is reads])]


def _joined(candidate: Candidate, task: Task, is_first: bool, output: int, rest: _Chain) -> _Chain:
    lowered, known = candidate.lowered, candidate.cost or NOTHING
    assert lowered is not None
    work = sum(area.length * TYPE_BYTES[area.c_type] for area in lowered.work)
    alive = output + work + (0 if is_first else task.input_bytes(lowered.reads))
    return _Chain(
        (lowered, *rest.lowered),
        known.instructions + rest.instructions,
        candidate.flash + rest.flash,
        max(alive, rest.tensors),
        max(known.stack, rest.stack),
    )


def _unbeaten(chains: list[_Chain]) -> list[_Chain]:
    kept: list[_Chain] = []
    for chain in sorted(chains, key=lambda c: (c.instructions, c.flash, c.ram)):
        if not any(other.beats(chain) for other in kept):
            kept.append(chain)
    return kept


def _completed(chain: _Chain, first: Task, fixed: Fixed) -> _Chain:
    """``chain`` with all that is beside its layers."""
    packs = fixed.packs and chain.reads is Encoding.BITS
    packing = cost(pack_item(prod(first.context.input_shape)), first.context.target) if packs else None
    extra = packing or NOTHING
    return replace(
        chain,
        instructions=chain.instructions + extra.instructions + fixed.instructions,
        flash=chain.flash + extra.code + fixed.flash,
        stack=chain.stack + fixed.ram,
    )


def _within(chains: list[_Chain], options: ExportOptions) -> list[_Chain]:
    """The chains within the budgets."""
    for name, limit, size in (
        ("flash", options.max_flash, lambda chain: round(chain.flash)),
        ("RAM", options.max_ram, lambda chain: chain.ram),
    ):
        if limit is None:
            continue
        fitting = [chain for chain in chains if size(chain) <= limit]
        if not fitting:
            least = min(size(chain) for chain in chains)
            raise ExportError(
                f"the network does not fit {limit} bytes of {name}: the smallest that it can be is some {least} bytes; "
                f"raise max_{name.lower()} or train a smaller network"
            )
        chains = fitting
    return chains


def _order(goal: Goal) -> Callable[[_Chain], tuple[float, float]]:
    return {
        "speed": lambda chain: (chain.instructions, chain.flash),
        "size": lambda chain: (chain.flash, chain.instructions),
        "balanced": lambda chain: (chain.instructions * chain.flash, chain.flash),
    }[goal]


def _reason(options: ExportOptions, is_cut: bool) -> str:
    goal = {"speed": "fewest instructions", "size": "least flash", "balanced": "least flash times instructions"}
    text = goal[options.optimize]
    if is_cut:
        budgets = [(options.max_flash, "flash"), (options.max_ram, "RAM")]
        text += " within " + " and ".join(f"{size} bytes of {name}" for size, name in budgets if size is not None)
    return text
