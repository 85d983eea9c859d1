"""A network as a `Program`: every decision about the C is taken here, the templates only print.

    network --choose a layout a layer--> Lowered --link buffers, epilogues, names--> Program --codegen--> text
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

from mip2mcu.export.checking import CheckProgram, lower_check
from mip2mcu.export.costs import NOTHING, cost, decision_item, quantizer_items
from mip2mcu.export.deciding import DecisionProgram, lower_decision
from mip2mcu.export.documentation import (
    ClassDoc,
    FeatureDoc,
    InputRange,
    describe_classes,
    describe_features,
    describe_inputs,
)
from mip2mcu.export.fusing import Step, join_pools
from mip2mcu.export.layouts import FIXED_STEPS, Binary, Encoding, LayerContext, Lowered, Work
from mip2mcu.export.layouts.base import activation_kind, input_kind
from mip2mcu.export.literals import TYPE_BYTES, Column, Table, tables_in, unsigned_column, value_type
from mip2mcu.export.names import Macros, check_name
from mip2mcu.export.options import ExportOptions
from mip2mcu.export.packing import WORD_BITS, words_for
from mip2mcu.export.planner import Candidate, Fixed, Plan, Task, candidates, epilogue_kind, plan_layouts
from mip2mcu.export.quantizing import QuantizerProgram, lower_quantizer
from mip2mcu.export.scratch import Home, Scratch, plan
from mip2mcu.export.selftest import Coded, SelftestProgram, lower_selftest
from mip2mcu.export.targets import Target
from mip2mcu.layers import Layer
from mip2mcu.network import Network

ABI = 1
"""Number of the generated interface; it grows when a caller would have to change."""

_FIXED_MACROS = (
    "H", "ABI", "MODEL_SHA256", "CLASSES", "INPUTS", "INPUT_LENGTH", "INPUT_PACKED", "INPUT_MIN", "INPUT_MAX", "SUMS",
    "SCORES", "UNCLASSIFIED", "SCRATCH_BYTES", "STATIC_SCRATCH", "RAW_FEATURES", "NO_SELFTEST",
    "NO_CHECK", "CHECKED_BYTES", "CONSTANT_TIME",
)  # fmt: skip


@dataclass(frozen=True)
class Buffer:
    """An array between two layers: ``elements`` values in ``length`` entries of ``c_type``, within [low, high]."""

    encoding: Encoding
    c_type: str
    length: int
    elements: int
    low: int
    high: int

    @property
    def has_rest(self) -> bool:
        """The last word is stored behind the loop, not by it: it is not full, or the only one."""
        return self.elements <= WORD_BITS or self.elements % WORD_BITS != 0

    @property
    def spare_bits(self) -> int:
        """Unused bits of the last word."""
        return -self.elements % WORD_BITS


@dataclass(frozen=True)
class Epilogue:
    """What becomes of a unit's sum: ``kind`` is "sum", "bit", "sign" (+1 or -1) or "requantised"."""

    kind: str
    pre: Column = "0U"
    mult: Column = "0U"
    shift: Column = "1U"

    @property
    def tables(self) -> tuple[Table, ...]:
        """Tables in order of emission."""
        return tables_in(self.pre, self.mult, self.shift)


@dataclass(frozen=True)
class LayerProgram:
    """One layer, ready to be printed by ``templates/layouts/<partial>.c.j2``: ``inputs`` values to ``units`` values.

    apart    the compiler shall not put the function into its caller
    """

    index: int
    inputs: int
    units: int
    lowered: Lowered
    input: Buffer
    output: Buffer
    epilogue: Epilogue
    apart: bool

    @property
    def function(self) -> str:
        """Name of the function that computes the layer."""
        return f"layer{self.index}_apply"

    @property
    def details(self) -> Any:
        """The layout's own numbers."""
        return self.lowered.details

    @property
    def tables(self) -> tuple[Table, ...]:
        """Tables in order of emission."""
        return (*self.lowered.tables, *self.epilogue.tables)

    @property
    def table_bytes(self) -> int:
        """Flash that the tables take."""
        return sum(table.bytes for table in self.tables)


@dataclass(frozen=True)
class Program:
    """Everything that the templates print.

    name, macro    prefixes of the external names and of the macros
    input          the array that the caller fills
    scratch        where the tensors between the layers lie
    calls          C arguments of each layer's function
    sums           number of sums of the last layer; they lie in [sum_low, sum_high]
    plan           why the layouts were chosen, and what the program is predicted to take
    """

    name: str
    macro: str
    target: Target
    sha256: str
    classes: tuple[ClassDoc, ...]
    features: tuple[FeatureDoc, ...]
    input_ranges: tuple[InputRange, ...]
    input: Buffer
    layers: tuple[LayerProgram, ...]
    scratch: Scratch
    calls: tuple[str, ...]
    sums: int
    sum_low: int
    sum_high: int
    decision: DecisionProgram
    quantizer: QuantizerProgram | None
    selftest: SelftestProgram
    check: CheckProgram
    supports: tuple[str, ...]
    plan: Plan

    @property
    def constant_time(self) -> bool:
        """NAME_sums runs the same instructions whatever the inputs are.

        Known from the layouts: no step depends on an input, and no product is a loop over its bits (as it is where the
        compiler multiplies in software). Comparing a sum with 0 takes no branch on cores of 32 bits where a loop makes
        a bit of it; straight-line code, scaling, and +1 or -1, are left to the compiler, which may branch.
        """
        bits = self.target.word_bits >= 32
        return all(
            layer.lowered.layout in FIXED_STEPS
            and "bit" not in layer.lowered.profile.turns
            and (layer.epilogue.kind == "sum" or (bits and layer.epilogue.kind == "bit" and layer.lowered.tables))
            for layer in self.layers
        )

    @property
    def packed(self) -> bool:
        """Inputs are given as bits."""
        return self.input.encoding is Encoding.BITS

    @property
    def bits_length(self) -> str:
        """Length of the array that NAME_pack reads, as C declares it; empty where not every compiler takes it."""
        return f"{self.macro}_INPUTS" if self.input.elements <= self.target.declared_limit else ""

    @property
    def packing(self) -> str:
        """Partial of ``templates/pack/``: cores of 8 bits pack byte by byte."""
        return "bytes" if self.target.word_bits == 8 else "words"

    @property
    def tables(self) -> tuple[Table, ...]:
        """All constant tables in order of emission, those of the selftest not among them."""
        return _tables(self.quantizer, self.layers)

    @property
    def layers_in_code(self) -> tuple[LayerProgram, ...]:
        """The layers whose weights are code."""
        return tuple(layer for layer in self.layers if layer.lowered.code_bytes)

    @property
    def class_type(self) -> str:
        """Counts classes."""
        is_small = self.target.word_bits == 8 and self.sums < 2**8
        return "uint8_t" if is_small else self.target.index_type

    @property
    def table_bytes(self) -> int:
        """Flash of `tables`."""
        return sum(table.bytes for table in self.tables)


@dataclass(frozen=True)
class Planning:
    """What the planner chooses from: the layers and their candidates, and what the program has beside them."""

    tasks: tuple[Task, ...]
    surveyed: tuple[list[Candidate], ...]
    fixed: Fixed
    decision: DecisionProgram
    quantizer: QuantizerProgram | None

    def plan(self, options: ExportOptions) -> Plan:
        """The best chain of candidates; raises what `plan_layouts` raises."""
        return plan_layouts(self.tasks, self.surveyed, options, self.fixed)


def planning(network: Network, target: Target, options: ExportOptions) -> Planning:
    """Every layout of every layer that ``options`` allow.

    Raises `ExportError` where a layer has no layout, the decision rule could overflow int32_t, and for a layout that
    does not exist.
    """
    options.check_layers(len(network.layers))
    tasks = tuple(tasks_of(network, target, options))
    surveyed = tuple(candidates(task, options) for task in tasks)
    low, high = network.layer_ranges[-1]
    decision = lower_decision(network.decision, low, high)
    quantizer = None if network.quantizer is None else lower_quantizer(network.quantizer, target)
    return Planning(
        tasks,
        surveyed,
        _fixed(decision, quantizer, target, len(low), len(tasks)),
        decision,
        quantizer,
    )


def _tables(quantizer: QuantizerProgram | None, layers: tuple[LayerProgram, ...]) -> tuple[Table, ...]:
    """All constant tables in order of emission."""
    return (*(() if quantizer is None else quantizer.tables), *(table for layer in layers for table in layer.tables))


def lower(network: Network, target: Target, name: str, options: ExportOptions) -> Program:
    """Every decision about the C of ``network`` for ``target``.

    Raises `ExportError` where a layer has no layout, a sum could overflow int32_t, or ``name`` is no C identifier.
    """
    check_name(name)
    steps = join_pools(network.layers)
    prepared = planning(network, target, options)
    low, high = network.layer_ranges[-1]
    decision, quantizer = prepared.decision, prepared.quantizer
    planned = prepared.plan(options)
    lowered = planned.lowered
    layers = tuple(_link(network, steps, k, lowered) for k in range(len(lowered)))
    coded = [
        Coded(layer.index, n, layer.input.c_type, layer.output.encoding)
        for n, layer in enumerate(layers)
        if layer.lowered.code_bytes
    ]
    scratch = plan([_tensor(layer) for layer in layers[:-1]], [entry.work for entry in lowered], options.static_scratch)
    macros = Macros(name, frozenset(f"{name.upper()}_{macro}" for macro in _FIXED_MACROS))
    features = () if network.quantizer is None else describe_features(network.quantizer, macros)
    return Program(
        name=name,
        macro=name.upper(),
        target=target,
        sha256=network.sha256,
        classes=describe_classes(network.classes, macros),
        features=features,
        input_ranges=describe_inputs(network.input_low, network.input_high),
        input=layers[0].input,
        layers=layers,
        scratch=scratch,
        calls=_calls(scratch, f"{name}_input" if options.static_scratch else "input"),
        sums=len(low),
        sum_low=int(low.min()),
        sum_high=int(high.max()),
        decision=decision,
        quantizer=quantizer,
        selftest=lower_selftest(network, layers[0].input.encoding, coded),
        check=lower_check(_tables(quantizer, layers), target),
        supports=_supports(layers, decision, scratch),
        plan=planned,
    )


def _fixed(
    decision: DecisionProgram, quantizer: QuantizerProgram | None, target: Target, sums: int, layers: int
) -> Fixed:
    """What the program takes beside its layers; `predict` holds the sums, and the scores of votes, on the stack."""
    deciding = cost(decision_item(decision, layers), target) or NOTHING
    quantizing = [] if quantizer is None else [cost(item, target) or NOTHING for item in quantizer_items(quantizer)]
    tables = 0 if quantizer is None else quantizer.table_bytes
    return Fixed(
        instructions=deciding.instructions,
        flash=deciding.code + tables + sum(one.code for one in quantizing),
        stack=TYPE_BYTES["int32_t"] * (sums + (decision.scores if decision.members else 0)) + deciding.stack,
        constants=tables,
        packs=quantizer is None,
    )


def _tensor(layer: LayerProgram) -> Work:
    """The output of ``layer`` as an area of the scratch memory."""
    return Work(f"hidden{layer.index + 1}", layer.output.c_type, layer.output.length)


def _calls(scratch: Scratch, first: str) -> tuple[str, ...]:
    tensors = (first, *scratch.tensors, "sums")
    every = zip(tensors[:-1], tensors[1:], scratch.work, strict=True)
    return tuple(", ".join((read, written, *work)) for read, written, work in every)


def _supports(layers: tuple[LayerProgram, ...], decision: DecisionProgram, scratch: Scratch) -> tuple[str, ...]:
    """Partials of ``templates/support/`` that the program needs, each once."""
    of_layers = (support for layer in layers for support in layer.lowered.supports)
    of_scratch = ("settle", *(["scratch_address"] if scratch.home is Home.STATIC else [])) if scratch.hidden else ()
    return tuple(dict.fromkeys(("not_inlined", *of_layers, *decision.supports, *of_scratch)))


def _kind(network: Network, steps: tuple[Step, ...], k: int) -> Binary | None:
    """The kind of the tensor that step ``k`` reads."""
    return activation_kind(steps[k - 1].layer) if k else input_kind(network.input_low, network.input_high)


def tasks_of(network: Network, target: Target, options: ExportOptions) -> list[Task]:
    """What the planner chooses layouts for: the layers, convolutions with the pools behind them as one."""
    steps = join_pools(network.layers)
    values = [_buffer(network, steps, k, Encoding.VALUES).c_type for k in range(len(steps))]
    return [
        Task(
            step.layer,
            _context(network, steps, k, target, options),
            values[k],
            sum(table.bytes for table in _epilogue(step.reads, step.layer, Encoding.VALUES).tables),
        )
        for k, step in enumerate(steps)
    ]


def _context(
    network: Network, steps: tuple[Step, ...], k: int, target: Target, options: ExportOptions
) -> LayerContext:
    tensor = steps[k].reads
    low, high = (end.reshape(-1) for end in network.layer_ranges[tensor])
    return LayerContext(
        index=tensor,
        target=target,
        input_shape=network.shapes[tensor],
        input_low=low,
        input_high=high,
        binary=_kind(network, steps, k),
        compact=options.optimize == "size",
        unroll_bytes=options.max_unroll_bytes,
    )


def _link(network: Network, steps: tuple[Step, ...], k: int, lowered: tuple[Lowered, ...]) -> LayerProgram:
    step = steps[k]
    last = k + 1 == len(steps)
    output = _sums_buffer(network) if last else _buffer(network, steps, k + 1, lowered[k + 1].reads)
    return LayerProgram(
        index=step.reads,
        inputs=prod(network.shapes[step.reads]),
        units=prod(network.shapes[step.writes]),
        lowered=lowered[k],
        input=_buffer(network, steps, k, lowered[k].reads),
        output=output,
        epilogue=_epilogue(step.reads, step.layer, output.encoding),
        apart=len(steps) > 1,
    )


def _buffer(network: Network, steps: tuple[Step, ...], k: int, encoding: Encoding) -> Buffer:
    """The array that step ``k`` reads."""
    least, most = network.layer_ranges[steps[k].reads]
    low, high = int(least.min()), int(most.max())
    if _kind(network, steps, k) is Binary.MINUS_PLUS:
        low, high = -1, 1
    elements = least.size
    if encoding is Encoding.BITS:
        return Buffer(encoding, "uint32_t", words_for(elements), elements, low, high)
    c_type = value_type(low, high)
    assert c_type is not None
    return Buffer(encoding, c_type, elements, elements, low, high)


def _sums_buffer(network: Network) -> Buffer:
    low, high = network.layer_ranges[-1]
    return Buffer(Encoding.VALUES, "int32_t", low.size, low.size, int(low.min()), int(high.max()))


def _epilogue(k: int, layer: Layer, encoding: Encoding) -> Epilogue:
    kind, requantisation = epilogue_kind(layer, encoding), getattr(layer, "requantisation", None)
    if requantisation is None:
        return Epilogue(kind)
    return Epilogue(
        kind,
        pre=unsigned_column(f"layer{k}_pre", requantisation.pre),
        mult=unsigned_column(f"layer{k}_mult", requantisation.mult),
        shift=unsigned_column(f"layer{k}_shift", requantisation.shift),
    )
