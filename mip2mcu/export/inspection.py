"""What the planner knows about a network on a target: every layout of every layer, the choice, and why.

A layout that is not chosen is compared by what the whole program would take with it, the other layers at their best:
what one layer gains, packing or the next layer may lose. Its own figures are those in that program too, for they depend
on what the next layer reads.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from mip2mcu.errors import ExportError
from mip2mcu.export.costs import core_of
from mip2mcu.export.fusing import PooledConv2d
from mip2mcu.export.layouts import Encoding
from mip2mcu.export.options import ExportOptions
from mip2mcu.export.planner import NAMED, Candidate, Plan, is_named, plan_layouts, priced, survey
from mip2mcu.export.program import Planning, planning
from mip2mcu.export.targets import Target, find_target
from mip2mcu.layers import Layer
from mip2mcu.network import Network


@dataclass(frozen=True)
class Row:
    """A layer in one layout; all sizes in bytes, None where they are not known.

    name           as an option names it
    reads          "values" or "bits"
    flash          tables, and code where its cost is known
    ram            the layer's work area, stack, and inputs where another layer wrote them
    instructions   of one inference (cycles on AVR)
    is_chosen      this is the planner's choice
    note           why it was chosen, why not, or why it cannot be
    is_of_another_kind    the layout is for another kind of layer
    """

    name: str
    reads: str = ""
    flash: int | None = None
    ram: int | None = None
    instructions: int | None = None
    is_chosen: bool = False
    note: str = ""
    is_of_another_kind: bool = False


@dataclass(frozen=True)
class LayerTable:
    """The layouts of layer ``index``: those that it can be in, by instructions, then those that refuse it."""

    index: int
    kind: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    rows: tuple[Row, ...]

    @property
    def chosen(self) -> Row | None:
        """The row that was chosen; None where nothing fits the budgets."""
        return next((row for row in self.rows if row.is_chosen), None)


@dataclass(frozen=True)
class Inspection:
    """The tables, and what the whole program is predicted to take.

    core          whose measurements predict it; empty where there are none
    unit          "instructions" or "cycles"
    is_priced     everything in the choice was measured; else ``flash`` and ``instructions`` lack what was not
    unpriced      the layers of the choice whose code nothing measured is like, each with its layout
    refusal       why nothing was chosen; empty where something was
    """

    target: str
    core: str
    unit: str
    layers: tuple[LayerTable, ...]
    is_priced: bool
    unpriced: tuple[str, ...]
    flash: int | None
    ram: int | None
    instructions: int | None
    reason: str
    refusal: str

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def inspect(network: Network, target: Target | str = "cortex-m", options: ExportOptions | None = None) -> Inspection:
    """Every layout of every layer of ``network`` on ``target``, and which ones `generate` takes with ``options``.

    Where no choice is within the budgets the tables are given all the same, with the `Inspection.refusal`. Raises
    `ExportError` for an unknown target or layout, and for a layer that fits no layout.
    """
    options = options or ExportOptions()
    found = find_target(target)
    allowed = planning(network, found, options)
    plan, refusal = _planned(allowed, options)
    core = core_of(found)
    return Inspection(
        target=found.name,
        core=core if _is_measured(allowed) else "",
        unit="cycles" if core == "avr" else "instructions",
        layers=tuple(_table(network, allowed, k, plan, options) for k in range(len(allowed.tasks))),
        is_priced=plan is not None and plan.is_priced,
        unpriced=() if plan is None else _unpriced(allowed, plan),
        flash=None if plan is None else plan.flash,
        ram=None if plan is None else plan.ram,
        instructions=plan.instructions if plan is not None and plan.is_priced else None,
        reason="" if plan is None else plan.reason,
        refusal=refusal,
    )


def _planned(allowed: Planning, options: ExportOptions) -> tuple[Plan | None, str]:
    try:
        return allowed.plan(options), ""
    except ExportError as error:
        return None, str(error)


def _unpriced(allowed: Planning, plan: Plan) -> tuple[str, ...]:
    chosen = zip(allowed.tasks, plan.candidates, strict=True)
    return tuple(f"layer {task.context.index} ({c.title})" for task, c in chosen if c.cost is None)


def _is_measured(allowed: Planning) -> bool:
    every = zip(allowed.tasks, allowed.surveyed, strict=True)
    return any(priced(c, task, Encoding.VALUES).cost is not None for task, surveyed in every for c in surveyed)


_UNKNOWN = "what its code takes was not measured"


# ---- one layer -----------------------------------------------------------------------------------------------------


def _table(network: Network, allowed: Planning, k: int, plan: Plan | None, options: ExportOptions) -> LayerTable:
    task = allowed.tasks[k]
    every = survey(task, replace(options, layout=None))
    rows = [_row(candidate, k, allowed, plan, options) for candidate in every]
    last = k + 1 == len(allowed.tasks)
    behind = len(network.shapes) - 1 if last else allowed.tasks[k + 1].context.index
    return LayerTable(
        index=task.context.index,
        kind=_kind(task.layer),
        inputs=tuple(network.shapes[task.context.index]),
        outputs=tuple(network.shapes[behind]),
        rows=tuple(sorted(rows, key=_place)),
    )


def _kind(layer: Layer) -> str:
    if isinstance(layer, PooledConv2d):
        return f"Conv2d, {type(layer.pool).__name__}"
    return type(layer).__name__


def _place(row: Row) -> tuple[bool, float, int]:
    """Fastest first, then of unknown cost by flash, then refused."""
    fast = float("inf") if row.instructions is None else row.instructions
    return row.flash is None, fast, row.flash or 0


def _row(candidate: Candidate, k: int, allowed: Planning, plan: Plan | None, options: ExportOptions) -> Row:
    if candidate.lowered is None:
        return Row(candidate.title, note=candidate.refusal, is_of_another_kind=candidate.is_of_another_kind)
    task = allowed.tasks[k]
    is_chosen = plan is not None and plan.candidates[k].title == candidate.title
    whole = plan if plan is not None and is_chosen else _with(candidate, k, allowed, options)
    shown = whole.candidates[k] if isinstance(whole, Plan) else priced(candidate, task, Encoding.VALUES)
    lowered, known = candidate.lowered, shown.cost
    held = sum(area.bytes for area in lowered.work) + (task.input_bytes(lowered.reads) if k else 0)
    return Row(
        name=candidate.title,
        reads=lowered.reads.value,
        flash=shown.flash + task.epilogue_bytes,
        ram=held + (known.stack if known else 0),
        instructions=round(known.instructions) if known else None,
        is_chosen=is_chosen,
        note=_reason(shown, k, allowed, whole) if is_chosen else _note(shown, k, allowed, plan, whole, options),
    )


def _reason(chosen: Candidate, k: int, allowed: Planning, plan: Plan | str) -> str:
    """Why layer ``k`` is in the layout of ``chosen``, which is ``plan``'s."""
    assert isinstance(plan, Plan)
    reason = NAMED if is_named(allowed.surveyed[k]) else plan.reason
    return reason if chosen.cost else f"{reason}; {_UNKNOWN}"


def _note(
    candidate: Candidate, k: int, allowed: Planning, plan: Plan | None, other: Plan | str, options: ExportOptions
) -> str:
    """Why ``plan`` has another layout for layer ``k``, where ``other`` is the best program with this one."""
    if not any(candidate.title == entry.title for entry in allowed.surveyed[k]):
        return f"not the named {options.layout_of(allowed.tasks[k].context.index)}"
    if candidate.cost is None and plan is not None and plan.is_priced:
        return _UNKNOWN
    if isinstance(other, str):
        return other
    return _over(other, options) or _difference(other, plan)


def _with(candidate: Candidate, k: int, allowed: Planning, options: ExportOptions) -> Plan | str:
    """The best program with ``candidate`` for layer ``k``, or why there is none; budgets left aside."""
    forced = (*allowed.surveyed[:k], [candidate], *allowed.surveyed[k + 1 :])
    unlimited = replace(options, max_flash=None, max_ram=None)
    try:
        return plan_layouts(allowed.tasks, forced, unlimited, allowed.fixed)
    except ExportError as error:
        return str(error)


def _over(plan: Plan, options: ExportOptions) -> str:
    if options.max_flash is not None and plan.flash > options.max_flash:
        return f"program of {plan.flash:,} bytes of flash, over --max-flash"
    if options.max_ram is not None and plan.ram > options.max_ram:
        return f"program of {plan.ram:,} bytes of RAM, over --max-ram"
    return ""


def _difference(other: Plan, plan: Plan | None) -> str:
    """What the program takes more or less than the chosen one."""
    if plan is None:
        return f"program of {other.flash:,} bytes of flash, {other.ram:,} of RAM"
    parts = [f"{other.flash - plan.flash:+,} bytes of flash"]
    if plan.is_priced:
        parts.insert(0, f"{100 * (other.instructions / plan.instructions - 1):+.0f} % time")
    if other.ram != plan.ram:
        parts.append(f"{other.ram - plan.ram:+,} of RAM")
    return "program: " + ", ".join(parts)
