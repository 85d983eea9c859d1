"""Chooses the layouts of all layers together, by predicted costs, for a goal and within budgets.

Layers depend on each other: what one writes (bits or values) is what the next one reads, and packing the network's
inputs costs as well. So whole chains are compared. From the last layer to the first, chains are extended by every
candidate that could stand before them; of the chains that begin alike, those are kept that no other one beats in
instructions, flash, memory of every type and stack at once. Nothing that could become the best chain is lost.

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
from mip2mcu.export.layouts import LAYOUTS, Encoding, Kind, LayerContext, Layout, Lowered, Work, kind_of
from mip2mcu.export.layouts.compressed import CompressedLayout
from mip2mcu.export.literals import TYPE_BYTES
from mip2mcu.export.options import AUTO, ExportOptions, Goal
from mip2mcu.export.packing import words_for
from mip2mcu.export.scratch import MEMORY_TYPES, entries_by_type, scratch_bytes
from mip2mcu.export.targets import Target
from mip2mcu.layers import Activation, Layer


@dataclass(frozen=True)
class Task:
    """A layer to choose a layout for.

    values_type      C type of its inputs where they lie as values
    epilogue_bytes   tables that turn its sums into outputs, whatever the layout
    """

    layer: Layer
    context: LayerContext
    values_type: str
    epilogue_bytes: int = 0

    def input_type(self, reads: Encoding) -> str:
        """C type of the array that the layer reads."""
        return "uint32_t" if reads is Encoding.BITS else self.values_type

    def tensor(self, reads: Encoding) -> Work:
        """That array, as memory between layers."""
        return Work(f"hidden{self.context.index}", self.input_type(reads), self.input_length(reads))

    def input_length(self, reads: Encoding) -> int:
        """Entries of that array."""
        elements = prod(self.context.input_shape)
        return words_for(elements) if reads is Encoding.BITS else elements

    def input_bytes(self, reads: Encoding) -> int:
        """Size of that array."""
        return self.input_length(reads) * TYPE_BYTES[self.input_type(reads)]


@dataclass(frozen=True)
class Candidate:
    """A layer in one layout, or why it cannot be; ``cost`` is None where nothing like it was measured.

    compact      small code is preferred to fast code
    refusal      a clause that follows the layout's name; a sentence where a sum ``overflows``
    is_of_another_kind    the layout is for other layers: of no interest where layouts for such layers refuse as well
    """

    layout: str
    compact: bool = False
    lowered: Lowered | None = None
    cost: Cost | None = None
    refusal: str = ""
    overflows: bool = False
    is_of_another_kind: bool = False

    @property
    def title(self) -> str:
        """By which users choose it."""
        return f"{self.layout}/compact" if self.compact else self.layout

    @property
    def flash(self) -> int:
        """Bytes of tables and code."""
        assert self.lowered is not None
        return self.lowered.table_bytes + round(self.cost.code if self.cost else self.lowered.code_bytes)


@dataclass(frozen=True)
class Fixed:
    """What a program takes whatever the layouts: decision rule and quantizer.

    stack       what lies on the stack beside the layers' own, sums and scores among it
    constants   the part of ``flash`` that tables take
    packs       the caller has a byte an input: where the first layer reads bits they are packed first
    """

    instructions: float = 0.0
    flash: float = 0.0
    stack: int = 0
    constants: int = 0
    packs: bool = True


@dataclass(frozen=True)
class Plan:
    """The chosen layouts, what the whole program is predicted to take, and why.

    is_priced    everything in it was measured; else ``instructions`` and ``flash`` lack the code that was not
    """

    candidates: tuple[Candidate, ...]
    instructions: int
    flash: int
    ram: int
    reason: str
    is_priced: bool

    @property
    def lowered(self) -> tuple[Lowered, ...]:
        """The chosen layouts."""
        return tuple(candidate.lowered for candidate in self.candidates if candidate.lowered is not None)

    def as_dict(self) -> dict[str, int | str | None]:
        """The predictions, for JSON."""
        instructions = self.instructions if self.is_priced else None
        return {"flash": self.flash, "ram": self.ram, "instructions": instructions, "reason": self.reason}


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
    allowed, kinds = _named(task, options)
    return [candidate for layout in allowed.values() for candidate in _surveyed(layout, task, kinds)]


def _surveyed(layout: Layout, task: Task, kinds: tuple[bool, ...]) -> list[Candidate]:
    """``layout`` in each of ``kinds`` of code that differ, or its refusal."""
    try:
        refused = _refused(layout, task)
        if refused is not None:
            return [refused]
        variants = [(compact, _lower(layout, task, compact)) for compact in kinds]
    except ExportError as error:
        return [Candidate(layout.name, refusal=str(error), overflows=True)]
    if len(variants) == 2 and variants[0][1].profile == variants[1][1].profile:
        variants = [(False, variants[0][1])]
    return [_checked(Candidate(layout.name, compact, lowered), task) for compact, lowered in variants]


def _refused(layout: Layout, task: Task) -> Candidate | None:
    """Why ``layout`` is not for the layer; None where it is."""
    if layout.kind is not kind_of(task.layer):
        return Candidate(layout.name, refusal=f"takes {layout.kind.value} only", is_of_another_kind=True)
    refusal = layout.accepts(task.layer, task.context)
    return None if refusal is None else Candidate(layout.name, refusal=refusal)


def priced(candidate: Candidate, task: Task, written: Encoding) -> Candidate:
    """``candidate`` for ``task`` with its costs where the layer's output is ``written``."""
    lowered, target = candidate.lowered, task.context.target
    if lowered is None:
        return candidate
    item = layer_item(lowered, epilogue_kind(task.layer, written), task.input_type(lowered.reads), target)
    return replace(candidate, cost=cost(item, target))


def _lower(layout: Layout, task: Task, compact: bool) -> Lowered:
    return layout.lower(task.layer, replace(task.context, compact=compact))


def _checked(candidate: Candidate, task: Task) -> Candidate:
    """``candidate``, refused where an array is larger than the target takes, or longer than an index counts."""
    lowered, target = candidate.lowered, task.context.target
    assert lowered is not None
    arrays = [("an input", task.input_length(lowered.reads), task.input_bytes(lowered.reads))]
    arrays += [(f"the array {area.name}", area.length, area.bytes) for area in lowered.work]
    arrays += [("a table", 0, table.bytes) for table in lowered.tables]  # read through pointers, whatever their length
    for what, length, size in arrays:
        excess = target.excess(length, size)
        if excess:
            return Candidate(candidate.layout, candidate.compact, refusal=f"needs {what} of {excess}")
    return candidate


def _named(task: Task, options: ExportOptions) -> tuple[dict[str, Layout], tuple[bool, ...]]:
    """The layouts that ``options`` allow, and with which kinds of code (compact or not), the preferred one first.

    Convolutions and pools that do not take what is named for all layers keep theirs.
    """
    name, _, kind = options.layout_of(task.context.index).partition("/")
    if kind not in _KINDS:
        raise ExportError(f"there is no kind {kind!r} of layout {name}: choose {name}/fast or {name}/compact")
    kinds = _KINDS[kind] or ((True, False) if options.optimize == "size" else (False, True))
    if name == AUTO:
        return LAYOUTS, kinds
    if name not in LAYOUTS:
        raise ExportError(f"there is no layout {name!r}: choose one of {', '.join(LAYOUTS)}")
    keeps_own = kind_of(task.layer) is not Kind.DENSE and not options.names_layer(task.context.index)
    if keeps_own and _refused(LAYOUTS[name], task):
        return LAYOUTS, kinds
    return {name: LAYOUTS[name]}, kinds


_KINDS: dict[str, tuple[bool, ...]] = {"": (), "fast": (False,), "compact": (True,)}


def candidates(task: Task, options: ExportOptions) -> list[Candidate]:
    """As `survey`; raises `ExportError` where every layout is refused."""
    surveyed = survey(task, options)
    if all(candidate.lowered is None for candidate in surveyed):
        raise _refusal(task, surveyed)
    return surveyed


def _usable(surveyed: Iterable[Candidate], every: bool) -> list[Candidate]:
    """Those of ``surveyed`` that exist, and are of known cost if any is.

    Where no cost is known, codes of variable length are taken only if ``every`` layout is wanted, because flash is
    short: they take ten times the instructions of lists.
    """
    usable = [candidate for candidate in surveyed if candidate.lowered is not None]
    known = [candidate for candidate in usable if candidate.cost is not None]
    if known or every:
        return known or usable
    return [candidate for candidate in usable if candidate.layout != CompressedLayout.name] or usable


NAMED = "named"
"""Why a layer is in a layout that the user named."""


def is_named(surveyed: Iterable[Candidate]) -> bool:
    """The user named the layout of the layer: it alone was ``surveyed``."""
    return len({candidate.layout for candidate in surveyed}) == 1


def _refusal(task: Task, every: list[Candidate]) -> ExportError:
    """Why none of ``every`` is possible, and where a layout was named, which ones are."""
    overflow = next((candidate for candidate in every if candidate.overflows), None)
    if overflow is not None:
        return ExportError(overflow.refusal)
    near = [candidate for candidate in every if not candidate.is_of_another_kind] or every
    names: dict[str, dict[str, None]] = {}
    for candidate in near:
        names.setdefault(candidate.refusal, {})[candidate.layout] = None
    listed = "; ".join(f"{', '.join(refusing)}{':' * (len(refusing) > 1)} {why}" for why, refusing in names.items())
    index, kind, target = task.context.index, type(task.layer).__name__.removeprefix("Pooled"), task.context.target
    text = f"layer {index} ({kind}) fits no layout for target {target.name}: {listed}"
    if not is_named(every):
        return ExportError(text)
    others = [candidate.layout for candidate in survey(task, ExportOptions()) if candidate.lowered is not None]
    return ExportError(f"{text}; it can be {', '.join(dict.fromkeys(others))}" if others else text)


# ---- chains --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Chain:
    """The layers from some layer on: what they take together; ``reads`` is how its first layer reads.

    tensors      of each type in `MEMORY_TYPES`, most entries of tensors and work areas alive at once; the first layer's
                 input is not among them
    constants    bytes of tables, counted where the target limits them
    """

    candidates: tuple[Candidate, ...]
    instructions: float
    flash: float
    tensors: tuple[int, ...]
    stack: int
    constants: int

    @property
    def reads(self) -> Encoding:
        lowered = self.candidates[0].lowered
        assert lowered is not None
        return lowered.reads

    @property
    def is_priced(self) -> bool:
        """Every layer's costs are known."""
        return all(candidate.cost is not None for candidate in self.candidates)

    @property
    def scratch(self) -> int:
        """Bytes of tensors and work areas."""
        return scratch_bytes(self.tensors)

    @property
    def ram(self) -> int:
        """The same and the stack."""
        return self.scratch + self.stack

    def beats(self, other: _Chain) -> bool:
        """No worse in anything."""
        return (
            self.instructions <= other.instructions
            and self.flash <= other.flash
            and self.stack <= other.stack
            and self.constants <= other.constants
            and all(mine <= its for mine, its in zip(self.tensors, other.tensors, strict=True))
        )


_END = _Chain((), 0.0, 0.0, (0,) * len(MEMORY_TYPES), 0, 0)
"""What stands behind the last layer."""


def plan_layouts(
    tasks: Sequence[Task], surveyed: Sequence[list[Candidate]], options: ExportOptions, fixed: Fixed
) -> Plan:
    """The best chain of the ``surveyed`` candidates for each task.

    Raises `ExportError` where no chain is within the budgets of ``options``, or the target's reach.
    """
    every = options.optimize == "size" or options.max_flash is not None
    chains: list[_Chain] = []
    for k in range(len(tasks) - 1, -1, -1):
        chains = _extended(tasks, k, surveyed[k], chains, every)
    target = tasks[0].context.target
    named = [task.context.index for task, every_layout in zip(tasks, surveyed, strict=True) if is_named(every_layout)]
    reachable = _reachable([_completed(chain, tasks[0], fixed, options) for chain in chains], fixed, target)
    within = _within(reachable, options, target, bool(named))
    best = min(within, key=_order(options.optimize))
    goal = _GOALS[options.optimize] if best.is_priced else _WITHOUT_COSTS[every]
    return Plan(
        candidates=best.candidates,
        instructions=round(best.instructions),
        flash=round(best.flash),
        ram=best.ram,
        reason=_named_reason(named, len(tasks), goal) + _budget_reason(options, len(within) < len(reachable)),
        is_priced=best.is_priced,
    )


def _extended(
    tasks: Sequence[Task], k: int, surveyed: list[Candidate], chains: list[_Chain], every: bool
) -> list[_Chain]:
    """Every chain of ``chains`` behind every candidate for layer ``k``, without those that are beaten."""
    found: list[_Chain] = []
    for written in dict.fromkeys(chain.reads for chain in chains) or [Encoding.VALUES]:
        behind = [chain for chain in chains if chain.reads is written]
        output = [tasks[k + 1].tensor(written)] if behind else []
        for candidate in _usable((priced(entry, tasks[k], written) for entry in surveyed), every):
            found += [_joined(candidate, tasks[k], k == 0, output, chain) for chain in behind or [_END]]
    return [chain for reads in Encoding for chain in _unbeaten([c for c in found if c.reads is reads])]


def _joined(candidate: Candidate, task: Task, is_first: bool, output: list[Work], rest: _Chain) -> _Chain:
    lowered, known = candidate.lowered, candidate.cost or NOTHING
    assert lowered is not None
    alive = [*output, *lowered.work, *([] if is_first else [task.tensor(lowered.reads)])]
    limited = task.context.target.constants_limit is not None
    return _Chain(
        (candidate, *rest.candidates),
        known.instructions + rest.instructions,
        candidate.flash + task.epilogue_bytes + rest.flash,
        tuple(map(max, entries_by_type(alive), rest.tensors)),
        max(known.stack, rest.stack),
        lowered.table_bytes + task.epilogue_bytes + rest.constants if limited else 0,
    )


def _unbeaten(chains: list[_Chain]) -> list[_Chain]:
    kept: list[_Chain] = []
    for chain in sorted(chains, key=lambda c: (c.instructions, c.flash, c.ram)):
        if not any(other.beats(chain) for other in kept):
            kept.append(chain)
    return kept


def _completed(chain: _Chain, first: Task, fixed: Fixed, options: ExportOptions) -> _Chain:
    """``chain`` with all that is beside its layers; the inputs are the program's own where its memory is static."""
    packs = fixed.packs and chain.reads is Encoding.BITS
    packing = cost(pack_item(prod(first.context.input_shape)), first.context.target) if packs else None
    extra = packing or NOTHING
    own_input = first.input_bytes(chain.reads) if options.static_scratch else 0
    return replace(
        chain,
        instructions=chain.instructions + extra.instructions + fixed.instructions,
        flash=chain.flash + extra.code + fixed.flash,
        stack=chain.stack + fixed.stack + own_input,
        constants=chain.constants + fixed.constants,
    )


# ---- budgets and goals ---------------------------------------------------------------------------------------------


def _reachable(chains: list[_Chain], fixed: Fixed, target: Target) -> list[_Chain]:
    """The chains whose constants the target can read."""
    limit = target.constants_limit
    fitting = [chain for chain in chains if limit is None or chain.constants <= limit]
    if not fitting:
        least = min(chain.constants for chain in chains)
        raise ExportError(
            f"the constants take {least} bytes at least, target {target.name} reads at most {limit}: choose other "
            "layouts where some were named, or train a smaller network"
        )
    return fitting


def _within(chains: list[_Chain], options: ExportOptions, target: Target, named: bool) -> list[_Chain]:
    """The chains within the budgets; ``named``: the user named some of the layouts."""
    known = all(chain.is_priced for chain in chains)
    what = "" if known else " of tables alone, what code takes there is not known"
    forced = " in the layouts that were named" if named else ""
    before = ""
    for name, limit, size in (
        ("flash", options.max_flash, lambda chain: round(chain.flash)),
        ("RAM", options.max_ram, lambda chain: chain.ram),
    ):
        if limit is None:
            continue
        fitting = [chain for chain in chains if size(chain) <= limit]
        if not fitting:
            least = min(size(chain) for chain in chains)
            way_out = f"raise --max-{name.lower()}{', name other layouts' if forced else ''} or train a smaller network"
            raise ExportError(
                f"the network does not fit {limit} bytes of {name}: the smallest that it can be{forced}{before} is "
                f"predicted as {least} bytes on {target.name}{what}; {way_out}"
            )
        chains, before = fitting, f" within {limit} bytes of {name}"
    return chains


_GOALS = {"speed": "fewest instructions", "size": "least flash", "balanced": "least flash times instructions"}
_WITHOUT_COSTS = {False: "smallest tables, slow codes of variable length left out", True: "smallest tables"}
"""Why a chain was chosen: by goal, or by whether every layout was compared."""


def _order(goal: Goal) -> Callable[[_Chain], tuple[float, float]]:
    return {
        "speed": lambda chain: (chain.instructions, chain.flash),
        "size": lambda chain: (chain.flash, chain.instructions),
        "balanced": lambda chain: (chain.instructions * chain.flash, chain.flash),
    }[goal]


def _named_reason(named: list[int], layers: int, goal: str) -> str:
    """Why the layouts were chosen: for the ``goal``, but for the layers that the user ``named`` one for."""
    if len(named) == layers:
        return NAMED
    listed = ", ".join(map(str, named))
    return f"{goal}, layer{'s' if len(named) > 1 else ''} {listed} {NAMED}" if named else goal


def _budget_reason(options: ExportOptions, is_cut: bool) -> str:
    """The budgets, where they decided."""
    budgets = [(options.max_flash, "flash"), (options.max_ram, "RAM")]
    listed = " and ".join(f"{size} bytes of {name}" for size, name in budgets if size is not None)
    return f" within {listed}" if is_cut else ""
